"""Elements of HTML and SVG as text, in which nothing that was only told can become markup."""

from html import escape

_VOID = frozenset({"br", "hr", "meta"})


class Markup(str):
    """Text that is markup already; every other text is escaped where it is put into an element."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: object) -> Markup:
    """One element; an attribute `view_box_` is written `view-box`, one that is None not at all."""
    told = "".join(
        f' {attribute.rstrip("_").replace("_", "-")}="{clean(_plain(value))}"'
        for attribute, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{told}>")
    return Markup(f"<{name}{told}>{joined(*children)}</{name}>")


def label(text: str, kind: str, x: float, y: float, letters: int = 30) -> Markup:
    """Words in an SVG, cut where they are longer than so many letters; `kind` is their class."""
    shown = text if len(text) <= letters else f"{text[: letters - 1]}\N{HORIZONTAL ELLIPSIS}"
    return element("text", shown, class_=kind, x=x, y=y)


def joined(*children: str) -> Markup:
    """The children one after the other."""
    return Markup(
        "".join(child if isinstance(child, Markup) else clean(child) for child in children)
    )


def clean(text: str) -> str:
    """The text without what a browser would take for markup, or a reader would not see.

    Control characters, lone surrogates and marks that turn the direction of writing become a
    replacement character.
    """
    return escape(
        "".join(
            letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}"
            for letter in text
        )
    )


def _plain(value: object) -> str:
    # Tenths of a pixel are enough, and keep the page small.
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
