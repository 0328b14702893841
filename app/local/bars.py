"""The bars of the pods: one row each, with the moments of its life marked on it."""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from app.local.markup import Markup, element, label
from app.local.story import Mark, Story, Track
from app.local.timeline import Axis, apart

# The height of a row, in pixels.
ROW = 34.0
_BAR = 14.0
_NARROWEST = 4.0
_MARKS_APART = 9.0
_FILE_LETTERS = 24

# What each colour of a bar stands for; every other outcome is drawn as `lost`.
OUTCOMES = {
    "done": "done",
    "skipped": "skipped, nothing to do",
    "deferred": "deferred to another pod's end",
    "empty": "no message",
    "retry": "failed, to be tried again",
    "rejected": "rejected, a dead letter",
    "interrupted": "interrupted",
    "lost": "lost, killed or misconfigured",
}


def css_class(outcome: str) -> str:
    """The class that colours an outcome; never a text of somebody else's."""
    return f"o-{outcome}" if outcome in OUTCOMES else "o-lost"


def rows(story: Story, axis: Axis, names: Mapping[str, str], top: float) -> Iterator[Markup]:
    """The rows of all pods, from `top` on; `names` says how a file is shown, by its key."""
    middles = {track.name: top + ROW * (row + 0.5) for row, track in enumerate(story.tracks)}
    for track in story.tracks:
        yield _row(track, axis, middles[track.name], names)
    for key in dict.fromkeys(track.key for track in story.tracks if track.key):
        for before, after in pairwise(track for track in story.tracks if track.key == key):
            yield _handover(before, after, axis, middles)


def _row(track: Track, axis: Axis, middle: float, names: Mapping[str, str]) -> Markup:
    file = _file(track, names)
    code = "" if track.exit_code is None else f", exit {track.exit_code}"
    why = f" ({track.reason})" if track.reason else ""
    settled = f", {track.settled}" if track.settled else ""
    life = f"{track.began:.1f} s to {track.ended:.1f} s"
    told = f"pod {track.short}, {file}: {track.outcome}{why}{code}{settled}; {life}"
    beside, upper, lower = axis.right + 14, middle - 1, middle + 12
    width, top = axis.right + axis.left, middle - ROW / 2
    return element(
        "g",
        element("title", told),
        element("rect", class_="hover", x=0.0, y=top, width=width, height=ROW),
        label(file, "file", 0.0, upper, _FILE_LETTERS),
        label(f"pod {track.short}", "small", 0.0, lower),
        *_bar(track, axis, middle),
        *_marks(track, axis, middle),
        label(f"{track.outcome}{code}", "end", beside, upper),
        label(track.settled, "small", beside, lower),
        class_=f"pod {css_class(track.outcome)}",
        data_pod=track.name,
    )


def _file(track: Track, names: Mapping[str, str]) -> str:
    """What a pod was at work on, in a few words."""
    if track.received is None:
        return "no message"
    told = "S3's test event" if track.reason == "test_event" else "a message of no file"
    return names.get(track.key, told)


def _bar(track: Track, axis: Axis, middle: float) -> Iterator[Markup]:
    """Starting, waiting for a message, at work, ending: one rectangle each."""
    up = track.up if track.up is not None else track.ended
    received = track.received if track.received is not None else track.ended
    for name, begin, end in (("starting", track.began, up), ("waiting", up, received)):
        x, width = axis.span(begin, end)
        thin = _BAR / 2
        yield element("rect", class_=name, x=x, y=middle - thin / 2, width=width, height=thin)
    if track.received is None:
        return
    finished = track.finished if track.finished is not None else track.ended
    x, width = axis.span(received, finished, _NARROWEST)
    yield element("rect", class_="work", x=x, y=middle - _BAR / 2, width=width, height=_BAR, rx=2)


def _marks(track: Track, axis: Axis, middle: float) -> Iterator[Markup]:
    for kind in dict.fromkeys(mark.kind for mark in track.marks):
        of_kind = [mark for mark in track.marks if mark.kind == kind]
        for index in apart([axis.x(mark.at) for mark in of_kind], _MARKS_APART):
            mark = of_kind[index]
            title = element("title", f"{mark.at:.1f} s: pod {track.short} {mark.text}")
            shape = _shape(mark, axis.x(mark.at), middle)
            if shape:
                yield element("g", title, *shape, class_=f"mark {kind}")


def _shape(mark: Mark, x: float, y: float) -> list[Markup]:
    match mark.kind:
        case "checkpoint":
            return [element("circle", cx=x, cy=y, r=3.5)]
        case "signal":
            return [
                element("line", x1=x, x2=x, y1=y - 14, y2=y + 11),
                element("text", "SIGTERM", x=x - 4, y=y - 9, text_anchor="end"),
            ]
        case "commit":
            return [element("path", d=f"M{x:.1f} {y - 6:.1f}l6 6-6 6-6-6z")]
        case "letter":
            return [element("path", d=f"M{x - 5:.1f} {y - 5:.1f}l10 10m0-10l-10 10")]
    return []


def _handover(before: Track, after: Track, axis: Axis, middles: Mapping[str, float]) -> Markup:
    """From the checkpoint of one pod to the pod that goes on there."""
    saved = [mark for mark in before.marks if mark.kind == "checkpoint"]
    resumed = [mark for mark in after.marks if mark.kind == "resumed"]
    if not saved or not resumed:
        return Markup()
    x, y = axis.x(saved[-1].at), middles[before.name] + 4
    to_x, to_y = axis.x(resumed[0].at), middles[after.name] - _BAR / 2 - 1
    bend = (y + to_y) / 2
    curve = f"M{x:.1f} {y:.1f}C{x:.1f} {bend:.1f} {to_x:.1f} {bend:.1f} {to_x:.1f} {to_y:.1f}"
    title = f"pod {after.short} goes on where the last checkpoint of pod {before.short} was"
    return element(
        "g",
        element("title", title),
        element("path", d=curve),
        element("path", class_="head", d=f"M{to_x - 4:.1f} {to_y - 5:.1f}l4 5 4-5z"),
        class_="handover",
    )
