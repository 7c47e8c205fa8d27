"""Text to ids at several times the library's speed, with the same ids.

A chunk is a run of whitespace and the word after it. Where no piece of a vocabulary has
whitespace after anything else, the ids of a text are the ids of its chunks one after the other,
and a chunk seen before is looked up instead of tokenized. Measured on 0.7 MB of web text with
32,000 ids: 13.6 MB/s on one core once its chunks are known, against the library's 4.5 on two;
3.1 when all of them are new.
"""

import json
import os
import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from itertools import islice
from operator import itemgetter
from threading import Lock
from typing import TYPE_CHECKING, Any

from pipeline.tokenizer.spec import PREFIXED, PREFIXED_ONCE, SPACE, UNPREFIXED, Kind, Spec, parts
from utils.errors import RefusedError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Whitespace beyond space, tab and newline as either regex engine sees it. A whitespace run that
# holds one stays inside its chunk: the engines disagree on which of them separate words.
_RARE = "\x0b\x0c\r\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_ANY, _WORD = f"[ \\n\\t{_RARE}]", f"[^ \\n\\t{_RARE}]"
_CHUNK = re.compile(f"{_ANY}*{_WORD}+(?:[ \\n\\t]*[{_RARE}]{_ANY}*{_WORD}*)*|{_ANY}+")
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_CROSSING = re.compile(f"{_WORD}[ \\n\\t]")
_KNOWN_CHUNKS = 1 << 18  # about 50 MB
_GROUP = 1 << 20  # characters of texts cut at a time: their chunks take ten times that room
_SEGMENT = 1 << 18  # characters that the library gets at a time: it takes 650 bytes for each
_MARGIN = 1 << 10  # characters at the end of one, which what follows could join
_TRIES = 50  # cuts looked at for one that holds
_CHUNKS_AT_ONCE = 1 << 16  # of a long text
_LONGEST_KNOWN = 48  # characters; longer ones hardly ever come again
# Cuts words from the white space before them. Ours are cut so too: of the patterns that other
# programs compute it is the one with which chunks are exact, at 3 % more tokens on Python source
# than one of our own had, and none more on web text.
GPT2_SPLIT = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


