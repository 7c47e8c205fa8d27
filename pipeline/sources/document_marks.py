"""Marks between documents in one text: `<|endoftext|>` and its kin, as tokenizers write them.

A mark on a line of its own ends a document, several on a line too. One at the end of a line that
has text does so where the whole file is written so, as those that join stories are; there a mark
of beginning may open a line. Marks that end turns of chats divide nothing where turns are opened
too, and never at the end of a line of text. Any other mark is text and is only counted.
"""

import re
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from pipeline.sources.lines import (
    READ_ERRORS,
    Damage,
    Line,
    broken,
    cut_at_character,
    with_command,
)
from utils.verification import DamagedFileError

_ENDS = (
    *("<|endoftext|>", "<|end_of_text|>", "<|endofdoc|>", "<|end_of_document|>", "<|eos|>"),
    *("<eos>", "<EOS>", "[EOS]", "</s>", "<｜end▁of▁sentence｜>"),
)
_CHAT = ("<|im_end|>", "<|eot_id|>", "<|eot|>", "<|end|>", "<end_of_turn>")
_BEGINS = ("<|startoftext|>", "<|begin_of_text|>", "<bos>", "<BOS>", "[BOS]")
_TURNS = re.compile(rb"<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>")
_STRUCK = "<s>"  # begins a document on a line of its own; before text it may be HTML
_ALL = tuple(mark.encode() for mark in (*_ENDS, *_CHAT, *_BEGINS, _STRUCK))
_ANY = b"|".join(map(re.escape, _ALL))
_MARK = re.compile(_ANY)
_OWN_LINE = re.compile(rb"\s*(?:(?:%b)\s*)+" % _ANY)
_OWN_LINE_OF_CHAT = re.compile(
    rb"\s*(?:(?:%b)\s*)+" % b"|".join(re.escape(mark.encode()) for mark in _CHAT)
)
_CLOSING = re.compile(
    rb"(%b)\s*\Z" % b"|".join(re.escape(mark.encode()) for mark in _ENDS), re.ASCII
)
_OPENING = re.compile(rb"\s*(%b)" % b"|".join(re.escape(mark.encode()) for mark in _BEGINS))
_LONGEST = 1 << 20  # bytes of a document; a longer one is cut at a blank line behind as many
_CARRIED = 64 * 1024  # bytes of a line that is not yet whole
_LONGEST_MARK = 64  # bytes, and room for blanks


class Marks(NamedTuple):
    """How a text is divided: at marks on lines `alone`, and at those that end a line of text
    (`closing`); `chat` says that marks of chats count among the former, `seen` that it holds any
    mark at all."""

    alone: bool = False
    closing: bool = False
    seen: bool = False
    chat: bool = False


class MarkCounter:
    """What marks a text holds, from its bytes in UTF-8 in any pieces."""

    def __init__(self) -> None:
        self._carried = b""
        self._alone = self._closing = self._others = self._ends_of_turns = 0
        self._turns = False

    def feed(self, data: bytes) -> None:
        data = self._carried + data
        end = data.rfind(b"\n") + 1
        self._look(data[:end])
        self._carried = data[end:]
        if len(self._carried) > _CARRIED:
            begins = max(
                self._carried.rfind(b"<", -_LONGEST_MARK), self._carried.rfind(b"[", -_LONGEST_MARK)
            )
            cut = begins if begins >= 0 else len(self._carried)
            self._look(self._carried[:cut])
            self._carried = b"." + self._carried[cut:]  # a mark there does not stand alone

    def _look(self, data: bytes) -> None:
        self._turns = self._turns or (b"start" in data and bool(_TURNS.search(data)))
        for line in _lines_with_marks(data):
            if _OWN_LINE_OF_CHAT.fullmatch(line):
                self._ends_of_turns += 1
                continue
            if _OWN_LINE.fullmatch(line):
                self._alone += 1
                continue
            opened, closed = bool(_OPENING.match(line)), bool(_CLOSING.search(line))
            self._closing += closed
            self._others += len(_MARK.findall(line)) - closed - opened

    def marks(self) -> Marks:
        """The marks of everything fed."""
        self._look(self._carried)
        self._carried = b""
        closing = self._closing > 1 and not self._others
        seen = bool(self._alone or self._closing or self._others or self._ends_of_turns)
        chat = bool(self._ends_of_turns) and not self._turns
        return Marks(bool(self._alone) or chat, closing, seen, chat)


def _lines_with_marks(data: bytes) -> Iterator[bytes]:
    """The lines that hold a mark; faster than to look at every line."""
    if b">" not in data and b"OS]" not in data:
        return
    ends: dict[int, int] = {}
    for mark in _ALL:
        at = data.find(mark)
        while at >= 0:
            begin, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)
            ends[begin] = end = end if end >= 0 else len(data)
            at = data.find(mark, end)
    for begin, end in ends.items():
        yield data[begin:end]


def count_marks(text: bytes) -> dict[str, int]:
    """How often which mark stands in a text."""
    counts: dict[str, int] = {}
    for line in _lines_with_marks(text):
        for mark in _MARK.findall(line):
            counts[mark.decode()] = counts.get(mark.decode(), 0) + 1
    return counts


class MarkedDocument(NamedTuple):
    """A document and the mark that ended it, or where there is none the last one before."""

    line: Line
    mark: str


def marked_documents(
    handle: BufferedReader, path: Path, marks: Marks
) -> Iterator[MarkedDocument | Damage]:
    """The documents of an open text, which is part of the file `path`, without their marks; blank
    ones are left out."""
    number = offset = at = size = 0
    held: list[bytes] = []
    seen, unfinished = "", False
    try:
        while line := handle.readline(_LONGEST):
            begin, at = at, at + len(line)
            mark, text = ("", line) if unfinished and not marks.closing else _cut(line, marks)
            seen = mark or seen
            unfinished = not line.endswith(b"\n")
            full = size >= _LONGEST and (not text.strip() or size > 2 * _LONGEST)
            offset = offset if held else begin
            if text:
                held.append(text)
                size += len(text)
            if mark or full:
                piece, held = (b"".join(held), []) if mark else cut_at_character(held)
                if piece.strip():
                    number += 1
                    yield MarkedDocument(Line(number, offset, piece), seen)
                size, offset = sum(map(len, held)), offset + len(piece)
    except DamagedFileError as error:
        raise with_command(error) from None
    except READ_ERRORS as error:
        yield broken(path, offset, error)
    if any(map(bytes.strip, held)):
        yield MarkedDocument(Line(number + 1, offset, b"".join(held)), seen)


def _cut(line: bytes, marks: Marks) -> tuple[str, bytes]:
    """The mark that ends a document with this line, and the text of the line."""
    if b">" not in line and b"]" not in line:
        return "", line
    if _OWN_LINE_OF_CHAT.fullmatch(line) and not marks.chat:
        return "", line
    if _OWN_LINE.fullmatch(line):
        found: list[bytes] = _MARK.findall(line)
        return found[0].decode(), b""
    if not marks.closing:
        return "", line
    opening, closing = _OPENING.match(line), _CLOSING.search(line)
    begin = opening.end() if opening else 0
    if closing is None:
        return "", line[begin:]
    return closing[1].decode(), line[begin : closing.start()] + b"\n"
