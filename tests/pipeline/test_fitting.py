"""The training that is proposed: as large a model as a text feeds in a short time."""

from pathlib import Path
from typing import Any

import pytest

from model.config import ModelConfig, parameter_count
from pipeline.events import Event, Progress, Warned
from pipeline.options.config import Config
from pipeline.planning.target import guessed_speed
from pipeline.train.fitting import _SHIPPED, MOST_EPOCHS, fitting, is_unset, usual_speed
from tests.conftest import ROOT
from tests.support.stage_runner import run_stage, settings
from utils.config import Layer, read_layers, resolve

GPU = usual_speed("cuda", 1)


@pytest.mark.parametrize(
    ("tokens", "speed", "preset"),
    [
        (5_000, GPU, "tiny"),
        (344_000, usual_speed("cpu", 8), "tiny"),
        (2_500_000, GPU, "tiny"),
        (30_000_000, GPU, "mini"),
        (1_000_000_000, GPU, "small"),
        (1_000_000_000, 100 * GPU, "350M"),
        (1_000_000_000, usual_speed("cpu", 2), "tiny"),  # an hour is not enough for more
    ],
)
def test_the_model_is_as_large_as_text_and_machine_allow(
    tokens: int, speed: float, preset: str
) -> None:
    assert fitting(Config(), tokens, 512, 8192, speed).preset == preset


@pytest.mark.parametrize("tokens", [2_000, 30_000, 700_000, 20_000_000, 3_000_000_000])
@pytest.mark.parametrize("window", [32, 256, 512, 2048])
def test_no_text_is_read_too_often_and_no_first_training_takes_too_long(
    tokens: int, window: int
) -> None:
    fit = fitting(Config(), tokens, window, 8192, usual_speed("cpu", 4))
    seen = fit.max_steps * fit.batch_size * fit.window
    assert seen <= max(MOST_EPOCHS * tokens, fit.batch_size * fit.window)
    assert fit.seconds <= 3600
    assert fit.window <= window
    assert 4 <= fit.batch_size <= 16
    assert fit.max_steps >= 100 or fit.batch_size == 4  # a small text is learned in more steps
    model = ModelConfig(preset=fit.preset, vocab_size=8192)  # type: ignore[arg-type]
    assert fit.parameters == parameter_count(model)


@pytest.mark.parametrize(
    ("train", "proposed"),
    [
        ({}, {"model.preset", "train.max_steps", "train.batch_size"}),
        ({"max_steps": 70}, {"model.preset", "train.batch_size"}),
        ({"epochs": 3.0}, {"model.preset", "train.batch_size"}),
        ({"batch_size": 4}, {"model.preset", "train.max_steps"}),
        ({"gradient_accumulation_steps": 2}, {"model.preset", "train.max_steps"}),
    ],
)
def test_what_somebody_has_said_is_not_proposed_otherwise(
    train: dict[str, Any], proposed: set[str]
) -> None:
    config = settings(train=train)
    fit = fitting(config, 100_000, 512, 8192, GPU)
    assert fit.changes(config).keys() == proposed
    said = config.train.batch_size * config.train.gradient_accumulation_steps
    assert fit.batch_size == (said if said != 16 else 4)


def test_the_shape_that_comes_with_the_program_is_nobodys_wish() -> None:
    shipped = resolve(Config, read_layers(ROOT / "config.json"))
    assert {name: getattr(shipped.model, name) for name in _SHIPPED} == _SHIPPED
    assert is_unset(shipped)
    assert is_unset(Config())


@pytest.mark.parametrize(
    "section",
    [
        {"model": {"hidden_size": 256}},
        {"model": {"num_layers": 2}},
        {"model": {"preset": "mini"}},
        {"model": {"depth": 4}},
        {"train": {"resume": "auto"}},
        {"train": {"init_from": "gpt2"}},
    ],
)
def test_a_size_that_somebody_chose_stays(section: dict[str, Any]) -> None:
    assert not is_unset(resolve(Config, [Layer("typed", section)]))


def test_the_guess_of_the_speed_goes_by_cores_and_device(workspace: Path, frozen: None) -> None:
    assert guessed_speed("cpu") == usual_speed("cpu", 8)
    assert usual_speed("cpu", 8) > usual_speed("cpu", 2) > 0
    assert usual_speed("cuda", 2) > usual_speed("mps", 2) > usual_speed("cpu", 2)


def _warnings(**sections: Any) -> list[Warned]:
    seen: list[Event] = []
    train = {"max_steps": 1, "batch_size": 1, "tensorboard": False, "eval_batches": 1}
    train |= sections.pop("train", {})
    run_stage("train", stop_when=lambda e: isinstance(e, Progress), into=seen, train=train,
              **sections)  # fmt: skip
    return [event for event in seen if isinstance(event, Warned)]


@pytest.mark.slow
def test_a_training_without_a_size_says_in_one_line_what_would_fit(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pipeline.train.fitting._SHIPPED",
        {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "num_kv_heads": 2},
    )
    small = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "num_kv_heads": 2}
    assert not any("feeds" in told.remedy for told in _warnings(model=small))  # it is smaller
    monkeypatch.setattr("pipeline.train.stage._SMALLER", 1e6)
    [told] = [told for told in _warnings(model=small) if "feeds" in told.remedy]
    assert told.message.endswith("training tokens.")
    assert told.remedy.startswith("what this text feeds: python main.py train ")
    assert "--model.preset tiny" in told.remedy
    assert "--source files" in told.remedy
    chosen = _warnings(model=small | {"num_layers": 2})
    assert not any("feeds" in told.remedy for told in chosen)
