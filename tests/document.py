"""A document of HTML as a tree, to be asked what a reader would see in it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Self

_VOID = ("meta", "br", "hr", "img", "link", "input")
# What stands in these is not on the page.
_UNSEEN = ("style", "title", "script")


@dataclass
class Node:
    """One element."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list["Node | str"] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What one reads in it, in single spaces."""
        return " ".join("".join(_texts(self)).split())

    @property
    def classes(self) -> list[str]:
        """Its classes."""
        return self.attributes.get("class", "").split()

    @property
    def all(self) -> Iterator["Node"]:
        """It, and everything in it."""
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.all

    def find(self, name: str = "", kind: str = "") -> list["Node"]:
        """The elements in it of this name and class."""
        return [
            node
            for node in self.all
            if name in ("", node.name) and (not kind or kind in node.classes)
        ]

    def one(self, name: str = "", kind: str = "") -> "Node":
        """The only one."""
        [found] = self.find(name, kind)
        return found


def _texts(node: Node) -> Iterator[str]:
    for child in node.children:
        if isinstance(child, str):
            yield child
        elif child.name not in _UNSEEN:
            yield from _texts(child)
            yield " "


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Node("document")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(node)
        if tag not in _VOID:
            self.open.append(node)

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        assert self.open[-1].name == tag, f"<{self.open[-1].name}> ends as </{tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)

    @classmethod
    def of(cls, text: str) -> Self:
        builder = cls()
        builder.feed(text)
        builder.close()
        return builder


def parsed(text: str) -> Node:
    """The document; AssertionError where an element is not closed, or closed by another."""
    builder = _Builder.of(text)
    [document] = builder.open
    return document
