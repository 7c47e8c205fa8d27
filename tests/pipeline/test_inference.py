"""Generation: what a checkpoint writes, streams and measures, and what is refused."""

import inspect
import json
import os
import re
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from model.generation.runner import runner_for
from model.generation.sampling import SamplingSettings
from model.gpt import GPT
from model.language_model import LanguageModel, generate
from pipeline.events import Delta, Event, Sample, Started, Warned
from pipeline.inference.writer import Writer
from pipeline.options.config import InferenceOptions
from pipeline.runs import inventory
from pipeline.server.http.page import page_text
from tests.conftest import ROOT
from tests.support.stage_runner import finished, run_stage
from tests.support.tiny_checkpoints import (
    byte_tokenizer,
    following_model,
    lively_model,
    save_step,
    two_runs,
)
from tests.support.token_sets import save_tokenizer
from utils.errors import HatcheryError, RefusedError, UsageError

CHECKPOINTS = Path("checkpoints")
NEW = "run_2026_01_02_10_00"


@pytest.fixture
def house(workspace: Path) -> Path:
    """A working directory with two runs."""
    two_runs([lively_model(seed) for seed in (1, 2, 3)])
    return workspace


def infer(**options: Any) -> list[Event]:
    return run_stage("inference", inference={"prompt": "ab", "max_length": 12, "seed": 7} | options)


def samples(events: list[Event]) -> list[Sample]:
    return [event for event in events if isinstance(event, Sample)]


def streamed(events: list[Event], sample: Sample) -> str:
    key = (sample.source, sample.index)
    pieces = [e.text for e in events if isinstance(e, Delta) and (e.source, e.index) == key]
    return "".join(pieces)


def prompt_ids(text: str) -> list[int]:
    return [256, *byte_tokenizer().encode(text)]


def best_model() -> LanguageModel:
    return lively_model(2)


def test_the_defaults_of_sampling_are_the_models() -> None:
    options, settings = InferenceOptions(), SamplingSettings()
    asked = inspect.signature(LanguageModel.generate).parameters
    for name in ("temperature", "top_k", "top_p", "repetition_penalty"):
        assert getattr(options, name) == getattr(settings, name)
        assert name not in asked or asked[name].default == getattr(settings, name)
    assert (options.min_p or None, options.seed) == (settings.min_p, settings.seed)
    assert options.max_length == asked["max_length"].default
    form = dict(re.findall(r'type="number" name="(\w+)" value="([^"]*)"', page_text()))
    assert float(form.pop("max_tokens")) == options.max_length
    assert {name: float(value) for name, value in form.items()} == {
        name: getattr(options, name)
        for name in ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")
    }


@pytest.mark.slow
def test_greedy_text_is_what_the_model_itself_generates(house: Path) -> None:
    events = infer(temperature=0)
    [sample] = samples(events)
    prompt = prompt_ids("ab")
    [expected] = best_model().generate(prompt, max_length=len(prompt) + 12, temperature=0)
    assert sample.token_ids == expected[len(prompt) :]
    assert sample.source == f"{NEW} step 10"
    assert "seed" not in sample.statistics


@pytest.mark.slow
def test_the_pieces_add_up_to_the_text_of_the_ids(house: Path) -> None:
    events = infer(samples=3, max_length=40)
    for sample in samples(events):
        assert streamed(events, sample) == sample.text
        assert sample.text == byte_tokenizer().decode(sample.token_ids)
    first = [e for e in events if isinstance(e, Delta)][:3]
    assert [(e.index, e.text, e.prompt) for e in first] == [(i, "", "ab") for i in range(3)]


def test_half_a_character_is_never_streamed(workspace: Path) -> None:
    text = "né北🙂"
    spelled = prompt_ids(f"a{text}")[1:]
    model = following_model(dict(pairwise([*spelled, 257])), other=257)
    writer = Writer("says", runner_for(model), byte_tokenizer())
    options = InferenceOptions(temperature=0, max_length=20)
    events = list(writer.write("a", options, seed=0, stop=threading.Event()))
    assert [e.text for e in events if isinstance(e, Delta)] == ["", *text]
    [sample] = samples(events)
    assert (sample.text, sample.statistics["finish"]) == (text, "stop")
    assert sample.token_ids[-1] == 257


def test_the_same_seed_gives_the_same_texts_and_samples_do_not_touch_each_other(
    house: Path,
) -> None:
    three, again = samples(infer(samples=3)), samples(infer(samples=3))
    assert [s.token_ids for s in three] == [s.token_ids for s in again]
    assert len({tuple(s.token_ids) for s in three}) == 3
    [alone] = samples(infer(seed=8))  # sample 1 of seed 7
    assert alone.token_ids == sorted(three, key=lambda s: s.index)[1].token_ids


