"""Open a token set: everything checked before anything is allocated or computed.

A token set is a folder made by `prepare`: shards (`pipeline.tokens.shards`), `metadata.json`, and
the manifest that says it is complete. The share held out for validation and the window are chosen
here, at each use, not when the tokens are written.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.tokens.metadata import (
    METADATA,
    REMAKE,
    Metadata,
    ShardRecord,
    read_metadata,
    remake,
)
from pipeline.tokens.shards import DOCUMENT, token_dtype
from pipeline.tokens.split import Split, count_tokens, split_tokens
from pipeline.tokens.windows import Stretch, Windows
from utils.artefacts import Manifest, read_manifest
from utils.errors import RefusedError, UsageError
from utils.hardware import usable_cores
from utils.verification import verify

GPU_SHARE, RAM_SHARE = 0.25, 0.5
"""Of the memory that is free, what tokens may take: the model and its optimizer come later."""

_SHORTEST_ADVISED = 16  # tokens of a window that is still worth having


class _Identified(Protocol):
    @property
    def fingerprint(self) -> str: ...
    @property
    def vocab_size(self) -> int: ...


class TokenSet:
    """An open token set; `train` and `val` never share a token.

    `held_out` says what validation got where its share of the documents would have been nothing.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        metadata: Metadata,
        shards: list[npt.NDArray[Any]],
        train: Windows,
        val: Windows,
        held_out: str = "",
    ) -> None:
        self.folder, self.metadata, self.held_out = folder, metadata, held_out
        self.fingerprint = manifest.fingerprint
        self._manifest = manifest
        self.shards, self.train, self.val = shards, train, val

    @property
    def bytes(self) -> int:
        """Size of all tokens."""
        return sum(shard.nbytes for shard in self.shards)

    @property
    def text_field(self) -> str:
        """The field of rows that the user named as their text; empty: the usual ones."""
        return str(self._manifest.made_by.options.get("text_field", ""))

    def check_tokenizer(self, tokenizer: _Identified) -> None:
        """Refuse a tokenizer other than the one that made these tokens.

        Raises:
            RefusedError: the fingerprints differ, even where the vocabulary sizes agree.
        """
        ours = self.metadata.tokenizer
        if tokenizer.fingerprint != ours.fingerprint:
            raise RefusedError(
                f"The tokens in {self.folder} were made by another tokenizer.",
                found=f"they are of {ours.name} ({ours.vocab_size} ids, fingerprint "
                f"{ours.fingerprint[:16]}…); given is one of {tokenizer.vocab_size} ids, "
                f"fingerprint {tokenizer.fingerprint[:16]}…",
                remedy=f"put theirs back at {ours.path}, or {REMAKE}",
                commands=[remake(self.folder, self._manifest)],
            )

    def into_memory(self) -> None:
        """Read every shard into RAM, so that no batch waits for the disk."""
        self.shards[:] = [np.array(shard) for shard in self.shards]


def open_tokens(
    folder: Path,
    *,
    window: int | None = None,
    stride: int | None = None,
    val_split: float,
    check: Literal["full", "sizes"] = "full",
) -> TokenSet:
    """Open `folder` for training, holding out `val_split` of it.

    `window` is T, by default the one given to prepare; `stride` the distance of training windows,
    by default half of T. `check="full"` compares every byte with the manifest's SHA-256 (about
    0.7 GB/s per core); "sizes" only lengths, for looking at a set.

    Raises:
        UsageError: there is no token set, or it is too small for the window or the split.
        RefusedError: it is incomplete or damaged.
    """
    manifest = _complete(folder)
    metadata = read_metadata(folder, manifest)
    _check_files(folder, manifest, check)
    shards = [_mapped(folder / f"tokens_{s.name}.npy") for s in metadata.shards]
    tables = [_mapped(folder / f"documents_{s.name}.npy") for s in metadata.shards]
    _check_shards(folder, metadata, shards, tables)
    if window is None:
        window, stride = metadata.window, stride or metadata.stride
    stride = stride or max(1, window // 2)
    _check_choice(window, stride, val_split)
    split = split_tokens(metadata, tables, val_split, window)
    starts = [table["start"] for table in tables]

    def windows(stretches: Sequence[Stretch], stride: int, moved_back: bool) -> Windows:
        size = sum(_text_bytes(tables[s.shard], metadata.shards[s.shard], s) for s in stretches)
        return Windows(
            shards,
            starts,
            stretches,
            window=window,
            stride=stride,
            moved_back=moved_back,
            text_bytes=size,
        )

    train, val = windows(split.train, stride, True), windows(split.val, window, False)
    _check_sizes(folder, metadata, split, window, val_split)
    return TokenSet(folder, manifest, metadata, shards, train, val, split.sentence)


def _complete(folder: Path) -> Manifest:
    manifest = read_manifest(folder)
    if manifest is not None and METADATA in manifest.files:
        return manifest
    if not folder.is_dir():
        raise UsageError(
            f"There is no token set at {folder}.",
            found="no such folder",
            remedy="make it: {}",
            commands=[("prepare", "--output", str(folder))],
        )
    missing = "manifest.json" if manifest is None else METADATA
    raise RefusedError(
        f"{folder} is not a complete token set: it has no {missing}.",
        found=", ".join(sorted(p.name for p in folder.iterdir())[:5]) or "an empty folder",
        remedy="move it away, then make it: {}",
        commands=[("prepare", "--output", str(folder))],
    )


def _check_files(folder: Path, manifest: Manifest, check: Literal["full", "sizes"]) -> None:
    """Refuse missing, cut or altered files; cut ones at once, before any is read whole."""
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != expected.bytes:
            _verify(folder, name)
    if check == "full":
        with ThreadPoolExecutor(usable_cores()) as pool:
            list(pool.map(partial(_verify, folder), manifest.files))


def _verify(folder: Path, name: str) -> None:
    try:
        verify(folder, only=[name])
    except RefusedError as error:
        raise RefusedError(
            error.problem, found=error.found, remedy=REMAKE, commands=[_again(folder)]
        ) from error


def _again(folder: Path) -> tuple[str, ...]:
    manifest = read_manifest(folder)
    assert manifest is not None  # the set was found complete before
    return remake(folder, manifest)


def _mapped(path: Path) -> npt.NDArray[Any]:
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, OSError) as error:
        raise RefusedError(
            f"{path} is damaged: {error}.", remedy=REMAKE, commands=[_again(path.parent)]
        ) from error


