"""The bench stage: what it counts, what it reports, what it says of a busy machine."""

import os
from pathlib import Path
from typing import Any

import pytest

from model.config import ModelConfig, flops_per_token, matrix_parameters
from pipeline.benchmark.speed.roofline import (
    Ceilings,
    Work,
    decode_work,
    most_tokens_per_second,
    prefill_work,
    row,
    training_work,
)
from pipeline.events import Event, Warned
from tests.support.stage_runner import finished, run_stage
from tests.support.tiny_checkpoints import lively_model, save_step

SHAPE = ModelConfig(vocab_size=100, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2)
SMALL: dict[str, Any] = {"seconds": 0.001, "prompt": 8, "texts": 3, "batch_size": 2, "window": 16}
MODEL = {"vocab_size": 64, "hidden_size": 32, "num_layers": 1, "num_heads": 2, "num_kv_heads": 2}


def test_reading_a_prompt_is_a_third_of_training_on_it_but_for_the_head() -> None:
    work = prefill_work(SHAPE, 50, 1000)
    head = 2 * SHAPE.vocab_size * SHAPE.hidden_size
    assert work.tokens == 50
    assert work.flops + 49 * head == 50 * flops_per_token(SHAPE, 50) / 3
    assert work.bytes == 1000


def test_writing_reads_all_weights_once_and_the_cache_of_every_text() -> None:
    one, many = (decode_work(SHAPE, texts, 50, 1000, 4) for texts in (1, 8))
    cache = 2 * 2 * 2 * 8 * 50 * 4  # keys and values, layers, heads, channels, tokens, bytes
    assert (one.bytes, many.bytes) == (1000 + cache, 1000 + 8 * cache)
    assert many.flops == 8 * one.flops
    assert one.flops > 2 * matrix_parameters(SHAPE)


def test_the_slower_of_arithmetic_and_memory_is_the_ceiling() -> None:
    ceilings = Ceilings(flops=1000, bytes=100)
    assert most_tokens_per_second(Work(2, 500, 10), ceilings) == 4
    assert most_tokens_per_second(Work(2, 500, 100), ceilings) == 2
    assert training_work(SHAPE, 2, 8) == (16, 16 * flops_per_token(SHAPE, 8), 0)


def test_a_row_says_the_median_its_range_and_its_share() -> None:
    found = row("write", "fp32", Work(10, 0.1, 1), [0.1, 0.05, 0.2], Ceilings(1, 40))
    assert found == {
        "tokens_per_second": "write",
        "in": "fp32",
        "median": 100,
        "low": 50,
        "high": 200,
        "ceiling": 100,
        "percent": 100.0,
        "limit": "arithmetic",
    }


@pytest.fixture
def ceiling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.device.measured_matmul_ceiling", lambda *_: 1e15)


def bench(**options: Any) -> list[Event]:
    return run_stage("bench", bench=SMALL | options, model=MODEL)


@pytest.mark.slow
@pytest.mark.usefixtures("ceiling")
def test_reading_writing_and_training_are_measured(workspace: Path) -> None:
    summary = finished(bench()).summary
    assert next(iter(summary)) == "results"
    rows = summary["results"]
    names = ["read 8", "write 1 at once", "write 3 at once", "train 2 x 16"]
    assert [r["tokens_per_second"] for r in rows] == names
    assert all(0 < r["low"] <= r["median"] <= r["high"] for r in rows)
    assert all(r["ceiling"] > 0 for r in rows)
    assert "random weights" in summary["model"]
    assert summary["matmul_gflop_per_s_fp32"] == 1e6


@pytest.mark.slow
@pytest.mark.usefixtures("ceiling")
@pytest.mark.parametrize("quantize", ["int8", "int4"])
def test_a_checkpoint_is_measured_in_the_form_asked_for(workspace: Path, quantize: str) -> None:
    save_step(Path("checkpoints/run_a"), 1, lively_model())
    summary = finished(bench(checkpoint="run_a", quantize=quantize, texts=1)).summary
    assert [r["in"] for r in summary["results"]][:2] == [quantize, quantize]
    assert len(summary["results"]) == 3
    assert summary["model"].startswith("run_a step 1")


@pytest.mark.slow
@pytest.mark.usefixtures("ceiling")
def test_a_prompt_and_a_window_beyond_the_context_are_cut(workspace: Path) -> None:
    save_step(Path("checkpoints/run_a"), 1, lively_model(max_position_embeddings=12))
    rows = finished(bench(checkpoint="run_a", prompt=99, window=99)).summary["results"]
    assert (rows[0]["tokens_per_second"], rows[-1]["tokens_per_second"]) == (
        "read 11",
        "train 2 x 12",
    )


@pytest.mark.slow
def test_a_slow_machine_trains_on_fewer_windows(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.device.measured_matmul_ceiling", lambda *_: 1e6)
    rows = finished(bench(batch_size=64)).summary["results"]
    assert rows[-1]["tokens_per_second"] == "train 1 x 16"


@pytest.mark.slow
@pytest.mark.usefixtures("ceiling")
def test_a_busy_machine_is_told_of(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (64.0, 0.0, 0.0))
    assert any("load 64.0" in e.message for e in bench() if isinstance(e, Warned))


@pytest.mark.usefixtures("ceiling")
def test_a_stop_ends_it_with_what_is_known(workspace: Path) -> None:
    events = run_stage("bench", bench=SMALL, model=MODEL, stop_when=lambda e: True)
    assert finished(events).stopped
    assert finished(events).summary["results"] == []
