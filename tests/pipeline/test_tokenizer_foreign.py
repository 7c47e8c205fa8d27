"""Tokenizers as others publish them: what their files declare holds, or is refused by name."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from pipeline.events import Warned
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.spec import byte_marks
from pipeline.tokenizer.stage import probed
from pipeline.tokenizer.tokenizer import Tokenizer
from tests.support.small_tokenizers import PROSE, train
from utils.errors import RefusedError, UsageError


def byte_level_pair(folder: Path, end: bytes = b"\n") -> int:
    """vocab.json and merges.txt of a small byte-level BPE; returns the size of the vocabulary."""
    spec = train("bpe", PROSE, folder / "made").spec
    vocab = spec["model"]["vocab"]
    (folder / "vocab.json").write_text(json.dumps(vocab))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in spec["model"]["merges"])]
    (folder / "merges.txt").write_bytes(end.join(line.encode() for line in lines) + end)
    return len(vocab)


def load(folder: Path, **files: Any) -> Tokenizer:
    for name, value in files.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    return load_tokenizer(folder, folder / "tokenizers")


def test_added_tokens_count_in_every_place_where_they_are_declared(tmp_path: Path) -> None:
    size = byte_level_pair(tmp_path)
    ours = load(
        tmp_path,
        added_tokens={"<|start|>": size, "<|end|>": size + 1, "<tool>": size + 2},
        special_tokens_map={"eos_token": {"content": "<|end|>"}},
        tokenizer_config={
            "additional_special_tokens": ["<|start|>"],
            "added_tokens_decoder": {
                str(size + 3): {"content": "<mask>", "special": True},
                str(size + 4): {"content": "<word>", "special": False, "normalized": False},
            },
        },
    )
    assert (ours.vocab_size, ours.eos_id) == (size + 5, size + 1)
    assert {size, size + 1, size + 3} <= ours.controls
    assert not {size + 2, size + 4} & ours.controls
    for text in ("a <tool> b<word>é", "<|end|> is text", "<mask><|start|>"):
        ids = ours.encode(text)
        assert ours.decode(ids) == text
        assert not ours.controls & set(ids)
    assert size + 2 in ours.encode("a <tool> b")
    assert list(probed(ours)) == []


@pytest.mark.parametrize("role", ["bos_token", "eos_token"])
@pytest.mark.parametrize("value", ["<|gone|>", {"content": "<|gone|>"}])
def test_a_declared_token_that_is_missing_is_never_replaced(
    tmp_path: Path, role: str, value: Any
) -> None:
    byte_level_pair(tmp_path)
    with pytest.raises(RefusedError, match=r"<\|gone\|>.*" + role):
        load(tmp_path, tokenizer_config={role: value})


def test_files_that_disagree_on_an_id_are_refused(tmp_path: Path) -> None:
    size = byte_level_pair(tmp_path)
    with pytest.raises(RefusedError, match="disagree on the token <x>"):
        load(
            tmp_path,
            added_tokens={"<x>": size},
            tokenizer_config={"added_tokens_decoder": {str(size + 1): {"content": "<x>"}}},
        )
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(RefusedError, match="disagree on the token <s>"):
        load(tmp_path, added_tokens={"<s>": size})


def test_a_gap_in_the_ids_of_tokens_that_text_makes_is_refused(tmp_path: Path) -> None:
    size = byte_level_pair(tmp_path)
    ours = load(tmp_path, added_tokens={"<tool>": size + 7})
    with pytest.raises(RefusedError, match="gap before '<tool>'"):
        list(probed(ours))


def test_merges_with_windows_line_ends_are_the_same_merges(tmp_path: Path) -> None:
    for name, end in (("unix", b"\n"), ("windows", b"\r\n")):
        (tmp_path / name).mkdir()
        byte_level_pair(tmp_path / name, end)
    unix, windows = (load(tmp_path / name) for name in ("unix", "windows"))
    assert windows.fingerprint == unix.fingerprint
    assert windows.encode(PROSE[0]) == unix.encode(PROSE[0])


def test_bytes_that_no_utf8_holds_may_be_missing_and_no_other(tmp_path: Path) -> None:
    spec = json.loads(train("bpe", PROSE, tmp_path / "made").files()["tokenizer.json"])
    vocab = spec["model"]["vocab"]
    marks = {byte: mark for mark, byte in byte_marks().items()}
    for byte in (0xC0, 0xC1, *range(0xF5, 0x100)):
        del vocab[marks[byte]]
    ours = load(tmp_path, tokenizer=spec)
    letters = [chr(i) for i in (*range(1, 0x180), 0x7FF, 0x800, 0xFFFF, 0x10000, 0x10FFFF)]
    rng = random.Random(0)
    for _ in range(200):
        text = "".join(rng.choices(letters, k=20))
        assert ours.decode(ours.encode(text)) == text
    assert list(probed(ours)) == []
    del vocab[marks[0xF4]]
    with pytest.raises(UsageError, match="every text back"):
        load(tmp_path, tokenizer=spec)


@pytest.mark.parametrize("name", ["tokenizer.model", "o200k.tiktoken"])
def test_a_tiktoken_file_is_named_as_one(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("IQ== 0\nIg== 1\nIw== 2\n")
    with pytest.raises(UsageError, match="is a tiktoken file"):
        load_tokenizer(path, tmp_path)


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize(
    "symbols", [[], ["\u2581\u2581", "\u2581" * 4], ["<sep>", "<tag>"], ["<a>", "<a>b", "\t\t"]]
)
def test_user_defined_pieces_give_the_ids_of_sentencepiece(
    tmp_path: Path, prefix: bool, symbols: list[str]
) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(PROSE[2:3] * 20 + [line for p in PROSE for line in p.split("\n")]))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(tmp_path / "m"), vocab_size=330, model_type="bpe",
        byte_fallback=True, add_dummy_prefix=prefix, normalization_rule_name="identity",
        remove_extra_whitespaces=False, user_defined_symbols=symbols, hard_vocab_limit=False,
        minloglevel=2,
    )  # fmt: skip
    path = tmp_path / "m.model"
    reference = sentencepiece.SentencePieceProcessor(model_file=str(path))
    ours = load_tokenizer(path, tmp_path)
    letters = [*"  \n\tabcde,é北🙂'1<>", "the", " question", "  ", "    ", "</s>"]
    letters += [symbol.replace("\u2581", " ") for symbol in symbols]
    rng = random.Random(1)
    texts = ["".join(rng.choices(letters, k=rng.randint(0, 40))) for _ in range(400)]
    found = [ids.tolist() for ids in ours.encode_batch(texts)]
    assert found == reference.encode(texts)
    assert [ours.decode(ids) for ids in found] == texts
    ours.save(tmp_path / "saved")
    again = load_tokenizer(tmp_path / "saved", tmp_path)
    assert [ids.tolist() for ids in again.encode_batch(texts)] == found
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<tool>": ours.vocab_size}))
    more = load_tokenizer(path, tmp_path)
    assert more.vocab_size == ours.vocab_size + 1
    assert more.decode(more.encode("x <tool> y<tool>é\u2581")) == "x <tool> y<tool>é\u2581"


def test_what_a_tokenizer_rewrites_is_said_by_name(tmp_path: Path) -> None:
    spec = json.loads(train("char", PROSE, tmp_path / "made").files()["tokenizer.json"])
    vocab = spec["model"]["vocab"]
    vocab["\u2581"] = vocab.pop(" ")
    step = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}
    spec |= {"pre_tokenizer": step}
    spec["decoder"]["decoders"].insert(0, step)
    [warned] = probed(load(tmp_path, tokenizer=spec))
    assert isinstance(warned, Warned)
    assert "a space at the beginning" in warned.message
    spec |= {"normalizer": {"type": "Lowercase"}, "pre_tokenizer": None}
    with pytest.raises(RefusedError, match="does not give ordinary text back"):
        list(probed(load(tmp_path, tokenizer=spec)))
