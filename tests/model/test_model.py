"""The transformer: causality, losses, gradients, kernels and config files."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from model import create_model
from model.config import (
    ModelConfig,
    parameter_count,
)
from model.gpt import GPT
from model.layers.attention import attend, causal_mask
from model.layers.loss import mean_loss, slice_length, token_losses
from model.layers.norm import rms_norm
from model.layers.rope import RotaryEmbedding, inverse_wavelengths, rotate
from utils.errors import UsageError

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 32,
    "num_layers": 2,
    "num_heads": 4,
    "num_kv_heads": 2,
    "max_position_embeddings": 32,
    "initializer_range": 0.2,
}
KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "untied": {"tie_word_embeddings": False},
    "sprint": {
        "mlp": "relu2",
        "norm_gain": False,
        "qk_norm": True,
        "embedding_norm": True,
        "logit_scale": 0.5,
    },
    "gpt2": {
        "position": "learned",
        "norm": "layernorm",
        "mlp": "gelu",
        "bias": True,
        "num_kv_heads": 4,
    },
    "qk gains": {"qk_norm": True, "mlp": "geglu", "bias": True},
}


def small(**changes: Any) -> ModelConfig:
    return ModelConfig(**(SMALL | changes))


def ids(rows: int, length: int, vocabulary: int = 61) -> torch.Tensor:
    return torch.randint(vocabulary, (rows, length), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("kind", KINDS)
def test_counted_parameters_are_the_parameters(kind: str) -> None:
    config = small(**KINDS[kind])
    model = GPT(config)
    assert parameter_count(config) == sum(p.numel() for p in model.parameters())
    tables = [model.embedding, model.positions, model.head]
    without = parameter_count(config) - sum(t.weight.numel() for t in tables if t is not None)
    assert parameter_count(config, embeddings=False) == without


@pytest.mark.parametrize("kind", KINDS)
def test_no_position_sees_the_future(kind: str) -> None:
    model = GPT(small(**KINDS[kind])).eval()
    first = ids(2, 20)
    second = first.clone()
    second[:, 12:] = (second[:, 12:] + 1) % 61
    with torch.no_grad():
        a, b = model(first)["logits"], model(second)["logits"]
    assert torch.equal(a[:, :12], b[:, :12])
    assert not torch.allclose(a[:, 12:], b[:, 12:])


@pytest.mark.parametrize("kind", KINDS)
def test_the_training_loss_and_its_gradients_are_those_of_plain_cross_entropy(kind: str) -> None:
    model = GPT(small(**KINDS[kind]))
    inputs, targets = ids(3, 20), ids(3, 20).roll(1, dims=1)
    targets[0, :5] = -100
    model.loss(inputs, targets).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    logits = model(inputs)["logits"]
    expected = F.cross_entropy(logits.view(-1, 61), targets.reshape(-1))
    expected.backward()
    torch.testing.assert_close(model.loss(inputs, targets), expected)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-4)
    each = model.token_losses(inputs, targets)
    assert torch.equal(each == 0, targets == -100)
    torch.testing.assert_close(each.sum() / (targets != -100).sum(), expected)


def test_labels_are_shifted_here_as_in_hugging_face() -> None:
    model = GPT(small()).eval()
    inputs = ids(2, 10)
    with torch.no_grad():
        labelled = model(inputs, labels=inputs)["loss"]
        aligned = model.loss(inputs[:, :-1], inputs[:, 1:])
    torch.testing.assert_close(labelled, aligned)
    assert model(inputs)["loss"] is None


@pytest.mark.slow
def test_a_loss_over_many_slices_equals_one_over_all() -> None:
    vocabulary = 40_000
    rows = 2 * slice_length(vocabulary) + 7
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(rows, 4, generator=generator, requires_grad=True)
    weight = torch.randn(vocabulary, 4, generator=generator, requires_grad=True)
    targets = torch.randint(vocabulary, (rows,), generator=generator)
    targets[::3] = -100
    (3 * mean_loss(hidden, weight, targets)).backward()
    found = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    expected = F.cross_entropy(hidden @ weight.T, targets)
    (3 * expected).backward()
    torch.testing.assert_close(found[0], hidden.grad)
    torch.testing.assert_close(found[1], weight.grad, atol=1e-6, rtol=1e-4)
    each = token_losses(hidden, weight, targets)
    torch.testing.assert_close(each.sum() / (targets != -100).sum(), expected)
    weights = torch.randn(rows, generator=generator)
    gradients = []
    by_hand = F.cross_entropy(hidden @ weight.T, targets, reduction="none")
    for losses in (each, by_hand):
        hidden.grad = weight.grad = None
        (losses * weights).sum().backward()
        gradients.append((hidden.grad, weight.grad))
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_weighted_token_losses_have_the_gradients_of_plain_cross_entropy(kind: str) -> None:
    model = GPT(small(**KINDS[kind]))
    inputs, targets = ids(3, 20), ids(3, 20).roll(1, dims=1)
    targets[0, :5] = -100
    weights = torch.linspace(-1, 2, 60).view(3, 20)
    (model.token_losses(inputs, targets) * weights).sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    logits = model(inputs)["logits"]
    plain = F.cross_entropy(logits.view(-1, 61), targets.view(-1), reduction="none")
    (plain * weights.view(-1)).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-4, rtol=1e-4)


def test_a_batch_without_any_target_costs_nothing() -> None:
    model = GPT(small())
    loss = model.loss(ids(1, 8), torch.full((1, 8), -100))
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_our_norm_and_rotation_have_the_gradients_of_their_formulas() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 5, 3, 8, generator=generator, requires_grad=True)
    gain = torch.randn(8, generator=generator, requires_grad=True)
    cos, sin = RotaryEmbedding(small())(2, 5, None)
    pull = torch.randn(2, 3, 5, 8, generator=generator)

    def plain() -> torch.Tensor:
        normed = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-3) * gain
        angles = torch.outer(torch.arange(2, 7).float(), inverse_wavelengths(small()))
        turns = torch.polar(torch.ones_like(angles), angles)[:, None]
        pairs = torch.complex(*normed.chunk(2, dim=-1)) * turns
        return torch.cat((pairs.real, pairs.imag), dim=-1).transpose(1, 2)

    results = []
    for output in (rotate(rms_norm(x, gain, 1e-3), cos, sin), plain()):
        x.grad = gain.grad = None
        output.backward(pull)
        results.append((output, x.grad, gain.grad))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_the_kernels_agree(kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, 9, 8, generator=generator)
    k, v = (torch.randn(2, kv_heads, 9, 8, generator=generator) for _ in range(2))
    mask = causal_mask(torch.arange(9), 9, torch.float32)
    by_math = attend(q, k, v, mask, "math", 0.0)
    torch.testing.assert_close(attend(q, k, v, None, "math", 0.0), by_math)
    torch.testing.assert_close(attend(q, k, v, None, "sdpa", 0.0), by_math)
    per_row = mask.expand(2, 9, 9)
    torch.testing.assert_close(attend(q, k, v, per_row, "sdpa", 0.0), by_math)
    torch.testing.assert_close(attend(q, k, v, per_row, "math", 0.0), by_math)


def test_recomputing_activations_changes_no_gradient() -> None:
    inputs, targets = ids(2, 16), ids(2, 16)
    model = GPT(small())
    gradients = []
    for recompute in (False, True):
        model.gradient_checkpointing = recompute
        model.zero_grad()
        model.loss(inputs, targets).backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


def test_rotations_stay_exact_in_a_half_precision_model() -> None:
    model = GPT(small()).to(torch.bfloat16)
    assert model.rotary is not None
    assert model.rotary.cos.dtype == torch.float32
    assert torch.equal(model.rotary.cos, RotaryEmbedding(small()).cos)
    assert model(ids(1, 8))["logits"].dtype == torch.bfloat16


def test_autocast_computes_the_head_in_half_precision_and_the_loss_in_full() -> None:
    model = GPT(small())
    inputs, targets = ids(2, 16), ids(2, 16)
    full = model.loss(inputs, targets)
    with torch.autocast("cpu", torch.bfloat16):
        half = model.loss(inputs, targets)
    half.backward()
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=0.02)
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.slow
def test_the_model_compiles_without_a_break_and_keeps_its_loss() -> None:
    model = GPT(small(num_layers=1, qk_norm=True))
    inputs, targets = ids(2, 16), ids(2, 16)
    compiled = torch.compile(model.loss, dynamic=False, fullgraph=True, backend="aot_eager")
    found = compiled(inputs, targets)
    found.backward()
    torch.testing.assert_close(found, model.loss(inputs, targets))
    assert all(p.grad is not None for p in model.parameters())


def test_zero_init_starts_as_the_identity_and_knows_nothing() -> None:
    model = GPT(small(zero_init=True, tie_word_embeddings=False))
    inputs = ids(2, 8)
    assert model.loss(inputs, inputs).item() == pytest.approx(torch.tensor(61.0).log().item())
    hidden = model.hidden(inputs)
    torch.testing.assert_close(hidden, model.norm(model.embedding(inputs)))


def test_dropout_acts_in_training_only() -> None:
    model = GPT(small(dropout=0.5, attention_dropout=0.5))
    inputs = ids(2, 8)
    assert not torch.equal(model(inputs)["logits"], model(inputs)["logits"])
    model.eval()
    assert torch.equal(model(inputs)["logits"], model(inputs)["logits"])


def test_a_text_longer_than_the_context_is_refused() -> None:
    with pytest.raises(UsageError, match="max_position_embeddings is 32"):
        GPT(small())(ids(1, 33))


@pytest.mark.parametrize("content", [SMALL, {"model": SMALL, "train": {"max_steps": 3}}])
def test_create_model_reads_a_config_file(content: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(content))
    assert create_model(str(path)).config == small()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('{"model": {"hidden_sise": 3}}', r"model\.hidden_sise.*Did you mean model\.hidden_size"),
        ('{"model": {"num_layers": "three"}}', r"model\.num_layers"),
        ('{"model": {"rope_scaling": {"kind": "linear"}}}', r"model\.rope_scaling\.factor"),
        ('{"model": {"hidden_size": 33, "num_heads": 2}}', "num_heads"),
        ("{", "not valid JSON"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_a_wrong_config_file_is_refused_with_file_and_key(
    content: str, named: str, tmp_path: Path
) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)
    with pytest.raises(UsageError, match=named) as refused:
        create_model(path)
    assert str(path) in str(refused.value)


def test_a_missing_config_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        create_model(tmp_path / "nothing.json")