def test_a_text_without_a_seed_can_be_written_again_by_the_seed_it_reports(house: Path) -> None:
    [first], [other] = samples(infer(seed=None)), samples(infer(seed=None))
    assert first.token_ids != other.token_ids
    [again] = samples(infer(seed=int(str(first.statistics["seed"]))))
    assert again.token_ids == first.token_ids


def test_several_checkpoints_continue_one_prompt_and_are_compared(house: Path) -> None:
    events = infer(checkpoint=["old", NEW], samples=2)
    assert isinstance(events[0], Started)
    assert events[0].total == 4
    assert "memory" in events[0].title
    names = ["run_2026_01_01_10_00_old step 5", f"{NEW} step 10"]
    assert {s.source for s in samples(events)} == set(names)
    summary = finished(events).summary
    assert set(summary) == {"fastest", "most_tokens", "highest_speed", "texts"}
    assert any(summary["fastest"].startswith(name) for name in names)
    [alone] = [s for s in samples(infer(checkpoint=["old"])) if s.index == 0]
    first = next(s for s in samples(events) if s.index == 0)
    assert alone.token_ids == first.token_ids


def test_the_same_checkpoint_twice_is_one(house: Path) -> None:
    twice = [f"checkpoints/{NEW}/checkpoint_best", f"checkpoints/{NEW}/checkpoint_step_000010"]
    assert len(samples(infer(checkpoint=twice))) == 1


def test_statistics_say_what_was_measured(house: Path) -> None:
    [sample] = samples(infer(temperature=0))
    facts = sample.statistics
    assert (facts["new_tokens"], facts["prompt_tokens"], facts["finish"]) == (12, 3, "length")
    ids = torch.tensor([[*prompt_ids("ab"), *sample.token_ids]])
    with torch.no_grad():
        logits = best_model()(ids)["logits"]
    assert logits is not None
    loss = torch.nn.functional.cross_entropy(logits[0, 2:-1], ids[0, 3:])
    assert facts["perplexity"] == pytest.approx(loss.exp().item(), rel=1e-3)


def test_speed_is_that_of_the_model_not_of_its_reader(workspace: Path) -> None:
    ticks = iter(range(1000))
    writer = Writer("m", runner_for(lively_model()), byte_tokenizer())
    options = InferenceOptions(max_length=4)
    events = list(
        writer.write("a", options, seed=0, stop=threading.Event(), clock=lambda: next(ticks))
    )
    facts = samples(events)[0].statistics
    assert (facts["seconds"], facts["tokens_per_second"], facts["first_token_ms"]) == (4, 1, 1000)


def test_a_stop_keeps_what_was_written(house: Path) -> None:
    events = run_stage(
        "inference",
        inference={"prompt": "ab", "max_length": 60, "temperature": 0, "samples": 2},
        stop_when=lambda event: isinstance(event, Delta) and bool(event.text),
    )
    assert finished(events).stopped
    assert [s.statistics["finish"] for s in samples(events)] == ["interrupted", "interrupted"]
    assert all(0 < len(s.token_ids) < 60 for s in samples(events))
    assert [streamed(events, s) for s in samples(events)] == [s.text for s in samples(events)]


def test_an_empty_prompt_begins_a_document(house: Path) -> None:
    [sample] = samples(infer(prompt="", temperature=0))
    [expected] = best_model().generate([256], max_length=13, temperature=0)
    assert sample.token_ids == expected[1:]


def test_a_prompt_too_long_keeps_its_end_and_says_so(house: Path) -> None:
    events = infer(prompt="x" * 100 + "ab", temperature=0, max_length=8)
    [warned] = [e for e in events if isinstance(e, Warned)]
    assert "first 47" in warned.message  # 103 tokens with BOS, 64 - 8 fit
    [sample] = samples(events)
    kept = prompt_ids("x" * 54 + "ab")[1:]
    [expected] = best_model().generate(kept, max_length=64, temperature=0)
    assert sample.token_ids == expected[56:]


def test_a_text_longer_than_the_context_goes_on_with_its_newer_half_in_sight(house: Path) -> None:
    events = infer(temperature=0, max_length=100)
    [sample] = samples(events)
    ids = [*prompt_ids("ab"), *sample.token_ids]
    assert len(sample.token_ids) == 100
    assert any("64 tokens at once" in e.message for e in events if isinstance(e, Warned))
    model = best_model()
    for first in (65, 98):  # the rows read anew when position 64 was needed, then one later
        seen = ids[33:first] if first < 98 else ids[66:first]
        [expected] = model.generate(seen, max_length=len(seen) + 1, temperature=0)
        assert expected[-1] == ids[first]


