"""What happened to a file, in words: one sentence for each thing that was observed."""

from typing import Any

from app.local.journal import Observation

# The exit code of a process that got SIGKILL.
KILLED = 128 + 9
_ERROR_LETTERS = 400
# Kinds that are missing here are no step of a file's story.
_STEPS = {
    "uploaded": "uploaded, {size}: S3 sends a message",
    "repeated": "S3's message about it is sent once more",
    "message_received": "takes the message, delivery {receive_count}",
    "resumed": "goes on at the last checkpoint{place}",
    "checkpoint_saved": "saves a checkpoint{place}",
    "signalled": "is sent SIGTERM",
    "handler_failed": "fails: {reason}: {error}",
    "lease_lost": "loses its lease: {reason}: {error}",
    "output_committed": "commits the output {output}, {size}",
    "message_deleted": "deletes the message",
    "message_released": "gives the message back at once",
    "message_hidden": "puts the message off for {seconds} s",
    "message_deferred": "puts the message off for {seconds} s: another pod is at work on it",
    "message_dead_lettered": "sends the message to the dead letters: {reason}",
    "job_finished": "ends: {outcome}{why}, exit code {exit_code}",
}


def sentence(one: Observation) -> str:
    """What happened; empty where it is no step of a file's way."""
    if one.kind == "pod_ended":
        code = one.facts["exit_code"]
        return "is killed, exit code 137" if code == KILLED else ""
    facts = dict(one.facts)
    reason = facts.get("reason")
    told = {
        "why": f" ({reason})" if reason else "",
        "error": str(facts.get("error", ""))[:_ERROR_LETTERS],
        "size": in_bytes(facts.get("size")),
        "place": _place(facts.get("position")),
    }
    return _STEPS.get(one.kind, "").format_map(_Facts(facts | told))


def in_bytes(count: object) -> str:
    """So many bytes, counted one by one."""
    if not isinstance(count, int):
        return "? bytes"
    return f"{count:,} byte" + ("" if count == 1 else "s")


class _Facts(dict[str, Any]):
    def __missing__(self, name: str) -> str:
        return "?"


def _place(position: object) -> str:
    """Where a checkpoint is, by the token of `job.object.position`."""
    match position:
        case ["chunks", int(at)]:
            return f" at byte {at:,}"
        case ["lines", int(at), _, _, "plain"]:
            return f" at byte {at:,}"
        case ["lines", int(at), *_]:
            return f" at byte {at:,} of the unpacked data"
    return ""
