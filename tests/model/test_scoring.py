"""How likely the ids of a text are: as the model itself says, and nothing else is disturbed."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from model.generation import runner as runners
from model.generation.batch import BatchScheduler
from model.generation.runner import (
    Chunk,
    ModelRunner,
    NativeRunner,
    TorchRunner,
    UncachedRunner,
    native_decoder,
    runner_for,
)
from model.generation.sampling import SamplingSettings, draw
from model.generation.scoring import Scored, score
from model.gpt import GPT
from tests.model.test_sampler import FORMS, KINDS, greedy, in_form, lively, naive_greedy

TEXT = [(7 * i * i + 3) % 53 for i in range(37)]


def native(model: GPT) -> ModelRunner:
    decoder = native_decoder(model)
    if decoder is None:
        pytest.skip("no C compiler")
    return NativeRunner(model, decoder)


RUNNERS: dict[str, Any] = {"torch": TorchRunner, "native": native, "whole": UncachedRunner}


def scored(
    runner: ModelRunner, ids: Sequence[int], vocabulary: int = 53, k: int = 3
) -> list[Scored]:
    return [one for piece in score(runner.logits_along(ids[:-1]), ids, vocabulary, k)
            for one in piece]  # fmt: skip


def own(model: GPT, ids: Sequence[int], vocabulary: int = 53) -> torch.Tensor:
    """The model's log-probabilities of what follows each id but the last."""
    with torch.no_grad():
        return model(torch.tensor([ids]))["logits"][0, :-1, :vocabulary].log_softmax(-1)


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("piece", [1, 5, 36, 256])
def test_every_id_is_as_likely_as_the_model_says(
    monkeypatch: pytest.MonkeyPatch, runner: str, kind: str, piece: int
) -> None:
    monkeypatch.setattr(runners, "_PIECE", piece)
    model = lively(**KINDS[kind])
    found, expected = scored(RUNNERS[runner](model), TEXT), own(model, TEXT)
    assert [one.id for one in found] == TEXT[1:]
    wanted = expected.gather(1, torch.tensor(TEXT[1:])[:, None])[:, 0]
    assert [one.logprob for one in found] == pytest.approx(wanted.tolist(), abs=1e-4)
    best = expected.topk(3)
    for one, ids, values in zip(found, best.indices.tolist(), best.values.tolist(), strict=True):
        assert [i for i, _ in one.alternatives] == ids
        assert [p for _, p in one.alternatives] == pytest.approx(values, abs=1e-4)


def test_the_likeliest_id_has_exactly_the_probability_of_the_first_alternative() -> None:
    model = lively()
    ids = naive_greedy(model, [3], 30)  # programs compare the two to see whether a text is greedy
    assert all(
        one.alternatives[0] == (one.id, one.logprob) for one in scored(runner_for(model), ids)
    )


@pytest.mark.parametrize("form", FORMS)
def test_what_was_written_is_as_likely_to_the_bit(form: str) -> None:
    runner = native(in_form(form))
    batch = BatchScheduler(runner, slots=1)
    batch.join(TEXT[:5], SamplingSettings(seed=1, max_new_tokens=30))
    written = [token for _ in range(30) for token in batch.step()]
    ids = [*TEXT[:5], *(token.id for token in written)]
    assert [one.logprob for one in scored(runner, ids)[4:]] == [one.logprob for one in written]


def test_ids_beyond_the_tokenizers_have_no_part_in_it() -> None:
    model = lively()
    ids = [i % 40 for i in TEXT]
    expected = own(model, ids, 40).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    found = scored(runner_for(model), ids, vocabulary=40, k=53)
    assert [one.logprob for one in found] == pytest.approx(expected.tolist(), abs=1e-4)
    assert all(len(one.alternatives) == 40 for one in found)


def test_without_alternatives_none_are_named() -> None:
    assert all(one.alternatives == () for one in scored(runner_for(lively()), TEXT, k=0))


@pytest.mark.parametrize("runner", RUNNERS)
def test_scoring_between_steps_leaves_the_texts_being_written_alone(
    monkeypatch: pytest.MonkeyPatch, runner: str
) -> None:
    monkeypatch.setattr(runners, "_PIECE", 4)
    model = lively()
    held = RUNNERS[runner](model)
    batch = BatchScheduler(held, slots=2)
    for prompt in ([1, 2, 3], [9]):
        batch.join(prompt, greedy(max_new_tokens=20))
    pieces = score(held.logits_along(TEXT[:-1]), TEXT, 53, 1)
    written: dict[int, list[int]] = {1: [1, 2, 3], 2: [9]}
    found: list[Scored] = []
    while batch:
        found += next(pieces, ())
        for token in batch.step():
            written[token.row].append(token.id)
    assert written == {1: naive_greedy(model, [1, 2, 3], 20), 2: naive_greedy(model, [9], 20)}
    assert found == scored(held, TEXT, k=1)


def test_nan_is_told_as_nan() -> None:
    model = lively()
    with torch.no_grad():
        model.blocks[1].mlp.down.weight.fill_(float("nan"))
    found = scored(runner_for(model), TEXT)
    assert all(one.logprob != one.logprob for one in found)


def test_a_text_that_fills_the_context_is_scored_and_its_runner_goes_on() -> None:
    model = lively()
    held = runner_for(model)
    ids = [i % 53 for i in range(41)]
    assert len(scored(held, ids)) == 40
    assert held.forward([Chunk(0, 0, ids[:40])]).shape == (1, 53)


@pytest.mark.parametrize("vocabulary", [20, 40, 53])
def test_padding_counts_where_it_is_asked_for_and_is_never_named_or_drawn(vocabulary: int) -> None:
    model = lively()
    ids = [i % vocabulary for i in TEXT]
    whole = own(model, ids)
    pieces = score(
        runner_for(model).logits_along(ids[:-1]), ids, vocabulary, 53, counts_padding=True
    )
    found = [one for piece in pieces for one in piece]
    for place, one in enumerate(found):
        assert one.logprob == pytest.approx(float(whole[place, one.id]), abs=1e-4)
        assert {i for i, _ in one.alternatives} == {*range(vocabulary)}
    settings = SamplingSettings(temperature=0, vocabulary=vocabulary, counts_padding=True)
    logits = model(torch.tensor([ids]))["logits"][0, -1:].detach().float()
    drawn = draw(logits, settings, [torch.Generator()], [ids])
    assert drawn.ids[0] < vocabulary
    wanted = logits.log_softmax(-1)[0, drawn.ids[0]]
    assert drawn.logprobs[0] == pytest.approx(float(wanted), abs=1e-4)
