"""`app demo --report`: the page of a real run, as a real browser shows it."""

import json
import os
import re
import struct
import subprocess
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from browser import asked_for, dumped, pictured
from document import Node, parsed
from harness.process import REPOSITORY

FILES = ("cities.csv", "note.json", "poison.csv.gz", "orders.csv.gz", "readings.csv.gz")
# Set to a path, it keeps the picture that the README shows.
KEEP = os.environ.get("DEMO_PICTURE", "")
WIDTH, HEIGHT = 1280, 1040
# Puts into the page where each word of the picture stands, once it is drawn.
MEASURE = """
<script>
const found = [...document.querySelectorAll("main > .scroll > svg:first-child text")].map(text => {
  const box = text.getBBox();
  return [text.textContent, box.x, box.y, box.x + box.width, box.y + box.height];
});
const told = document.createElement("pre");
told.id = "measured";
told.textContent = JSON.stringify(found);
document.body.append(told);
</script>
</body>
"""


@dataclass(frozen=True)
class Ran:
    """A demo with its page."""

    page: Path
    printed: str
    document: Node

    def card(self, name: str) -> Node:
        """The story of one file."""
        [card] = [
            card
            for card in self.document.find("article")
            if card.attributes["data-key"] == f"incoming/{name}"
        ]
        return card


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The demo with its samples and the handlers that come along."""
    page = tmp_path_factory.mktemp("report") / "report.html"
    ended = subprocess.run(
        [sys.executable, "-m", "app", "demo", "--report", str(page)],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert str(page) in ended.stdout
    return Ran(page, ended.stdout, parsed(dumped(page)))


def test_the_verdict(ran: Ran) -> None:
    """Said at once, with what it is a verdict on."""
    assert ran.document.one("h1").text == "What became of 5 files"
    verdict = ran.document.one(kind="verdict")
    assert "All 5 files ended as they should." in verdict.text
    assert "wrong" not in verdict.classes
    assert "1 interruption" in " ".join(
        f"{pair.one('dd').text} {pair.one('dt').text}"
        for pair in ran.document.one("dl", "numbers").find("div")
    )


def test_every_file_has_its_story(ran: Ran) -> None:
    """Its name, whether it ended as it should, its output, and every step."""
    assert [card.one("h3").text for card in ran.document.find("article")] == list(FILES)
    for name in FILES:
        assert ran.card(name).one(kind="badge").text == "✓ as it should"
    assert "output out/incoming/note.json.manifest.json" in ran.card("note.json").text
    cities = ran.card("cities.csv").text
    assert "S3's message about it is sent once more" in cities
    assert "ends: skipped (already_done), exit code 0" in cities


def test_the_file_that_was_interrupted(ran: Ran) -> None:
    """Two pods, and between them a checkpoint, at which the second goes on."""
    card = ran.card("orders.csv.gz")
    steps = [step.one(kind="what").text for step in card.find("li")]
    order = [
        "takes the message, delivery 1",
        "is sent SIGTERM",
        "gives the message back at once",
        "ends: interrupted (stopped), exit code 143",
        "takes the message, delivery 2",
        "ends: done, exit code 0",
    ]
    places = [steps.index(text) for text in order]
    assert places == sorted(places)
    saved = re.findall(
        r"checkpoints?(?:, the last)? (at byte [\d,]+ of the unpacked data)", card.text
    )
    [resumed] = re.findall(
        r"goes on at the last checkpoint (at byte [\d,]+ of the \w+ data)", card.text
    )
    assert resumed in saved
    assert "found done after 2 attempts" in card.text


def test_the_file_that_was_rejected(ran: Ran) -> None:
    """The dead letter, with its reason."""
    card = ran.card("poison.csv.gz")
    assert "found rejected after 1 attempt" in card.text
    assert "dead letter corrupt_data: RejectedError: gzip data is corrupt" in card.text
    assert "sends the message to the dead letters: corrupt_data" in card.text


def test_every_pod_has_a_bar(ran: Ran) -> None:
    """As many as were launched, each with its file, its phases and how it ended."""
    launched = sum(map(int, re.findall(r"launching (\d+)", ran.printed)))
    pods = ran.document.find("g", "pod")
    assert len(pods) == launched
    assert len({pod.attributes["data-pod"] for pod in pods}) == launched
    for pod in pods:
        assert float(pod.one("rect", "starting").attributes["width"]) > 0
        assert re.search(r"(done|skipped|rejected|interrupted|empty), exit \d+", pod.text), pod.text
        assert len(pod.find("rect", "work")) == ("empty" not in pod.text)
    [stopped] = [pod for pod in pods if "o-interrupted" in pod.classes]
    assert stopped.one(kind="signal").text == "SIGTERM"
    assert stopped.find(kind="checkpoint")
    assert "exit 143 message given back" in stopped.text
    assert len(ran.document.find("g", "handover")) == 1
    done = [pod for pod in pods if "o-done" in pod.classes]
    assert all(pod.find(kind="commit") for pod in done)
    # The same in words, for those who cannot see it.
    assert len(ran.document.one("tbody").find("tr")) == launched


def test_the_depths_are_drawn(ran: Ran) -> None:
    """Visible, in flight and dead letters, each as it rose and fell."""
    lanes = ran.document.find("g", "lane")
    assert [lane.attributes["data-depth"] for lane in lanes] == [
        "visible",
        "in flight",
        "dead letters",
    ]
    for lane in lanes:
        drawn = lane.one("path").attributes["d"]
        heights = {float(point.split()[1]) for point in drawn[1:].split("L")}
        assert len(heights) > 1, drawn
    assert "at most 1" in lanes[2].text
    assert len(ran.document.find("g", "launch")) >= 3


def test_it_needs_nothing_else(ran: Ran) -> None:
    """No script, nothing from elsewhere: by its text, and by what a browser asks for."""
    elements = {node.name for node in ran.document.all}
    assert not elements & {"script", "link", "img", "iframe", "object", "embed", "use", "image"}
    told = {attribute for node in ran.document.all for attribute in node.attributes}
    assert not told & {"src", "href", "xlink:href", "style", "srcset", "action", "onclick"}
    assert not re.search(r"url\(|@import|https?:", ran.page.read_text())
    assert "default-src 'none'" in ran.page.read_text()
    assert asked_for(ran.page) == []


def test_what_a_page_asks_for_would_be_seen(tmp_path: Path) -> None:
    """The test before this one can fail."""
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><img src='http://127.0.0.1:9/picture.png'>")
    assert "http://127.0.0.1:9/picture.png" in asked_for(page)


def test_no_words_overlap(ran: Ran, tmp_path: Path) -> None:
    """Every word of the picture can be read: it is inside, and none stands on another."""
    page = tmp_path / "measured.html"
    text = ran.page.read_text().replace("default-src 'none'", "script-src 'unsafe-inline'")
    page.write_text(text.replace("</body>", MEASURE))
    [measured] = [
        node for node in parsed(dumped(page)).find("pre") if node.attributes.get("id") == "measured"
    ]
    words = json.loads(measured.text)
    assert len(words) > 30
    svg = ran.document.find("svg")[0]
    _, _, width, height = map(float, svg.attributes["viewbox"].split())
    for index, (word, left, top, right, bottom) in enumerate(words):
        assert left >= -1, word
        assert right <= width, word
        assert -1 <= top <= bottom <= height, word
        for other, left_of, top_of, right_of, bottom_of in words[index + 1 :]:
            apart_x = right <= left_of + 1 or right_of <= left + 1
            apart_y = bottom <= top_of + 4 or bottom_of <= top + 4
            assert apart_x or apart_y, f"{word!r} stands on {other!r}"


def test_how_it_looks(ran: Ran, tmp_path: Path) -> None:
    """Drawn in both schemes: bright and dark, and in neither of them blank."""
    light = pictured(ran.page, tmp_path / "light.png", width=WIDTH, height=HEIGHT)
    dark = pictured(ran.page, tmp_path / "dark.png", width=WIDTH, height=HEIGHT, dark=True)
    for picture, brightness in ((light, range(230, 256)), (dark, range(32))):
        lines = _lines(picture)
        assert len(lines) == HEIGHT
        assert len(set(lines)) > 300
        # The first pixel of the first line is stored as it is.
        assert all(value in brightness for value in lines[0][1:4])
    assert len(light) < 200_000
    if KEEP:
        Path(KEEP).write_bytes(light)


def _lines(png: bytes) -> list[bytes]:
    """The lines of a PNG, each as it is packed: alike only where they look alike."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height, depth, colour, *_, interlaced = struct.unpack(">IIBBBBB", png[16:29])
    assert (width, depth, interlaced) == (WIDTH, 8, 0)
    data, at = b"", 8
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        data += png[at + 8 : at + 8 + length] if kind == b"IDAT" else b""
        at += 12 + length
    pixels = zlib.decompress(data)
    size = 1 + width * {2: 3, 6: 4}[colour]
    assert len(pixels) == size * height
    return [pixels[start : start + size] for start in range(0, len(pixels), size)]
