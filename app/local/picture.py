"""The run as one SVG: a bar for each pod, and below it the depths of the queues, on one axis."""

from collections.abc import Iterator, Mapping

from app.local.bars import ROW, rows
from app.local.lanes import HEIGHT, lanes
from app.local.markup import Markup, element, joined
from app.local.story import Story
from app.local.timeline import Axis

_WIDTH = 1160.0
# Beside the axis: whose bar it is, and what became of it.
_LEFT, _RIGHT = 196.0, 216.0
_TOP, _BETWEEN, _BOTTOM = 26.0, 14.0, 8.0


def draw(story: Story, names: Mapping[str, str]) -> Markup:
    """The whole picture; `names` says how a file is shown, by its key."""
    axis = Axis(max(1.0, story.seconds), _LEFT, _WIDTH - _LEFT - _RIGHT)
    lanes_top = _TOP + ROW * len(story.tracks) + _BETWEEN
    height = lanes_top + HEIGHT + _BOTTOM
    parts = [
        *_grid(axis, height),
        *rows(story, axis, names, _TOP),
        *lanes(story, axis, lanes_top),
    ]
    return Markup(
        f'<svg viewBox="0 0 {_WIDTH:.0f} {height:.0f}" role="group" aria-labelledby="pods">'
        f"{joined(*parts)}</svg>"
    )


def _grid(axis: Axis, height: float) -> Iterator[Markup]:
    for tick in axis.ticks():
        x = axis.x(tick)
        yield element("line", class_="grid", x1=x, x2=x, y1=_TOP - 6, y2=height - 6)
        yield element("text", f"{tick} s", class_="tick", x=x, y=_TOP - 11, text_anchor="middle")