def test_sliding_rows_do_not_touch_each_other() -> None:
    model = lively_model(4)
    settings = SamplingSettings(max_new_tokens=150, temperature=0, slide=True)
    together = generate(model, [[1, 2, 3], [5] * 40], settings)
    assert together == [generate(model, [row], settings)[0] for row in ([1, 2, 3], [5] * 40)]
    assert [len(row) for row in together] == [153, 182]


def test_ids_that_the_tokenizer_does_not_have_are_never_drawn() -> None:
    settings = SamplingSettings(max_new_tokens=50, temperature=50, top_k=None, vocabulary=5, seed=1)
    [ids] = generate(lively_model(), [[1]], settings)
    assert max(ids) < 5


def test_a_padded_model_writes_with_its_tokenizer(workspace: Path) -> None:
    save_step(CHECKPOINTS / "run_a", 1, lively_model(vocab_size=320), byte_tokenizer())
    [sample] = samples(infer(temperature=30, top_k=0, top_p=1.0, max_length=60))
    assert max(sample.token_ids) < 258


def test_a_prompt_file_loses_its_last_line_break_only(house: Path) -> None:
    Path("p.txt").write_bytes(b"\xef\xbb\xbfone\n\ntwo\r\n")
    [sample] = samples(infer(prompt="FILE:p.txt"))
    assert sample.prompt == "one\n\ntwo"


def _old_layouts(model: GPT) -> None:
    tensors = model.state_dict()
    config = model.config.model_dump(mode="json", exclude_none=True)
    wrapped = {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()}
    (CHECKPOINTS / "run_old").mkdir(parents=True)
    torch.save({"model": wrapped, "config": config}, CHECKPOINTS / "run_old/checkpoint_best.pt")
    torch.save({"model": tensors, "config": config}, CHECKPOINTS / "run_old/checkpoint_latest.pt")
    torch.save({"model": tensors, "config": config}, CHECKPOINTS / "flat_step_7.pt")
    (CHECKPOINTS / "checkpoint_step_500").mkdir()
    torch.save(tensors, CHECKPOINTS / "checkpoint_step_500/model.pt")
    (CHECKPOINTS / "checkpoint_step_500/config.json").write_text(json.dumps(config))


def test_old_files_are_found_and_write_the_same_text(workspace: Path) -> None:
    model = lively_model(2)
    _old_layouts(model)
    byte_tokenizer()
    runs = inventory.list_runs(CHECKPOINTS)
    assert [run.name for run in runs] == ["run_old", inventory.LOOSE]
    assert runs[0].default.best
    assert [c.latest for c in runs[0].checkpoints].count(True) == 1
    assert {c.step for c in runs[1].checkpoints} == {7, 500}
    [expected] = model.generate(prompt_ids("ab"), max_length=15, temperature=0)
    for where in ("run_old", "checkpoints/flat_step_7.pt", "checkpoints/checkpoint_step_500"):
        [sample] = samples(infer(checkpoint=[where], tokenizer="bytes", temperature=0))
        assert sample.token_ids == expected[3:], where


def test_a_plain_hugging_face_folder_writes(house: Path) -> None:
    folder = Path(f"checkpoints/{NEW}/checkpoint_step_000010")
    Path("plain").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (Path("plain") / name).write_bytes((folder / name).read_bytes())
    [sample] = samples(infer(checkpoint=["plain"], temperature=0))
    [ours] = samples(infer(temperature=0))
    assert (sample.source, sample.token_ids) == ("plain", ours.token_ids)


def test_links_and_corrupt_folders_are_no_choices_of_their_own(house: Path) -> None:
    run = CHECKPOINTS / NEW
    (run / "checkpoint_step_000020").rename(run / "checkpoint_step_000020.corrupt")
    [found] = [r for r in inventory.list_runs(CHECKPOINTS) if r.name == NEW]
    assert [(c.name, c.best, c.latest, c.val_loss) for c in found.checkpoints] == [
        ("step 10", True, False, 3.25)
    ]


