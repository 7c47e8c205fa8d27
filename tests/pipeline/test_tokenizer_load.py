"""Tokenizers of others: every file format gives the known ids, damage is named."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from pipeline.tokenizer.load import load_tokenizer, not_here
from pipeline.tokenizer.sentencepiece import convert
from pipeline.tokenizer.tokenizer import Tokenizer
from tests.support.small_tokenizers import PROSE, train
from utils.errors import RefusedError, UsageError


@pytest.mark.slow
def test_code_llama_reproduces_its_test_vectors(shared_data: Path) -> None:
    folder = shared_data / "tokenizer-llama2"
    texts = (folder / "ggml-vocab-llama-spm.gguf.inp").read_bytes().decode()
    inputs = texts.split("\n__ggml_vocab_test__\n")
    lines = (folder / "ggml-vocab-llama-spm.gguf.out").read_text().split("\n")
    expected = [[int(i) for i in line.split()] for line in lines]
    assert len(inputs) == len(expected) == 47
    for name in ("tokenizer-codellama/tokenizer.json", "tokenizer-llama2/tokenizer.model"):
        tokenizer = load_tokenizer(shared_data / name, Path("tokenizers"))
        assert [tokenizer.encode(text) for text in inputs] == expected
        assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id, tokenizer.pad_id) == (
            1,
            2,
            0,
            2,
        )


@pytest.mark.slow
def test_a_sentencepiece_model_gives_the_ids_of_its_library(shared_data: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    path = shared_data / "tokenizer-llama2" / "tokenizer.model"
    reference = sentencepiece.SentencePieceProcessor(model_file=str(path))
    ours = load_tokenizer(path, Path("tokenizers"))
    rows = (shared_data / "web-text" / "c4_demo_300.jsonl").read_bytes().split(b"\n")[:120]
    wiki = (shared_data / "wikitext-2" / "wiki.test.raw.part1_crlf.txt").read_bytes().decode()
    texts = [json.loads(row)["text"] for row in rows if row] + wiki.split("\n")[:200]
    letters = [*"  \n\t\rabcde,.=é北🙂'1\xa0", "the", " return"]
    rng = random.Random(0)
    texts += ["".join(rng.choices(letters, k=rng.randint(1, 60))) for _ in range(500)]
    assert [ids.tolist() for ids in ours.encode_batch(texts)] == reference.encode(texts)


@pytest.mark.slow
def test_gpt2_gives_the_known_ids(shared_data: Path) -> None:
    tokenizer = load_tokenizer(shared_data / "tokenizer-gpt2" / "encoder.json", Path("tokenizers"))
    assert tokenizer.encode("Hello world") == [15496, 995]
    row = json.loads((shared_data / "fineweb" / "fineweb_sample10BT_row0.jsonl").read_bytes())
    assert len(tokenizer.encode(row["text"])) == row["token_count"] == 142
    assert tokenizer.encode_document("Hello world") == [15496, 995, 50256]
    assert tokenizer.bos_id == tokenizer.eos_id == tokenizer.vocab_size - 1 == 50256


@pytest.mark.slow
def test_vocab_and_merges_under_their_usual_names(shared_data: Path, tmp_path: Path) -> None:
    original = shared_data / "tokenizer-gpt2"
    (tmp_path / "vocab.json").write_bytes((original / "encoder.json").read_bytes())
    with pytest.raises(UsageError, match="no merges"):
        load_tokenizer(tmp_path, tmp_path)
    (tmp_path / "merges.txt").write_bytes((original / "vocab.bpe").read_bytes())
    same = load_tokenizer(original, tmp_path)
    assert load_tokenizer(tmp_path, tmp_path).fingerprint == same.fingerprint


def test_the_fingerprint_sees_merges_but_not_the_layout_of_json(tmp_path: Path) -> None:
    ours = train("bpe", PROSE, tmp_path / "a")
    spec = json.loads(ours.files()["tokenizer.json"])
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(dict(reversed(spec.items())), ensure_ascii=True, indent=7))
    assert load_tokenizer(file, tmp_path).fingerprint == ours.fingerprint
    merges = spec["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]
    file.write_text(json.dumps(spec))
    other = load_tokenizer(file, tmp_path)
    assert other.vocab_size == ours.vocab_size
    assert other.fingerprint != ours.fingerprint


def test_merges_that_spell_a_control_token_are_left_out(tmp_path: Path) -> None:
    spec = json.loads(train("bpe", PROSE, tmp_path / "a").files()["tokenizer.json"])
    vocab = spec["model"]["vocab"]
    vocab |= {"<s": len(vocab), "<X": len(vocab) + 1, "<X>": len(vocab) + 2}
    spec["model"]["merges"] += [["<", "s"], ["<s", ">"], ["<", "X"], ["<X", ">"]]
    cut = {"type": "Split", "behavior": "Isolated", "invert": False}
    cut |= {"pattern": {"Regex": "\\S+|\\s+"}}
    bytes_ = spec["pre_tokenizer"] | {"use_regex": False}
    spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [cut, bytes_]}
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"additional_special_tokens": ["<X>", "<nowhere>"]}))
    tokenizer = load(spec, tmp_path)
    for text in ("<s>", "a<s>b <X> <X>"):
        ids = tokenizer.encode(text)
        assert not {1, vocab["<X>"]} & set(ids)
        assert tokenizer.decode(ids) == text
    assert vocab["<s"] in tokenizer.encode("<s>")
    spec["model"]["ignore_merges"] = True
    with pytest.raises(RefusedError, match="control tokens"):
        load(spec, tmp_path)


def test_a_tokenizer_never_cuts_pads_or_draws_lots(tmp_path: Path) -> None:
    spec = json.loads(train("bpe", PROSE, tmp_path / "a").files()["tokenizer.json"])
    expected = load(spec, tmp_path).encode(PROSE[0])
    spec["truncation"] = {
        "direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0
    }  # fmt: skip
    spec["model"]["dropout"] = 0.9
    assert load(spec, tmp_path).encode(PROSE[0]) == expected


def load(spec: dict[str, Any], folder: Path) -> Tokenizer:
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    return load_tokenizer(folder / "tokenizer.json", folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"\xff\xfe", b'{"model": {"type": "BPE"}}', b'{"model": {}}', b"[" * 10**5,
     b'{"model": {"type": "WordPiece", "vocab": {"a": 0}}, "decoder": {"type": "WordPiece"}}',
     b'{"added_tokens": [7], "model": {"type": "BPE", "vocab": {}, "merges": []}}'],
)  # fmt: skip
def test_a_broken_tokenizer_json_is_named_in_one_paragraph(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises((RefusedError, UsageError)) as error:
        load_tokenizer(tmp_path, tmp_path / "tokenizers")
    assert error.value.problem


def test_merges_of_pieces_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    spec = json.loads(train("bpe", PROSE, tmp_path / "a").files()["tokenizer.json"])
    spec["model"]["merges"].append(["nowhere", "never"])
    with pytest.raises(RefusedError, match="do not fit together"):
        load(spec, tmp_path).encode("x")


def test_a_cut_sentencepiece_model_is_refused_wherever_it_is_cut(shared_data: Path) -> None:
    data = (shared_data / "tokenizer-llama2" / "tokenizer.model").read_bytes()
    for size in (0, 1, 7, 1000, len(data) // 2, len(data) - 3):
        with pytest.raises((RefusedError, UsageError)):
            convert(data[:size])


def test_one_flipped_bit_in_a_saved_tokenizer_is_found(tmp_path: Path) -> None:
    train("char", PROSE, tmp_path / "a").save(tmp_path / "mine")
    path = tmp_path / "mine" / "tokenizer.json"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RefusedError, match="damaged"):
        load_tokenizer("mine", tmp_path)


def test_a_folder_of_another_kind_and_an_unknown_name_say_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(UsageError, match="does not hold a tokenizer") as error:
        load_tokenizer(tmp_path / "run", tmp_path)
    assert "run.json" in str(error.value)
    with pytest.raises(UsageError, match="no tokenizer nothing") as error:
        load_tokenizer("nothing", tmp_path)
    assert "in " in error.value.found


@pytest.mark.parametrize(
    ("asked", "called"),
    [("mine", ["--name", "mine"]), ("gpt2", []), ("somebody/model", []), ("-x", [])],
)
def test_a_tokenizer_that_is_advised_is_called_as_it_was_asked_for(
    tmp_path: Path, asked: str, called: list[str]
) -> None:
    train, load = not_here(asked, tmp_path, ["--source", "poems"]).commands
    assert list(train) == ["tokenize", "--train", "bpe", *called, "--source", "poems"]
    assert list(load) == ["tokenize", "--load", "gpt2" if asked == "gpt2" else "codellama", *called]
