"""What the demo has seen so far: a list of observations with their times, and views of it."""

import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.local.depth import PollError
from app.local.keda import QueueDepth
from app.local.pods import Pod
from app.progress import in_words, percent_of

_STDERR_LINES = 20
# The events of a pod's log that tell of its message; the others are not kept.
_POD_EVENTS = frozenset(
    {
        "job_started",
        "message_received",
        "object_opened",
        "handler_started",
        "progress",
        "handler_failed",
        "stop_requested",
        "checkpoint_saved",
        "resumed",
        "output_committed",
        "message_deleted",
        "message_released",
        "message_hidden",
        "message_deferred",
        "message_dead_lettered",
        "lease_lost",
        "job_finished",
    }
)
# What every line of a log carries; the observation has its own time and pod.
_EVERY_LINE = frozenset({"event", "timestamp", "level", "job_id", "pod_name"})


@dataclass(frozen=True, slots=True)
class Observation:
    """One thing that was seen.

    Attributes:
        at: seconds since the journal was begun.
        kind: `uploaded`, `polled`, `measured`, `pod_started`, `pod_ended`, `signalled`, or the name
            of an event in a pod's log.
        pod: the pod's name, empty where it is about none.
        key: the object's key, empty where it is about none.
        facts: what else was told.
        happened: when it happened, by the pod's own clock; for the rest the same as `at`.
    """

    at: float
    kind: str
    pod: str = ""
    key: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    happened: float = 0.0


@dataclass(slots=True)
class FileView:
    """What is known of one file's way; times in seconds since the journal was begun."""

    key: str
    size: int = 0
    uploaded_at: float | None = None
    ended_at: float | None = None
    state: str = "not uploaded yet"
    attempts: int = 0
    interruptions: int = 0
    resumed: int = 0
    duplicates: int = 0
    progress: str = ""
    percent: float | None = None
    error: str = ""
    committed: list[str] = field(default_factory=list)


@dataclass(slots=True)
class PodView:
    """What is known of one pod."""

    name: str
    started_at: float
    key: str = ""
    exit_code: int | None = None
    stderr: deque[str] = field(default_factory=lambda: deque(maxlen=_STDERR_LINES))


class Journal:
    """Observes the scaler and reads the pods' logs; listeners hear of every new observation."""

    def __init__(self, keys: list[str]) -> None:
        self.observations: list[Observation] = []
        self.files = {key: FileView(key) for key in keys}
        self.pods: dict[str, PodView] = {}
        self.depth = QueueDepth()
        self.letters = 0
        self.listeners: list[Callable[[Observation], None]] = []
        self._began = time.monotonic()
        self.began_at = time.time()

    @property
    def now(self) -> float:
        """Seconds since the journal was begun."""
        return time.monotonic() - self._began

    @property
    def alive(self) -> list[PodView]:
        """The pods that have not ended."""
        return [pod for pod in self.pods.values() if pod.exit_code is None]

    def note(self, kind: str, pod: str = "", key: str = "", /, **facts: Any) -> None:
        """Add one observation of something that happens now."""
        now = self.now
        self._add(Observation(now, kind, pod, key, facts, now))

    def polled(self, depth: QueueDepth, running: int, pending: int, created: int) -> None:
        """As Observer says."""
        self.depth = depth
        self.note("polled", depth=depth, running=running, pending=pending, created=created)

    def measured(self, depth: QueueDepth, letters: int) -> None:
        """A look at both queues found this, and so many dead letters."""
        self.letters = letters
        self.note("measured", depth=depth, letters=letters)

    def poll_failed(self, error: PollError) -> None:
        """As Observer says."""
        self.note("poll_failed", error=str(error))

    def pod_started(self, pod: Pod) -> None:
        """As Observer says."""
        self.pods[pod.name] = PodView(pod.name, self.now)
        self.note("pod_started", pod.name)

    def pod_line(self, pod: Pod, line: str, stream: str) -> None:
        """As Observer says; a line that is no JSON object, or no event of ours, is passed over."""
        view = self.pods[pod.name]
        if stream == "stderr":
            view.stderr.append(line)
            return
        told = _parse(line)
        event = told.get("event")
        if event not in _POD_EVENTS:
            return
        facts = {name: value for name, value in told.items() if name not in _EVERY_LINE}
        if event in ("message_received", "object_opened"):
            view.key = str(facts.pop("key", view.key))
        elif event == "output_committed":
            facts["output"] = facts.pop("key", "")
        self._told_by(view, event, facts, told.get("timestamp"))

    def pod_ended(self, pod: Pod, exit_code: int) -> None:
        """As Observer says."""
        view = self.pods[pod.name]
        view.exit_code = exit_code
        self.note("pod_ended", pod.name, view.key, exit_code=exit_code)

    def _add(self, seen: Observation) -> None:
        self.observations.append(seen)
        if seen.key in self.files:
            _follow(self.files[seen.key], seen)
        for listener in self.listeners:
            listener(seen)

    def _told_by(self, pod: PodView, event: str, facts: Mapping[str, Any], at: object) -> None:
        """Add what a pod has logged `at` a time, which is between its start and now."""
        now = self.now
        try:
            happened = datetime.fromisoformat(str(at)).timestamp() - self.began_at
        except (ValueError, OverflowError):
            happened = now
        happened = min(now, max(pod.started_at, happened))
        self._add(Observation(now, event, pod.name, pod.key, facts, happened))


def _parse(line: str) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _follow(file: FileView, seen: Observation) -> None:  # noqa: C901 - a table of events
    """Bring the view of a file up to date with an observation about it."""
    match seen.kind:
        case "uploaded":
            file.uploaded_at, file.size = seen.at, seen.facts["size"]
            # The pod may have been quicker than the upload's own return.
            file.state = file.state if file.attempts else "waiting"
        case "message_received":
            file.attempts += 1
            file.progress, file.percent = "", None
            file.state = "in work"
        case "progress":
            file.progress, file.percent = in_words(seen.facts, sizes=False), percent_of(seen.facts)
        case "signalled":
            file.state = "being stopped"
        case "handler_failed":
            file.error = str(seen.facts.get("error", ""))
        case "output_committed":
            file.committed.append(str(seen.facts["output"]))
        case "resumed":
            file.resumed += 1
        case "job_finished" if seen.facts.get("reason") == "already_done":
            file.duplicates += 1
            file.attempts -= 1
            file.state = "done"
        case "job_finished":
            file.state = str(seen.facts.get("outcome"))
            file.progress, file.percent = "", None
            file.interruptions += file.state == "interrupted"
            file.ended_at = seen.at
        case "pod_ended" if file.state in ("in work", "being stopped"):
            file.state = "its pod was lost"
