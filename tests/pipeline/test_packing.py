"""Rows of several conversations: whole, none seen by another, in an order that the key decides."""

from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from model.gpt import GPT
from model.optimizer import build_optimizer
from pipeline.conversations.example_set import ExampleSet, open_examples
from pipeline.sft.batches import ConversationBatches
from pipeline.sft.packing import epoch_steps, pack, rows_needed
from pipeline.train.objective import NextToken
from pipeline.train.trainer import Trainer
from tests.support.example_sets import conversations, example_set
from tests.support.tiny_checkpoints import byte_tokenizer, lively_model


def lengths(count: int, longest: int, seed: int = 0) -> np.ndarray[Any, Any]:
    drawn = Random(seed)
    return np.array([drawn.randint(1, longest) for _ in range(count)], np.int64)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("window", [1, 7, 64, 512])
def test_rows_hold_every_conversation_once_and_none_is_too_long(window: int, seed: int) -> None:
    sizes = lengths(200, window, seed)
    rows = pack(sizes, window)
    assert sorted(item for row in rows for item in row) == list(range(200))
    assert all(sizes[row].sum() <= window for row in rows)
    fewest = -(-int(sizes.sum()) // window)
    assert fewest <= len(rows) <= 11 / 9 * max(fewest, (sizes > window / 2).sum()) + 1


def test_the_fullest_row_that_has_room_is_taken() -> None:
    assert pack(np.array([6, 5, 3, 2, 4]), 10) == [[0, 4], [1, 2, 3]]
    assert pack(np.array([10, 10]), 10) == [[0], [1]]
    assert pack(np.array([], np.int64), 10) == []


@pytest.mark.parametrize("packed", [True, False])
def test_an_epoch_is_a_function_of_seed_and_number_and_steps_are_about_equal(packed: bool) -> None:
    sizes = lengths(100, 60)

    def epoch(number: int, seed: int = 1) -> list[list[list[int]]]:
        return epoch_steps(sizes, 64, 6, packed=packed, seed=seed, epoch=number)

    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(1) != epoch(1, seed=2)
    for steps in (epoch(0), epoch(1)):
        rows = [row for step in steps for row in step]
        assert sorted(item for row in rows for item in row) == list(range(100))
        assert len(rows) == rows_needed(sizes, 64, packed=packed)
        assert {len(step) for step in steps} <= {
            len(rows) // len(steps),
            len(rows) // len(steps) + 1,
        }
        assert max(map(len, steps)) <= 6


def test_rows_of_their_own_are_about_equally_long_within_a_step() -> None:
    sizes = lengths(400, 500)
    steps = epoch_steps(sizes, 500, 8, packed=False, seed=0, epoch=0)
    spread = [int(np.ptp(sizes[[row[0] for row in step]])) for step in steps]
    assert np.median(spread) < 100


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> ExampleSet:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("talk"))
        return open_examples(example_set(Path("talk").absolute(), conversations(23)))


def batches(data: ExampleSet, **changes: Any) -> ConversationBatches:
    settings = {"window": 128, "batch_size": 8, "accumulation": 1, "packed": True, "seed": 0}
    device = torch.device("cpu")
    return ConversationBatches(data, data.train, device=device, **(settings | changes))


def test_targets_are_the_learned_ids_and_every_end_of_turn_is_one(talk: ExampleSet) -> None:
    """The end of a turn has the id of the padding here: only its place says that it is learned."""
    end = byte_tokenizer().eos_id
    for item in range(len(talk)):
        ids, learned = talk.ids(item), talk.learned(item)
        ends = np.flatnonzero(ids == end)
        answers = sum(turn.role == "assistant" for turn in talk.texts(item).turns)  # type: ignore[union-attr]
        assert len(ends) == answers
        assert learned[ends].all()
    made = batches(talk)
    found = [made.batch(number) for number in range(made.steps_per_epoch)]
    scored = torch.cat([targets[targets >= 0] for _, targets, *_ in found])
    expected = np.concatenate([talk.ids(i)[1:][talk.learned(i)[1:]] for i in talk.train])
    assert sorted(scored.tolist()) == sorted(expected.tolist())
    assert int((scored == end).sum()) == int((expected == end).sum()) > len(talk.train) - 1


def gradients(data: ExampleSet, **changes: Any) -> tuple[float, list[torch.Tensor]]:
    """The loss of the first step and its gradients."""
    model: GPT = lively_model(initializer_range=0.1, max_position_embeddings=128).train()
    optimizer = build_optimizer(model, kind="adamw", learning_rate=0.0)
    optimizer.zero_grad = lambda *_: None  # type: ignore[method-assign]
    made = batches(data, **changes)
    trainer = Trainer(
        model, optimizer, made, NextToken(model), lr_multiplier=lambda step: 1.0,
        accumulation=changes.get("accumulation", 1), gradient_clip=None,
    )  # fmt: skip
    loss = trainer.train_step(0).loss
    return loss, [p.grad for p in model.parameters() if p.grad is not None]


def same(one: tuple[float, list[torch.Tensor]], other: tuple[float, list[torch.Tensor]]) -> bool:
    pairs = zip(one[1], other[1], strict=True)
    return abs(one[0] - other[0]) < 1e-6 and all(
        torch.allclose(a, b, rtol=0, atol=1e-6) for a, b in pairs
    )


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("size", [1, 3])
def test_rows_of_unequal_length_accumulate_to_the_same_step(
    talk: ExampleSet, packed: bool, size: int
) -> None:
    whole = gradients(talk, packed=packed, batch_size=6)
    assert same(gradients(talk, packed=packed, batch_size=size, accumulation=6 // size), whole)


def test_packed_rows_learn_what_rows_of_their_own_do(talk: ExampleSet) -> None:
    """One step over the whole set, so that both read the same conversations."""
    assert batches(talk, batch_size=99).steps_per_epoch == 1
    packed = gradients(talk, packed=True, batch_size=99)
    assert same(packed, gradients(talk, packed=False, batch_size=99))


def test_what_is_held_out_comes_in_one_order_and_whole(talk: ExampleSet) -> None:
    made = batches(talk, batch_size=2)
    first, again = list(made.in_order(99)), list(made.in_order(99))
    assert all(
        torch.equal(a, b)
        for x, y in zip(first, again, strict=True)
        for a, b in zip(x, y, strict=True)
    )
    scored = sum(int((targets >= 0).sum()) for _, targets, *_ in first)
    assert scored == sum(int(talk.learned(i)[1:].sum()) for i in talk.train)
    assert len(list(made.in_order(1))) == 1
