"""What a process tells of itself: its last words, and its log."""

import json
from pathlib import Path

from harness.aws import Depth, Scene
from harness.launch import COPY, Launcher


def test_the_termination_log(scene: Scene, start: Launcher) -> None:
    """One JSON line: the outcome, the exit code, the reason, and the message."""
    message_id = scene.submit("k")

    worker = start("async def handle(job): raise Reject('no')")

    assert worker.wait() == 65
    text = (worker.folder / "termination-log").read_text()
    assert text.count("\n") == 1
    words = worker.termination_log
    assert words["outcome"] == "rejected"
    assert words["exit_code"] == 65
    assert words["reason"] == "rejected_by_handler"
    assert words["message_id"] == message_id


def test_a_termination_log_that_cannot_be_written_changes_nothing(
    scene: Scene, start: Launcher, tmp_path: Path
) -> None:
    """Last words that go nowhere are no reason to fail."""
    scene.submit("k")

    worker = start(COPY, TERMINATION_LOG=str(tmp_path), READY_FILE="/no/such/folder/ready")

    assert worker.wait() == 0
    assert scene.depth() == Depth(0, 0)


def test_a_defect_of_the_program(scene: Scene, start: Launcher) -> None:
    """70, said as such; the message is left alone, and comes back by itself."""
    scene.submit("k")

    worker = start(
        """
        import app.worker
        app.worker.summed_up = None  # what no test can have found yet
        async def handle(job): pass
        """
    )

    assert worker.wait() == 70
    (line,) = worker.events("job_finished")
    assert (line["outcome"], line["reason"], line["level"]) == ("defect", "defect", "ERROR")
    assert "NoneType" in worker.events("defect")[0]["traceback"]
    assert scene.depth() == Depth(0, 1)


def test_what_is_logged_and_what_never_is(scene: Scene, start: Launcher) -> None:
    """Whoever writes, the log is JSON with the ids; and of the message only what may be told."""
    scene.put("k")
    body = '{"Records": [], "secret": "EXAMPLE-OF-A-BODY"}'
    scene.send(body)
    message_id = scene.submit("k")

    worker = start(
        """
        import logging, warnings
        async def handle(job):
            print("printed")
            os.system("echo of a child; echo of a child >&2")
            os.write(1, b"past Python\\n")
            logging.getLogger("another").warning("logged")
            warnings.warn("warned")
            asyncio.get_running_loop().call_exception_handler({"message": "of asyncio"})
            threading.Thread(target=lambda: 1 / 0).start()
            job.log.info("bound", timestamp="mine", odd=object(), lone="\\ud800")
        """,
        MAX_MESSAGES="2",
        LOG_LEVEL="debug",
    )

    assert worker.wait() == 65
    for text in ("printed", "logged", "warned", "of asyncio", "ZeroDivisionError"):
        assert any(text in json.dumps(line) for line in worker.lines), text
    assert worker.events("bound", message_id=message_id)
    assert all(line["job_id"] == "job-of-the-test" for line in worker.lines)
    assert all(line["pod_name"] == "pod-0" for line in worker.lines)
    assert "EXAMPLE-OF-A-BODY" not in worker.stdout + worker.stderr
    received = worker.events("message_received", message_id=message_id)[0]
    assert (received["bucket"], received["key"], received["size"]) == (scene.bucket, "k", 11)
    assert received["receive_count"] == 1
    assert received["age_seconds"] >= 0
    assert len(received["body_sha256"]) == 64


def test_log_format_console_is_for_people(scene: Scene, start: Launcher) -> None:
    """The console format tells the same in lines to read."""
    scene.submit("k")

    worker = start(COPY, LOG_FORMAT="console")

    assert worker.wait() == 0
    assert "message_deleted" in worker.stdout
