"""Lines out of pieces: however the bytes are cut, the lines are those of the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.framing import Splitter
from app.outcomes import Reason, RejectedError

# Few letters, so that terminators of several bytes are met, whole and in parts.
PIECES = st.lists(st.binary(max_size=8).map(lambda data: bytes(b"ab\n"[byte % 3] for byte in data)))
TERMINATORS = st.sampled_from([b"\n", b"ab", b"aa", b"aba", b"\nb\n"])


def lines_of(data: bytes, terminator: bytes) -> list[bytes]:
    """The obvious way."""
    lines = data.split(terminator)
    return lines if lines[-1] else lines[:-1]


@given(PIECES, TERMINATORS)
def test_any_pieces_give_the_lines_of_the_whole(pieces: list[bytes], terminator: bytes) -> None:
    """Also where a terminator is cut in two, and where the last line has none."""
    splitter = Splitter(terminator)
    found = [line for piece in pieces for line in splitter.feed(piece)]
    assert found + splitter.finish() == lines_of(b"".join(pieces), terminator)


@given(PIECES, TERMINATORS, st.integers(0, 10**15))
def test_the_offset_is_where_the_next_line_begins(
    pieces: list[bytes], terminator: bytes, start: int
) -> None:
    """After every piece: what was fed is the lines handed out, and what is held."""
    splitter = Splitter(terminator, start)
    ended = start
    for piece in pieces:
        ended += sum(len(line) + len(terminator) for line in splitter.feed(piece))
        assert splitter.offset == ended


def test_the_last_line_needs_no_terminator() -> None:
    """A file that does not end with a newline has a last line all the same."""
    splitter = Splitter()
    assert splitter.feed(b"one\ntwo") == [b"one"]
    assert splitter.finish() == [b"two"]
    assert splitter.finish() == []


def test_empty_lines_are_lines() -> None:
    """Two terminators in a row have an empty line between them; the end of the file has none."""
    splitter = Splitter()
    assert splitter.feed(b"\n\na\n") == [b"", b"", b"a"]
    assert splitter.finish() == []


@pytest.mark.parametrize(
    "pieces", [[b"x" * 11], [b"x" * 6] * 2, [b"x" * 11 + b"\n"], [b"a\n" + b"x" * 11 + b"\nb\n"]]
)
def test_a_line_without_end_is_corrupt(pieces: list[bytes]) -> None:
    """A line beyond the bound is found out before it fills the memory, ended or not."""
    splitter = Splitter(max_line_bytes=10)
    with pytest.raises(RejectedError, match="longer than 10 bytes") as raised:
        [splitter.feed(piece) for piece in pieces]
    assert raised.value.reason is Reason.CORRUPT_DATA


@given(st.lists(st.binary(min_size=10, max_size=10).map(lambda data: data.replace(b"\n", b"."))))
def test_a_line_at_the_bound_is_none_too_many(lines: list[bytes]) -> None:
    """Lines of exactly the bound pass, however many come in one piece."""
    splitter = Splitter(max_line_bytes=10)
    assert splitter.feed(b"".join(line + b"\n" for line in lines)) == lines


def test_a_terminator_has_at_least_one_byte() -> None:
    """An empty one would end no line."""
    with pytest.raises(ValueError, match="at least one byte"):
        Splitter(b"")
