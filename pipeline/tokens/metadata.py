"""What a token set says of itself: the contents of `metadata.json`."""

from pathlib import Path
from typing import Literal

import msgspec

from utils.artefacts import Manifest
from utils.errors import RefusedError
from utils.verification import verify

METADATA = "metadata.json"


class TokenizerRecord(msgspec.Struct, frozen=True):
    """Which tokenizer made the ids."""

    name: str
    path: str
    fingerprint: str
    vocab_size: int
    bos_id: int | None
    eos_id: int | None


class ShardRecord(msgspec.Struct, frozen=True):
    """One shard: its file names end in `name`; `read` documents came in, `rejected` by rule."""

    name: str
    tokens: int
    documents: int
    text_bytes: int
    largest_id: int
    sha256: str
    read: int
    rejected: dict[str, int]
    inputs: list[str]


class Metadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """The contents of `metadata.json`; sizes in tokens, text as UTF-8 bytes.

    `held_out` says what the usual share and window hold out for validation where it is not what
    the hash of each document's id says; it is left out elsewhere.
    """

    source: str
    tokenizer: TokenizerRecord
    dtype: str
    documents: int
    tokens: int
    text_bytes: int
    bytes_per_token: float
    window: int
    stride: int
    windows: int
    split: Literal["document", "tail"]
    split_seed: int
    read: int
    rejected: dict[str, int]
    shards: list[ShardRecord]
    held_out: str = ""


REMAKE = "make the tokens again: {}"
"""The remedy that goes with the command of `remake`."""


def remake(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """The command that makes the tokens of `folder` as they were made."""
    made, *texts = manifest.made_by.options, *(source.path for source in manifest.inputs)
    flags = ["--output", str(folder), "--force"]
    for name in ("source", "window", "stride", "split", "shard_tokens", "text_field"):
        if name in made:
            flags += [f"--{name.replace('_', '-')}", str(made[name])]
    flags += ["--test"] * bool(made.get("test"))
    if texts:  # the last input is the tokenizer
        flags += ["--tokenizer", texts.pop(), "--input", *texts]
    return ("prepare", *flags)


def read_metadata(folder: Path, manifest: Manifest) -> Metadata:
    """The metadata of a complete token set.

    Raises:
        RefusedError: it is damaged, or was written by another version.
    """
    verify(folder, only=[METADATA])
    try:
        return msgspec.json.decode((folder / METADATA).read_bytes(), type=Metadata)
    except msgspec.DecodeError as error:
        raise RefusedError(
            f"{folder / METADATA} is not one of this version: {error}.",
            found=f"made by version {manifest.made_by.version}",
            remedy=REMAKE,
            commands=[remake(folder, manifest)],
        ) from error
