"""Muon is torch's Muon; decay and learning rates go where they belong; state survives exactly."""

from pathlib import Path
from typing import Any

import pytest
import torch

from model.config import ModelConfig
from model.device import autocast, measured_matmul_ceiling, peak_memory, pick_device, pick_dtype
from model.gpt import GPT
from model.optimizer import (
    Muon,
    build_optimizer,
    load_optimizer_state,
    optimizer_state,
    orthogonalise,
)
from model.tensors import read_tensors, write_tensors
from utils.errors import RefusedError, UsageError


def small(**changes: Any) -> GPT:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 31,
        "hidden_size": 16,
        "num_layers": 2,
        "num_heads": 2,
        "max_position_embeddings": 16,
        "bias": True,
        "norm": "layernorm",
    }
    return GPT(ModelConfig(**(sizes | changes)))


def train(model: GPT, optimizer: Any, steps: int, seed: int = 0) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(steps):
        ids = torch.randint(31, (4, 17), generator=generator)
        loss = model.loss(ids[:, :-1], ids[:, 1:])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_muon_moves_weights_as_torchs_does(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(12, 8), (8, 12), (12, 8), (8, 8)]
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    ours = [torch.nn.Parameter(value.clone()) for value in start]
    theirs = [torch.nn.Parameter(value.clone()) for value in start]
    a = Muon(ours, lr=0.02, momentum=0.9, weight_decay=0.1, dtype=dtype)
    b = torch.optim.Muon(theirs, lr=0.02, momentum=0.9, weight_decay=0.1)
    for _ in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        a.step()
        b.step()
    for mine, other, before in zip(ours, theirs, start, strict=True):
        moved = (other - before).norm()
        assert moved > 0.1
        assert (mine - other).norm() < 0.02 * moved


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 8, 24), (2, 24, 8)])
def test_orthogonalised_matrices_have_singular_values_near_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonalise(matrices, torch.float32))
    assert values.min() > 0.5
    assert values.max() < 1.3


@pytest.mark.parametrize("rank", [1, 16])
def test_the_short_way_for_long_matrices_gives_the_same_directions(rank: int) -> None:
    generator = torch.Generator().manual_seed(2)
    long = torch.randn(2, 16, rank, generator=generator)
    long = long @ torch.randn(2, rank, 80, generator=generator)
    expected = orthogonalise(long.double(), torch.float64)  # the plain iteration
    torch.testing.assert_close(
        orthogonalise(long, torch.float32), expected.float(), atol=1e-4, rtol=0
    )


def test_a_zero_gradient_moves_nothing() -> None:
    assert not orthogonalise(torch.zeros(1, 4, 4), torch.float32).any()


def test_gains_and_biases_are_not_decayed_and_every_parameter_has_one_place() -> None:
    for kind in ("adamw", "muon"):
        model = small(tie_word_embeddings=False)
        optimizer = build_optimizer(model, kind=kind, learning_rate=0.1, weight_decay=0.5)  # type: ignore[arg-type]
        placed = [p for group in optimizer.param_groups for p in group["params"]]
        assert len(placed) == len(set(placed)) == len(list(model.parameters()))
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                assert (group["weight_decay"] == 0) == (parameter.ndim == 1)


def test_muon_takes_the_matrices_inside_the_blocks_and_nothing_else() -> None:
    model = small(tie_word_embeddings=False, position="learned")
    optimizer = build_optimizer(model, kind="muon", learning_rate=0.1)
    (muon,) = (part for part in optimizer.parts if isinstance(part, Muon))
    found = {p for group in muon.param_groups for p in group["params"]}
    names = {name for name, p in model.named_parameters() if p in found}
    kinds = {"attention.qkv", "attention.out", "mlp.up", "mlp.down"}
    assert names == {f"blocks.{layer}.{kind}.weight" for layer in (0, 1) for kind in kinds}


