"""Seven kinds of tokenizer.json on random texts against the tokenizers library: the same ids.

SentencePiece models are compared with their library in test_tokenizer_foreign.py.
"""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Engine

from pipeline.tokenizer.load import load_tokenizer
from tests.support.small_tokenizers import PROSE, train

TEXTS = 500
FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LETTERS = [*"  \n\t\rabcde,.=é北🙂'1\xa0<>/\u3000\u2028", "the", " return", "<tool>", "</s>", "<s>"]
LETTERS += ["  ", "    ", "Hello", "123"]


def spec_of(kind: str, folder: Path) -> dict[str, Any]:
    """A small tokenizer.json of that kind."""
    learned = "bpe" if kind in ("gpt2", "llama3", "neox") else "char"
    spec: dict[str, Any] = json.loads(
        train(learned, PROSE, folder / "made").files()["tokenizer.json"]
    )
    vocab = spec["model"]["vocab"]
    if kind == "llama3":
        cut = {"type": "Split", "behavior": "Isolated", "invert": False}
        last = spec["pre_tokenizer"] | {"use_regex": False}
        steps = [cut | {"pattern": {"Regex": LLAMA_3}}, last]
        spec["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    elif kind == "neox":
        for i, text in enumerate(("  ", "<tool>"), len(vocab)):
            spec["added_tokens"].append({"id": i, "content": text, "special": False} | FLAGS)
    elif kind.startswith("metaspace"):
        vocab["\u2581"] = vocab.pop(" ")
        scheme = kind.split()[1]
        step = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme}
        spec["pre_tokenizer"] = step | {"split": scheme != "first"}
        spec["decoder"]["decoders"].insert(0, spec["pre_tokenizer"])
    return spec


@pytest.mark.parametrize(
    ("kind", "exact"),
    [("gpt2", True), ("llama3", True), ("neox", True), ("char", True), ("metaspace never", True),
     ("metaspace first", False), ("metaspace always", False)],
)  # fmt: skip
def test_random_texts_get_the_ids_of_the_library(kind: str, exact: bool, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(spec_of(kind, tmp_path)))
    ours, theirs = load_tokenizer(path, tmp_path), Engine.from_file(str(path))
    theirs.encode_special_tokens = True
    rng = random.Random(0)
    texts = ["".join(rng.choices(LETTERS, k=rng.randint(0, 40))) for _ in range(TEXTS)]
    found = [ids.tolist() for ids in ours.encode_batch(texts)]
    assert found == [e.ids for e in theirs.encode_batch(texts, add_special_tokens=False)]
    for text, ids in zip(texts, found, strict=True):
        if exact or not text.startswith(" "):  # those two take a space off the beginning
            assert ours.decode(ids) == text