def _check_shards(
    folder: Path,
    metadata: Metadata,
    shards: list[npt.NDArray[Any]],
    tables: list[npt.NDArray[Any]],
) -> None:
    vocab_size = metadata.tokenizer.vocab_size
    for record, tokens, table in zip(metadata.shards, shards, tables, strict=True):
        if (
            tokens.dtype != token_dtype(vocab_size)
            or table.dtype != DOCUMENT
            or (len(tokens), len(table)) != (record.tokens, record.documents)
            or record.largest_id >= vocab_size
        ):
            raise RefusedError(
                f"Shard {record.name} in {folder} contradicts its metadata.json.",
                found=f"{len(tokens)} tokens of {tokens.dtype} in {len(table)} documents, largest "
                f"id {record.largest_id}, vocabulary {vocab_size}",
                remedy=REMAKE,
                commands=[_again(folder)],
            )


def _check_choice(window: int, stride: int, val_split: float) -> None:
    if window < 2 or stride < 1 or not 0 < val_split < 1:
        raise UsageError(
            "Windows of at least 2 tokens, a stride of at least 1 and a validation share between "
            "0 and 1 are needed.",
            found=f"--window {window}, stride {stride}, --val-split {val_split}",
        )


def _text_bytes(table: npt.NDArray[Any], record: ShardRecord, stretch: Stretch) -> float:
    """UTF-8 bytes of the text in a stretch; a document cut in two counts in proportion."""
    ends = np.append(table["start"][1:], np.uint64(record.tokens)).astype(np.float64)
    total = np.concatenate(([0.0], np.cumsum(table["bytes"], dtype=np.float64)))
    until = np.interp([stretch.begin, stretch.end], np.concatenate(([0.0], ends)), total)
    return float(until[1] - until[0])


class TooShortError(UsageError):
    """A token set fills no window of the requested length; `shorter` is one that it would fill,
    0 where there is none."""

    shorter = 0

    def advising(self, command: Sequence[str]) -> "TooShortError":
        """The same with a command that takes the shorter window, where there is one."""
        error = TooShortError(
            self.problem,
            found=self.found,
            remedy="choose a smaller --window: {}; or add more text"
            if self.shorter
            else self.remedy,
            commands=[tuple(command)] if self.shorter else [],
        )
        error.shorter = self.shorter
        return error


def _check_sizes(
    folder: Path, metadata: Metadata, split: Split, window: int, val_split: float
) -> None:
    if split.longest_window >= window:
        return
    left = count_tokens(split.train)
    error = TooShortError(
        f"{folder} is too small: {left:,} training tokens do not fill one window of {window} + 1.",
        found=f"{metadata.tokens:,} tokens in {metadata.documents:,} "
        f"document{'s' * (metadata.documents != 1)}, of which "
        f"--val-split {val_split} leaves {left:,} for training",
        remedy="add more text",
    )
    if split.longest_window >= _SHORTEST_ADVISED:
        error.shorter = 1 << split.longest_window.bit_length() - 1
    raise error.advising(("train", "--data", str(folder), "--window", str(error.shorter)))
