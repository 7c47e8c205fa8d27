"""run.json and state.json: a flipped bit is noticed, and what is lost is in the checkpoint."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.runs import folders, inventory
from pipeline.runs.record import read_record, record_of, state_of
from pipeline.runs.results import newest_state
from tests.pipeline.test_resume import resume, warnings, weights
from tests.pipeline.test_train import run_folder, train
from tests.support.stage_runner import finished, run_stage
from utils.errors import RefusedError


@pytest.mark.slow
def test_every_flipped_bit_of_a_record_is_refused_by_its_name(prepared: Path) -> None:
    run = run_folder(train(max_steps=2, eval_every=2))
    path = run / "run.json"
    whole = path.read_bytes()
    assert read_record(run).checksum
    for bit in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(RefusedError, match=r"run\.json") as error:
            read_record(run)
        assert error.value.commands[0] == ("train", "--resume", str(folders.step_folder(run, 2)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"matrix_learning_rate": 0.02', '"matrix_learning_rate": 0.06'),
        ('"seed": 42', '"seed": 46'),
        ('"optimizer"', '"optimizes"'),
        ('"schedule": "wsd"', '"schedule": "wse"'),
        ('"checksum"', '"checksuM"'),
        ('"options"', '"optionr"'),
    ],
)
def test_a_damaged_record_is_restored_from_the_checkpoint_that_is_named(
    prepared: Path, before: str, after: str
) -> None:
    whole = run_folder(train(max_steps=8, name="whole"))
    run = run_folder(train(max_steps=4, name="hurt"))
    resume(run, max_steps=6)
    text = (run / "run.json").read_text()
    assert before in text
    (run / "run.json").write_text(text.replace(before, after))
    with pytest.raises(RefusedError, match=r"run\.json") as error:
        run_stage("train", train={"resume": "auto", "name": "hurt", "max_steps": 8})
    command = error.value.commands[0]
    assert command[:2] == ("train", "--resume")
    assert (run / "run.json").read_text() == text.replace(before, after)
    events = run_stage("train", train={"resume": command[2], "max_steps": 8})
    assert "The settings are those that checkpoint_step_000006 holds" in warnings(events)
    assert run_folder(events) == run
    assert (run / "run.json.corrupt").read_text() == text.replace(before, after)
    assert read_record(run).options["max_steps"] == 8
    assert read_record(run).options["matrix_learning_rate"] == 0.02
    assert weights(run, 8).keys() == weights(whole, 8).keys()


def strip_checksum(run: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> None:
    """Make a record as versions without checksums wrote it, changed."""
    record = json.loads((run / "run.json").read_bytes())
    del record["checksum"]
    change(record)
    (run / "run.json").write_text(json.dumps(record, indent=2))


CHANGES: list[Callable[[dict[str, Any]], object]] = [
    lambda r: r["options"].update(learning_rate=1.003),
    lambda r: r["options"].update(seed=46),
    lambda r: r["options"].update(val_split=0.07),
    lambda r: r["model"].update(rope_theta=10001.0),
    lambda r: r.update(data=r["data"] + "x"),
    lambda r: r["fingerprints"].update(data="0" * 64),
]


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_a_record_of_an_older_version_is_compared_with_the_newest_checkpoint(
    prepared: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    run = run_folder(train(max_steps=4))
    strip_checksum(run)
    assert read_record(run).options["seed"] == 42
    strip = json.loads((run / "run.json").read_bytes())
    (run / "run.json").write_text(json.dumps(strip | {"checksum": ""}))
    strip_checksum(run, change)
    with pytest.raises(RefusedError, match="differs from its newest checkpoint"):
        run_stage("train", train={"resume": "auto", "max_steps": 6})


@pytest.mark.slow
def test_a_record_of_an_older_version_goes_on_and_gets_its_checksum(prepared: Path) -> None:
    run = run_folder(train(max_steps=4))
    strip_checksum(run)
    resume(run, max_steps=6)
    assert read_record(run).checksum


def test_settings_that_no_version_knows_are_refused_as_such(prepared: Path) -> None:
    run = run_folder(train(max_steps=4))
    shutil.rmtree(folders.step_folder(run, 4) / "tokenizer.json", ignore_errors=True)
    record = read_record(run)
    options = record.options | {"flux": 1}
    values = msgspec.to_builtins(msgspec.structs.replace(record, options=options, checksum=""))
    (run / "run.json").write_text(json.dumps(values))
    with pytest.raises(RefusedError, match="flux"):
        resume(run, max_steps=6)


@pytest.mark.slow
def test_a_run_without_any_record_names_the_checkpoint_to_go_on_from(prepared: Path) -> None:
    run = run_folder(train(max_steps=4))
    (run / "run.json").unlink()
    with pytest.raises(RefusedError, match="No such file") as error:
        resume(run, max_steps=6)
    events = run_stage("train", train={"resume": error.value.commands[0][2], "max_steps": 6})
    assert finished(events).summary["steps"] == 6
    assert read_record(run) == msgspec.structs.replace(
        record_of(folders.step_folder(run, 6)),
        created=read_record(run).created,
        version=read_record(run).version,
        checksum=read_record(run).checksum,
    )


@pytest.mark.slow
@pytest.mark.parametrize("digit", range(5))
def test_figures_of_a_damaged_state_are_not_shown(prepared: Path, digit: int) -> None:
    run = run_folder(train(max_steps=4))
    path = folders.step_folder(run, 4) / "state.json"
    text = path.read_text()
    at = text.index('"val_loss": ') + len('"val_loss": ') + (digit and digit + 1)
    damaged = bytearray(text.encode())
    damaged[at] ^= 1
    path.write_bytes(damaged)
    assert state_of(path.parent) == {}
    assert newest_state(run) == {}
    [shown] = inventory.checkpoints_in(run)
    assert shown.val_loss is None
    path.write_text(text)
    assert inventory.checkpoints_in(run)[0].val_loss == state_of(path.parent)["val_loss"] > 0
