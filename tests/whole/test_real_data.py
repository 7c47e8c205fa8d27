"""The whole path on real records: raw text becomes a checkpoint that others can open.

Each source goes through cleanup, tokenize, prepare, train and inference as a user runs them, and
the checkpoint must give the same logits in transformers.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from model.checkpoint import load_weights
from pipeline.sources.documents import cleaned_files, read_cleaned
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.tokenizer import Tokenizer
from pipeline.tokens.token_set import open_tokens
from tests.support.stage_runner import finished, run_stage

pytestmark = pytest.mark.slow

LLAMA = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "num_kv_heads": 1}
GPT2 = {"preset": "gpt2", "hidden_size": 16, "num_layers": 2, "num_heads": 2}
TRAIN: dict[str, Any] = {
    "max_steps": 2,
    "batch_size": 2,
    "eval_batches": 1,
    "eval_every": 2,
    "sample_every": 1000,
    "warmup_steps": 0,
    "tensorboard": False,
    "device": "cpu",
}


def cleaned(source: str, *inputs: Path) -> Path:
    """The cleaned folder of real records."""
    given = {"source": source, "input": [str(path) for path in inputs], "workers": 1}
    path = finished(run_stage("cleanup", cleanup=given)).path
    assert path is not None
    return Path(path)


def texts(folder: Path) -> list[str]:
    """Clean texts."""
    return [d.text for file in cleaned_files([folder]) for d in read_cleaned(file)]


def prepared(name: str, tokenizer: str, documents: Path, **options: Any) -> Path:
    """Tokens of clean documents."""
    flags = {"input": [str(documents)], "output": name, "tokenizer": tokenizer, "workers": 1}
    run_stage("prepare", prepare=flags | {"source": "files", "window": 32} | options)
    return Path(name)


def speaks(tokens: Path, model: dict[str, Any], *, documents: Path, prompt: str) -> Tokenizer:
    """Check tokens, training, greedy inference and the same logits elsewhere."""
    data = open_tokens(tokens, val_split=0.05)
    tokenizer = load_tokenizer(data.metadata.tokenizer.path, Path("tokenizers"))
    decoded = []
    for file in tokens.glob("tokens_*.npy"):
        stream = np.load(file)
        assert stream.dtype == np.dtype(tokenizer.token_dtype)
        starts = np.load(file.with_name(file.name.replace("tokens_", "documents_")))["start"]
        decoded += [tokenizer.decode(ids.tolist()) for ids in np.split(stream, starts[1:])]
    assert sorted(decoded) == sorted(texts(documents)), "not the same documents"
    trained = finished(run_stage("train", train=TRAIN | {"data": str(tokens)}, model=model))
    run = Path(str(trained.path))
    asked = {"checkpoint": [str(run)], "prompt": prompt, "temperature": 0.0, "max_length": 6}
    (written,) = finished(run_stage("inference", inference=asked)).summary["texts"]
    folder = run / "checkpoint_best"
    theirs, their_tokenizer = (
        AutoModelForCausalLM.from_pretrained(folder),
        AutoTokenizer.from_pretrained(folder),
    )
    ids = tokenizer.encode(prompt)
    assert their_tokenizer(prompt, add_special_tokens=False)["input_ids"] == ids
    start = tokenizer.wrap([])[:1]
    given = torch.tensor([[*start, *ids]])
    ours = load_weights(folder, torch.device("cpu")).eval()
    with torch.no_grad():
        expected, found = theirs(given).logits, ours(given)["logits"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    greedy = theirs.generate(given, max_new_tokens=6, do_sample=False)[0, given.shape[1] :].tolist()
    assert written["token_ids"] == greedy
    return tokenizer


def test_wikipedia_records_reach_a_model_with_both_known_tokenizers(
    workspace: Path, shared_data: Path
) -> None:
    documents = cleaned("wikipedia", shared_data / "wikimedia-structured")
    articles = texts(documents)
    assert len(articles) == 14
    (article,) = (text for text in articles if text.startswith("1980 United States"))
    assert article.startswith("1980 United States presidential election\n\nThe 1980 United")
    assert article.count("The Republican nominee, former California governor") == 1
    assert not any(mark in text for text in articles for mark in ("[1]", "{{", "<ref"))
    for name, ids, model in (("codellama", 32_004, LLAMA), ("gpt2", 50_257, GPT2)):
        load = {"load": str(shared_data / f"tokenizer-{name}"), "name": name}
        run_stage("tokenize", tokenize=load)
        tokens = prepared(f"tokens-{name}", name, documents)
        used = speaks(tokens, model, documents=documents, prompt="The election of 1984")
        assert used.vocab_size == ids


@pytest.mark.parametrize(
    ("inputs", "kept", "says"),
    [("wikitext-2", 73, "Homarus gammarus"), ("web-text/c4_demo_300.jsonl", 298, "McKinley")],
)
def test_wikitext_and_c4_rows_reach_a_model(
    inputs: str, kept: int, says: str, workspace: Path, shared_data: Path
) -> None:
    documents = cleaned("files", shared_data / inputs)
    assert len(texts(documents)) == kept
    assert says in "".join(texts(documents))
    learn = {"train": "bpe", "vocab_size": 512, "train_mib": 1, "name": "own", "source": "files"}
    run_stage("tokenize", tokenize=learn)
    tokens = prepared("tokens", "own", documents)
    assert speaks(tokens, LLAMA, documents=documents, prompt="The sea").vocab_size == 512


def test_shakespeare_reaches_a_model_by_characters_with_its_tail_held_out(
    workspace: Path, shared_data: Path
) -> None:
    play = shared_data / "tinyshakespeare" / "input.txt"
    documents = cleaned("shakespeare", play)
    original = play.read_text("utf-8").split()
    assert " ".join(texts(documents)).split() == original
    run_stage("tokenize", tokenize={"train": "char", "name": "c", "source": "shakespeare"})
    tokens = prepared("tokens", "c", documents, split="tail")
    held = open_tokens(tokens, val_split=0.1)
    assert held.val.tokens == pytest.approx(0.1 * (held.val.tokens + held.train.tokens), rel=0.01)
    speaks(tokens, LLAMA, documents=documents, prompt="ROMEO:")
