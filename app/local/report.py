"""The demo's story as one page of HTML that needs nothing else: no script, no other resource."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from string import Template

from app import __version__
from app.local.cards import card, counted, size
from app.local.journal import Journal
from app.local.legend import legend
from app.local.markup import Markup, element, joined
from app.local.picture import draw
from app.local.samples import DemoFile
from app.local.story import Story, tell
from app.local.verdicts import Ending

_ABOUT = """\
A local SQS and S3, and one worker process (a pod) for each message. Each upload made S3 send a \
message; the scaler looked at the queue and launched pods by KEDA's arithmetic; a pod took one \
message, worked on its file, committed the output, deleted the message and exited. Nothing below \
is simulated: pods were processes, signals were signals, and how each file ended was read from the \
bucket and the dead-letter queue."""
_READING = """\
One bar a pod, from its launch to its exit, and below it what the queues held at that time. \
Point at anything for its words."""


@dataclass(frozen=True, slots=True)
class Run:
    """What became of a demo.

    Attributes:
        endings: of the files that were judged: all, unless it was stopped or did not come up.
        troubles: what went wrong beside the files, one text each.
    """

    files: Sequence[DemoFile]
    journal: Journal
    endings: Sequence[Ending]
    troubles: Sequence[str]

    @property
    def wrong(self) -> int:
        """How many files did not end as they should."""
        return len(self.files) - sum(not ending.problem for ending in self.endings)


def page(run: Run) -> str:
    """The whole page."""
    story = tell(run.journal)
    names = {file.key: file.name for file in run.files}
    body = joined(
        element("h1", f"What became of {counted(len(run.files), 'file')}"),
        element("p", _ABOUT, class_="soft"),
        _verdict(run),
        *(element("div", trouble, class_="trouble card") for trouble in run.troubles),
        _numbers(run, story),
        element("h2", "The pods, and the queues they worked off", id="pods"),
        element("p", _READING, class_="soft"),
        element("div", draw(story, names), legend(story), class_="scroll card"),
        _table(story, names),
        element("h2", "Each file's way"),
        element("div", *_cards(run, story), class_="files"),
        element("footer", _made(run.journal)),
    )
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    return Template(template).substitute(title=joined(_said(run)), body=body)


def _said(run: Run) -> str:
    number = len(run.files)
    if not run.endings:
        return "The demo did not come to its end"
    if run.wrong:
        whose = "it" if run.wrong == 1 else "they"
        names = ", ".join(ending.file.name for ending in run.endings if ending.problem)
        return f"{run.wrong} of {counted(number, 'file')} did not end as {whose} should: {names}"
    one = "The file ended as it should"
    every = one if number == 1 else f"All {number} files ended as they should"
    return f"{every}, but something else went wrong" if run.troubles else every


def _verdict(run: Run) -> Markup:
    wrong = run.wrong or run.troubles
    sign = element("b", "\N{BALLOT X}" if wrong else "\N{CHECK MARK}", aria_hidden="true")
    kind = "verdict wrong card" if wrong else "verdict card"
    return element("div", sign, element("span", f"{_said(run)}."), class_=kind)


def _numbers(run: Run, story: Story) -> Markup:
    views = run.journal.files.values()
    told = [
        (counted(len(story.tracks), "pod"), ""),
        (size(sum(view.size for view in views)), "of files"),
        (counted(sum(view.interruptions for view in views), "interruption"), ""),
        (counted(run.journal.letters, "dead letter"), ""),
        (f"{story.seconds:.1f} s", "from beginning to end"),
    ]
    pairs = []
    for value, what in told:
        number, _, unit = value.partition(" ")
        pair = element("dt", f"{unit} {what}".strip()), element("dd", number)
        pairs.append(element("div", *pair))
    return element("dl", *pairs, class_="numbers")


def _table(story: Story, names: Mapping[str, str]) -> Markup:
    """The picture for those who cannot see it, or want its numbers."""
    heads = ("pod", "file", "launched", "took its message", "ended", "outcome", "exit", "message")
    rows = [
        element(
            "tr",
            element("td", track.name),
            element("td", names.get(track.key, "-")),
            *(
                element("td", "-" if at is None else f"{at:.1f} s", class_="n")
                for at in (track.began, track.received, track.ended)
            ),
            element("td", f"{track.outcome} ({track.reason})" if track.reason else track.outcome),
            element("td", "-" if track.exit_code is None else str(track.exit_code), class_="n"),
            element("td", track.settled or "-"),
        )
        for track in story.tracks
    ]
    head = element("tr", *(element("th", name, scope="col") for name in heads))
    table = element("table", element("thead", head), element("tbody", *rows))
    summary = element("summary", "The same as a table")
    return element("details", summary, element("div", table, class_="wide"))


def _made(journal: Journal) -> str:
    began = datetime.fromtimestamp(journal.began_at, UTC)
    made = f"Made by sqs-file-processor {__version__}"
    return f"{made}; the demo began at {began:%Y-%m-%d %H:%M:%S} UTC."


def _cards(run: Run, story: Story) -> Iterator[Markup]:
    endings = {ending.file.key: ending for ending in run.endings}
    for file in run.files:
        view = run.journal.files[file.key]
        yield card(file, view, endings.get(file.key), story.steps[file.key])
