"""Likelihoods of many texts at once are those of each text read alone."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from model.generation.batch_scoring import Likelihood, ScoredText, likelihoods
from model.gpt import GPT
from tests.model.test_sampler import in_form, lively

MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "grouped": {"num_kv_heads": 1},
    "qwen3": {"num_kv_heads": 2, "qk_norm": True, "head_dim": 16},
    "gpt2": {"position": "learned", "norm": "layernorm", "mlp": "gelu", "bias": True},
    "sdpa": {"attention": "sdpa", "num_kv_heads": 2},
}
CONTEXT = 40  # of `lively`


def ids(count: int, seed: int) -> tuple[int, ...]:
    return tuple((seed + 7 * i * i + 3 * i) % 53 for i in range(count))


BEGINNING = ids(17, 1)
GROUPS: dict[str, list[ScoredText]] = {
    "answers of one context": [ScoredText(BEGINNING + ids(n, n), n) for n in (4, 1, 7, 2)],
    "one token each": [ScoredText((*BEGINNING, n), 1) for n in (3, 9, 3, 20)],
    "one begins another": [ScoredText(BEGINNING + ids(n, 5), n) for n in (2, 6, 4)],
    "the same twice": [ScoredText(BEGINNING + ids(3, 8), 3)] * 2 + [ScoredText(ids(9, 2), 4)],
    "two contexts, one end": [ScoredText(ids(n, n) + ids(5, 0), 5) for n in (11, 12)],
    "all is scored": [ScoredText(ids(n, 4), n - 1) for n in (2, 13, CONTEXT + 1)],
    "scored beyond the beginning": [ScoredText(BEGINNING + ids(n, n), n + 6) for n in (3, 5)],
    "as long as the context": [ScoredText(ids(CONTEXT + 1, n), n) for n in (1, CONTEXT)],
    "windows": [ScoredText(ids(CONTEXT + 1, n), CONTEXT - n) for n in range(5)],
}


def alone(model: GPT, text: ScoredText) -> Likelihood:
    """Reading one text, without a batch, a mask or a shared beginning."""
    with torch.inference_mode():
        logits = model.logits(model.hidden(torch.tensor([text.ids[:-1]])))[0]
    rows = torch.log_softmax(logits[-text.scored :].double(), -1)
    wanted = torch.tensor(text.ids[-text.scored :])
    own = rows.gather(1, wanted[:, None])
    ranks = (rows > own).sum(1)
    return Likelihood(float(own.sum()), text.scored, not ranks.any().item(), tuple(ranks.tolist()))


def together(
    model: GPT, groups: Sequence[Sequence[ScoredText]], batch_tokens: int | None = None
) -> list[list[Likelihood]]:
    found = dict(likelihoods(model, groups, batch_tokens=batch_tokens, ranks=True))
    return [found[number] for number in range(len(groups))]


def agree(found: Likelihood, expected: Likelihood, tolerance: float = 1e-5) -> None:
    assert found.logprob == pytest.approx(expected.logprob, rel=tolerance, abs=tolerance)
    assert found.tokens == expected.tokens
    assert found.greedy == expected.greedy
    assert found.ranks == expected.ranks


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("batch_tokens", [1, 60, 100_000, None])
def test_likelihoods_are_those_of_every_text_alone(kind: str, batch_tokens: int | None) -> None:
    model = lively(**MODELS[kind])
    groups = list(GROUPS.values())
    for texts, found in zip(groups, together(model, groups, batch_tokens), strict=True):
        for text, one in zip(texts, found, strict=True):
            agree(one, alone(model, text))


@pytest.mark.parametrize("form", ["int8", "int4"])
def test_weights_in_few_bits_score_nearly_as_they_read_alone(form: str) -> None:
    """Their products round inputs and logits to bfloat16: sums in another order differ more."""
    model = in_form(form)
    groups = list(GROUPS.values())
    for texts, found in zip(groups, together(model, groups), strict=True):
        for text, one in zip(texts, found, strict=True):
            expected = alone(model, text).logprob
            assert one.logprob == pytest.approx(expected, rel=0.02, abs=0.2)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_neighbours_order_and_threads_change_nothing(threads: int) -> None:
    model = lively(num_kv_heads=2)
    groups = list(GROUPS.values())
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        forward, backward = together(model, groups, 60), together(model, groups[::-1], 60)[::-1]
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for texts, one, other in zip(groups, forward, backward, strict=True):
        [single] = together(model, [texts], 60)
        for a, b, c in zip(one, other, single, strict=True):
            agree(a, b, 1e-6)
            agree(a, c, 1e-6)


def test_identical_texts_have_identical_likelihoods() -> None:
    [found] = together(lively(), [GROUPS["the same twice"]])
    assert found[0] == found[1]


def test_a_text_that_gives_nothing_to_read_or_is_too_long_is_refused() -> None:
    model = lively()
    for text in (
        ScoredText((1,), 1),
        ScoredText((1, 2), 0),
        ScoredText((1, 2), 2),
        ScoredText(ids(CONTEXT + 2, 0), 1),
    ):
        with pytest.raises(ValueError, match=f"in a context of {CONTEXT}"):
            list(likelihoods(model, [[text]]))


def test_what_computes_nan_is_told_as_such() -> None:
    model = lively()
    with torch.no_grad():
        model.embedding.weight[3] = math.nan
    [spoiled], [sound] = together(model, [[ScoredText((1, 3, 2), 1)], [ScoredText((1, 2), 1)]], 1)
    assert math.isnan(spoiled.logprob)
    assert math.isfinite(sound.logprob)


def test_who_stops_listening_stops_the_scoring() -> None:
    model = lively()
    groups = [[ScoredText(ids(30, n), 9)] for n in range(40)]
    found = likelihoods(model, groups, batch_tokens=1)
    next(found)
    read = []
    hook = model.blocks[0].register_forward_hook(lambda *_: read.append(1))
    found.close()
    hook.remove()
    assert len(read) < 10