REFUSED: dict[str, tuple[dict[str, Any], type[HatcheryError], str]] = {
    "no prompt": ({"prompt": None}, UsageError, "no prompt"),
    "no such file": ({"prompt": "FILE:nowhere"}, UsageError, "nowhere cannot be read"),
    "a folder": ({"prompt": "FILE:checkpoints"}, UsageError, "cannot be read"),
    "empty file": ({"prompt": "FILE:empty"}, UsageError, "no prompt in empty"),
    "not UTF-8": ({"prompt": "FILE:latin1"}, UsageError, "not UTF-8"),
    "unknown run": ({"checkpoint": ["nobody"]}, UsageError, "no checkpoint or run nobody"),
    "empty folder": ({"checkpoint": ["void"]}, UsageError, "void holds no checkpoint"),
    "not a checkpoint": ({"checkpoint": ["empty"]}, UsageError, "empty holds no checkpoint"),
    "no such device": ({"device": "mps"}, UsageError, "mps"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_named(house: Path, case: str) -> None:
    Path("empty").write_bytes(b"\n")
    Path("latin1").write_bytes(b"caf\xe9")
    Path("void").mkdir()
    options, kind, words = REFUSED[case]
    with pytest.raises(kind) as caught:
        infer(**options)
    assert words in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize(
    "options", [{"temperature": -1}, {"temperature": float("inf")}, {"top_p": 0}, {"samples": 0}]
)
def test_absurd_settings_are_refused(house: Path, options: dict[str, Any]) -> None:
    with pytest.raises((UsageError, ValueError)):
        infer(**options)


def test_without_any_run_the_next_command_is_named(workspace: Path) -> None:
    with pytest.raises(UsageError, match="no trained model") as caught:
        infer()
    assert "python main.py" in caught.value.remedy


def test_a_damaged_checkpoint_is_refused_by_name(house: Path) -> None:
    weights = CHECKPOINTS / NEW / "checkpoint_step_000010/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    with pytest.raises(RefusedError, match="damaged"):
        infer()


def test_a_checkpoint_without_tokenizer_asks_for_one(workspace: Path) -> None:
    save_step(CHECKPOINTS / "run_a", 1, lively_model())
    with pytest.raises(UsageError, match="no tokenizer") as caught:
        infer()
    assert "--tokenizer" in caught.value.remedy
    byte_tokenizer()
    assert samples(infer(tokenizer="bytes"))


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(workspace: Path) -> None:
    save_step(CHECKPOINTS / "run_a", 1, lively_model())
    save_tokenizer("large", [("a", "b")])
    with pytest.raises(RefusedError, match="do not belong together") as caught:
        infer(tokenizer="large")
    assert "259" in caught.value.found
    assert "258" in caught.value.found


def test_weights_that_compute_nan_are_refused(workspace: Path) -> None:
    model = lively_model()
    with torch.no_grad():
        model.norm.weight.fill_(float("nan"))  # type: ignore[union-attr]
    save_step(CHECKPOINTS / "run_a", 1, model, byte_tokenizer())
    with pytest.raises(HatcheryError, match="computes NaN"):
        infer()


def command(*arguments: str, **more: Any) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, str(ROOT / "main.py"), "inference", "--max-length", "5", *arguments]
    return subprocess.run(
        line, capture_output=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"}, **more
    )


@pytest.mark.slow
def test_json_prints_text_ids_and_statistics(house: Path) -> None:
    done = command("--prompt", "ab", "--temperature", "0", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0
    [text] = events[-1]["summary"]["texts"]
    [expected] = best_model().generate(prompt_ids("ab"), max_length=8, temperature=0)
    assert text["token_ids"] == expected[3:]
    assert text["text"] == byte_tokenizer().decode(expected[3:])
    assert text["statistics"]["new_tokens"] == 5


@pytest.mark.slow
def test_a_piped_prompt_is_continued_on_standard_output(house: Path) -> None:
    done = command("--temperature", "0", input="ü\tb\n".encode())
    [sample] = samples(infer(prompt="ü\tb", temperature=0, max_length=5))
    assert done.returncode == 0
    assert done.stdout.decode().startswith("ü\tb")
    assert b"5 tokens in" in done.stderr
    assert b"5 tokens in" not in done.stdout
    assert sample.text[:1] in done.stdout.decode() or not sample.text.isprintable()


@pytest.mark.slow
def test_no_prompt_at_all_is_a_usage_error(house: Path) -> None:
    done = command(stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert b"no prompt in standard input" in done.stderr


@pytest.mark.slow
def test_a_prompt_that_is_not_text_is_a_usage_error(house: Path) -> None:
    done = command("--prompt", os.fsdecode(b"caf\xe9"))
    assert done.returncode == 2
    assert b"not valid UTF-8" in done.stderr


@pytest.mark.parametrize("text", [r"\n", r"\t", r"a\nb", r"\r", r"\n\n"])
def test_a_stop_that_looks_like_a_line_break_and_is_none_is_told(house: Path, text: str) -> None:
    told = [e for e in infer(stop=[text]) if isinstance(e, Warned) and "backslash" in e.message]
    assert len(told) == 1
    assert "$'" in told[0].remedy


@pytest.mark.parametrize("text", ["\n", "n", "\\", "User:", "/n"])
def test_any_other_stop_is_not_talked_about(house: Path, text: str) -> None:
    assert not [e for e in infer(stop=[text]) if isinstance(e, Warned) and "backslash" in e.message]


def test_where_runs_were_looked_for_is_told_in_full(workspace: Path) -> None:
    with pytest.raises(UsageError) as told:
        infer(checkpoint=["first"])
    assert told.value.found == f"no runs in {workspace / 'checkpoints'}"
    assert "--paths.checkpoints-dir" in told.value.remedy
