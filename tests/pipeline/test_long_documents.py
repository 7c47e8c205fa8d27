"""A long document is encoded piece by piece: the same ids, in memory near its own size."""

import json
import random
import tracemalloc
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer as Engine

from pipeline.prep import worker
from pipeline.tokenizer import fast_encoder
from pipeline.tokenizer.fast_encoder import Encoder
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.spec import Spec
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


# Texts without white space.

MARK = "\u2581"
MERGED = ["the", "then", "ab", "abc", "aba", "bab", "北京", "京的", "的a", "==", "====", "e\u0301"]
FRAGMENTS = [*MERGED, *"abcehnt=北京的天。é🙂\u0301<>0xE", "<0xE5>", "ab", "aba"]
SPACED = [*FRAGMENTS, " ", "  ", "\n", "\t", "\xa0", MARK, f"{MARK}a", " a", "the "]
STEPS = {
    "marked": {"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": MARK}},
    "plain": {},
} | {
    f"metaspace {scheme} {split}": {
        "pre_tokenizer": {
            "type": "Metaspace",
            "replacement": MARK,
            "prepend_scheme": scheme,
            "split": split,
        }
    }
    for scheme in ("always", "first", "never")
    for split in (True, False)
}


def merging_spec(steps: dict[str, Any], *, crossing: bool, of_bytes: bool = False) -> Spec:
    """Byte-fallback BPE with merges; `crossing`: also of what white space parts, and `of_bytes`:
    of the bytes of characters."""
    mark = " " if steps == {} else MARK
    words = [*MERGED, f"{mark}a", f"{mark}the", f"{mark}{mark}", f"{mark}{mark}a"]
    words += [f"b{mark}", f"b{mark}a", "c\n", f"{mark}{mark}{mark}"] if crossing else []
    letters = sorted({letter for word in words for letter in word} | set("abcehnt0xE<>\n"))
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    merges = []
    for word in words:
        for end in range(2, len(word) + 1):
            merges.append([word[: end - 1], word[end - 1]])
            pieces.append(word[:end])
    if of_bytes:  # two bytes of 天, and one of its and one of the next character
        merges += [["<0xE5>", "<0xA4>"], ["<0xA9>", "<0xE5>"]]
        pieces += ["<0xE5><0xA4>", "<0xA9><0xE5>"]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    merges = [list(merge) for merge in dict.fromkeys(map(tuple, merges))]
    random.Random(4).shuffle(merges)
    model = {"type": "BPE", "byte_fallback": True, "unk_token": "<unk>", "dropout": None}
    model |= {"vocab": vocab, "merges": merges, "fuse_unk": True}
    added = {"id": 0, "content": "<unk>", "special": True, "normalized": False}
    added |= dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    parts = {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None}
    return {"version": "1.0", "added_tokens": [added], "model": model} | parts | steps


@pytest.mark.parametrize("fragments", [FRAGMENTS, SPACED], ids=["solid", "spaced"])
@pytest.mark.parametrize("crossing", [False, True])
@pytest.mark.parametrize("kind", STEPS)
def test_a_text_cut_where_no_merge_joins_gets_the_ids_of_the_library(
    kind: str, crossing: bool, fragments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for of_bytes in (False, True):
        spec = merging_spec(STEPS[kind], crossing=crossing, of_bytes=of_bytes)
        theirs = Engine.from_str(json.dumps(spec))
        theirs.encode_special_tokens = True
        rng = random.Random(crossing)
        texts = ["".join(rng.choices(fragments, k=rng.randint(0, 60))) for _ in range(400)]
        if kind == "marked":  # a mark in a text is on purpose other than the library's
            texts = [text.replace(MARK, "") for text in texts]
        expected = [e.ids for e in theirs.encode_batch(texts, add_special_tokens=False)]
        for segment, group in ((1, 1 << 20), (3, 10), (17, 40)):
            monkeypatch.setattr(fast_encoder, "_SEGMENT", segment)
            monkeypatch.setattr(fast_encoder, "_GROUP", group)
            ours = Encoder(spec, "byte-fallback", "uint16")
            assert [ids.tolist() for ids in ours.encode(texts)] == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_pattern_cuts_a_text_without_white_space_as_the_whole(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tokenizer(kind, tmp_path)
    rng = random.Random(2)
    solid = [*"abcXYZ019'.,!<>=é北京。，🙂\u0301\xa0ⅷ²", "'s", "'re", "the"]
    texts = ["".join(rng.choices(solid, k=rng.randint(20, 300))) for _ in range(200)]
    whole = [ids.tolist() for ids in made.encode_batch(texts)]
    for segment, margin in ((12, 4), (60, 20)):
        monkeypatch.setattr(fast_encoder, "_SEGMENT", segment)
        monkeypatch.setattr(fast_encoder, "_MARGIN", margin)
        anew = Encoder(made.spec, made.kind, made.token_dtype)
        assert [ids.tolist() for ids in anew.encode(texts)] == whole


@pytest.mark.parametrize("kind", ["bpe", *STEPS])
def test_the_library_gets_no_long_text_at_once(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast_encoder, "_SEGMENT", 200)
    monkeypatch.setattr(fast_encoder, "_MARGIN", 20)
    if kind == "bpe":
        encoder = train("bpe", PROSE, tmp_path / "made")._encoder
    else:
        encoder = Encoder(merging_spec(STEPS[kind], crossing=True), "byte-fallback", "uint16")
    engine = Watched(encoder._engine)
    monkeypatch.setattr(encoder, "_engine", engine)
    text = "".join(random.Random(1).choices([*"abcehnt北京的天。1=", "the"], k=4000))
    assert "".join(encoder._chunks(text)).removeprefix(" ") == text
    assert encoder.encode([text, text[:1000], text[7:]])[0].size
    assert max(engine.sizes) < 600
    assert sum(engine.sizes) >= len(text)


class Watched:
    """The library's tokenizer, with the characters that it got at a time."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def encode_batch_fast(self, texts: list[str], **options: bool) -> Any:
        self.sizes.append(sum(map(len, texts)))
        return self._engine.encode_batch_fast(texts, **options)


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
