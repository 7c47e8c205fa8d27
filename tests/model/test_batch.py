"""Texts that are written together: they join and leave without touching each other."""

import math
from dataclasses import replace

import pytest
import torch

from model.generation.batch import BatchScheduler
from model.generation.runner import Chunk, TorchRunner, runner_for
from model.generation.sampling import NewToken, SamplingSettings
from tests.model.test_sampler import KINDS, PROMPTS, greedy, lively, naive_greedy
from utils.errors import UsageError


def written(batch: BatchScheduler, steps: int = 1000) -> dict[int, list[NewToken]]:
    """All tokens of the next steps, by row."""
    rows: dict[int, list[NewToken]] = {}
    for _ in range(steps):
        for token in batch.step():
            rows.setdefault(token.row, []).append(token)
        if not batch:
            break
    return rows


def ids(tokens: list[NewToken]) -> list[int]:
    return [token.id for token in tokens]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_join_late_write_what_they_write_alone(kind: str) -> None:
    model = lively(**KINDS[kind])
    batch = BatchScheduler(runner_for(model), slots=3)
    counts = [4 + 3 * place for place in range(8)]
    texts = list(zip(PROMPTS * 2, [min(n, 20) for n in counts], strict=True))
    expected = [naive_greedy(model, prompt, count)[len(prompt) :] for prompt, count in texts]
    waiting = list(texts)
    keys: list[int | None] = []
    rows: dict[int, list[NewToken]] = {}
    while waiting or batch:
        if waiting and batch.free:  # one joins per step, while others are in the middle
            prompt, count = waiting.pop(0)
            keys.append(batch.join(prompt, greedy(max_new_tokens=count)))
        for token in batch.step():
            rows.setdefault(token.row, []).append(token)
    assert [ids(rows[key]) for key in keys if key is not None] == expected


def test_rows_with_settings_of_their_own_draw_as_if_alone() -> None:
    model = lively()
    various = [
        SamplingSettings(seed=1, max_new_tokens=15),
        SamplingSettings(seed=2, temperature=2.0, top_k=None, max_new_tokens=9),
        SamplingSettings(temperature=0, max_new_tokens=12, repetition_penalty=3.0),
        SamplingSettings(seed=3, top_p=0.3, min_p=0.2, max_new_tokens=15),
    ]
    together = BatchScheduler(runner_for(model), slots=4)
    keys = [together.join(p, s) for p, s in zip(PROMPTS, various, strict=True)]
    rows = written(together)
    for key, prompt, settings in zip(keys, PROMPTS, various, strict=True):
        alone = BatchScheduler(runner_for(model), slots=1)
        alone.join(prompt, settings)
        assert key is not None
        assert ids(rows[key]) == ids(written(alone)[1])


def test_a_row_that_is_sent_away_leaves_its_place_to_another() -> None:
    model = lively()
    batch = BatchScheduler(runner_for(model), slots=2)
    first, second = (batch.join(prompt, greedy(max_new_tokens=30)) for prompt in PROMPTS[:2])
    assert first is not None
    written(batch, steps=3)
    batch.leave(first)
    batch.leave(first)
    third = batch.join(PROMPTS[2], greedy(max_new_tokens=30))
    with pytest.raises(UsageError, match="taken"):
        batch.join([1], greedy())
    rows = written(batch)
    assert third is not None
    assert second is not None
    assert ids(rows[third]) == naive_greedy(model, PROMPTS[2], 30)[1:]
    assert first not in rows


def test_a_common_beginning_is_not_read_again_and_changes_nothing() -> None:
    model = lively()
    read: list[tuple[int, int]] = []

    class Counting(TorchRunner):
        def forward(self, chunks: list[Chunk]) -> torch.Tensor:  # type: ignore[override]
            read.extend((chunk.start, len(chunk.ids)) for chunk in chunks)
            return super().forward(chunks)

    batch = BatchScheduler(Counting(model), slots=2)
    prompt = [i % 50 for i in range(20)]
    batch.join(prompt, greedy(max_new_tokens=3))
    said = ids(written(batch)[1])
    read.clear()
    longer = [*prompt, *said, 7, 8]
    batch.join(longer, greedy(max_new_tokens=3))
    assert ids(written(batch)[2]) == naive_greedy(model, longer, 3)[len(longer) :]
    assert read[0] == (22, 3)  # the last word said was never read


def test_half_precision_reads_anew_what_must_repeat() -> None:
    runner = TorchRunner(lively().to(torch.bfloat16))
    assert not runner.exact
    batch = BatchScheduler(runner, slots=1)
    prompt = [i % 50 for i in range(20)]
    texts = []
    for _ in range(2):
        key = batch.join(prompt, SamplingSettings(seed=5, max_new_tokens=10))
        assert key is not None
        texts.append(ids(written(batch)[key]))
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_a_long_prompt_does_not_hold_up_those_who_are_writing() -> None:
    model = lively(max_position_embeddings=3000)
    batch = BatchScheduler(runner_for(model), slots=2)
    batch.join([1, 2], greedy(max_new_tokens=50))
    batch.step()
    long = batch.join([i % 53 for i in range(2500)], greedy(max_new_tokens=2))
    assert [[token.row for token in batch.step()] for _ in range(3)] == [[1], [1], [1, long]]


def test_the_alternatives_are_the_models_likeliest() -> None:
    model = lively()
    batch = BatchScheduler(runner_for(model), slots=1)
    batch.join([3, 4], replace(greedy(max_new_tokens=1), alternatives=5))
    [token] = batch.step()
    with torch.no_grad():
        expected = model(torch.tensor([[3, 4]]))["logits"][0, -1].log_softmax(-1)
    best = expected.topk(5)
    assert [i for i, _ in token.alternatives] == best.indices.tolist()
    assert [p for _, p in token.alternatives] == pytest.approx(best.values.tolist(), abs=1e-4)
    assert token.alternatives[0] == (token.id, token.logprob)
    assert math.isclose(token.logprob, best.values[0].item(), abs_tol=1e-4)
