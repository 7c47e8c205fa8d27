"""The tokenizer of a GGUF file as llama.cpp computes it, from nothing but the file's own fields.

So what an export has written is held against what it was made of also where llama.cpp is not
installed. Format: github.com/ggml-org/ggml, docs/gguf.md; how texts are cut and joined:
github.com/ggml-org/llama.cpp, src/llama-vocab.cpp. Control tokens that a text spells out are
control tokens, as they are wherever llama.cpp reads a rendered conversation.
"""

import heapq
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.export.gguf_tokenizer import CONTROL, PRE_TOKENIZERS, UNKNOWN, USER_DEFINED
from pipeline.tokenizer.spec import SPACE

_PREFIX = "tokenizer.ggml."
_PARSED = (CONTROL, USER_DEFINED, UNKNOWN)
_HEAD = struct.Struct("<4sIQQ")  # magic, version, number of tensors, number of keys
_NUMBERS = {
    0: "B",
    1: "b",
    2: "H",
    3: "h",
    4: "I",
    5: "i",
    6: "f",
    7: "?",
    10: "Q",
    11: "q",
    12: "d",
}
_STRING, _ARRAY = 8, 9  # the format's numbers of kinds of values, as those of `_NUMBERS`


class GgufTokenizer:
    """What the file at `path` says of texts: `template` is its chat template, `bos` and `eos` the
    texts of the tokens that llama.cpp gives to it, empty where the file names none."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            fields = read_fields(file)
        found = {
            name.removeprefix(_PREFIX): value
            for name, value in fields.items()
            if name.startswith(_PREFIX)
        }
        self._pieces: list[str] = found["tokens"]
        self._ids = {piece: i for i, piece in enumerate(self._pieces)}
        types: list[int] = found["token_type"]
        parsed = [piece for piece, kind in zip(self._pieces, types, strict=True) if kind in _PARSED]
        self._parsed = sorted(filter(None, parsed), key=len, reverse=True)
        self.template: str = fields.get("tokenizer.chat_template", "")
        self.bos, self.eos = (self._named(found.get(f"{n}_token_id")) for n in ("bos", "eos"))
        self._scores: list[float] = found.get("scores", [])
        self._space_prefix = bool(found.get("add_space_prefix", True))
        self._engine = None if found["model"] == "llama" else self._byte_level(found)

    def encode(self, text: str) -> list[int]:
        """Ids of a text that is a conversation already rendered."""
        ids: list[int] = []
        behind_control = True  # as the beginning of the text counts
        for part in self._parts(text):
            if isinstance(part, int):
                ids.append(part)
            elif self._engine is not None:
                ids += self._engine.encode(part, add_special_tokens=False).ids
            else:
                ids += self._joined(" " * (behind_control and self._space_prefix) + part)
            behind_control = isinstance(part, int)
        return ids

    def _named(self, i: int | None) -> str:
        return "" if i is None else self._pieces[i]

    def _byte_level(self, found: dict[str, Any]) -> Any:
        """The library's encoder with the file's merges, cut by the pattern that it names."""
        from tokenizers import Tokenizer as Engine

        steps, whole_words = PRE_TOKENIZERS[found["pre"]]
        model = {
            "type": "BPE",
            "vocab": self._ids,
            "merges": [merge.split(" ") for merge in found.get("merges", ())],
            "ignore_merges": whole_words,
        }
        whole = [{"trim_offsets": True} | step for step in steps]  # which the library asks for
        cut = {"type": "Sequence", "pretokenizers": whole}
        return Engine.from_str(json.dumps({"model": model, "pre_tokenizer": cut}))

    def _parts(self, text: str) -> Iterator[str | int]:
        """Texts between control tokens, and the ids of those; the longest names are found first."""
        parts: list[str | int] = [text]
        for piece in self._parsed:
            if piece in text:
                parts = [inner for part in parts for inner in self._cut(part, piece)]
        return (part for part in parts if part != "")

    def _cut(self, part: str | int, piece: str) -> Iterator[str | int]:
        if isinstance(part, int):
            yield part
            return
        first, *others = part.split(piece)
        yield first
        for other in others:
            yield self._ids[piece]
            yield other

    def _joined(self, text: str) -> Iterator[int]:
        """Ids of SentencePiece's way: of all neighbours the two are joined whose piece scores
        highest, the leftmost of equal ones, until no two make a piece."""
        symbols: list[str] = list(text.replace(" ", SPACE))
        after = [*range(1, len(symbols)), -1]
        before = list(range(-1, len(symbols) - 1))
        waiting: list[tuple[float, int, int, str]] = []

        def offer(left: int, right: int) -> None:
            if left >= 0 and right >= 0:
                piece = symbols[left] + symbols[right]
                if piece in self._ids:
                    heapq.heappush(waiting, (-self._scores[self._ids[piece]], left, right, piece))

        for place in range(1, len(symbols)):
            offer(place - 1, place)
        while waiting:
            _, left, right, piece = heapq.heappop(waiting)
            if not symbols[left] or not symbols[right] or symbols[left] + symbols[right] != piece:
                continue  # one of them was joined to another meanwhile
            symbols[left], symbols[right] = piece, ""
            after[left] = after[right]
            if after[left] >= 0:
                before[after[left]] = left
            offer(before[left], left)
            offer(left, after[left])
        for symbol in filter(None, symbols):
            own = self._ids.get(symbol)
            yield from [own] if own is not None else self._bytes(symbol)

    def _bytes(self, symbol: str) -> Iterator[int]:
        return (self._ids[f"<0x{byte:02X}>"] for byte in symbol.encode())


def read_fields(file: BinaryIO) -> dict[str, Any]:
    """All keys of a GGUF file and their values, which stand before its tensors."""
    _, _, _, count = _HEAD.unpack(file.read(_HEAD.size))
    return {_string(file): _value(file, _number(file, "I")) for _ in range(count)}


def _number(file: BinaryIO, form: str) -> Any:
    return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))[0]


def _string(file: BinaryIO) -> str:
    return file.read(_number(file, "Q")).decode()


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind != _ARRAY:
        return _number(file, _NUMBERS[kind])
    kind, count = struct.unpack("<IQ", file.read(12))
    if kind in _NUMBERS:
        form = f"<{count}{_NUMBERS[kind]}"
        return [*struct.unpack(form, file.read(struct.calcsize(form)))]
    return [_value(file, kind) for _ in range(count)]
