"""Small random models saved as real checkpoints, for tests of what writes with them."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from model.checkpoint import save_checkpoint
from model.config import ModelConfig
from model.gpt import GPT
from model.language_model import LanguageModel, create_model
from pipeline.runs import folders
from pipeline.tokenizer.formats import read
from pipeline.tokenizer.tokenizer import Tokenizer
from tests.support.token_sets import save_tokenizer

VOCABULARY = 258  # 256 bytes, <s>, </s>


def byte_tokenizer() -> Tokenizer:
    """One id per byte; saved in tokenizers/bytes of the working directory."""
    folder = Path("tokenizers/bytes")
    return read(folder if folder.is_dir() else save_tokenizer("bytes"), "bytes")


def lively_model(seed: int = 0, **changes: Any) -> LanguageModel:
    """A random model with strong opinions, so that its greedy text is not one repeated id."""
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.4,
        "tie_word_embeddings": False,
    }
    return create_model(ModelConfig(**(sizes | changes))).eval()


def following_model(successors: Mapping[int, int], other: int, context: int = 64) -> LanguageModel:
    """After id i it writes successors[i], after any id not in there `other`, always.

    There may be as many different ids to write as the model is wide.
    """
    model = lively_model(max_position_embeddings=context)
    written = sorted({*successors.values(), other})
    assert model.head is not None
    with torch.no_grad():
        for block in model.blocks:
            block.attention.out.weight.zero_()
            block.mlp.down.weight.zero_()
        model.embedding.weight.zero_()
        model.head.weight.zero_()
        for before in range(VOCABULARY):
            place = written.index(successors.get(before, other))
            model.embedding.weight[before, place] = 1.0
            model.head.weight[written[place], place] = 10.0
    return model


def counting_model(context: int = 64) -> LanguageModel:
    """Writes 0123456789 round and round, whatever it reads, and never ends by itself."""
    digits = byte_tokenizer().encode("0123456789")
    return following_model(dict(pairwise([*digits, digits[0]])), digits[0], context)


def save_step(
    run: Path,
    step: int,
    model: GPT,
    tokenizer: Tokenizer | None = None,
    command: str = "train",
    options: Mapping[str, Any] | None = None,
    optimizer_state: Mapping[str, torch.Tensor] | None = None,
    **state: Any,
) -> Path:
    """A step checkpoint of `run` that `command` has made, now its latest."""
    folder = folders.step_folder(run, step)
    save_checkpoint(
        folder,
        model,
        tokenizer_files={} if tokenizer is None else tokenizer.files(),
        bos_token_id=256,
        eos_token_id=257,
        pad_token_id=None,
        optimizer_state=optimizer_state,
        state={"step": step} | state,
        command=command,
        options=options or {},
    )
    folders.point(run, "latest", folder)
    return folder


def two_runs(models: Sequence[GPT]) -> None:
    """checkpoints/ of the working directory: an old run with one checkpoint, and a new one whose
    best is not its latest; with these three `models`."""
    old, new = (
        Path("checkpoints/run_2026_01_01_10_00_old"),
        Path("checkpoints/run_2026_01_02_10_00"),
    )
    save_step(old, 5, models[0], byte_tokenizer(), val_loss=4.5)
    save_step(new, 10, models[1], byte_tokenizer(), val_loss=3.25)
    save_step(new, 20, models[2], byte_tokenizer(), val_loss=3.5)
    folders.point(new, "best", folders.step_folder(new, 10))
