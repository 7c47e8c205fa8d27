"""The optimizer step: a pure function of weights, state and step number."""

from typing import Any

import pytest
import torch

from model.config import ModelConfig
from model.gpt import GPT
from model.optimizer import build_optimizer
from pipeline.train.objective import NextToken
from pipeline.train.trainer import NonFiniteError, Trainer
from tests.support.apple_gpu import apple_gpu, moved

CONFIG = ModelConfig(
    vocab_size=11, hidden_size=8, num_layers=1, num_heads=2, num_kv_heads=1,
    max_position_embeddings=8, dropout=0.2,
)  # fmt: skip


class CountedBatches:
    """Batch `n` is the same whenever it is asked for."""

    def batch(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.randint(0, 11, (4, 9), generator=torch.Generator().manual_seed(number))
        return rows[:, :-1], rows[:, 1:]


def trainer(**changes: Any) -> Trainer:
    torch.manual_seed(0)
    model = GPT(CONFIG)
    optimizer = build_optimizer(model, kind="muon", learning_rate=1e-2)
    settings = {"lr_multiplier": lambda step: 1.0, "seed": 3} | changes
    return Trainer(model, optimizer, CountedBatches(), NextToken(model), **settings)


def weights(subject: Trainer) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in subject.model.parameters()]


def test_a_step_does_not_depend_on_what_the_random_generator_did_before() -> None:
    first, second = trainer(), trainer()
    torch.rand(100)
    results = [first.train_step(5)]
    torch.rand(7)
    results.append(second.train_step(5))
    assert results[0] == results[1]
    assert all(map(torch.equal, weights(first), weights(second)))


def test_evaluation_leaves_weights_mode_and_random_numbers_alone() -> None:
    subject = trainer()
    before, state = weights(subject), torch.get_rng_state()
    batches = [CountedBatches().batch(n) for n in range(3)]
    whole = subject.evaluate(batches)
    assert whole.tokens == 3 * 4 * 8
    assert subject.evaluate(batches[:2]).tokens == 2 * 4 * 8
    assert torch.equal(state, torch.get_rng_state())
    assert all(map(torch.equal, before, weights(subject)))
    assert subject.model.training


def test_evaluation_counts_only_what_is_to_be_scored() -> None:
    subject = trainer()
    inputs, targets = CountedBatches().batch(0)
    masked = targets.clone()
    masked[:, 4:] = -100
    part = subject.evaluate([(inputs, masked)])
    subject.model.eval()
    expected = subject.model.token_losses(inputs, targets)[:, :4].mean().detach()
    assert part.tokens == 16
    assert part.loss == pytest.approx(float(expected), abs=1e-6)


class RaggedRows:
    """Eight rows of unequal length, in micro-batches of `size`; the last one has nothing to learn
    and the one before it a single target."""

    def __init__(self, size: int) -> None:
        self._size = size

    def batch(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.randint(0, 11, (8, 9), generator=torch.Generator().manual_seed(1))
        targets = rows[:, 1:].clone()
        for row, length in enumerate((8, 1, 5, 2, 7, 3, 1, 0)):
            targets[row, length:] = -100
        some = slice(number * self._size, (number + 1) * self._size)
        return rows[some, :-1], targets[some]


@pytest.mark.parametrize("size", [1, 2, 4])
def test_accumulation_weighs_every_target_alike(size: int) -> None:
    """The mean over all targets of a step, not a mean of the means of its micro-batches."""

    def step(rows: int) -> tuple[float, list[torch.Tensor]]:
        torch.manual_seed(0)
        model = GPT(CONFIG.model_copy(update={"dropout": 0.0}))
        optimizer = build_optimizer(model, kind="adamw", learning_rate=0.0)
        optimizer.zero_grad = lambda *_: None  # type: ignore[method-assign]
        subject = Trainer(
            model, optimizer, RaggedRows(rows), NextToken(model),
            lr_multiplier=lambda step: 1.0, accumulation=8 // rows, gradient_clip=None,
        )  # fmt: skip
        loss = subject.train_step(0).loss
        return loss, [p.grad for p in model.parameters() if p.grad is not None]

    (whole, expected), (parts, found) = step(8), step(size)
    assert parts == pytest.approx(whole, abs=1e-6)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-6)


def test_the_norm_is_that_before_clipping_and_the_update_is_clipped() -> None:
    free = trainer(gradient_clip=None).train_step(0)
    tight = trainer(gradient_clip=1e-3).train_step(0)
    assert tight.grad_norm == pytest.approx(free.grad_norm)
    assert free.grad_norm > 1e-3


def test_an_fp16_overflow_leaves_every_weight_and_is_given_up_when_it_does_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    subject = trainer(dtype=torch.float16)
    honest = subject._loss
    monkeypatch.setattr(subject, "_loss", lambda x, y: honest(x, y) + _Overflow.apply(honest(x, y)))
    before = weights(subject)
    assert subject.train_step(0).skipped
    assert all(map(torch.equal, before, weights(subject)))
    with pytest.raises(NonFiniteError):
        list(map(subject.train_step, range(1, 40)))
    assert all(map(torch.equal, before, weights(subject)))


class _Overflow(torch.autograd.Function):
    """Adds nothing to the loss, and infinity to its gradient."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return upstream * torch.inf


def test_validation_needs_no_float64_of_the_device() -> None:
    batches = [CountedBatches().batch(n) for n in range(2)]
    expected = trainer().evaluate(batches)
    subject = trainer()
    with apple_gpu() as device:
        subject.model = moved(subject.model)
        there = [(inputs.to(device), targets.to(device)) for inputs, targets in batches]
        found = subject.evaluate(there)
    assert found.tokens == expected.tokens
    assert found.loss == pytest.approx(expected.loss, abs=1e-6)
