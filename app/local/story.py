"""The demo's observations as what a page tells of them: one track a pod, one story a file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.local.journal import Journal, Observation
from app.local.news import short
from app.local.sentences import KILLED, sentence

# What became of a pod's message, by the event that settled it; the last one counts, but that one
# goes to the dead letters and is deleted then.
_SETTLED = {
    "message_deleted": "message deleted",
    "message_released": "message given back",
    "message_hidden": "message put off",
    "message_deferred": "message put off",
    "message_dead_lettered": "to the dead letters",
}
_MARKS = {
    "checkpoint_saved": "checkpoint",
    "signalled": "signal",
    "resumed": "resumed",
    "output_committed": "commit",
    "message_dead_lettered": "letter",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of a pod's life.

    Attributes:
        kind: `checkpoint`, `signal`, `resumed`, `commit` or `letter`.
    """

    at: float
    kind: str
    text: str


@dataclass(slots=True)
class Track:
    """The life of one pod; times in seconds since the demo began, None for what never came.

    Attributes:
        key: of its object, empty where it took no message or one that names none.
        up: when its program was ready to receive.
        outcome: as it said itself; `killed` or `lost` where it could not.
        reason: for its outcome; empty where it gave none.
        settled: what became of its message, in words.
    """

    name: str
    began: float
    ended: float
    key: str = ""
    up: float | None = None
    received: float | None = None
    finished: float | None = None
    outcome: str = "still running"
    reason: str = ""
    settled: str = ""
    exit_code: int | None = None
    marks: list[Mark] = field(default_factory=list)

    @property
    def short(self) -> str:
        """The part of its name that tells it from the others."""
        return short(self.name)


@dataclass(frozen=True, slots=True)
class Step:
    """One sentence of a file's story; `pod` is empty where none did it."""

    at: float
    pod: str
    text: str


@dataclass(frozen=True, slots=True)
class Poll:
    """One look of the scaler at the queue, and how many pods it launched."""

    at: float
    created: int


@dataclass(frozen=True, slots=True)
class Story:
    """All that a page tells of a run.

    Attributes:
        seconds: how long it took.
        tracks: in the order in which the pods were launched.
        steps: of each file, by its key, in order of time.
        depths: visible, in flight and dead letters, over time.
    """

    seconds: float
    tracks: list[Track]
    steps: dict[str, list[Step]]
    polls: list[Poll]
    depths: list[tuple[float, tuple[int, int, int]]]


def tell(journal: Journal) -> Story:
    """Put together what was seen so far."""
    # A pod's lines are read some time after they were written.
    seen = sorted(journal.observations, key=lambda one: one.happened)
    seconds = max((one.happened for one in seen), default=0.0)
    return Story(
        seconds,
        _tracks(seen, seconds),
        {key: _steps(seen, key) for key in journal.files},
        [Poll(one.happened, one.facts["created"]) for one in seen if one.kind == "polled"],
        [(one.happened, _counts(one.facts)) for one in seen if one.kind == "measured"],
    )


def _counts(facts: Mapping[str, Any]) -> tuple[int, int, int]:
    return facts["depth"].visible, facts["depth"].in_flight, facts["letters"]


def _tracks(seen: Sequence[Observation], until: float) -> list[Track]:
    tracks: dict[str, Track] = {}
    for one in seen:
        if one.kind == "pod_started":
            tracks[one.pod] = Track(one.pod, one.happened, until)
        elif one.pod in tracks:
            _follow(tracks[one.pod], one)
    return list(tracks.values())


def _follow(track: Track, one: Observation) -> None:
    """Bring a pod's track up to date with an observation about it."""
    at, facts = one.happened, one.facts
    track.key = one.key or track.key
    if track.settled != _SETTLED["message_dead_lettered"]:
        track.settled = _SETTLED.get(one.kind, track.settled)
    match one.kind:
        case "job_started":
            track.up = at
        case "message_received":
            track.received = at
        case "job_finished":
            track.finished = at
            track.outcome, track.reason = str(facts.get("outcome")), str(facts.get("reason") or "")
        case "pod_ended":
            track.ended, track.exit_code = at, facts["exit_code"]
            if track.finished is None:
                track.outcome = "killed" if track.exit_code == KILLED else "lost"
        case kind if kind in _MARKS:
            track.marks.append(Mark(at, _MARKS[kind], sentence(one)))


def _steps(seen: Sequence[Observation], key: str) -> list[Step]:
    found: list[Step] = []
    saved = 0
    for one in seen:
        text = sentence(one) if one.key == key else ""
        if not text:
            continue
        # Of checkpoints in a row the last one is what counts.
        saved = saved + 1 if one.kind == "checkpoint_saved" else 0
        if saved > 1:
            found.pop()
            text = text.replace("saves a checkpoint", f"saves {saved} checkpoints, the last", 1)
        found.append(Step(one.happened, one.pod, text))
    return found
