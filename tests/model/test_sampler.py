"""Generation on ids: the cache changes nothing, limits hold, rows do not disturb each other."""

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.config import ModelConfig
from model.generation.batch import BatchScheduler, fit_prompt
from model.generation.cuda_graph import CudaGraphDecoder
from model.generation.runner import TorchRunner, runner_for
from model.generation.sampling import (
    NewToken,
    SamplingSettings,
    draw,
    keep_likely,
    likeliest,
    penalise_drawn,
    penalise_repetition,
)
from model.gpt import GPT
from model.language_model import LanguageModel, generate, stream
from model.layers.cache import KeyValueCache
from model.quantization.model import QuantizedGPT
from utils.errors import UsageError

KINDS: dict[str, dict[str, Any]] = {
    "llama": {"num_kv_heads": 2, "qk_norm": True},
    "gpt2": {"position": "learned", "norm": "layernorm", "mlp": "gelu", "bias": True},
    "sdpa": {"attention": "sdpa"},
}
FORMS = ["float32", "bfloat16", "int8", "int4"]
PROMPTS = [[1, 2, 3], [5] * 17, [7], [9, 8, 7, 6, 5, 4, 3, 2, 1]]


def lively(**changes: Any) -> LanguageModel:
    """A random model with strong opinions, so that its greedy text is not one repeated id."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": 53,
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "max_position_embeddings": 40,
        "initializer_range": 0.5,
        "tie_word_embeddings": False,
    }
    return LanguageModel(ModelConfig(**(sizes | changes))).eval()


def in_form(form: str, model: GPT | None = None) -> GPT:
    model = model or lively(num_kv_heads=2, hidden_size=64)
    if form in ("int8", "int4"):
        state = dict(model.state_dict())
        return QuantizedGPT(model.config, state, form, model.device, model.dtype)  # type: ignore[arg-type]
    return model.to(getattr(torch, form))


def greedy(**changes: Any) -> SamplingSettings:
    return SamplingSettings(temperature=0, **changes)


def naive_greedy(model: GPT, prompt: Sequence[int], count: int) -> list[int]:
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(count):
            ids.append(int(model(torch.tensor([ids]))["logits"][0, -1].argmax()))
    return ids


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_the_same_with_cache_without_and_by_hand(kind: str) -> None:
    model = lively(**KINDS[kind])
    by_hand = [naive_greedy(model, prompt, 20) for prompt in PROMPTS]
    assert len({tuple(ids[-10:]) for ids in by_hand}) > 1
    assert generate(model, PROMPTS, greedy(max_new_tokens=20)) == by_hand
    assert generate(model, PROMPTS, greedy(max_new_tokens=20, use_cache=False)) == by_hand


def test_a_row_draws_the_same_whoever_its_neighbours_are() -> None:
    model = lively()
    settings = SamplingSettings(seed=11, max_new_tokens=15)
    together = generate(model, PROMPTS, settings)
    for row, prompt in enumerate(PROMPTS):
        alone = SamplingSettings(seed=11 + row, max_new_tokens=15)
        assert generate(model, [prompt], alone) == [together[row]]
    assert generate(model, PROMPTS, settings) == together
    assert generate(model, PROMPTS, SamplingSettings(seed=99, max_new_tokens=15)) != together


def test_rows_that_end_early_leave_the_others_unharmed() -> None:
    model = lively()
    free = generate(model, PROMPTS, greedy(max_new_tokens=12))
    stop = free[0][len(PROMPTS[0]) + 1]
    steps = list(stream(model, PROMPTS, greedy(max_new_tokens=12, stop_ids=frozenset({stop}))))
    written: dict[int, list[NewToken]] = {row: [] for row in range(len(PROMPTS))}
    for step in steps:
        for token in step:
            written[token.row].append(token)
    for row, tokens in written.items():
        expected = free[row][len(PROMPTS[row]) :]
        ended = stop in expected
        if ended:
            expected = expected[: expected.index(stop) + 1]
        assert [token.id for token in tokens] == expected
        assert [token.finish for token in tokens[:-1]] == [None] * (len(tokens) - 1)
        assert tokens[-1].finish == ("stop" if ended else "length")
    assert written[0][-1].finish == "stop"


def test_generation_ends_at_the_context_even_beside_shorter_rows() -> None:
    model = lively()
    prompts = [[1] * 35, [2]]
    result = generate(model, prompts, greedy(max_length=40))
    assert [len(ids) for ids in result] == [40, 40]
    assert result[1] == naive_greedy(model, [2], 39)
    last = list(stream(model, prompts, greedy(max_length=40)))[-1]
    assert [(token.row, token.finish) for token in last] == [(1, "length")]


def test_probabilities_are_the_models_own() -> None:
    model = lively()
    (step,) = stream(model, [[3, 4]], SamplingSettings(temperature=0.3, seed=1, max_new_tokens=1))
    expected = model(torch.tensor([[3, 4]]))["logits"][0, -1].softmax(-1)[step[0].id]
    assert math.exp(step[0].logprob) == pytest.approx(expected.item(), rel=1e-4)


def test_a_consumer_may_stop_asking_and_the_model_goes_back_to_training() -> None:
    model = lively(dropout=0.5)
    model.train()
    tokens: Iterator[list[NewToken]] = stream(model, [[1]], greedy())
    next(tokens)
    assert not model.training
    tokens.close()  # type: ignore[attr-defined]
    assert model.training
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


def test_sampling_does_not_touch_the_random_numbers_of_training() -> None:
    model = lively()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    generate(model, [[1]], SamplingSettings(seed=2, max_new_tokens=5))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
def test_draws_follow_the_distribution() -> None:
    model = lively()
    logits = model(torch.tensor([[3]]))["logits"][0, -1]
    settings = SamplingSettings(temperature=2.0, top_k=4, top_p=None, seed=0, max_new_tokens=1)
    counts = Counter(ids[-1] for ids in generate(model, [[3]] * 2000, settings))
    best = (logits / 2).topk(4)
    assert set(counts) <= set(best.indices.tolist())
    for token, share in zip(best.indices.tolist(), best.values.softmax(-1).tolist(), strict=True):
        assert counts[token] / 2000 == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        ({"top_k": None, "top_p": None}, [2, 0, 3, 1]),
        ({"top_k": 2, "top_p": None}, [2, 0]),
        ({"top_k": None, "top_p": 0.5}, [2]),
        ({"top_k": None, "top_p": 0.51}, [2, 0]),
        ({"top_k": None, "top_p": 1e-9}, [2]),
        ({"top_k": None, "top_p": None, "min_p": 0.5}, [2, 0]),
        ({"top_k": None, "top_p": None, "min_p": 1.0}, [2]),
        ({"top_k": 99, "top_p": 1.0}, [2, 0, 3, 1]),
    ],
)
def test_limits_keep_the_likeliest(limits: dict[str, Any], kept: list[int]) -> None:
    scores = torch.tensor([[0.3, 0.05, 0.5, 0.15]]).log()
    best, ids = keep_likely(scores, SamplingSettings(**limits))
    assert ids[best > float("-inf")].tolist() == kept


def test_repetition_becomes_less_likely_on_both_sides_of_zero() -> None:
    scores = torch.tensor([[2.0, -2.0, 2.0, -2.0]])
    assert penalise_repetition(scores, [[0, 1]], 2.0).tolist() == [[1.0, -4.0, 2.0, -2.0]]
    model = lively()
    plain = generate(model, [[1]], greedy(max_new_tokens=30))[0]
    varied = generate(model, [[1]], greedy(max_new_tokens=30, repetition_penalty=5.0))[0]
    assert len(set(varied)) > len(set(plain))


def test_what_was_drawn_loses_by_each_time_and_once_for_being_there() -> None:
    scores = torch.tensor([[3.0, 1.0, -1.0], [3.0, 1.0, -1.0]])
    found = penalise_drawn(scores, [[0, 0, 2], []], presence=0.5, frequency=2.0)
    assert found.tolist() == [[-1.5, 1.0, -3.5], [3.0, 1.0, -1.0]]


def flat() -> GPT:
    """Every token is as likely as any other, whatever was before it."""
    model = lively()
    with torch.no_grad():
        assert model.head is not None
        model.head.weight.zero_()
    return model


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
def test_penalties_of_what_was_drawn_do_not_count_the_prompt(penalty: str) -> None:
    every_other = [*range(1, 39, 2)]
    new = generate(flat(), [every_other], greedy(max_new_tokens=20, **{penalty: 1.0}))[0][19:]
    assert new == [*range(20)]
    again = generate(flat(), [[1]], greedy(max_new_tokens=20, **{penalty: -0.5}))[0][1:]
    assert again == [0] * 20


def test_the_frequency_penalty_grows_with_every_time_and_the_other_does_not() -> None:
    wanted = greedy(max_new_tokens=6, logit_bias=((7, 1.2),))
    for penalty, expected in (
        ("presence_penalty", [7, 7, 7, 7, 7, 7]),  # 1.2 - 0.5 is still the most
        ("frequency_penalty", [7, 7, 7, 0, 1, 2]),  # 1.2, 0.7, 0.2, -0.3
    ):
        settings = replace(wanted, **{penalty: 0.5})
        assert generate(flat(), [[50]], settings)[0][1:] == expected


def test_a_bias_forces_a_token_or_forbids_it_in_its_own_row_only() -> None:
    model = lively()
    plain = generate(model, [[3]], greedy(max_new_tokens=8))[0]
    best = plain[1]
    for settings in (greedy(), SamplingSettings(seed=1, temperature=2.0)):
        forced = replace(settings, max_new_tokens=8, logit_bias=((11, 100.0), (12, -3.0)))
        assert generate(model, [[3]], forced)[0] == [3, *[11] * 8]
        banned = replace(settings, max_new_tokens=8, logit_bias=((best, -100.0),))
        assert best not in generate(model, [[3]], banned)[0]
    batch = BatchScheduler(runner_for(model), slots=2)
    batch.join([3], greedy(max_new_tokens=1, logit_bias=((11, 100.0),)))
    batch.join([3], greedy(max_new_tokens=1))
    assert [token.id for token in batch.step()] == [11, best]


@pytest.mark.parametrize("unknown", [-1, 53, 10**12])
def test_a_bias_for_no_token_of_the_vocabulary_is_refused(unknown: int) -> None:
    with pytest.raises(UsageError, match="logit_bias"):
        generate(lively(), [[1]], greedy(logit_bias=((unknown, 1.0),)))
    with pytest.raises(UsageError, match="logit_bias"):
        generate(lively(), [[1]], greedy(logit_bias=((40, 1.0),), vocabulary=40))


@pytest.mark.parametrize(
    ("length", "new", "kept"), [(10, 5, 10), (40, 5, 35), (39, 0, 39), (60, 100, 20), (20, 20, 20)]
)
def test_a_prompt_too_long_keeps_its_end_and_room_to_write(
    length: int, new: int, kept: int
) -> None:
    prompt = list(range(length))
    assert fit_prompt(prompt, new, 40) == prompt[length - kept :]


def test_a_long_prompt_is_continued_from_its_end() -> None:
    model = lively()
    prompt = [token % 53 for token in range(100)]
    result = generate(model, [prompt], greedy(max_new_tokens=5))[0]
    assert result == naive_greedy(model, prompt[-35:], 5)


@pytest.mark.parametrize("wanted", [{"max_new_tokens": 0}, {"max_length": 3}])
def test_asking_for_nothing_yields_nothing(wanted: dict[str, int]) -> None:
    model = lively()
    assert list(stream(model, [[1, 2, 3]], greedy(**wanted))) == []
    assert generate(model, [[1, 2, 3]], greedy(**wanted)) == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("prompts", "problem"), [([[]], "no token"), ([[1], [53]], "53"), ([[-1]], "-1")]
)
def test_a_prompt_that_the_model_cannot_read_is_refused(
    prompts: list[list[int]], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        generate(lively(), prompts, greedy())


def test_a_prompt_beyond_max_length_is_refused_with_both_numbers() -> None:
    with pytest.raises(UsageError, match=r"12 tokens.*max_length 10"):
        generate(lively(), [[1] * 12], greedy(max_length=10))


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1.0},
        {"top_k": -1},
        {"top_p": 0.0},
        {"min_p": 2.0},
        {"repetition_penalty": 0.0},
        {"temperature": float("nan")},
        {"presence_penalty": 2.1},
        {"frequency_penalty": -2.1},
        {"logit_bias": ((1, 101.0),)},
        {"logit_bias": ((1, float("nan")),)},
    ],
)
def test_settings_without_meaning_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        SamplingSettings(**wrong)


def test_generate_on_the_model_takes_a_list_or_a_tensor() -> None:
    model = lively()
    expected = [naive_greedy(model, [1, 2], 8)]
    for ids in ([1, 2], [[1, 2]], torch.tensor([1, 2]), torch.tensor([[1, 2]])):
        assert model.generate(ids, max_length=10, temperature=0) == expected


def test_a_prompt_may_be_read_in_pieces() -> None:
    model = lively()
    ids = torch.tensor([[5, 9, 2, 7, 7, 1]])
    cache = KeyValueCache(model.config, 1, 10, device=model.device, dtype=model.dtype)
    with torch.no_grad():
        pieces = [model(part, cache=cache)["logits"] for part in ids.split((2, 3, 1), dim=1)]
        torch.testing.assert_close(torch.cat(pieces, dim=1), model(ids)["logits"])
    with pytest.raises(ValueError, match="cache of 10"):
        cache.begin(5)


def test_no_limit_has_one_meaning_whether_it_is_called_none_or_zero() -> None:
    assert SamplingSettings(top_k=0) == SamplingSettings(top_k=None)
    assert not SamplingSettings(top_k=0, top_p=None).limited
    model = lively()
    texts = [model.generate([1, 2], 30, 2.0, top_k, 1.0, seed=4) for top_k in (0, None)]
    assert texts[0] == texts[1]
    assert texts[0] != model.generate([1, 2], 30, 2.0, 3, 1.0, seed=4)


def test_the_settings_are_read_without_torch() -> None:
    script = "import sys, model.generation.settings; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", script], cwd=root, check=False).returncode == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_captured_step_writes_the_same_text(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(**KINDS[kind])
    captured = []

    def capture(run: Any) -> Any:
        captured.append(run)
        return run

    runner = TorchRunner(model)
    monkeypatch.setattr(runner, "_graphs", CudaGraphDecoder(model, capture))
    batch = BatchScheduler(runner, 4)
    keys = [batch.join(prompt, greedy(max_new_tokens=18)) for prompt in PROMPTS]
    texts: dict[int | None, list[int]] = {key: [] for key in keys}
    while batch:
        for token in batch.step():
            texts[token.row].append(token.id)
    for key, prompt in zip(keys, PROMPTS, strict=True):
        assert texts[key] == naive_greedy(model, prompt, 18)[len(prompt) :]
    assert captured


@pytest.mark.parametrize("size", [64, 1000, 6400])
def test_the_likeliest_are_found_group_by_group(size: int) -> None:
    scores = torch.randn(3, size)
    best, ids = likeliest(scores, 20)
    expected = scores.topk(20)
    assert torch.equal(best, expected.values)
    assert torch.equal(ids, expected.indices)


def test_without_limits_every_token_is_drawn_as_often_as_it_is_likely() -> None:
    scores = torch.tensor([[0.3, 0.05, 0.5, 0.15]]).log()
    settings = SamplingSettings(temperature=1.0, top_k=None, top_p=1.0)
    assert not settings.limited
    generators = [torch.Generator().manual_seed(row) for row in range(4000)]
    drawn = draw(scores.expand(4000, 4), settings, generators, [()] * 4000).ids
    shares = torch.bincount(torch.tensor(drawn), minlength=4) / 4000
    torch.testing.assert_close(shares, scores[0].exp(), rtol=0, atol=0.03)


def test_limits_are_the_same_for_a_vocabulary_too_large_to_sort() -> None:
    scores = 3 * torch.randn(2, 5000)
    for limits in ({"top_p": 0.6}, {"top_p": 1.0, "min_p": 0.05}, {"top_p": 0.99999}):
        settings = SamplingSettings(top_k=None, **limits)  # type: ignore[arg-type]
        sorted_all = SamplingSettings(top_k=5000, **limits)  # type: ignore[arg-type]
        (best, ids), (all_best, all_ids) = (keep_likely(scores, s) for s in (settings, sorted_all))
        assert kept(best, ids) == kept(all_best, all_ids)


def kept(best: torch.Tensor, ids: torch.Tensor) -> Sequence[list[int]]:
    pairs = zip(best, ids, strict=True)
    return [row_ids[row > float("-inf")].tolist() for row, row_ids in pairs]
