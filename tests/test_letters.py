"""Dead letters: the attributes that are promised, within what SQS takes."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.letters import SQS_MESSAGE_BYTES_MAX, Letter, Sender, clean, compose, cut, size_of
from app.outcomes import Outcome, Reason, Result
from app.ports import LETTER_PREFIX

ALL = {
    "x-death-reason",
    "x-death-error",
    "x-death-count",
    "x-death-queue",
    "x-death-time",
    "x-death-job",
    "x-death-message-id",
}
SENDER = Sender("https://sqs/queue", "job-1", "pod-1")
RESULT = Result(Outcome.REJECTED, Reason.CORRUPT_DATA, "RejectedError: bad gzip")


def typed(text: str) -> dict[str, str]:
    """A String attribute as SQS gives it."""
    return {"DataType": "String", "StringValue": text}


def composed(body: str = "{}", own: Mapping[str, Any] | None = None, **more: Any) -> Letter:
    """The letter of a message."""
    usual: dict[str, Any] = {
        "attempts": 3,
        "message_id": "message-1",
        "sender": SENDER,
        "time": "2026-01-02T03:04:05.678Z",
    }
    result = more.pop("result", RESULT)
    return compose(result, body, own or {}, **(usual | more))


def as_sent(letter: Letter, own: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes of the letter as they reach the queue."""
    kept = {name: value for name, value in own.items() if not name.startswith(LETTER_PREFIX)}
    return kept | {name: typed(text) for name, text in letter.attributes.items()}


def test_a_letter_says_why_where_and_when() -> None:
    """Everything that is promised is there, in words for machines and for people."""
    letter = composed()
    assert letter == Letter(
        {
            "x-death-reason": "corrupt_data",
            "x-death-error": "RejectedError: bad gzip",
            "x-death-count": "3",
            "x-death-queue": "https://sqs/queue",
            "x-death-time": "2026-01-02T03:04:05.678Z",
            "x-death-job": "job-1/pod-1",
            "x-death-message-id": "message-1",
        },
        [],
    )


def test_nothing_is_left_empty() -> None:
    """SQS refuses an empty value, which an error without text would be."""
    letter = composed(result=Result(Outcome.REJECTED))
    assert letter.attributes["x-death-error"] == "-"
    assert letter.attributes["x-death-reason"] == "rejected"


@pytest.mark.parametrize("count", range(11))
def test_the_messages_own_attributes_come_first(count: int) -> None:
    """Ten are allowed in all: what does not fit is left out, the error first, the reason last."""
    own = {f"own-{number}": typed("x") for number in range(count)}
    letter = composed(own=own)
    sent = as_sent(letter, own)
    assert own.items() <= sent.items()
    assert len(sent) == min(10, count + 7)
    assert set(letter.left_out) | set(letter.attributes) == ALL
    assert letter.left_out[:1] == (["x-death-error"] if count > 3 else [])
    if count < 10:
        assert "x-death-reason" in letter.attributes


def test_a_letter_of_a_letter_replaces_the_old_words() -> None:
    """A message that was sent back and died again tells of its last death."""
    own = {name: typed("old") for name in ALL} | {"own": typed("x")}
    letter = composed(own=own)
    assert letter.left_out == []
    sent = as_sent(letter, own)
    assert len(sent) == 8
    assert "old" not in [value["StringValue"] for value in sent.values()]


def test_what_does_not_fit_leaves_no_old_words_behind() -> None:
    """An older error must not stand in for the new one, nor take room that is not there."""
    own = {"x-death-error": typed("an older error")}
    body = "x" * (SQS_MESSAGE_BYTES_MAX - 400)
    letter = composed(body, own, result=Result(Outcome.REJECTED, None, "e" * 1000))
    assert letter.left_out == ["x-death-error"]
    assert "x-death-error" not in as_sent(letter, own)


@given(
    st.integers(0, 3000),
    st.integers(0, 6),
    st.text(st.characters(), max_size=3000),
)
def test_a_letter_fits_into_a_message(free: int, own_count: int, error: str) -> None:
    """Body and attributes stay within 1 MiB, and the body is never touched for it."""
    own = {f"own-{number}": typed("ü") for number in range(own_count)}
    body = "x" * (SQS_MESSAGE_BYTES_MAX - size_of(own) - free)
    letter = composed(body, own, result=Result(Outcome.REJECTED, Reason.NO_ROUTE, error))
    sent = as_sent(letter, own)
    assert len(body) + size_of(sent) <= SQS_MESSAGE_BYTES_MAX
    assert len(sent) <= 10
    assert set(letter.left_out) | set(letter.attributes) == ALL


@given(st.text(st.characters()), st.integers(0, 40))
def test_a_cut_text_is_text(text: str, most: int) -> None:
    """Cut at bytes, but never within a character."""
    found = cut(text, most)
    assert len(found.encode()) <= most
    assert text.encode(errors="replace").decode().startswith(found)


@given(st.text(st.characters()))
def test_a_clean_text_is_what_sqs_takes(text: str) -> None:
    """Control characters, surrogates and non-characters are replaced one by one."""
    found = clean(text)
    assert len(found) == len(text)
    for letter in found:
        code = ord(letter)
        allowed = code in (9, 10, 13) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD
        assert allowed or 0x10000 <= code <= 0x10FFFF


def test_what_attributes_count_for() -> None:
    """Names, types and values, in bytes."""
    own: dict[str, dict[str, Any]] = {
        "ü": typed("ä"),
        "b": {"DataType": "Binary", "BinaryValue": b"123"},
    }
    assert size_of(own) == (2 + 6 + 2) + (1 + 6 + 3)
