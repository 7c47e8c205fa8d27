"""llama.cpp as the engine: the same text as ours, and refusals where it would be another."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from model.generation.runner import Chunk, runner_for
from model.gpt import GPT
from pipeline.events import Event, Sample, Warned
from pipeline.inference import llama_cpp
from pipeline.options.config import LoadOptions
from tests.support.stage_runner import run_stage
from tests.support.tiny_checkpoints import byte_tokenizer, lively_model, save_step
from utils.errors import RefusedError, UsageError

RUN = Path("checkpoints/run_a")
OPTIONS = LoadOptions(engine="llamacpp")
GPT2: dict[str, Any] = {"position": "learned", "norm": "layernorm", "mlp": "gelu", "bias": True}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"num_kv_heads": 2},
    "qwen3": {"qk_norm": True, "tie_word_embeddings": True},
    "sprint": {"preset": "sprint", "zero_init": False, "tie_word_embeddings": True},
}


@pytest.fixture
def installed() -> None:
    pytest.importorskip("llama_cpp", reason="the extra cpu-fast is not installed")


def runner_of(model: GPT, **options: Any) -> llama_cpp.LlamaRunner:
    path = save_step(RUN, 1, model, byte_tokenizer())
    asked = OPTIONS.model_copy(update=options)
    runner, _ = llama_cpp.llama_runner(path, "it", asked, torch.float32)
    assert isinstance(runner, llama_cpp.LlamaRunner)
    return runner


def texts(**options: Any) -> list[list[int]]:
    chosen = {"prompt": "ab", "max_length": 40, "seed": 7} | options
    events: list[Event] = run_stage("inference", inference=chosen)
    return [event.token_ids for event in events if isinstance(event, Sample)]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("shape", SHAPES)
def test_it_writes_what_our_own_engine_writes(workspace: Path, shape: str) -> None:
    save_step(RUN, 1, lively_model(2, **SHAPES[shape]), byte_tokenizer())
    for options in ({"temperature": 0}, {"samples": 3, "temperature": 0.7}):
        assert texts(engine="llamacpp", **options) == texts(**options)


@pytest.mark.usefixtures("installed")
def test_gelu_is_near_and_its_rounding_is_told(workspace: Path) -> None:
    model = lively_model(2, **GPT2)
    path = save_step(RUN, 1, model, byte_tokenizer())
    runner, [note] = llama_cpp.llama_runner(path, "it", OPTIONS, torch.float32)
    ids = [Chunk(0, 0, list(range(1, 60)))]
    wanted, found = runner_for(model).forward(ids), runner.forward(ids)
    assert (found - wanted).norm() < 0.01 * wanted.norm()
    assert "GELU" in note


@pytest.mark.usefixtures("installed")
def test_slots_grow_rewind_and_do_not_touch_each_other(workspace: Path) -> None:
    model = lively_model(1, max_position_embeddings=600)
    theirs, ours = runner_of(model), runner_for(model)
    long = [(7 * i) % 250 for i in range(400)]
    for chunks in (
        [Chunk(0, 0, [1, 2, 3])],
        [Chunk(0, 3, [4]), Chunk(1, 0, [9, 8, 7, 6, 5])],
        [Chunk(1, 2, [3, 3]), Chunk(0, 4, [5])],  # slot 1 goes back
        [Chunk(3, 0, [11]), Chunk(1, 4, [2])],
        [Chunk(0, 5, long)],  # more positions than there was room for
        [Chunk(0, 405, [1]), Chunk(1, 5, [1]), Chunk(3, 1, [1])],
        [Chunk(0, 0, [1])],
    ):
        assert torch.allclose(theirs.forward(chunks), ours.forward(chunks), atol=2e-3)


@pytest.mark.usefixtures("installed")
def test_logits_along_a_text_are_ours_and_its_slots_know_nothing_of_it(workspace: Path) -> None:
    model = lively_model(1, max_position_embeddings=700)
    theirs, ours = runner_of(model), runner_for(model)
    begun = [Chunk(0, 0, [1, 2, 3]), Chunk(1, 0, [9])]
    assert torch.allclose(theirs.forward(begun), ours.forward(begun), atol=2e-3)
    text = [(7 * i) % 250 for i in range(700)]
    pieces = theirs.logits_along(text)
    found = [next(pieces)]
    further = [Chunk(0, 3, [4]), Chunk(1, 1, [8, 7])]
    assert torch.allclose(theirs.forward(further), ours.forward(further), atol=2e-3)
    found += pieces
    assert len(found) > 1
    expected = torch.cat(list(ours.logits_along(text)))
    assert torch.allclose(torch.cat(found), expected, atol=2e-3)
    left = theirs.logits_along(text)
    next(left)
    left.close()  # type: ignore[attr-defined]
    again = [Chunk(0, 4, [5])]
    assert torch.allclose(theirs.forward(again), ours.forward(again), atol=2e-3)


@pytest.mark.usefixtures("installed")
def test_a_text_longer_than_the_context_goes_on(workspace: Path) -> None:
    save_step(RUN, 1, lively_model(2), byte_tokenizer())
    [ids] = texts(engine="llamacpp", temperature=0, max_length=100)
    assert len(ids) == 100
    assert [ids] == texts(temperature=0, max_length=100)


@pytest.mark.usefixtures("installed")
def test_the_file_is_made_again_only_for_other_weights(workspace: Path) -> None:
    runner_of(lively_model(1))
    [file] = Path("exports").glob("*/*.gguf")
    first = file.stat().st_mtime_ns
    path = RUN / "checkpoint_step_000001"
    llama_cpp.llama_runner(path, "it", OPTIONS, torch.float32)
    assert file.stat().st_mtime_ns == first
    runner_of(lively_model(2))
    assert file.stat().st_mtime_ns != first


@pytest.mark.usefixtures("installed")
def test_int8_is_near_and_says_that_it_was_not_measured(workspace: Path) -> None:
    model = lively_model(1)
    runner = runner_of(model, quantize="int8")
    ids = [Chunk(0, 0, [5, 6, 7])]
    wanted, found = runner_for(model).forward(ids), runner.forward(ids)
    assert 0 < (found - wanted).norm() < 0.05 * wanted.norm()
    assert not runner.exact
    events = run_stage(
        "inference", inference={"prompt": "a", "engine": "llamacpp", "quantize": "int8"}
    )
    assert any("not measured" in e.message for e in events if isinstance(e, Warned))


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a model of ours alone": (GPT2 | {"embedding_norm": True}, {}, "embedding_norm"),
    "another mlp": ({"mlp": "geglu"}, {}, "geglu"),
}


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("case", REFUSED)
def test_models_that_no_file_holds_are_refused_with_the_other_engine_named(
    workspace: Path, case: str
) -> None:
    shape, options, words = REFUSED[case]
    with pytest.raises(RefusedError) as caught:
        runner_of(lively_model(**shape), **options)
    assert words in caught.value.found
    assert "--engine torch" in caught.value.remedy


@pytest.mark.parametrize(
    ("options", "words"), [({"quantize": "int4"}, "int4"), ({"device": "cuda"}, "on the CPU")]
)
def test_what_the_engine_does_not_do_is_a_usage_error(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(llama_cpp, "_library", lambda: None)
    save_step(RUN, 1, lively_model(), byte_tokenizer())
    with pytest.raises(UsageError, match=words):
        texts(engine="llamacpp", **options)


def test_without_the_package_the_command_that_installs_it_is_named(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    llama_cpp._library.cache_clear()
    save_step(RUN, 1, lively_model(), byte_tokenizer())
    with pytest.raises(UsageError, match="llama-cpp-python") as caught:
        texts(engine="llamacpp")
    assert 'pip install -e ".[cpu-fast]"' in caught.value.remedy


def test_an_engine_that_chooses_otherwise_is_refused() -> None:
    ours = runner_for(lively_model(1))
    llama_cpp.compare(runner_for(lively_model(1)), ours, "it")
    with pytest.raises(RefusedError, match="computes it differently") as caught:
        llama_cpp.compare(runner_for(lively_model(2)), ours, "it")
    assert "it chooses" in caught.value.found