def test_learning_rates_are_base_times_multiplier() -> None:
    optimizer = build_optimizer(
        small(), kind="muon", learning_rate=0.004, matrix_learning_rate=0.02
    )
    optimizer.set_multiplier(0.5)
    optimizer.set_multiplier(0.25)
    assert {group["lr"] for group in optimizer.param_groups} == {0.001, 0.005}


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_training_goes_on_bit_for_bit_from_a_saved_state(kind: Any, tmp_path: Path) -> None:
    model = small()
    optimizer = build_optimizer(model, kind=kind, learning_rate=0.01)
    losses = train(model, optimizer, 5)
    assert losses[-1] < losses[0] + 1
    write_tensors(tmp_path / "optimizer.safetensors", optimizer_state(optimizer, model))
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    later = train(model, optimizer, 5, seed=1)

    again = small()
    again.load_state_dict(weights)
    resumed = build_optimizer(again, kind=kind, learning_rate=0.01)
    load_optimizer_state(resumed, again, read_tensors(tmp_path / "optimizer.safetensors"))
    assert train(again, resumed, 5, seed=1) == later
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_state_of_another_optimizer_or_model_is_refused_by_name() -> None:
    model = small()
    muon = build_optimizer(model, kind="muon", learning_rate=0.01)
    train(model, muon, 1)
    state = optimizer_state(muon, model)
    adamw = build_optimizer(model, kind="adamw", learning_rate=0.01)
    with pytest.raises(RefusedError, match=r"exp_avg:blocks\.0"):
        load_optimizer_state(adamw, model, state)
    deeper = small(num_layers=3)
    with pytest.raises(RefusedError, match=r"blocks\.2"):
        load_optimizer_state(
            build_optimizer(deeper, kind="muon", learning_rate=0.01), deeper, state
        )
    del state["exp_avg:embedding.weight"]
    with pytest.raises(RefusedError, match=r"missing: exp_avg:embedding\.weight"):
        load_optimizer_state(muon, model, state)


def test_a_state_saved_before_the_first_step_is_empty_and_loads() -> None:
    model = small()
    optimizer = build_optimizer(model, kind="muon", learning_rate=0.01)
    assert optimizer_state(optimizer, model) == {}
    load_optimizer_state(optimizer, model, {})


def test_tensors_of_every_kind_survive_the_file(tmp_path: Path) -> None:
    kinds = (torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
    tensors = {str(kind): torch.ones(3, 2).to(kind) for kind in kinds}
    tensors |= {"scalar": torch.tensor(0.1), "empty": torch.empty(0, 4), "turned": torch.eye(3)[1:]}
    write_tensors(tmp_path / "t.safetensors", tensors)
    found = read_tensors(tmp_path / "t.safetensors")
    assert found.keys() == tensors.keys()
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value), name


def test_a_device_that_is_not_there_is_refused_with_what_is() -> None:
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(UsageError, match="valid names"):
        pick_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match=r"cuda is not there[\s\S]*Found: cpu"):
            pick_device("cuda")
    with pytest.raises(UsageError, match="cuda:99"):
        pick_device("cuda:99")


def test_one_gpu_of_several_is_chosen_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"Card {number}")
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    with pytest.raises(UsageError, match="cuda:2 is not there") as refused:
        pick_device("cuda:2")
    assert refused.value.found.startswith("cpu, cuda:0 (Card 0), cuda:1 (Card 1)")


def test_precision_follows_the_wish_or_the_hardware() -> None:
    cpu = torch.device("cpu")
    assert pick_dtype("bf16", cpu) == torch.bfloat16
    assert pick_dtype("auto", cpu) in (torch.float32, torch.bfloat16)
    with pytest.raises(UsageError, match="fp16 needs a GPU"):
        pick_dtype("fp16", cpu)
    with pytest.raises(UsageError, match="fp8"):
        pick_dtype("fp8", cpu)
    with autocast(cpu, torch.bfloat16):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with autocast(cpu, torch.float32):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


@pytest.mark.slow
def test_the_machine_is_measured_not_quoted() -> None:
    cpu = torch.device("cpu")
    assert 1e8 < measured_matmul_ceiling(cpu, torch.float32) < 1e15
    assert peak_memory(cpu) > 50_000_000
