"""Batches: the same for the same number, each window once, none of it left to chance."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline import dataloader
from pipeline.dataloader import Placement, create_simple_train_val_dataloaders
from pipeline.options.config import Config
from pipeline.tokens.order import endless, permuted
from tests.support.token_sets import numbered, token_set
from utils.errors import RefusedError, UsageError

PLACEMENTS: list[Placement] = ["memory-map", "RAM", "device"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of documents with unique ids."""
    folder = tmp_path_factory.mktemp("tokens") / "set"
    return token_set(folder, [numbered(60, 53, 1), numbered(30, 41, 30_001)], window=16)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 65_537])
def test_the_order_of_an_epoch_is_a_permutation(n: int) -> None:
    order = permuted(np.arange(n), n, seed=7, epoch=3)
    assert sorted(order.tolist()) == list(range(n))


def test_the_order_differs_by_epoch_and_by_seed() -> None:
    first = permuted(np.arange(5000), 5000, seed=1, epoch=0)
    for other in ({"seed": 1, "epoch": 1}, {"seed": 2, "epoch": 0}):
        same = first == permuted(np.arange(5000), 5000, **other)
        assert same.mean() < 0.01
    assert abs(np.corrcoef(first, np.arange(5000))[0, 1]) < 0.05


def test_the_order_never_changes_between_versions() -> None:
    # A resumed run must see the batches it would have seen: these numbers are for good.
    assert permuted(range(10), 10, seed=42, epoch=0).tolist() == [2, 8, 3, 7, 1, 6, 9, 4, 0, 5]
    assert permuted(range(10), 10, seed=42, epoch=1).tolist() == [6, 4, 1, 0, 9, 7, 5, 3, 2, 8]
    assert permuted([0, 1, 2, 2**40 - 1], 2**40, seed=42, epoch=0).tolist() == [
        325593839102,
        265650245435,
        468974133962,
        143603818480,
    ]


def test_asking_for_a_few_positions_gives_what_asking_for_all_would() -> None:
    whole = permuted(np.arange(999), 999, seed=5, epoch=2)
    assert permuted([998, 0, 17], 999, seed=5, epoch=2).tolist() == whole[[998, 0, 17]].tolist()
    with pytest.raises(IndexError):
        permuted([999], 999, seed=5, epoch=2)


def test_epochs_follow_each_other_without_a_gap() -> None:
    indices = endless(np.arange(30), 10, seed=3)
    for epoch in range(3):
        part = indices[10 * epoch : 10 * epoch + 10]
        assert part.tolist() == permuted(np.arange(10), 10, seed=3, epoch=epoch).tolist()


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_batch_depends_on_nothing_but_its_number(data: Path, placement: Placement) -> None:
    train, _, _ = create_simple_train_val_dataloaders(4, 0.3, data=data, placement="RAM")
    walked = [train.batch(step) for step in range(150)]
    fresh, _, info = create_simple_train_val_dataloaders(4, 0.3, data=data, placement=placement)
    assert info.placement == placement
    for step in (149, 3, 4, 5, 64, 63, 0):
        for ours, theirs in zip(fresh.batch(step), walked[step], strict=True):
            assert ours.dtype == torch.int64
            assert ours.shape == (4, 16)
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_validation_is_the_same_every_time_and_scores_each_token_once(
    data: Path, placement: Placement
) -> None:
    _, val, info = create_simple_train_val_dataloaders(
        4, 0.3, data=data, placement=placement, window=20
    )
    batches = list(val)
    assert len(batches) == len(val) == info.val_batches
    assert {inputs.shape for inputs, _ in batches} == {(4, 20)}
    targets = torch.cat([targets[targets >= 0] for _, targets in batches]).tolist()
    assert len(targets) == len(set(targets)) == info.val_tokens - 2
    for inputs, wanted in batches:  # ids count upwards inside a document
        follows = (wanted == inputs + 1) | (wanted == -100)
        assert (~follows).sum() <= 2 * wanted.numel() / 41 + 4
    again = list(val)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(batches, again, strict=True))
    with pytest.raises(IndexError):
        val.batch(len(val))


def test_an_epoch_shows_every_window_once(data: Path) -> None:
    train, _, info = create_simple_train_val_dataloaders(5, 0.3, data=data)
    seen = np.concatenate([train.indices(step) for step in range(train.steps_per_epoch)])
    assert sorted(seen[: info.train_windows].tolist()) == list(range(info.train_windows))
    assert len(list(train)) == len(train) == info.steps_per_epoch
    first, second = next(train.epoch(0)), next(train.epoch(1))
    assert not torch.equal(first[0], second[0])


def test_without_shuffling_windows_come_in_order(data: Path) -> None:
    train, _, _ = create_simple_train_val_dataloaders(4, 0.3, shuffle_train=False, data=data)
    assert train.indices(0).tolist() == [0, 1, 2, 3]
    assert train.indices(1).tolist() == [4, 5, 6, 7]


