"""Encoding of one unit of work, some files of documents or a part of one, into shards."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.events import Rejected
from pipeline.prep.plan import Group
from pipeline.sources.documents import Document
from pipeline.sources.lines import Damage, check_listed
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.tokenizer import Tokenizer
from pipeline.tokens.shards import Shard
from pipeline.workers import summarized
from utils.errors import RefusedError
from utils.files import Written, printable_name

Ids: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]

_IDS_AT_ONCE = 1 << 16  # their texts are compared with a document
_CHUNK_BYTES = 1 << 19  # encoded at a time: a few messages a second, and the stop signal is seen


class EncodingUnit(msgspec.Struct, frozen=True):
    """A group to encode into `folder`, from its record `skip` to `limit`, as shards `part` and on.
    `text_field` is the one that the user named; empty: the usual ones."""

    number: int
    group: Group
    text_field: str
    folder: str
    tokenizer: str
    tokenizers_dir: str
    fingerprint: str
    by_hash: bool
    shard_tokens: int
    batch: int
    skip: int = 0
    part: int = 0
    limit: int | None = None

    def __str__(self) -> str:
        return summarized([file.name for file in self.group.files])

    def run(self) -> "Iterator[Message]":
        """Encode the files; a shard ends before the document that would overfill it.

        A document longer than a whole shard has a shard of its own.

        Raises:
            HatcheryError: a damaged input file, an id outside the vocabulary, or a full disk.
        """
        if self.group.end is not None and not self.group.begin:
            check_listed(self.group.files[0])  # a reader of parts does not
        tokenizer, exact = _opened(self.tokenizer, self.tokenizers_dir, self.fingerprint)
        open_shard, upto, part = _OpenShard(tokenizer.vocab_size), self.skip, self.part
        records = islice(self.group.documents(self.text_field), self.skip, self.limit)
        for chunk in _chunks(records, self.batch):
            tokens = text_bytes = 0
            encoded = tokenizer.encode_documents([_text(document) for _, document in chunk])
            for (path, document), ids in zip(chunk, encoded, strict=True):
                file, data, size = str(path), _text(document).encode(), len(ids)
                rule = "" if data.strip() else "empty"
                if isinstance(document, Damage):
                    rule = document.reason
                elif not rule and not exact(ids, data):
                    rule = "not_exact"
                if (
                    not rule
                    and open_shard.shard.tokens
                    and open_shard.shard.tokens + size > self.shard_tokens
                ):
                    yield _finish(self, open_shard, part, upto, last=False)
                    open_shard, part = _OpenShard(tokenizer.vocab_size), part + 1
                upto += 1
                open_shard.read += 1
                open_shard.inputs[printable_name(file)] = None
                if rule or isinstance(document, Damage):
                    open_shard.rejected[rule] = open_shard.rejected.get(rule, 0) + 1
                    yield _rejected(rule, file, document)
                    continue
                open_shard.shard.add(ids, document.id, len(data))
                tokens, text_bytes = tokens + size, text_bytes + len(data)
            yield Advance(self.number, len(chunk), tokens, text_bytes)
        yield _finish(self, open_shard, part, upto, last=True)


class Advance(msgspec.Struct, frozen=True):
    """Work done since the message before."""

    group: int
    documents: int
    tokens: int
    text_bytes: int


class ShardDone(msgspec.Struct, frozen=True):
    """A shard is durable, or a group has ended (`last`), then possibly with nothing in it.

    `read` documents of the files `inputs` came in, up to record `upto` of the group; `begin` and
    `end` are those of a group that is a part of a file.
    """

    group: int
    name: str
    files: dict[str, Written]
    tokens: int
    documents: int
    text_bytes: int
    largest_id: int
    read: int
    rejected: dict[str, int]
    inputs: list[str]
    upto: int
    last: bool
    begin: int = 0
    end: int | None = None


Message: TypeAlias = Advance | Rejected | ShardDone


class _OpenShard:
    """The shard being filled, and what was read for it."""

    def __init__(self, vocab_size: int) -> None:
        self.shard = Shard(vocab_size)
        self.read = 0
        self.rejected: dict[str, int] = {}
        self.inputs: dict[str, None] = {}


@lru_cache(maxsize=1)
def _opened(where: str, tokenizers_dir: str, fingerprint: str) -> "tuple[Tokenizer, _RoundTrip]":
    """The tokenizer of the plan, opened once per process: it learns what words come often."""
    tokenizer = load_tokenizer(where, Path(tokenizers_dir))
    if tokenizer.fingerprint != fingerprint:
        raise RefusedError(
            f"The tokenizer {where} changed while its tokens were made.",
            found=f"fingerprint {tokenizer.fingerprint[:16]}…, at the start {fingerprint[:16]}…",
            remedy="run the same command again",
        )
    return tokenizer, _RoundTrip(tokenizer)


def _text(document: Document | Damage) -> str:
    return document.text if isinstance(document, Document) else ""


def _rejected(rule: str, file: str, document: Document | Damage) -> Rejected:
    if isinstance(document, Damage):
        return Rejected(rule=rule, where=f"{file}:{document.offset}", detail=document.detail)
    return Rejected(rule=rule, where=file, detail=document.id)


def _chunks(
    records: Iterator[tuple[Path, Document | Damage]], most: int
) -> Iterator[list[tuple[Path, Document | Damage]]]:
    chunk: list[tuple[Path, Document | Damage]] = []
    characters = 0
    for record in records:
        chunk.append(record)
        characters += len(_text(record[1]))
        if characters >= _CHUNK_BYTES or len(chunk) == most:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


class _RoundTrip:
    """Whether ids give back the very bytes of their text, at 100 MB/s."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        pieces = [tokenizer.text_bytes([i], fresh=False)[0] for i in range(tokenizer.vocab_size)]
        self._pieces = np.empty(len(pieces), dtype=object)
        self._pieces[:] = pieces
        # SentencePiece puts a space before a text, which decoding takes off again.
        self._prefix = self._joined(tokenizer.encode_batch(["a"])[0]).removesuffix(b"a")

    def __call__(self, ids: Ids, data: bytes) -> bool:
        """Piece by piece: the texts of all ids at once would take ten times the room of `data`."""
        prefix, at = self._prefix, 0
        for start in range(0, len(ids), _IDS_AT_ONCE):
            text = self._joined(ids[start : start + _IDS_AT_ONCE])
            begin, end = at - len(prefix), at - len(prefix) + len(text)
            if text != prefix[at : at + len(text)] + data[max(0, begin) : max(0, end)]:
                return False
            at += len(text)
        return at == len(prefix) + len(data)

    def _joined(self, ids: Ids) -> bytes:
        return b"".join(self._pieces[ids].tolist())


def _finish(
    unit: EncodingUnit, open_shard: _OpenShard, part: int, upto: int, *, last: bool
) -> ShardDone:
    shard, rejected = open_shard.shard, open_shard.rejected
    assert open_shard.read == shard.documents + sum(rejected.values()), "a document was lost"
    name = f"{unit.number:05d}_{part:03d}"
    files = shard.write(Path(unit.folder), name, by_hash=unit.by_hash) if shard.tokens else {}
    return ShardDone(
        group=unit.number,
        begin=unit.group.begin,
        end=unit.group.end,
        name=name,
        files=files,
        tokens=shard.tokens,
        documents=shard.documents,
        text_bytes=shard.text_bytes,
        largest_id=shard.largest_id,
        read=open_shard.read,
        rejected=rejected,
        inputs=list(open_shard.inputs),
        upto=upto,
        last=last,
    )
