"""The description of a model: presets, dial, costs, and contradictions refused by name."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from model.config import (
    PRESETS,
    ModelConfig,
    flops_per_token,
    parameter_count,
    suggested_batch_tokens,
    suggested_horizon,
    suggested_learning_rate,
)
from model.huggingface.families import architecture

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "max_position_embeddings": 32,
    "initializer_range": 0.2,
}


def test_importing_the_config_does_not_load_torch() -> None:
    code = "import sys, model.config, model.huggingface.config; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_sixteen_heads_share_four_kv_heads_by_default() -> None:
    assert (ModelConfig().num_heads, ModelConfig().kv_heads) == (16, 4)
    assert ModelConfig().vocab_size == 32016
    assert ModelConfig(num_heads=8).kv_heads == 8


def test_a_preset_fills_only_what_was_not_given() -> None:
    config = ModelConfig(preset="gpt2", vocab_size=99, dropout=0.1)
    assert (config.hidden_size, config.num_layers, config.position) == (768, 12, "learned")
    assert (config.vocab_size, config.dropout) == (99, 0.1)


def test_one_dial_sets_width_layers_and_heads() -> None:
    config = ModelConfig(depth=6, vocab_size=100)
    assert (config.hidden_size, config.num_layers, config.num_heads) == (384, 6, 6)
    assert ModelConfig(depth=6, num_heads=3).head_size == 128


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"hidden_size": 33}, ["hidden_size", "num_heads"]),
        ({"num_kv_heads": 3}, ["num_heads", "num_kv_heads"]),
        ({"head_dim": 7}, ["head_dim"]),
        ({"hidden_sise": 32}, ["hidden_sise"]),
        ({"hidden_size": "32"}, ["hidden_size"]),
        ({"num_layers": 0}, ["num_layers"]),
        ({"dropout": 1.0}, ["dropout"]),
        ({"preset": "tiny", "depth": 3}, ["preset", "depth"]),
        ({"preset": "huge"}, ["preset", "gpt2-xl"]),
        (
            {"position": "learned", "rope_scaling": {"kind": "linear", "factor": 2.0}},
            ["position", "rope_scaling"],
        ),
        (
            {"rope_scaling": {"kind": "llama3", "factor": 2.0}},
            ["rope_scaling", "original_max_position_embeddings"],
        ),
    ],
)
def test_a_contradiction_is_refused_by_the_names_the_user_typed(
    wrong: dict[str, Any], named: list[str]
) -> None:
    with pytest.raises(ValidationError) as refused:
        ModelConfig.model_validate_json(json.dumps(SMALL | wrong))
    for name in named:
        assert name in str(refused.value)


def test_every_setting_explains_itself_in_one_sentence() -> None:
    for name, field in ModelConfig.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize(
    ("preset", "millions"),
    [("gpt2", 124.4), ("gpt2-medium", 354.8), ("gpt2-large", 774.0), ("gpt2-xl", 1557.6)],
)
def test_gpt2_presets_have_the_published_sizes(preset: str, millions: float) -> None:
    config = ModelConfig.model_validate({"preset": preset})
    assert parameter_count(config) / 1e6 == pytest.approx(millions, abs=0.05)
    assert architecture(config) == "GPT2LMHeadModel"


@pytest.mark.parametrize(
    ("preset", "millions"), [("125M", 125), ("350M", 350), ("760M", 760), ("1B", 1000)]
)
def test_a_preset_named_by_its_size_has_that_size(preset: str, millions: int) -> None:
    count = parameter_count(ModelConfig.model_validate({"preset": preset}))
    assert count / 1e6 == pytest.approx(millions, rel=0.05)
    assert set(PRESETS) >= {preset}


def test_flops_follow_the_published_formula() -> None:
    gpt2 = ModelConfig(preset="gpt2")
    # 124.44 M less 0.79 M positions, biases and norms, six times; and 12 * 12 * 768 * 1024
    assert flops_per_token(gpt2, 1024) / 1e6 == pytest.approx(6 * 123.53 + 113.2, rel=1e-3)


def test_suggestions_grow_with_the_budget() -> None:
    config = ModelConfig(preset="125M")
    assert suggested_horizon(config) == 20 * parameter_count(config)
    budget = flops_per_token(config, 1024) * suggested_horizon(config)
    assert 1e5 < suggested_batch_tokens(budget) < 1e6
    assert 5e-4 < suggested_learning_rate(budget) < 2e-3


def test_a_preset_with_other_heads_keeps_as_many_kv_heads_as_it_had() -> None:
    assert ModelConfig(preset="gpt2", hidden_size=48, num_heads=4).kv_heads == 4
    assert ModelConfig(preset="125M", num_heads=24).kv_heads == 4
