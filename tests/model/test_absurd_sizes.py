"""What a config.json claims is compared with the weights beside it before anything is made."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from model.checkpoint import load_config, load_weights
from tests.support.models_of_others import MAKERS, change
from utils.errors import UsageError

SIZES = {
    "llama3": ["num_hidden_layers", "hidden_size", "intermediate_size", "num_attention_heads",
               "vocab_size", "head_dim", "max_position_embeddings"],
    "gpt2": ["n_layer", "n_embd", "n_positions", "vocab_size", "n_inner"],
    "qwen": ["num_hidden_layers", "vocab_size", "max_position_embeddings", "intermediate_size"],
}  # fmt: skip


@pytest.fixture(params=SIZES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return MAKERS[request.param](tmp_path / request.param)


def test_an_absurd_size_is_refused_by_what_is_there(folder: Path) -> None:
    honest = (folder / "config.json").read_text()
    for key in SIZES[folder.name]:
        for value in (10**8, 10**10, 10**15):
            change(folder / "config.json", **{key: value})
            with pytest.raises(UsageError, match=r"much larger|no such model|divisible") as told:
                load_config(folder)
            assert str(folder / "config.json") in str(told.value)
            (folder / "config.json").write_text(honest)
    assert load_config(folder).vocab_size > 0


@pytest.mark.parametrize("layout", ["sharded", "pickled", "pt"])
def test_in_every_layout_of_weights(tmp_path: Path, layout: str) -> None:
    folder = MAKERS["llama3"](tmp_path / "m")
    weights, path = folder / "model.safetensors", folder
    if layout == "sharded":
        shutil.move(weights, folder / "model-00001-of-00001.safetensors")
        names = load_names(folder / "model-00001-of-00001.safetensors")
        index = {"weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    else:
        from safetensors.torch import load_file

        path = folder if layout == "pickled" else folder / "w.pt"
        torch.save(
            load_file(weights), folder / "pytorch_model.bin" if layout == "pickled" else path
        )
        weights.unlink()
    assert load_weights(path).config.num_layers == 2
    change(folder / "config.json", num_hidden_layers=10**9)
    with pytest.raises(UsageError, match="much larger"):
        load_weights(path)


def load_names(path: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(path, "pt") as opened:
        return list(opened.keys())


def test_honest_models_of_any_shape_are_taken(tmp_path: Path) -> None:
    for name, maker in MAKERS.items():
        assert load_config(maker(tmp_path / name)).num_layers == 2
    change(tmp_path / "llama3/config.json", max_position_embeddings=1_000_000)
    assert load_config(tmp_path / "llama3").max_position_embeddings == 1_000_000
