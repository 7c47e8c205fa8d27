"""The C engine computes what the model computes, to the bit whatever stands beside a text; and
without it torch computes the same.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from model.generation.batch import BatchScheduler
from model.generation.runner import Chunk, NativeRunner, TorchRunner, native_decoder, runner_for
from model.generation.sampling import argmax_logsumexp
from model.gpt import GPT
from model.layers.cache import KeyValueCache
from model.quantization.layers import Int4Linear, Int8Linear
from model.quantization.model import QuantizedGPT
from tests.conftest import ROOT
from tests.model.test_sampler import FORMS, KINDS, PROMPTS, greedy, in_form, lively, naive_greedy

if TYPE_CHECKING:
    from model.native.decoder import NativeDecoder

build = pytest.importorskip("model.native.build", reason="model/native was deleted")
threads = pytest.importorskip("model.native.threads", reason="model/native was deleted")

# What a program without the engine writes and scores, in every number format.
_WITHOUT = """
import json, sys
# An editable installation would find the folder in the source tree.
sys.meta_path = [f for f in sys.meta_path if not f.__module__.startswith("__editable__")]
import torch
from model.generation import runner, scoring
from model.language_model import create_model, generate
from model.generation.settings import SamplingSettings
from model.quantization.model import QuantizedGPT
import pipeline.inference.stage, pipeline.server.engine.worker, pipeline.train.session

shape = json.loads(sys.argv[1])
torch.manual_seed(0)
model = create_model(shape).eval()
small = QuantizedGPT(model.config, dict(model.state_dict()), "int8", model.device, model.dtype)
native = [name for name in sys.modules if name.startswith("model.native")]
chosen = type(runner.runner_for(model)).__name__
texts = [generate(each, [[1, 2, 3]], SamplingSettings(temperature=0, max_new_tokens=12))
         for each in (model, small)]
