"""What the demo has seen, as sentences."""

from collections.abc import Sequence
from typing import Any

from app.local.journal import Observation
from app.local.samples import DemoFile
from app.progress import in_words

# Kinds that are missing here are no news.
_SENTENCES = {
    "poll_failed": "queue: cannot be read: {error}",
    "uploaded": "{file}: uploaded, {size:,} bytes",
    "message_received": "{pod}: takes {file}, delivery {receive_count}",
    "progress": "{pod}: {file}, {amount}",
    "signalled": "{pod}: is sent SIGTERM in the middle of {file}",
    "message_released": "{pod}: gives {file} back to the queue",
    "message_hidden": "{pod}: puts {file} off for {seconds} s",
    "resumed": "{pod}: goes on with {file} at its last checkpoint",
    "repeated": "{file}: its event is sent once more",
    "output_committed": "{pod}: commits {output}",
    "message_dead_lettered": "{pod}: sends {file} to the dead letters, {reason}",
    "handler_failed": "{pod}: {reason}: {error}",
    "job_finished": "{pod}: {outcome}{why}, exit {exit_code}",
}
_DIED_OF_SIGNAL = 128 + 9


class _Facts(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return "?"


class News:
    """Makes sentences of observations; what a poll finds unchanged is no news."""

    def __init__(self, files: Sequence[DemoFile]) -> None:
        self._names = {file.key: file.name for file in files}
        self._queue = ""

    def of(self, seen: Observation) -> str:
        """One line, empty where there is nothing to tell."""
        text = self._of_queue(seen) if seen.kind == "polled" else self._of_rest(seen)
        return f"{seen.at:6.1f} s  {text}" if text else ""

    def _of_queue(self, seen: Observation) -> str:
        depth, running, created = (seen.facts[name] for name in ("depth", "running", "created"))
        text = f"queue: {depth.visible} visible, {depth.in_flight} in flight; pods: {running}"
        before, self._queue = self._queue, text
        if created:
            return f"{text}, launching {created}"
        return "" if text == before else text

    def _of_rest(self, seen: Observation) -> str:
        if seen.kind == "pod_ended" and seen.facts["exit_code"] == _DIED_OF_SIGNAL:
            return f"pod {short(seen.pod)}: was killed"
        file = self._names.get(seen.key, "a message that names no file of ours")
        reason = seen.facts.get("reason")
        why = f" ({reason})" if reason else ""
        pod, amount = f"pod {short(seen.pod)}", in_words(seen.facts)
        facts = _Facts(seen.facts, file=file, pod=pod, why=why, amount=amount)
        return _SENTENCES.get(seen.kind, "").format_map(facts)


def short(pod_name: str) -> str:
    """The part of a pod's name that tells it from the others."""
    return pod_name.rpartition("-")[2]
