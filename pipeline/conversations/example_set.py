"""A set of encoded conversations as a folder: written once, read by what tunes a model.

`tokenized_examples.npy` holds the ids of all examples one behind the other, `loss_mask.npy` a 1
for each id that is learned, and `examples.npy` where each example begins, with the end of all as
its last number. `conversations.jsonl` has their texts in the same order. A set of preferences has
two examples for each pair: example 2i is the answer that was chosen, 2i + 1 the one that was not.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline import corpora
from pipeline.conversations.conversation import Conversation, Preference, Turn
from pipeline.tokens.metadata import TokenizerRecord
from pipeline.tokens.shards import split_hash, token_dtype
from utils.artefacts import FolderBuilder, Manifest, read_manifest
from utils.errors import RefusedError, UsageError
from utils.files import durable_file
from utils.verification import verify

KIND = "examples"
FOLDER = corpora.EXAMPLES
METADATA, TEXTS, SHOWN = "metadata.json", "conversations.jsonl", "example_conversations.json"
_IDS, _LEARNED, _STARTS = "tokenized_examples.npy", "loss_mask.npy", "examples.npy"
_REMAKE = "make the set again: {}"

Ids: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
Indices: TypeAlias = npt.NDArray[np.int64]
Item: TypeAlias = Conversation | Preference


class Example(NamedTuple):
    """Ids of one conversation, and for each whether it is learned (uint8, 0 or 1)."""

    ids: Ids
    learned: npt.NDArray[np.uint8]


class ExampleMetadata(msgspec.Struct, frozen=True):
    """The contents of `metadata.json`.

    Items are conversations or pairs of answers: `read` came in, `kept` are in the set, the others
    are in `rejected` by reason, `duplicates` among them. `shapes` and `rules` count the kept ones
    by the form of their rows and by the rule that found them. `lengths` are in tokens: the 50th,
    90th and 99th percentile and the longest of all that were encoded, also of those left out as
    too long; `longer` says how many a larger `max_length` would keep. `held_out` are the items
    for validation, counted from 0.
    """

    name: str
    kind: Literal["conversations", "preferences"]
    sources: list[str]
    tokenizer: TokenizerRecord
    template_sha256: str
    max_length: int
    read: int
    kept: int
    rejected: dict[str, int]
    shapes: dict[str, int]
    rules: dict[str, int]
    turns: int
    tokens: int
    learned_tokens: int
    lengths: dict[str, int]
    longer: dict[str, int]
    held_out: list[int]

    @property
    def duplicates(self) -> int:
        return self.rejected.get("duplicate", 0)


class _Identified(Protocol):
    @property
    def fingerprint(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...


class ExampleSet:
    """An open set. `train` and `val` are the numbers of its items: of examples in a set of
    conversations, of pairs in one of preferences (see `pair`)."""

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        metadata: ExampleMetadata,
        ids: Ids,
        learned: npt.NDArray[np.uint8],
        starts: Indices,
    ) -> None:
        self.folder, self.metadata = folder, metadata
        self.fingerprint = manifest.fingerprint
        self._manifest = manifest
        self._ids, self._learned, self._starts = ids, learned, starts
        self.val: Indices = np.asarray(metadata.held_out, dtype=np.int64)
        self.train: Indices = np.setdiff1d(np.arange(metadata.kept), self.val)

    def __len__(self) -> int:
        """How many examples there are: twice as many as pairs in a set of preferences."""
        return len(self._starts) - 1

    @property
    def lengths(self) -> Indices:
        """Tokens of each example."""
        return np.diff(self._starts)

    @property
    def item_lengths(self) -> Indices:
        """Tokens of each item: of a pair those of its longer answer."""
        if self.metadata.kind == "conversations":
            return self.lengths
        longer: Indices = self.lengths.reshape(-1, 2).max(axis=1)
        return longer

    def ids(self, i: int) -> Ids:
        """Ids of example `i`, uint16 or uint32."""
        return self._ids[self._starts[i] : self._starts[i + 1]]

    def learned(self, i: int) -> npt.NDArray[np.bool_]:
        """For each id of example `i` whether it is learned: as a target, never for its place."""
        return self._learned[self._starts[i] : self._starts[i + 1]].astype(np.bool_)

    @staticmethod
    def pair(item: int) -> tuple[int, int]:
        """The examples of a pair: the answer that was chosen, and the one that was not."""
        return 2 * item, 2 * item + 1

    def texts(self, item: int) -> Item:
        """What was said, as it was before it was encoded."""
        row = json.loads(self._rows[item])
        if self.metadata.kind == "preferences":
            return Preference(_turns(row["prompt"]), row["chosen"], row["rejected"], row["where"])
        return Conversation(_turns(row["messages"]), row["where"], row["rule"])

    @cached_property
    def _rows(self) -> list[bytes]:
        return (self.folder / TEXTS).read_bytes().split(b"\n")

    def check_tokenizer(self, tokenizer: _Identified) -> None:
        """Refuse a tokenizer other than the one that encoded this set.

        Raises:
            RefusedError: the fingerprints differ, even where the vocabulary sizes agree.
        """
        ours = self.metadata.tokenizer
        if tokenizer.fingerprint != ours.fingerprint:
            raise RefusedError(
                f"The conversations in {self.folder} were encoded by another tokenizer.",
                found=f"they are of {ours.name} ({ours.vocab_size} ids, fingerprint "
                f"{ours.fingerprint[:16]}…); given is one of {tokenizer.vocab_size} ids, "
                f"fingerprint {tokenizer.fingerprint[:16]}…",
                remedy="make the set again with the tokenizer of the model: {}",
                commands=[remake(self._manifest, tokenizer="TOKENIZER")],
            )

    def remake(self, **changes: object) -> tuple[str, ...]:
        """The command that makes this set again, with `changes` of its settings."""
        return remake(self._manifest, **changes)


def remake(manifest: Manifest, **changes: object) -> tuple[str, ...]:
    """The command that makes the set of a manifest again, with `changes` of its settings."""
    words = ["lima"]
    for name, value in (manifest.made_by.options | changes).items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            words += [flag] if value else []
        elif isinstance(value, list):
            words += [flag, *map(str, value)]
        elif value is not None:
            words += [flag, str(value)]
    return (*words, "--force")


def open_examples(folder: Path, *, check: Literal["full", "sizes"] = "full") -> ExampleSet:
    """Open the set in `folder`. `check="full"` compares every byte with the manifest's SHA-256,
    "sizes" only lengths, for looking at a set.

    Raises:
        UsageError: there is none.
        RefusedError: it is incomplete, damaged, or of another version.
    """
    manifest = _complete(folder)
    try:
        verify(folder, None if check == "full" else [METADATA])
        metadata = msgspec.json.decode((folder / METADATA).read_bytes(), type=ExampleMetadata)
        arrays = [_mapped(folder, name, manifest) for name in (_IDS, _LEARNED, _STARTS)]
        _check_arrays(folder, metadata, *arrays)
    except RefusedError as error:
        raise _damaged(error.problem, error.found, manifest) from error
    except msgspec.DecodeError as error:
        found = f"made by version {manifest.made_by.version}"
        problem = f"{folder / METADATA} is not one of this version: {error}."
        raise _damaged(problem, found, manifest) from error
    except (ValueError, OSError) as error:
        raise _damaged(f"{folder} is damaged: {error}.", "", manifest) from error
    return ExampleSet(folder, manifest, metadata, *arrays)


def _complete(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    if manifest is not None and manifest.kind == KIND:
        return manifest
    if not folder.is_dir():
        raise UsageError(
            f"There are no conversations at {folder}.",
            found="no such folder",
            remedy="make a set of them: {}",
            commands=[("lima", "--input", "FILE")],
        )
    raise RefusedError(
        f"{folder} is no set of conversations.",
        found=manifest.kind if manifest else "a folder without a manifest",
        remedy="make a set: {}",
        commands=[("lima", "--input", "FILE")],
    )


def _damaged(problem: str, found: str, manifest: Manifest) -> RefusedError:
    return RefusedError(problem, found=found, remedy=_REMAKE, commands=[remake(manifest)])


def _mapped(folder: Path, name: str, manifest: Manifest) -> npt.NDArray[Any]:
    size = (folder / name).stat().st_size
    if size != manifest.files[name].bytes:
        raise RefusedError(
            f"{folder / name} is damaged.",
            found=f"{size:,} bytes, where its manifest says {manifest.files[name].bytes:,}",
        )
    return np.asarray(np.load(folder / name, mmap_mode="r", allow_pickle=False))


def _check_arrays(
    folder: Path,
    metadata: ExampleMetadata,
    ids: npt.NDArray[Any],
    learned: npt.NDArray[Any],
    starts: npt.NDArray[Any],
) -> None:
    examples = metadata.kept * (2 if metadata.kind == "preferences" else 1)
    vocab_size = metadata.tokenizer.vocab_size
    types = (token_dtype(vocab_size), np.dtype(np.uint8), np.dtype(np.int64))
    fits = (
        (ids.dtype, learned.dtype, starts.dtype) == types
        and len(starts) == examples + 1
        and len(ids) == len(learned) == metadata.tokens
        and (starts[0], starts[-1]) == (0, metadata.tokens)
        and bool((np.diff(starts) > 0).all())
        and int(ids.max()) < vocab_size
    )
    if not fits:
        raise RefusedError(
            f"The files in {folder} contradict its {METADATA}.",
            found=f"{len(ids):,} ids of {ids.dtype}, {len(learned):,} marks and {len(starts):,} "
            f"places for {examples:,} examples of {metadata.tokens:,} tokens",
        )


def write_examples(
    builder: FolderBuilder,
    metadata: ExampleMetadata,
    items: Sequence[Item],
    examples: Sequence[Example],
) -> None:
    """Write everything but the file of rejects into a folder that is being built. `examples` are
    one for each of `items`, or two where they are preferences."""
    dtype = token_dtype(metadata.tokenizer.vocab_size)
    starts = np.cumsum([0, *(len(example.ids) for example in examples)], dtype=np.int64)
    arrays = {
        _IDS: np.concatenate([example.ids for example in examples]).astype(dtype),
        _LEARNED: np.concatenate([example.learned for example in examples]).astype(np.uint8),
        _STARTS: starts,
    }
    for name, array in arrays.items():
        with durable_file(builder.path / name) as out:
            np.lib.format.write_array(out, array, allow_pickle=False)
        builder.commit(name, {name: out.written})
    builder.write(TEXTS, b"".join(_line(item) for item in items))
    builder.write(METADATA, msgspec.json.format(msgspec.json.encode(metadata)) + b"\n")


def held_out(items: Sequence[Item], share: float) -> list[int]:
    """The items for validation: those whose hash of what is said, or of the prompt where two
    answers are compared, is below `share`; of two or more that differ at least one, never all."""
    hashes = [split_hash(_identity(item)) for item in items]
    chosen = [i for i, number in enumerate(hashes) if number < share * 2**64]
    if len(items) > 1 and not chosen:
        chosen = [min(range(len(items)), key=hashes.__getitem__)]
    if len(items) > 1 and len({hashes[i] for i in chosen}) == len(set(hashes)):
        last = max(hashes)
        chosen = [i for i in chosen if hashes[i] != last]
    return chosen if len(items) > 1 else []


def _identity(item: Item) -> str:
    turns = item.prompt if isinstance(item, Preference) else item.turns
    return json.dumps(turns)


def _line(item: Item) -> bytes:
    """A row that can be read again as a set: the shape of chats, or of preferences."""
    if isinstance(item, Preference):
        row: dict[str, Any] = {"prompt": _messages(item.prompt)}
        row |= {"chosen": item.chosen, "rejected": item.rejected, "where": item.where}
    else:
        row = {"messages": _messages(item.turns), "where": item.where, "rule": item.rule}
    return msgspec.json.encode(row) + b"\n"


def _messages(turns: Sequence[Turn]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def _turns(messages: Sequence[Any]) -> tuple[Turn, ...]:
    return tuple(Turn(message["role"], message["content"]) for message in messages)
