"""Small tokenizers, clean documents and token sets for tests."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from pipeline.events import Event, Finished
from pipeline.options.config import Config, PrepareOptions
from pipeline.prep import stage
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.spec import byte_marks
from pipeline.tokens.metadata import METADATA, Metadata, ShardRecord, TokenizerRecord, read_metadata
from pipeline.tokens.shards import SPLIT_SEED, Shard, token_dtype
from utils.artefacts import build_folder, read_manifest


def save_tokenizer(name: str, merges: Sequence[tuple[str, str]] = ()) -> Path:
    """A byte-level tokenizer of 256 bytes, `merges` and two control tokens, in tokenizers/."""
    pieces = [*byte_marks(), *(left + right for left, right in merges), "<s>", "</s>"]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    step = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    spec = {
        "version": "1.0",
        "added_tokens": [
            {"id": vocab[text], "content": text, "special": True} | flags
            for text in ("<s>", "</s>")
        ],
        "pre_tokenizer": step,
        "decoder": step,
        "model": {"type": "BPE", "vocab": vocab, "merges": [list(pair) for pair in merges]},
    }
    folder = Path("tokenizers", name)
    with build_folder(folder, kind="tokenizer", command="tokenize", options={}) as builder:
        builder.write("tokenizer.json", json.dumps(spec))
        roles = {"bos_token": "<s>", "eos_token": "</s>"}
        builder.write("tokenizer_config.json", json.dumps(roles))
    return folder


def write_documents(path: Path, texts: Sequence[str], prefix: str = "") -> Path:
    """A cleaned file of `texts`, with ids that begin with `prefix` or else the file's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (
        {"id": f"{prefix or path.stem}:{i}", "title": str(i), "text": text}
        for i, text in enumerate(texts)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def prepare(**options: Any) -> list[Event]:
    """All events of the stage in the working directory."""
    return list(stage.run(Config(), PrepareOptions(**options), threading.Event()))


def prepared(**options: Any) -> Finished:
    """The final event of the stage."""
    last = prepare(**options)[-1]
    assert isinstance(last, Finished)
    return last


def token_set(
    folder: Path,
    shards: Sequence[Sequence[Sequence[int]]],
    *,
    vocab_size: int = 60_000,
    split: str = "document",
    window: int = 8,
) -> Path:
    """A token set of given ids: `shards` holds documents, which hold ids.

    Document j of shard i is called "i/j", and its text is said to have 3 bytes per token.
    """
    records = []
    with build_folder(folder, kind="tokens", command="prepare", options={}) as builder:
        for number, documents in enumerate(shards):
            shard = Shard(vocab_size)
            for j, ids in enumerate(documents):
                shard.add(np.array(ids), f"{number}/{j}", 3 * len(ids))
            name = f"{number:05d}_000"
            files = shard.write(builder.path, name, by_hash=split == "document")
            builder.commit(name, files)
            records.append(
                ShardRecord(
                    name=name,
                    tokens=shard.tokens,
                    documents=shard.documents,
                    text_bytes=shard.text_bytes,
                    largest_id=shard.largest_id,
                    sha256=files[f"tokens_{name}.npy"].sha256,
                    read=shard.documents,
                    rejected={},
                    inputs=[],
                )
            )
        metadata = Metadata(
            source="test",
            tokenizer=TokenizerRecord(
                name="numbers",
                path="tokenizers/numbers",
                fingerprint="f" * 64,
                vocab_size=vocab_size,
                bos_id=None,
                eos_id=None,
            ),
            dtype=token_dtype(vocab_size).name,
            documents=sum(r.documents for r in records),
            tokens=sum(r.tokens for r in records),
            text_bytes=sum(r.text_bytes for r in records),
            bytes_per_token=3.0,
            window=window,
            stride=max(1, window // 2),
            windows=0,
            split="tail" if split == "tail" else "document",
            split_seed=SPLIT_SEED,
            read=sum(r.documents for r in records),
            rejected={},
            shards=records,
        )
        builder.write(METADATA, msgspec.json.encode(metadata))
    return folder


def numbered(documents: int, length: int, first: int = 0) -> list[list[int]]:
    """Documents whose ids are all different, so that an id says which token it was."""
    return [list(range(first + i * length, first + (i + 1) * length)) for i in range(documents)]


def metadata(folder: Path) -> Metadata:
    manifest = read_manifest(folder)
    assert manifest is not None
    return read_metadata(folder, manifest)


def content(folder: Path) -> dict[str, bytes]:
    """Every file but the manifest, which holds the time."""
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "manifest.json"}


def texts_in(folder: Path) -> list[str]:
    """The text of every document in a token set, decoded."""
    found = []
    meta = metadata(folder)
    tokenizer = load_tokenizer(meta.tokenizer.path, Path("tokenizers"))
    for shard in meta.shards:
        tokens = np.load(folder / f"tokens_{shard.name}.npy", allow_pickle=False)
        starts = np.load(folder / f"documents_{shard.name}.npy", allow_pickle=False)["start"]
        for part in np.split(tokens, starts[1:].astype(int)):
            ids = part.tolist()
            assert (ids[0], ids[-1]) == (tokenizer.bos_id, tokenizer.eos_id)
            found.append(tokenizer.decode(ids[1:-1]))
    return found
