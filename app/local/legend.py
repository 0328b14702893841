"""What the bars and marks of the picture stand for."""

from app.local.bars import OUTCOMES, css_class
from app.local.markup import Markup, element
from app.local.story import Story

_SIGNS = (
    ("checkpoint", '<circle cx="11" cy="8" r="3.5"/>', "checkpoint saved"),
    ("signal", '<line x1="11" x2="11" y1="0" y2="16"/>', "SIGTERM"),
    ("handover", '<path d="M2 8h18"/>', "goes on at the checkpoint"),
    ("commit", '<path d="M11 2l6 6-6 6-6-6z"/>', "output committed"),
    ("letter", '<path d="M6 3l10 10m0-10l-10 10"/>', "sent to the dead letters"),
    ("launch", '<text x="3" y="12">+1</text>', "pods launched at a poll of the scaler"),
)


def legend(story: Story) -> Markup:
    """One entry for each kind of bar and mark; of the outcomes only those that came to be."""
    present = {css_class(track.outcome) for track in story.tracks if track.received is not None}
    outcomes = [
        (css_class(outcome), _box("work", 13), f"work: {words}")
        for outcome, words in OUTCOMES.items()
        if css_class(outcome) in present
    ]
    phases = [
        ("", _box("starting", 7), "starts"),
        ("", _box("waiting", 7), "waits for a message"),
    ]
    entries = [_entry(*sign) for sign in (*phases, *outcomes, *_SIGNS)]
    return element("ul", *entries, class_="legend")


def _box(kind: str, height: int) -> str:
    return f'<rect class="{kind}" x="1" y="{8 - height / 2}" width="20" height="{height}"/>'


def _entry(kind: str, sign: str, words: str) -> Markup:
    return element("li", Markup(f'<svg class="{kind}" aria-hidden="true">{sign}</svg>'), words)