class Encoder:
    """Encodes texts for one vocabulary; safe to share between threads."""

    def __init__(self, spec: Spec, kind: Kind, dtype: "npt.DTypeLike") -> None:
        from tokenizers import Tokenizer as Engine  # 40 ms

        _survive_forks()
        self._dtype = dtype
        self._prefix, self._escape = "", b""
        plain = all(token["special"] for token in spec["added_tokens"])
        normalizer = spec.get("normalizer")
        marked = kind == "byte-fallback" and not spec.get("pre_tokenizer")
        whole = plain and normalizer in (PREFIXED, UNPREFIXED)
        if marked and (whole or normalizer in (PREFIXED_ONCE, UNPREFIXED)):
            # The mark for a space would swallow a literal U+2581: that one goes byte by byte.
            self._prefix = "" if normalizer == UNPREFIXED else " "
            vocab = spec["model"]["vocab"]
            self._escape = self._pack([vocab[f"<0x{b:02X}>"] for b in SPACE.encode()])
            spec = spec | {"normalizer": UNPREFIXED}
        space = _metaspace(spec) if plain and kind == "byte-fallback" else None
        if space is not None:  # the beginning gets its space here, and no other part of a text
            self._prefix = "" if space["prepend_scheme"] == "never" else " "
            spec = spec | {"pre_tokenizer": space | {"prepend_scheme": "never"}}
        self._metaspace = space is not None
        self._mark = SPACE if self._escape or self._metaspace else " "
        self._by_merges = (
            plain
            and kind == "byte-fallback"
            and _cut_by_merges_alone(spec, marked=bool(self._escape))
        )
        self._merges: list[list[str]] = spec["model"]["merges"]
        self._split = plain and _chunks_are_exact(spec, kind, self._mark)
        self._cuttable = plain and _pattern_is_local(spec, kind)
        try:
            self._engine = Engine.from_str(json.dumps(spec))
        except Exception as error:  # the library raises nothing more specific
            raise RefusedError(
                "This tokenizer's parts do not fit together.",
                found=str(error),
                remedy="fetch or train it again",
            ) from error
        for token in spec["added_tokens"]:
            given = self._engine.token_to_id(token["content"])
            if not token["special"] and given != token["id"]:
                raise RefusedError(
                    f"This tokenizer's ids have a gap before {token['content']!r}.",
                    found=f"id {token['id']} is declared, and the tokenizers library gives {given}",
                    remedy="fetch the whole folder again, or use another tokenizer",
                )
        self._engine.encode_special_tokens = True  # a literal </s> is text
        self._known: dict[str, bytes] = {}
        self._lock = Lock()

    def encode(
        self, texts: Sequence[str], before: Sequence[int] = (), after: Sequence[int] = ()
    ) -> "list[npt.NDArray[np.unsignedinteger[Any]]]":
        """Ids of each text, between those of `before` and `after`.

        Raises:
            UsageError: a text holds a lone surrogate, which no UTF-8 can.
        """
        import numpy as np  # 60 ms

        head, tail = self._pack(before), self._pack(after)
        packed: list[bytearray] = []
        for group in _groups(texts, _GROUP):
            if len(group) == 1 and len(group[0]) > _GROUP and (self._split or self._cuttable):
                packed.append(bytearray().join((head, *self._piecewise(group[0]), tail)))
                continue
            chunks = [self._chunks(text) for text in group]
            with self._lock:
                new = self._learn(chunks, group)
                find = self._known.__getitem__
                packed += [bytearray().join((head, *map(find, c), tail)) for c in chunks]
                self._forget(new)
        return [np.frombuffer(ids, self._dtype) for ids in packed]

    def _piecewise(self, text: str) -> Iterator[bytes]:
        """Ids of a long text, so many chunks at a time that they take no more than its own size."""
        found: Iterator[str]
        if self._split:
            matches = _CHUNK.finditer(self._begun(text))
            found = (part for match in matches for part in self._parts(match[0]))
            at_once = _CHUNKS_AT_ONCE
        else:
            found, at_once = self._segments(text), 1
        while chunks := list(islice(found, at_once)):
            with self._lock:
                new = self._learn([chunks], [text])
                ids = b"".join(map(self._known.__getitem__, chunks))
                self._forget(new)
            yield ids

    def _segments(self, text: str) -> Iterator[str]:
        """A long text cut where the pattern of the vocabulary cuts it too."""
        normalizer, start = self._engine.normalizer, 0
        text = normalizer.normalize_str(text) if normalizer is not None else text
        while len(text) - start > _SEGMENT:
            end = self._boundary(text[start : start + _SEGMENT])
            if end is None:
                break
            yield text[start : start + end]
            start += end
        yield text[start:]

    def _boundary(self, window: str) -> int | None:
        """A place late in `window`, which begins at a cut of the pattern, where the pattern cuts
        whether the text ends there or goes on; None where none is found.

        A pattern is matched from left to right, so cuts depend on what stands before only through
        the last one. Where there is a normalizer, what follows must be ASCII, which none would
        join.
        """
        any_next = self._engine.normalizer is None
        cut = self._engine.pre_tokenizer.pre_tokenize_str
        words = [span for _, span in cut(window)]
        last = bisect_left(words, len(window) - _MARGIN, key=itemgetter(1))
        for number in range(last - 1, max(last - 1 - _TRIES, -1), -1):
            end = words[number][1]
            if window[end - 1].isspace() or not (any_next or window[end].isascii()):
                continue
            near = bisect_left(words, end - _MARGIN, key=itemgetter(0), hi=number)
            start = words[near][0]  # a cut, from which on all is as from the beginning
            shown = [(start + a, start + b) for _, (a, b) in cut(window[start:end])]
            if shown == words[near : number + 1]:
                return int(end)
        return None

    def _chunks(self, text: str) -> list[str]:
        text = self._begun(text)
        found = _CHUNK.findall(text) if self._split else [text]
        if len(text) <= _SEGMENT:
            return found
        return [part for chunk in found for part in self._parts(chunk)]

    def _begun(self, text: str) -> str:
        """`text` with the space that the vocabulary puts in front of one."""
        if self._metaspace:
            text = text.replace(SPACE, " ")  # this step makes no difference between the two
            return text if text.startswith(" ") or not text else self._prefix + text
        return self._prefix + text if text else ""

    def _parts(self, chunk: str) -> Iterator[str]:
        """A chunk, a long one in parts that are encoded as they are within it; whole where no
        such part is known, as in a million times the same character."""
        if len(chunk) <= _SEGMENT:
            yield chunk
        elif self._by_merges:
            yield from self._unjoined(chunk)
        elif self._cuttable:
            yield from self._segments(chunk)
        else:
            yield chunk

    def _unjoined(self, chunk: str) -> Iterator[str]:
        """Parts of a chunk, cut between characters that no merge joins.

        A token over the cut would have been made by a merge whose left side ends with the one
        character and whose right side begins with the other. Without one the merges to the left
        and to the right of the cut do not touch.
        """
        marked, start = chunk.replace(" ", self._mark), 0
        while len(chunk) - start > _SEGMENT:
            places = range(start + _SEGMENT, len(chunk))
            end = next((p for p in places if marked[p - 1 : p + 1] not in self._joined), None)
            if end is None:
                break
            yield chunk[start:end]
            start = end
        yield chunk[start:]

    @cached_property
    def _joined(self) -> frozenset[str]:
        return frozenset(left[-1] + right[0] for left, right in self._merges)

    def _learn(self, chunks: list[list[str]], texts: Sequence[str]) -> list[str]:
        """Make every chunk known; returns those that were not."""
        new = list(set().union(*chunks).difference(self._known))
        # One string per part between literal marks; nearly always one per chunk.
        pieces = [chunk.split(SPACE) if self._escape else [chunk] for chunk in new]
        flat = [piece for split in pieces for piece in split]
        try:
            encoded = iter(
                [
                    self._pack(found.ids)
                    for group in _groups(flat, _SEGMENT)
                    for found in self._engine.encode_batch_fast(group, add_special_tokens=False)
                ]
            )
        except TypeError:
            _explain(texts)
            raise
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # which is no Exception
                raise
            raise RefusedError(
                "This tokenizer cannot cut this text.",
                found=str(error)[:300],
                remedy="its pattern is at fault: use another tokenizer",
            ) from error
        for chunk, split in zip(new, pieces, strict=True):
            self._known[chunk] = self._escape.join(islice(encoded, len(split)))
        return new

    def _forget(self, new: list[str]) -> None:
        """Keep what is likely to come again; early comers are the frequent ones."""
        full = len(self._known) > _KNOWN_CHUNKS
        for chunk in new:
            if full or len(chunk) > _LONGEST_KNOWN:
                del self._known[chunk]

    def _pack(self, ids: Sequence[int]) -> bytes:
        import numpy as np

        return np.array(ids, dtype=self._dtype).tobytes()


