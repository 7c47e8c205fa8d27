"""A long document is encoded piece by piece: the same ids, in memory near its own size."""

import json
import random
import tracemalloc
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from pipeline.prep import worker
from pipeline.tokenizer import fast_encoder
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.tokenizer import Tokenizer
from tests.pipeline.test_tokenizer_fuzz import spec_of
from tests.support.small_tokenizers import PROSE, train

LETTERS = [
    *"  \n\t\rabc,.é北🙂'1\xa0\u2028\u3000",
    "the",
    " return",
    "</s>",
    "<s>",
    "    ",
    "Hello",
    "123",
    "e\u0301",
    "\u0301",
]
KINDS = ["bpe", "char", "spaced", "prefixed", "llama3", "composed"]


def tokenizer(kind: str, folder: Path) -> Tokenizer:
    """One of six kinds; `prefixed` puts a space before a text, as SentencePiece does, `llama3` and
    `composed` cut words by a pattern of their own, the latter after NFC."""
    if kind in ("llama3", "composed"):
        spec = spec_of("llama3", folder)
        spec["normalizer"] = {"type": "NFC"} if kind == "composed" else None
        path = folder / "tokenizer.json"
        path.write_text(json.dumps(spec))
        return load_tokenizer(path, folder)
    if kind in ("bpe", "char"):
        return train(kind, PROSE, folder / kind)
    spec = json.loads(train("char", PROSE, folder / kind).files()["tokenizer.json"])
    vocab = spec["model"]["vocab"]
    vocab["\u2581"] = vocab.pop(" ")
    steps = [{"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]
    undo = [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}]
    if kind == "prefixed":
        steps.insert(0, {"type": "Prepend", "prepend": "\u2581"})
    spec["normalizer"] = {"type": "Sequence", "normalizers": steps}
    spec["decoder"]["decoders"] = [*undo, *spec["decoder"]["decoders"]]
    if kind == "prefixed":
        strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
        spec["decoder"]["decoders"].append(strip)
    path = folder / f"{kind}.json"
    path.write_text(json.dumps(spec))
    return load_tokenizer(path, folder)


def text_of(length: int, seed: int = 0) -> str:
    return "".join(random.Random(seed).choices(LETTERS, k=length))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at_once", [1, 2, 7, 1000])
def test_pieces_give_the_ids_of_the_whole(
    kind: str, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tokenizer(kind, tmp_path)
    texts = [text_of(length, length) for length in (1, 30, 300, 3000)]
    whole = [ids.tolist() for ids in made.encode_documents(texts)]
    monkeypatch.setattr(fast_encoder, "_GROUP", 20)
    monkeypatch.setattr(fast_encoder, "_SEGMENT", 60 + at_once % 100)
    monkeypatch.setattr(fast_encoder, "_MARGIN", 20)
    monkeypatch.setattr(fast_encoder, "_CHUNKS_AT_ONCE", at_once)
    assert [ids.tolist() for ids in made.encode_documents(texts)] == whole


@pytest.mark.parametrize("kind", ["llama3", "composed"])
def test_a_pattern_of_its_own_is_no_reason_to_hold_a_text_at_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_encoder, "_SEGMENT", 200)
    monkeypatch.setattr(fast_encoder, "_MARGIN", 50)
    segments = list(tokenizer(kind, tmp_path)._encoder._segments(text_of(5000)))
    assert max(map(len, segments)) < 400
    joined = unicodedata.normalize("NFC", "".join(segments))
    assert joined == unicodedata.normalize("NFC", text_of(5000))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at_once", [1, 5, 100_000])
def test_what_comes_back_is_compared_to_the_last_byte(
    kind: str, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_IDS_AT_ONCE", at_once)
    made = tokenizer(kind, tmp_path)
    exact = worker._RoundTrip(made)
    text = unicodedata.normalize("NFC", text_of(200))  # other texts do not come back from it
    [ids] = made.encode_documents([text])
    data = text.encode()
    assert exact(ids, data)
    for wrong in (data[:-1], data[1:], data + b"x", b"x" + data, data.swapcase(), b""):
        assert not exact(ids, wrong)
    before, after = made.around
    for cut in (ids[len(before) + 1 :], ids[: -len(after) - 1]):
        assert not exact(cut, data)
    assert exact(np.array([*before, *after]), b"") is (exact._prefix == b"")


@pytest.mark.slow
def test_memory_is_near_the_size_of_the_text(tmp_path: Path) -> None:
    made = train("bpe", PROSE, tmp_path / "made")
    text = " ".join(str(number % 5000) for number in range(600_000))
    made.encode("the first text loads the library")
    tracemalloc.start()
    try:
        [ids] = made.encode_documents([text])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert ids.size > 600_000
    assert peak < 12 * len(text)  # it was 60 times the text when all chunks were held at once
