"""`app scale` as a process: real workers as its pods, a real queue, real signals."""

import signal

import pytest
from harness.aws import Depth, Scene
from harness.launch import COPY, WAIT, Launcher

QUICK = ("--polling-interval", "0.2")


def test_scale_launches_one_pod_for_each_message_and_ends_when_idle(
    scene: Scene, start: Launcher
) -> None:
    """Three messages, three pods with names of their own, no empty one; then exit 0."""
    for key in "abc":
        scene.submit(key)
    scaler = start(COPY, "scale", *QUICK, "--until-idle")
    assert scaler.wait() == 0
    assert sorted(scene.outputs()) == ["out/a", "out/b", "out/c"]
    assert scene.depth() == Depth(0, 0)
    assert len(scaler.events("job_started")) == 3
    assert len({line["pod_name"] for line in scaler.lines}) == 3
    assert len({line["job_id"] for line in scaler.lines}) == 3
    assert scaler.stderr.count('ended with 0: {"outcome":"done"') == 3


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_scaler_hands_the_stop_down(
    scene: Scene, start: Launcher, number: signal.Signals, code: int
) -> None:
    """The pod gets SIGTERM, gives its message back and ends before the scaler does."""
    scene.submit("a")
    scaler = start(WAIT, "scale", *QUICK)
    scaler.wait_for_event("waiting")
    scaler.signal(number)
    assert scaler.wait() == code
    assert scaler.events("job_finished", outcome="interrupted", exit_code=143)
    assert len(scene.visible_now()) == 1


def test_an_idle_queue_ends_the_scaler_without_a_pod(start: Launcher) -> None:
    """Two polls that find nothing are enough."""
    scaler = start(COPY, "scale", *QUICK, "--until-idle")
    assert scaler.wait() == 0
    assert scaler.stdout == ""


@pytest.mark.parametrize(
    ("env", "complaints"),
    [
        ({"QUEUE_URL": ""}, ["QUEUE_URL: is not set: expected the URL of an SQS queue"]),
        (
            {"QUEUE_URL": "files", "GRACE_SECONDS": "nan"},
            [
                "QUEUE_URL: 'files' is not usable: expected the URL of an SQS queue",
                "GRACE_SECONDS: 'nan' is not usable: expected a number from 1 to 3600",
            ],
        ),
    ],
)
def test_scale_refuses_a_wrong_environment(
    start: Launcher, env: dict[str, str], complaints: list[str]
) -> None:
    """One line for each variable, no traceback, exit 78."""
    scaler = start(COPY, "scale", **env)
    assert scaler.wait() == 78
    assert scaler.stderr.splitlines() == complaints


def test_scale_refuses_a_queue_that_does_not_exist(scene: Scene, start: Launcher) -> None:
    """What no later poll could mend ends the scaler at once."""
    scaler = start(COPY, "scale", QUEUE_URL=f"{scene.queue_url}-not")
    assert scaler.wait() == 78
    [line] = scaler.stderr.splitlines()
    assert line.startswith(f"QUEUE_URL: '{scene.queue_url}-not' is not usable: expected ")


@pytest.mark.parametrize(
    "options", [("--min-replicas", "11"), ("--until-idle", "--min-replicas", "1")]
)
def test_scale_refuses_options_that_contradict_each_other(
    start: Launcher, options: tuple[str, ...]
) -> None:
    """A command line that cannot mean anything is a usage error."""
    scaler = start(COPY, "scale", *options)
    assert scaler.wait() == 2
    assert "--min-replicas" in scaler.stderr
