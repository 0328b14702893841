"""What the queues held over time, a lane for each count, and when the scaler launched pods."""

from collections.abc import Iterator

from app.local.markup import Markup, element, label
from app.local.story import Poll, Story
from app.local.timeline import Axis, Change, apart, changes, staircase

_LANE, _GAP = 40.0, 22.0
_POLLS = 34.0
_COUNTS_APART = 24.0
_DEPTHS = ("visible", "in flight", "dead letters")
# What all of it needs, in pixels.
HEIGHT = _POLLS + len(_DEPTHS) * (_LANE + _GAP)


def lanes(story: Story, axis: Axis, top: float) -> Iterator[Markup]:
    """The scaler's polls and the three counts, from `top` on."""
    yield _polls(story, axis, top)
    spans = changes(story.depths, story.seconds)
    for lane in range(len(_DEPTHS)):
        yield _lane(spans, lane, axis, top + _POLLS + (lane + 1) * (_LANE + _GAP))


def _polls(story: Story, axis: Axis, top: float) -> Markup:
    launches = [poll for poll in story.polls if poll.created]
    counted = apart([axis.x(poll.at) for poll in launches], _COUNTS_APART)
    told = [launches[index] for index in counted]
    drawn = [_poll(poll, axis.x(poll.at), top, counted=poll in told) for poll in story.polls]
    return element("g", label("scaler's polls", "file", 0.0, top + 18), *drawn, class_="polls")


def _poll(poll: Poll, x: float, top: float, *, counted: bool) -> Markup:
    line = element("line", x1=x, x2=x, y1=top + 10, y2=top + 20)
    told = f"{poll.at:.1f} s: the scaler looks at the queue"
    if not poll.created:
        return element("g", element("title", told), line, class_="poll")
    title = element("title", f"{told} and launches {poll.created}")
    count = element("text", f"+{poll.created}", x=x, y=top + 7, text_anchor="middle")
    return element("g", title, line, *([count] if counted else []), class_="launch")


def _lane(spans: list[Change], lane: int, axis: Axis, bottom: float) -> Markup:
    # One scale for all, so that they can be compared.
    most = max((max(span.counts) for span in spans), default=0)
    peak = max((span.counts[lane] for span in spans), default=0)
    name, middle = _DEPTHS[lane], bottom - _LANE / 2 + 4
    return element(
        "g",
        label(name, "file", 0.0, middle),
        element("line", class_="base", x1=axis.left, x2=axis.right, y1=bottom, y2=bottom),
        element("path", d=staircase(spans, lane, axis, bottom, _LANE, most)),
        *_hovers(spans, lane, axis, bottom),
        label(f"at most {peak}", "small", axis.right + 14, middle),
        class_=f"lane lane{lane}",
        data_depth=name,
    )


def _hovers(spans: list[Change], lane: int, axis: Axis, bottom: float) -> Iterator[Markup]:
    place = {"class_": "hover", "y": bottom - _LANE, "height": _LANE}
    for span in spans:
        x, width = axis.span(span.begin, span.end)
        told = f"{span.begin:.1f} s to {span.end:.1f} s: {span.counts[lane]} {_DEPTHS[lane]}"
        yield element("rect", element("title", told), **place, x=x, width=width)
