"""One file's story as a card: what it was, what became of it, and every step of its way."""

from collections.abc import Sequence

from app.local.journal import FileView
from app.local.markup import Markup, element, joined
from app.local.news import short
from app.local.samples import DemoFile
from app.local.sentences import in_bytes
from app.local.story import Step
from app.local.verdicts import Ending

_MB = 1_000_000


def card(file: DemoFile, view: FileView, ending: Ending | None, steps: Sequence[Step]) -> Markup:
    """The card; `ending` is None where nobody could judge the file any more."""
    well = ending is not None and not ending.problem
    return element(
        "article",
        element("div", element("h3", file.name), _badge(ending), class_="head-line"),
        _facts(file, view, ending),
        element("ol", *(_step(step) for step in steps), class_="steps"),
        class_="file-card card" if well else "file-card wrong card",
        data_key=file.key,
    )


def counted(number: int, what: str) -> str:
    """A number of things: `1 pod`, `2 pods`."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def size(count: int) -> str:
    """So many bytes, as people read them."""
    return f"{count / _MB:.1f} MB" if count >= _MB else in_bytes(count)


def _badge(ending: Ending | None) -> Markup:
    if ending is None:
        return element("span", "\N{BALLOT X} not judged", class_="badge wrong")
    if ending.problem:
        return element("span", "\N{BALLOT X} not as it should", class_="badge wrong")
    return element("span", "\N{CHECK MARK} as it should", class_="badge")


def _facts(file: DemoFile, view: FileView, ending: Ending | None) -> Markup:
    told = [("what it is", f"{file.about}, {size(view.size)}"), ("expected", file.expected.value)]
    if ending is None:
        told.append(("seen last", view.state))
    else:
        seconds = "" if ending.seconds is None else f", {ending.seconds:.1f} s after its upload"
        attempts = counted(ending.attempts, "attempt")
        told.append(("found", f"{ending.outcome} after {attempts}{seconds}"))
        told += [("output", key) for key in ending.outputs]
        told += [("dead letter", ending.reason)] if ending.reason else []
        told += [("wrong", ending.problem)] if ending.problem else []
    parts = [joined(element("dt", name), element("dd", text)) for name, text in told]
    return element("dl", *parts, class_="facts")


def _step(step: Step) -> Markup:
    return element(
        "li",
        element("time", f"{step.at:.1f} s"),
        element("span", short(step.pod) if step.pod else "", class_="by", title=step.pod or None),
        element("span", step.text, class_="what"),
    )