def test_ranks_share_the_very_batch_that_one_process_would_see(data: Path) -> None:
    whole, _, _ = create_simple_train_val_dataloaders(6, 0.3, data=data)
    parts = [
        create_simple_train_val_dataloaders(2, 0.3, data=data, rank=r, world_size=3)[0]
        for r in range(3)
    ]
    for step in (0, 7, 80):
        joined = torch.cat([part.batch(step)[0] for part in parts])
        assert torch.equal(joined, whole.batch(step)[0])
    val_whole = create_simple_train_val_dataloaders(6, 0.3, data=data)[1]
    val_parts = [
        create_simple_train_val_dataloaders(2, 0.3, data=data, rank=r, world_size=3)[1]
        for r in range(3)
    ]
    assert {len(part) for part in val_parts} == {len(val_whole)}
    for step in range(len(val_whole)):
        joined = torch.cat([part.batch(step)[1] for part in val_parts])
        assert torch.equal(joined, val_whole.batch(step)[1])


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_wide_ids_survive_every_placement(tmp_path: Path, placement: Placement) -> None:
    ids = [[0, 32_768, 65_535, 65_536, 99_999] * 6 for _ in range(8)]
    folder = token_set(tmp_path / "set", [ids], vocab_size=100_000)
    train, _, _ = create_simple_train_val_dataloaders(2, 0.5, data=folder, placement=placement)
    assert set(train.batch(0)[0].ravel().tolist()) == set(ids[0])
    narrow = [[0, 32_768, 65_535, 1, 2] * 6 for _ in range(8)]
    folder = token_set(tmp_path / "narrow", [narrow], vocab_size=65_536)
    train, _, _ = create_simple_train_val_dataloaders(2, 0.5, data=folder, placement=placement)
    assert set(train.batch(0)[0].ravel().tolist()) == set(narrow[0])


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_short_training_stretch_is_filled_up_with_ignored_targets(
    tmp_path: Path, placement: Placement
) -> None:
    folder = token_set(
        tmp_path / "set", [[list(range(1, 101))], [[501, 502, 503]]], split="tail", window=8
    )
    train, _, info = create_simple_train_val_dataloaders(
        1, 0.2, data=folder, placement=placement, shuffle_train=False
    )
    inputs, targets = train.batch(info.train_windows - 1)
    assert inputs[0].tolist() == [501, 502] + [0] * 6
    assert targets[0].tolist() == [502] + [-100] * 7


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_loading_leaves_the_random_generators_alone(data: Path, placement: Placement) -> None:
    torch.manual_seed(11)
    np.random.seed(11)
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    train, val, _ = create_simple_train_val_dataloaders(4, 0.3, data=data, placement=placement)
    list(train)
    list(val)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()


def test_the_data_set_follows_the_configuration(workspace: Path) -> None:
    config = Config()
    with pytest.raises(UsageError, match="python_test_dataset"):
        create_simple_train_val_dataloaders(4, 0.3, test_mode=True)
    with pytest.raises(UsageError, match="python_full_dataset"):
        create_simple_train_val_dataloaders(4, 0.3, config=config)
    token_set(config.tokens_dir("python", test=True), [numbered(60, 20)])
    _, _, info = create_simple_train_val_dataloaders(4, 0.3, test_mode=True)
    assert info.folder == "data/tokenized_datasets/python_test_dataset"


def test_verbose_speaks_through_the_log_and_never_prints(
    data: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.INFO):
        create_simple_train_val_dataloaders(4, 0.3, data=data, verbose=False)
        assert not caplog.records
        create_simple_train_val_dataloaders(4, 0.3, data=data)
    assert "training tokens" in caplog.text
    assert capsys.readouterr() == ("", "")


def test_tokens_go_where_they_fit(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Small:
        memory_available = 1000

    assert create_simple_train_val_dataloaders(4, 0.3, data=data)[2].placement == "RAM"
    monkeypatch.setattr(dataloader, "machine", Small)
    assert create_simple_train_val_dataloaders(4, 0.3, data=data)[2].placement == "memory-map"


@pytest.mark.parametrize("wrong", [{"batch_size": 0}, {"rank": 2, "world_size": 2}, {"rank": -1}])
def test_a_senseless_batch_or_rank_is_refused(data: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        create_simple_train_val_dataloaders(
            **({"batch_size": 4, "val_split": 0.3} | wrong), data=data
        )


def test_a_set_that_contradicts_its_metadata_is_refused(tmp_path: Path) -> None:
    folder = token_set(tmp_path / "set", [numbered(60, 20)])
    metadata = json.loads((folder / "metadata.json").read_text())
    metadata["tokenizer"]["vocab_size"] = 100
    from utils.artefacts import build_folder

    with build_folder(folder, kind="tokens", command="prepare", options={"forged": 1}) as builder:
        for file in folder.iterdir():
            if file.name not in ("manifest.json", "metadata.json"):
                builder.write(file.name, file.read_bytes())
        builder.write("metadata.json", json.dumps(metadata))
    with pytest.raises(RefusedError, match=r"contradicts its metadata\.json"):
        create_simple_train_val_dataloaders(4, 0.3, data=folder)


def test_the_first_batches_are_fetched_and_none_ahead_of_them(data: Path) -> None:
    _, val, info = create_simple_train_val_dataloaders(2, 0.4, data=data, placement="memory-map")
    assert info.val_batches > 3
    whole, fetch, fetched = list(val.first(1000)), val._fetch, []
    assert len(whole) == info.val_batches
    val._fetch = lambda indices: (fetched.append(indices), fetch(indices))[1]
    some = list(val.first(2))
    assert val._pool is not None
    val._pool.shutdown(wait=True)
    assert len(fetched) == 2
    for (inputs, targets), (expected, scored) in zip(some, whole, strict=False):
        assert torch.equal(inputs, expected)
        assert torch.equal(targets, scored)
