"""The demo's page: what it makes of hostile names, of runs that went wrong, and of its file."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from document import Node, parsed
from harness.launch import WAIT, handlers_module
from harness.process import REPOSITORY
from harness.server import clean_environment

from app.local import report
from app.local.journal import Journal, Observation
from app.local.keda import QueueDepth
from app.local.markup import clean, element
from app.local.pods import Pod
from app.local.report import Run, page
from app.local.samples import DemoFile, Expected
from app.local.timeline import Axis, Change, apart, changes, staircase
from app.local.verdicts import Ending, Left, judge

HOSTILE = [
    "incoming/<script>alert(1)</script>",
    "incoming/\" onmouseover=alert(1) x='",
    "incoming/</title></svg><img src=x onerror=alert(1)>",
    "incoming/&lt;b&gt;&amp;",
    "incoming/$body ${title} {braces} %s",
    "incoming/-->]]><!--",
    "incoming/nul\0 escape\x1b turned\u202egnp lone\ud800",
]
POD_LINES = """
{"event": "job_started"}
{"event": "message_received", "receive_count": 1, "key": KEY}
{"event": "checkpoint_saved", "position": ["chunks", KEY]}
{"event": "checkpoint_saved", "position": KEY}
{"event": "output_committed", "key": KEY, "size": KEY}
{"event": "handler_failed", "reason": KEY, "error": KEY}
{"event": "message_dead_lettered", "reason": KEY, "error": KEY}
{"event": "job_finished", "outcome": KEY, "reason": KEY, "exit_code": 65}
"""


def _files(keys: list[str]) -> list[DemoFile]:
    return [DemoFile(key, Expected.DONE, key, make=lambda _: None) for key in keys]


def _pod(name: str) -> Pod:
    return Pod(name, "job", Path(), None)  # type: ignore[arg-type]


def _run(keys: list[str], lines: str = POD_LINES, name: str = "pod-1") -> Run:
    """A run in which every text that comes from outside is a key."""
    files, journal = _files(keys), Journal(keys)
    endings = []
    for number, file in enumerate(files):
        pod = _pod(f"{name}-{number}")
        journal.note("uploaded", "", file.key, size=1)
        journal.pod_started(pod)
        for line in lines.strip().splitlines():
            journal.pod_line(pod, line.replace("KEY", json.dumps(file.key)), "stdout")
        journal.pod_ended(pod, 65)
        endings.append(Ending(file, file.key, 1, 1.0, (file.key,), file.key, file.key))
    journal.measured(QueueDepth(1, 2), 3)
    journal.polled(QueueDepth(1, 2), 0, 0, 4)
    return Run(files, journal, endings, keys)


def test_nothing_that_was_told_becomes_markup() -> None:
    """Names, errors and reasons of others stand on the page as text, wherever they stand."""
    plain = parsed(page(_run([f"incoming/{number}" for number, _ in enumerate(HOSTILE)])))
    written = page(_run(HOSTILE))
    hostile = parsed(written)
    shape = [(node.name, sorted(node.attributes)) for node in plain.all]
    assert [(node.name, sorted(node.attributes)) for node in hostile.all] == shape
    assert "<script>alert(1)</script>" in hostile.text
    assert "$body ${title} {braces} %s" in hostile.text
    assert "&lt;b&gt;&amp;" in hostile.text
    # Neither what one cannot see nor what turns the writing round; and it can be encoded.
    written.encode()
    assert "nul\ufffd escape\ufffd turned\ufffdgnp lone\ufffd" in hostile.text
    assert not set("\0\x1b\u202e\ud800") & set(written)


def test_an_element_escapes_what_it_is_given() -> None:
    """Attributes, children, and no markup twice."""
    inner = element("b", "<i>", title='"')
    assert inner == '<b title="&quot;">&lt;i&gt;</b>'
    assert (
        element("p", inner, "&", class_="x", y=1.25, z=None)
        == f'<p class="x" y="1.2">{inner}&amp;</p>'
    )
    assert clean("a\r\nb") == "a\N{REPLACEMENT CHARACTER}\nb"


def test_a_run_in_which_nothing_went_well() -> None:
    """The verdict says so, names the file, and says what else went wrong."""
    run = _run(["incoming/a.csv"])
    document = parsed(page(run))
    verdict = document.one(kind="verdict")
    assert "1 of 1 file did not end as it should: a.csv." in verdict.text
    assert "wrong" in verdict.classes
    assert document.one(kind="trouble").text == "incoming/a.csv"
    assert document.one(kind="badge").text == "✗ not as it should"


def test_a_run_without_an_end() -> None:
    """Before any file was judged, or any pod launched, there is a page all the same."""
    files = _files(["incoming/a.csv"])
    document = parsed(page(Run(files, Journal([files[0].key]), [], ["it did not start"])))
    assert "The demo did not come to its end." in document.text
    assert "it did not start" in document.text
    assert document.one(kind="badge").text == "✗ not judged"
    assert "seen last not uploaded yet" in document.text
    assert document.find("g", "pod") == []


def _observed(kind: str, at: float, pod: str = "p-1", **facts: Any) -> Observation:
    return Observation(at, kind, pod, "incoming/a", facts, at)


def _drawn(*seen: Observation) -> Node:
    files = _files(["incoming/a"])
    journal = Journal(["incoming/a"])
    journal.observations += seen
    ending = judge(files[0], journal.files["incoming/a"], Left())
    return parsed(page(Run(files, journal, [ending], [])))


def test_a_pod_that_was_killed_is_told_as_such() -> None:
    """It says nothing itself: its exit code does."""
    document = _drawn(
        _observed("pod_started", 0),
        _observed("message_received", 1, receive_count=1),
        _observed("pod_ended", 3, exit_code=137),
    )
    pod = document.one("g", "pod")
    assert "killed, exit 137" in pod.text
    assert "o-lost" in pod.classes
    assert "is killed, exit code 137" in document.one("article").text


def test_checkpoints_in_a_row_are_told_as_one() -> None:
    """The last one is what counts; on the bar those too close to be told apart are one too."""
    saves = [
        _observed("checkpoint_saved", 1 + n / 100, position=["lines", n, 0, 0, "gzip"])
        for n in range(100)
    ]
    document = _drawn(
        _observed("pod_started", 0),
        _observed("message_received", 1, receive_count=1),
        *saves,
        _observed("signalled", 2),
        _observed("checkpoint_saved", 2.1, position=["chunks", 1234]),
        _observed("pod_ended", 10, exit_code=143),
    )
    text = document.one("article").text
    assert "saves 100 checkpoints, the last at byte 99 of the unpacked data" in text
    assert "saves a checkpoint at byte 1,234" in text
    assert 2 <= len(document.find("g", "checkpoint")) <= 20


def test_the_time_a_pod_gave_its_line_counts() -> None:
    """Not when it was read; but never before the pod's start, nor after now."""
    journal = Journal(["incoming/a"])
    journal.pod_started(_pod("p"))
    for stamp in ("1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "never", None):
        line = f'{{"event": "job_started", "timestamp": "{stamp}"}}'
        journal.pod_line(_pod("p"), line, "stdout")
    early, *late = [seen for seen in journal.observations if seen.kind == "job_started"]
    assert early.happened == journal.pods["p"].started_at
    assert all(seen.happened == seen.at for seen in late)


def test_the_axis() -> None:
    """Seconds to pixels, in round steps, whatever lies outside."""
    axis = Axis(20, 100, 400)
    assert [axis.x(at) for at in (-1, 0, 5, 20, 30)] == [100, 100, 200, 500, 500]
    assert axis.ticks() == list(range(0, 21, 2))
    assert Axis(0.4, 0, 1).ticks() == [0]
    assert all(len(Axis(10.0**power, 0, 1).ticks()) <= 15 for power in range(9))
    assert axis.span(5, 10) == (200, 100)
    assert axis.span(10, 5) == (300, 0)
    assert axis.span(20, 20, 4) == (496, 4)


def test_depths_as_stairs() -> None:
    """One span for each change; the outline goes up and down where they do."""
    spans = changes([(1, (0, 1)), (2, (0, 1)), (3, (2, 1))], 4)
    assert spans == [Change(1, 3, (0, 1)), Change(3, 4, (2, 1))]
    drawn = staircase(spans, 0, Axis(10, 0, 100), 50, 40, 2)
    assert drawn == "M10.0 50.0L10.0 50.0L30.0 50.0L30.0 10.0L40.0 10.0L40.0 50.0"
    assert changes([], 4) == []
    assert staircase([], 0, Axis(10, 0, 100), 50, 40, 0) == ""


def test_marks_that_are_too_close() -> None:
    """Of a crowd one stays, and the last one in any case."""
    assert apart([0, 1, 2, 10, 11], 5) == [0, 4]
    assert apart([0, 10, 20], 5) == [0, 1, 2]
    assert apart([], 5) == []


def _schemes() -> list[Mapping[str, str]]:
    css = Path(report.__file__).with_name("report.html").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    return [dict(re.findall(r"--(\w+): (#\w+)", block)) for block in blocks]


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", _schemes(), ids=["light", "dark"])
def test_the_contrast_suffices(scheme: Mapping[str, str]) -> None:
    """Words at least 4.5 to 1 and shapes 3 to 1, as WCAG 2.1 asks for at level AA."""
    shapes = {"idle", "visible", "flight"}
    words = scheme.keys() - shapes - {"page", "card", "line", "grid"}
    assert len(words) >= 10
    for ground in ("card", "page"):
        for names, least in ((words, 4.5), (shapes, 3.0)):
            for name in names:
                light, dark = sorted(
                    (_luminance(scheme[name]), _luminance(scheme[ground])), reverse=True
                )
                assert (light + 0.05) / (dark + 0.05) >= least, f"{name} on {ground}"


def _demo(folder: Path, *arguments: str, handlers: str = "pass") -> "subprocess.Popen[str]":
    (folder / "handlers.py").write_text(handlers_module(handlers))
    return subprocess.Popen(
        [sys.executable, "-m", "app", "demo", *arguments],
        cwd=folder,
        env=clean_environment() | {"PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("no/such/folder.html", "cannot be written: No such file or directory"),
        (".", "cannot be written: Is a directory"),
        ("a.csv", "is one of the files to upload"),
        ("./b/../a.csv", "is one of the files to upload"),
    ],
)
def test_a_page_that_cannot_be_written_is_refused_at_once(
    path: str, complaint: str, tmp_path: Path
) -> None:
    """Before anything is started, and without harm to the user's file."""
    (tmp_path / "a.csv").write_text("1")
    (tmp_path / "b").mkdir()
    with _demo(tmp_path, "a.csv", "--report", path) as process:
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 78
    assert text == f"--report: {Path(path)}: {complaint}\n"
    assert (tmp_path / "a.csv").read_text() == "1"


def test_a_page_that_cannot_be_finished_is_no_success(tmp_path: Path) -> None:
    """The disk may fill up meanwhile: said, and the demo fails."""
    (tmp_path / "a.csv").write_text("1")
    handlers = "async def handle(job): pass"
    with _demo(tmp_path, "a.csv", "--report", "/dev/full", handlers=handlers) as process:
        text, _ = process.communicate(timeout=60)
    assert process.returncode == 1, text
    assert "--report: /dev/full: cannot be written: No space left on device" in text


def test_a_demo_that_is_stopped_has_a_page_too(tmp_path: Path) -> None:
    """What was seen until then, and that this was not the end."""
    (tmp_path / "a.csv").write_text("1")
    (tmp_path / "report.html").write_text("an older one")
    with _demo(tmp_path, "a.csv", "--report", "report.html", handlers=WAIT) as process:
        assert process.stdout
        for line in process.stdout:
            if "takes a.csv" in line:
                break
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    document = parsed((tmp_path / "report.html").read_text())
    assert "The demo did not come to its end." in document.text
    assert document.one(kind="trouble").text == "the demo was stopped before its end"
    assert "ends: interrupted (stopped), exit code 143" in document.one("article").text