pieces = runner.runner_for(model).logits_along(texts[0][0][:-1])
scores = [one.logprob for piece in scoring.score(pieces, texts[0][0], 53, 2) for one in piece]
print(json.dumps([native, chosen, texts, scores]))
"""

SHAPES: dict[str, dict[str, Any]] = KINDS | {
    "odd sizes": {"hidden_size": 36, "head_dim": 10, "vocab_size": 51, "norm_gain": False},
    "all extras": {"mlp": "geglu", "embedding_norm": True, "logit_scale": 0.3, "bias": True},
    "tied": {"tie_word_embeddings": True, "mlp": "relu2", "hidden_size": 128},
    "reglu": {"mlp": "reglu", "num_kv_heads": 1, "rope_scaling": {"kind": "linear", "factor": 2}},
}


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def decoder(model: GPT) -> "NativeDecoder":
    found = native_decoder(model)
    if found is None:
        pytest.skip("no C compiler here")
    return found


def written(model: GPT, step: "NativeDecoder", ids: torch.Tensor) -> torch.Tensor:
    """Logits after the last of ids (B, T), which a cache took in one by one."""
    cache = KeyValueCache(model.config, len(ids), 40, device=model.device, dtype=model.dtype)
    rows = range(len(ids))
    for position, column in enumerate(ids.T.tolist()):
        logits = step.step(cache, rows, [[i] for i in column], [position] * len(ids))
    return logits


@pytest.mark.parametrize("rows", [1, 3, 9])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_step_in_c_computes_what_the_model_computes(shape: str, rows: int) -> None:
    model = lively(**SHAPES[shape])
    for parameter in model.parameters():
        if parameter.dim() == 1:  # gains and biases that are not ones and zeros
            parameter += 0.3 * torch.randn_like(parameter)
    ids = torch.randint(0, 51, (rows, 13))
    expected = model(ids)["logits"][:, -1]
    found = written(model, decoder(model), ids)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_in_bfloat16_it_is_as_exact_as_the_model(shape: str) -> None:
    exact = lively(**SHAPES[shape], initializer_range=0.2)
    model = lively(**SHAPES[shape], initializer_range=0.2).to(torch.bfloat16)
    exact.load_state_dict(model.state_dict())
    ids = torch.randint(0, 51, (4, 13))
    expected = exact(ids)["logits"][:, -1]
    error = (written(model, decoder(model), ids) - expected).abs().max()
    torchs = (model(ids)["logits"][:, -1] - expected).abs().max()
    assert error < 1.5 * torchs + 1e-3


@pytest.mark.parametrize("tied", [True, False])
def test_with_int8_weights_it_is_more_exact_than_torchs_kernel(tied: bool) -> None:
    model = lively(tie_word_embeddings=tied, bias=True, hidden_size=64)
    small = QuantizedGPT(model.config, dict(model.state_dict()), "int8", model.device, model.dtype)
    ids = torch.randint(0, 53, (3, 13))
    torchs = small(ids)["logits"][:, -1]
    matrices = [*small.modules(), small.scores]
    for module in (m for m in matrices if isinstance(m, Int8Linear)):
        module.fast = module._half = False  # exactly, where torch's kernel rounds its inputs
    expected = small(ids)["logits"][:, -1]
    error = (written(small, decoder(small), ids) - expected).abs().max()
    assert error < 0.1 * (torchs - expected).abs().max()


def test_int4_weights_are_read_as_they_are() -> None:
    model = lively(bias=True, hidden_size=96, intermediate_size=544, initializer_range=0.1)
    small = in_form("int4", model)
    assert any(isinstance(module, Int4Linear) for module in small.modules())
    for module in small.modules():
        if isinstance(module, Int8Linear):
            module.fast = module._half = False
    ids = torch.randint(0, 53, (5, 13))
    expected = small(ids)["logits"][:, -1]
    found = written(small, decoder(small), ids)
    assert (found - expected).abs().max() < 2e-3 * expected.abs().max()


@pytest.mark.parametrize("form", FORMS)
def test_neighbours_and_threads_change_no_bit(form: str) -> None:
    model = in_form(form)
    step = decoder(model)
    ids = torch.randint(0, 53, (11, 6))
    cache = KeyValueCache(model.config, 11, 40, device=model.device, dtype=model.dtype)
    for position, column in enumerate(ids.T.tolist()):
        rows = [[i] for i in column]
        together = step.step(cache, range(11), rows, [position] * 11, threads=2)
    for row in range(11):
        assert torch.equal(written(model, step, ids[row : row + 1])[0], together[row])


@pytest.mark.parametrize("form", FORMS)
def test_pieces_of_any_length_in_any_place_change_no_bit(form: str) -> None:
    model = in_form(form)
    step = decoder(model)
    ids = torch.randint(0, 53, (3, 21)).tolist()
    cache = KeyValueCache(model.config, 5, 40, device=model.device, dtype=model.dtype)
    step.step(cache, [3, 0, 4], [ids[0][:1], ids[1][:13], ids[2][:4]], [0, 0, 0])
    found = step.step(cache, [4, 3, 0], [ids[2][4:], ids[0][1:], ids[1][13:]], [4, 1, 13])
    for row, place in enumerate((1, 2, 0)):
        assert torch.equal(written(model, step, torch.tensor(ids[row : row + 1]))[0], found[place])


def test_long_chunks_are_read_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(max_position_embeddings=64)
    runner = NativeRunner(model, decoder(model))
    ids = torch.randint(0, 53, (3, 50)).tolist()
    chunks = [Chunk(slot, 0, row[: 10 * slot + 30]) for slot, row in enumerate(ids)]
    whole = runner.forward(chunks)
    monkeypatch.setattr("model.generation.runner._PORTION", 17)
    assert torch.equal(NativeRunner(model, decoder(model)).forward(chunks), whole)
    torch.testing.assert_close(whole, TorchRunner(model).forward(chunks), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="65 positions in a context of 64"):
        runner.forward([Chunk(0, 60, [1, 2, 3, 4, 5])])


@pytest.mark.parametrize("form", FORMS)
def test_nan_stays_nan(form: str) -> None:
    model = in_form(form)
    model.blocks[0].mlp_norm.weight[3] = float("nan")
    assert written(model, decoder(model), torch.tensor([[1, 2]])).isnan().all()


def test_without_a_compiler_torch_computes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    monkeypatch.setattr("model.native.decoder.load", build.load.__wrapped__)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    model = lively()
    assert native_decoder(model) is None
    batch = BatchScheduler(runner_for(model), 1)
    batch.join(PROMPTS[0], greedy(max_new_tokens=5))
    ids = [token.id for _ in range(5) for token in batch.step()]
    assert ids == naive_greedy(model, PROMPTS[0], 5)[3:]


def test_what_was_compiled_is_kept_and_used_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = tmp_path / "answer.c"
    source.write_text("int answer(void) { return 42; }\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = build.load.__wrapped__(source)
    if first is None:
        pytest.skip("no C compiler here")
    assert first.answer() == 42
    [kept] = (tmp_path / "cache/hatchery").iterdir()
    assert kept.suffix == ".so"
    monkeypatch.setattr(build, "_compile", lambda source, target: False)
    again = build.load.__wrapped__(source)
    assert again is not None
    assert again.answer() == 42


def test_a_cache_folder_that_cannot_be_written_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    source = tmp_path / "answer.c"
    source.write_text("int answer(void) { return 42; }\n")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    library = build.load.__wrapped__(source)
    if library is None:
        pytest.skip("no C compiler here")
    assert library.answer() == 42


def chosen(times: dict[int, float], steps: int) -> list[int]:
    """The numbers of threads that are chosen where a step with n of them takes times[n]."""
    choice = threads.ThreadChoice(list(times))
    result = []
    for _ in range(steps):
        result.append(choice.threads)
        choice.record(times[choice.threads])
    return result


@pytest.mark.parametrize("best", [1, 2, 4])
def test_the_number_of_threads_is_the_fastest_and_is_tried_again(best: int) -> None:
    times = {number: 1.0 if number == best else 1.5 for number in (1, 2, 4)}
    numbers = chosen(times, 140)
    assert numbers[:9] == [1, 1, 1, 2, 2, 2, 4, 4, 4]
    assert numbers[9:137] == [best] * 128
    assert numbers[137:] == [1, 1, 1]


def test_a_choice_that_turns_slow_is_made_anew() -> None:
    choice = threads.ThreadChoice([1, 2])
    for seconds in (2, 2, 2, 1, 1, 1, 1, 5, 1, 5, 5):
        choice.record(seconds)
    assert choice.threads == 2
    choice.record(5)
    assert choice.threads == 1


def test_a_hopeless_number_of_threads_is_tried_once() -> None:
    assert chosen({1: 1.0, 2: 9.0}, 6) == [1, 1, 1, 2, 1, 1]


def test_all_threads_are_among_the_candidates() -> None:
    assert [threads.candidates(n) for n in (1, 2, 6)] == [[1], [1, 2], [1, 2, 4, 6]]


@pytest.mark.parametrize("size", [1, 7, 256, 1000, 6400])
def test_the_argmax_and_logsumexp_in_c_are_torchs(size: int) -> None:
    scores = (5 * torch.randn(4, size + 3))[:, :size]
    scores[0, size // 2 :] = scores[0, size // 2]  # of equal ones, the first
    scores[1] -= 500
    scores[2, 0] = float("nan")
    found = argmax_logsumexp(scores)
    expected = scores.logsumexp(dim=-1)
    torch.testing.assert_close(found.logsumexp, expected, equal_nan=True, rtol=1e-6, atol=1e-5)
    for row in (0, 1, 3):
        assert found.argmax[row] == scores[row].argmax()
    assert 0 <= found.argmax[2] < size


@pytest.mark.slow
def test_without_its_folder_torch_computes_the_same(tmp_path: Path) -> None:
    for package in ("model", "pipeline", "utils"):
        shutil.copytree(ROOT / package, tmp_path / package)
    shutil.rmtree(tmp_path / "model" / "native")
    model = lively()
    shape = tmp_path / "shape.json"
    shape.write_text(model.config.model_dump_json())
    command = [sys.executable, "-c", _WITHOUT, json.dumps(str(shape))]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    native, chosen, texts, scores = json.loads(done.stdout)
    assert (native, chosen) == ([], "TorchRunner")
    assert texts[0] == [naive_greedy(model, [1, 2, 3], 12)]
    assert [len(text) for [text] in texts] == [15, 15]
    expected = model(torch.tensor(texts[0]))["logits"][0, :-1].log_softmax(dim=-1)
    wanted = expected.gather(1, torch.tensor(texts[0][0][1:])[:, None])[:, 0]
    assert scores == pytest.approx(wanted.tolist(), abs=1e-4)
