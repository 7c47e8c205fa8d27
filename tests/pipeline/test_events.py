"""Events go to JSON and back with nothing lost, whatever they hold."""

import json
import math
import struct
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.events import (
    Delta,
    Example,
    Failed,
    Finished,
    Metric,
    Progress,
    Rejected,
    Sample,
    Saved,
    ServerReady,
    Started,
    Warned,
    from_json,
    to_json,
)

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(st.dictionaries(st.text(max_size=8), FINITE, max_size=5), FINITE)
def test_floats_keep_every_bit(values: dict[str, float], time: float) -> None:
    back = from_json(to_json(Metric(step=1, values=values, time=time)))
    assert isinstance(back, Metric)
    bits = [struct.pack("<d", v or 0.0) for v in values.values()]
    assert [struct.pack("<d", v or 0.0) for v in back.values.values()] == bits
    assert struct.pack("<d", back.time) == struct.pack("<d", time)


@given(st.text(), st.text())
def test_any_text_makes_one_line_that_comes_back(text: str, prompt: str) -> None:
    line = to_json(Sample(text=text, prompt=prompt, token_ids=[0, 65535]))
    assert b"\n" not in line
    back = from_json(line)
    assert isinstance(back, Sample)
    assert (back.text, back.prompt) == (text, prompt)


@pytest.mark.parametrize(
    "event",
    [
        Started(stage="train", title="Train", total=3, unit="steps"),
        Progress(done=1, figures={"speed": "2 MB/s"}),
        Metric(step=2, values={"loss": 0.1}),
        Sample(text="a", step=3, statistics={"seconds": 0.5, "finish": "stop"}),
        Delta(text="a", source="b", index=1),
        Rejected("stub", "a.jsonl:3", "two words"),
        Example("labels", "faq.md:0", "Why?", "Because."),
        Saved("run", "checkpoints/x", {"bytes": 3}),
        Warned("careful", "do this"),
        Finished({"loss": 0.25, "nested": {"a": [1, None]}}, "out", stopped=True),
        ServerReady("http://127.0.0.1:1", "key"),
        Failed("broken", "a", "b", 3),
    ],
    ids=lambda event: type(event).__name__,
)
def test_every_kind_of_event_comes_back_equal(event: Progress) -> None:
    assert from_json(to_json(event)) == event


def test_a_server_is_named_in_saved_events_as_it_was_from_the_beginning() -> None:
    line = b'{"event":"listening","time":1.5,"url":"http://127.0.0.1:8000","token":null}'
    event = from_json(line)
    assert event == ServerReady("http://127.0.0.1:8000", time=1.5)
    assert json.loads(to_json(event)) == json.loads(line)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ({"step": 1, "values": {"loss": 2.0}}, "train"),
        ({"step": 1, "values": {"bits_per_byte": 1.0, "val_loss": 2.0}}, "validation"),
        ({"values": {"val_loss": None}, "step": 1}, "validation"),
        ({"kind": "validation", "values": {"accuracy": 0.5}, "step": 1}, "validation"),
        ({"step": 1, "values": {"loss": 2.0}, "kind": "train"}, "train"),
    ],
)
def test_a_metric_says_its_kind_also_where_an_older_version_wrote_none(
    line: dict[str, object], kind: str
) -> None:
    metric = from_json(json.dumps(line | {"time": 5.0, "event": "metric"}))
    assert isinstance(metric, Metric)
    assert metric.kind == kind
    assert from_json(to_json(metric)) == metric


def test_the_start_of_a_training_by_an_older_version_names_no_run() -> None:
    line = {"event": "started", "time": 5.0, "stage": "train", "title": "Train run_a", "total": 3}
    started = from_json(json.dumps(line))
    assert isinstance(started, Started)
    assert started.run == ""


def test_what_is_not_finite_becomes_null() -> None:
    back = from_json(to_json(Metric(1, {"nan": math.nan, "inf": math.inf})))
    assert isinstance(back, Metric)
    assert back.values == {"nan": None, "inf": None}
    sample = from_json(to_json(Sample("a", statistics={"perplexity": math.inf})))
    assert isinstance(sample, Sample)
    assert sample.statistics == {"perplexity": None}


def test_paths_numpy_numbers_and_broken_names_are_understood() -> None:
    facts = {"path": Path("a/b"), "loss": np.float32(0.5), "steps": np.int64(3), "name": "a\udcff"}
    back = from_json(to_json(Saved("run", "x\ud800", facts)))
    assert isinstance(back, Saved)
    assert back.path == "x\ufffd"
    assert back.facts == {"path": "a/b", "loss": 0.5, "steps": 3, "name": "a\ufffd"}


def test_a_foreign_object_is_our_mistake() -> None:
    with pytest.raises(TypeError, match="object"):
        to_json(Saved("run", "x", {"thing": object()}))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b'{"event":"teleported"}',
        b"[1]",
        b'{"event":',
        b'{"event":"warned","message":"\xff"}',
    ],
)
def test_lines_of_a_newer_version_or_torn_ones_are_named_errors(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        from_json(line)