def _metaspace(spec: Spec) -> dict[str, Any] | None:
    """The step that marks spaces, where it is all that happens before the merges."""
    step = spec.get("pre_tokenizer") or {}
    known = {"type": "Metaspace", "replacement": SPACE}
    alone = not spec.get("normalizer") and step.keys() <= {*known, "prepend_scheme", "split"}
    schemes = ("always", "first", "never")
    fits = known.items() <= step.items() and step.get("prepend_scheme") in schemes
    return step if alone and fits else None


def _cut_by_merges_alone(spec: Spec, *, marked: bool) -> bool:
    """Whether nothing but the merges decides where a text is cut: no pattern, no look at whole
    words, no merges of bytes that a character was taken apart into."""
    model = spec["model"]
    if (spec.get("pre_tokenizer") and _metaspace(spec) is None) or model.get("ignore_merges"):
        return False
    if not marked and spec.get("normalizer"):
        return False
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return False
    return not any(_BYTE.fullmatch(side) for merge in model["merges"] for side in merge)


def _chunks_are_exact(spec: Spec, kind: Kind, mark: str) -> bool:
    """Whether the ids of a text are those of its chunks in a row.

    Pieces are cut by a pattern that never joins whitespace to what stands before it, or, without
    any pattern, no piece of the vocabulary does.
    """
    if kind == "byte-level":
        if spec.get("normalizer") or spec["model"].get("ignore_merges"):
            return False
        steps = [_without_offsets(part) for part in parts(spec.get("pre_tokenizer"))]
        return steps == [GPT2_SPLIT]
    if spec.get("pre_tokenizer") and _metaspace(spec) is None:
        return False
    if mark == " " and spec.get("normalizer"):
        return False
    return not any(_CROSSING.search(p.replace(mark, " ")) for p in spec["model"]["vocab"])


def _pattern_is_local(spec: Spec, kind: Kind) -> bool:
    """Whether a pattern cuts texts into words that are encoded one by one, as they stand."""
    steps = parts(spec.get("pre_tokenizer"))
    return (
        kind == "byte-level"
        and bool(steps)
        and spec.get("normalizer") in (None, {"type": "NFC"})
        and all(step["type"] in ("ByteLevel", "Split", "Digits") for step in steps)
        and not any(step.get("add_prefix_space") for step in steps)
    )


def _without_offsets(step: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in step.items() if key != "trim_offsets"}


def _groups(texts: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    """Runs of `texts` of about `most` characters."""
    start = size = 0
    for end, text in enumerate(texts, 1):
        size += len(text)
        if size >= most or end == len(texts):
            yield texts[start:end]
            start, size = end, 0


def _explain(texts: Sequence[str]) -> None:
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UsageError(
                "This text is not Unicode: it holds half of a surrogate pair.",
                found=f"U+{ord(text[error.start]):04X} at character {error.start}",
                remedy="write it as UTF-8, which has no such halves",
            ) from None


@cache
def _survive_forks() -> None:
    """A forked child has none of the library's threads: it must not wait for them.

    The library reads the variable at each batch; a value set by the user is left alone.
    """
    if not hasattr(os, "register_at_fork"):
        return
    name, ours = "TOKENIZERS_PARALLELISM", []

    def before() -> None:
        if name not in os.environ:
            os.environ[name] = "false"
            ours.append(True)

    def in_parent() -> None:
        if ours:
            ours.pop()
            os.environ.pop(name, None)

    os.register_at_fork(before=before, after_in_parent=in_parent)
