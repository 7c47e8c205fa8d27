"""Preference optimisation: the formula, its gradients, and what is measured beside it."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.gpt import GPT
from model.lora import LoraSettings, add_adapters
from pipeline.sft.preference import (
    PreferenceLoss,
    sum_log_probabilities,
)
from tests.model.test_model import KINDS, small

PAIRS = ((5, 3, 8), (9, 6, 2), (4, 1, 1))  # ids of the prompt, of the chosen and rejected answer


def rows(pairs: tuple[tuple[int, int, int], ...] = PAIRS) -> tuple[Tensor, Tensor]:
    """Inputs and targets, the chosen and the rejected row of each pair one after the other."""
    generator = torch.Generator().manual_seed(2)
    longest = max(prompt + max(answers) for prompt, *answers in pairs)
    texts = torch.zeros(2 * len(pairs), longest + 1, dtype=torch.int64)
    learned = torch.zeros_like(texts, dtype=torch.bool)
    for number, (prompt, *answers) in enumerate(pairs):
        question = torch.randint(61, (prompt,), generator=generator)
        for row, answer in zip((2 * number, 2 * number + 1), answers, strict=True):
            texts[row, :prompt] = question
            end = prompt + answer
            texts[row, prompt:end] = torch.randint(61, (answer,), generator=generator)
            learned[row, prompt:end] = True
    return texts[:, :-1], texts[:, 1:].masked_fill(~learned[:, 1:], -100)


def model(seed: int, **changes: Any) -> GPT:
    torch.manual_seed(seed)
    return GPT(small(**changes)).train()


def answer_log_probability(policy: GPT, inputs: Tensor, targets: Tensor) -> Tensor:
    """Of one row, from its plain softmax, a token at a time."""
    logits = policy(inputs[None])["logits"]
    assert logits is not None
    logprobs = logits[0].log_softmax(dim=-1)
    scored = [logprobs[t, int(id)] for t, id in enumerate(targets) if id >= 0]
    return torch.stack(scored).sum()


def reference_of(base: GPT, inputs: Tensor, targets: Tensor) -> Tensor:
    with torch.no_grad():
        return sum_log_probabilities(base, inputs, targets)


def gradients(policy: GPT) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad()
    return found


@pytest.mark.parametrize("nll_weight", [0.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_and_its_gradients_are_those_of_the_formula(kind: str, nll_weight: float) -> None:
    policy, base = model(0, **KINDS[kind]), model(1, **KINDS[kind])
    inputs, targets = rows()
    reference = reference_of(base, inputs, targets)
    subject = PreferenceLoss(policy, beta=0.2, nll_weight=nll_weight)
    loss, *_ = subject.loss(inputs, targets, reference)
    loss.backward()
    found = gradients(policy)
    expected = torch.zeros(())
    for number in range(0, len(inputs), 2):
        own = [answer_log_probability(policy, inputs[n], targets[n]) for n in (number, number + 1)]
        frozen = [answer_log_probability(base, inputs[n], targets[n]) for n in (number, number + 1)]
        margin = (own[0] - frozen[0].detach()) - (own[1] - frozen[1].detach())
        expected = expected - torch.log(1 / (1 + torch.exp(-0.2 * margin)))
        expected = expected - nll_weight * own[0] / int((targets[number] >= 0).sum())
    expected = expected / len(PAIRS)
    expected.backward()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    for name, gradient in gradients(policy).items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("lora", [False, True])
def test_training_begins_at_the_logarithm_of_two(lora: bool) -> None:
    policy = model(0)
    reference = reference_of(policy, *rows())
    if lora:
        add_adapters(policy, LoraSettings(rank=2), seed=1)
    subject = PreferenceLoss(policy, beta=0.5)
    assert subject.loss(*rows(), reference)[0].item() == pytest.approx(math.log(2), abs=1e-6)


def test_what_is_measured_says_what_became_of_both_answers() -> None:
    policy, base = model(0), model(1)
    inputs, targets = rows()
    reference = reference_of(base, inputs, targets)
    subject = PreferenceLoss(policy, beta=0.2)
    values = subject.loss(inputs, targets, reference)
    assert values[0].requires_grad
    found = dict(zip(subject.names, values[1:].tolist(), strict=True))
    with torch.no_grad():
        own = sum_log_probabilities(policy, inputs, targets)
        scored, pairs = subject.score((inputs, targets, reference))
    margins = 0.2 * ((own - reference)[0::2] - (own - reference)[1::2])
    assert found["chosen_logprob"] == pytest.approx(own[0::2].mean().item(), rel=1e-5)
    assert found["rejected_logprob"] == pytest.approx(own[1::2].mean().item(), rel=1e-5)
    assert found["margin"] == pytest.approx(margins.mean().item(), rel=1e-4)
    assert found["accuracy"] == pytest.approx((margins > 0).float().mean().item())
    assert pairs == int(subject.count((inputs, targets, reference))) == len(PAIRS)
    assert [value / pairs for value in scored] == pytest.approx(values.tolist(), rel=1e-5)


def test_pairs_in_smaller_batches_have_the_gradient_of_all_at_once() -> None:
    policy, base = model(0), model(1)
    inputs, targets = rows()
    reference = reference_of(base, inputs, targets)
    subject = PreferenceLoss(policy, beta=0.2, nll_weight=0.5)
    subject.loss(inputs, targets, reference)[0].backward()
    whole = gradients(policy)
    for part in (slice(0, 2), slice(2, 6)):
        batch = inputs[part], targets[part], reference[part]
        share = subject.count(batch) / subject.count((inputs, targets, reference))
        (subject.loss(*batch)[0] * share).backward()
    for name, gradient in gradients(policy).items():
        torch.testing.assert_close(whole[name], gradient, atol=1e-6, rtol=1e-4)


def test_learning_prefers_the_chosen_answer_and_the_extra_term_keeps_it_likely() -> None:
    inputs, targets = rows()
    chosen = {}
    for nll_weight in (0.0, 1.0):
        policy = model(0)
        reference = reference_of(policy, inputs, targets)
        subject = PreferenceLoss(policy, beta=0.2, nll_weight=nll_weight)
        optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-3)
        for _ in range(12):
            optimizer.zero_grad()
            subject.loss(inputs, targets, reference)[0].backward()
            optimizer.step()
        values = subject.loss(inputs, targets, reference)[1:].tolist()
        figures = dict(zip(subject.names, values, strict=True))
        assert figures["accuracy"] == 1
        assert figures["margin"] > 0.5
        chosen[nll_weight] = figures["chosen_logprob"]
    assert chosen[1.0] > chosen[0.0]


def test_filling_behind_an_answer_counts_for_nothing() -> None:
    policy, (inputs, targets) = model(0), rows()
    longer = F.pad(inputs, (0, 7), value=3), F.pad(targets, (0, 7), value=-100)
    torch.testing.assert_close(
        sum_log_probabilities(policy, *longer), sum_log_probabilities(policy, inputs, targets)
    )
