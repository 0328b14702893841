"""Whatever a body is: it is understood, or refused as malformed, and keys come out as they were."""

import json
from copy import deepcopy
from typing import Any
from urllib.parse import quote_plus

from envelopes import DIRECT, EVENTBRIDGE, TEST_EVENT, sns, with_key
from hypothesis import given
from hypothesis import strategies as st

from app.notifications import Notification, parse
from app.outcomes import Reason, RejectedError

# Keys are UTF-8 of any kind; S3 writes them as forms do.
KEYS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


@given(KEYS, st.sampled_from(["", "/", "/*-._"]))
def test_keys_survive_the_form_encoding(key: str, safe: str) -> None:
    """Whatever is in a key, and whether or not the store encodes its slashes."""
    (ref,) = parse(json.dumps(with_key(quote_plus(key, safe=safe)))).objects
    assert ref.key == key


@given(KEYS)
def test_keys_of_eventbridge_are_untouched(key: str) -> None:
    """What looks encoded there is part of the name."""
    body = deepcopy(EVENTBRIDGE)
    body["detail"]["object"]["key"] = key
    (ref,) = parse(json.dumps(body, ensure_ascii=False)).objects
    assert ref.key == key


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["2.1", "aws:s3", "ObjectCreated:Put", "aws.s3", "Object Created"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Records", "s3", "Message", "detail", "x"]), inner)
    ),
    max_leaves=8,
)


def is_answered(body: str) -> None:
    """The body is understood, or refused as malformed; nothing else comes of it."""
    try:
        found: Notification | Reason = parse(body)
    except RejectedError as error:
        found = error.reason
    if isinstance(found, Notification):
        assert found.test or found.objects or found.ignored
        assert all(ref.bucket and ref.key for ref in found.objects)
    else:
        assert found is Reason.MALFORMED_MESSAGE


@given(st.text(st.characters()))
def test_any_text_is_answered(body: str) -> None:
    """Also what is no text at all: a lone surrogate."""
    is_answered(body)


@given(st.binary().map(lambda data: data.decode("latin-1")))
def test_any_bytes_are_answered(body: str) -> None:
    """Also what someone sent by mistake."""
    is_answered(body)


@given(JSON)
def test_any_json_is_answered(value: Any) -> None:
    """Also what is an event of something else."""
    is_answered(json.dumps(value))


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The ways to everything in a value."""
    if isinstance(value, dict):
        inner = list(value.items())
    else:
        inner = list(enumerate(value)) if isinstance(value, list) else []
    return [path, *(way for name, one in inner for way in places(one, (*path, name)))]


@given(st.sampled_from([DIRECT, EVENTBRIDGE, TEST_EVENT, sns(DIRECT)]), st.data(), JSON)
def test_an_event_with_one_thing_wrong_is_answered(
    event: dict[str, Any], data: st.DataObject, wrong: Any
) -> None:
    """Anything in the place of any part of a real event."""
    made: Any = {"body": deepcopy(event)}
    way: list[Any] = ["body", *data.draw(st.sampled_from(places(event)))]
    last = way.pop()
    target = made
    for name in way:
        target = target[name]
    target[last] = wrong
    is_answered(json.dumps(made["body"]))
