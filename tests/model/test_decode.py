"""The fast ways to the next token compute what the model computes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from model.generation.batch import BatchScheduler
from model.generation.cuda_graph import CudaGraphDecoder
from model.generation.runner import Chunk, NativeRunner, TorchRunner, runner_for
from model.generation.sampling import (
    SamplingSettings,
    argmax_logsumexp,
    draw,
    keep_likely,
    likeliest,
)
from model.gpt import GPT
from model.layers.cache import KeyValueCache
from model.native import build
from model.native.decoder import NativeDecoder, native_decoder
from model.native.threads import ThreadChoice, candidates
from model.quantization.layers import Int4Linear, Int8Linear
from model.quantization.model import QuantizedGPT
from tests.model.test_sampler import KINDS, PROMPTS, greedy, lively, naive_greedy

SHAPES: dict[str, dict[str, Any]] = KINDS | {
    "odd sizes": {"hidden_size": 36, "head_dim": 10, "vocab_size": 51, "norm_gain": False},
    "all extras": {"mlp": "geglu", "embedding_norm": True, "logit_scale": 0.3, "bias": True},
    "tied": {"tie_word_embeddings": True, "mlp": "relu2", "hidden_size": 128},
    "reglu": {"mlp": "reglu", "num_kv_heads": 1, "rope_scaling": {"kind": "linear", "factor": 2}},
}

FORMS = ["float32", "bfloat16", "int8", "int4"]


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


def decoder(model: GPT) -> NativeDecoder:
    found = native_decoder(model)
    if found is None:
        pytest.skip("no C compiler here")
    return found


def written(model: GPT, step: NativeDecoder, ids: torch.Tensor) -> torch.Tensor:
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


def in_form(form: str, model: GPT | None = None) -> GPT:
    model = model or lively(num_kv_heads=2, hidden_size=64)
    if form in ("int8", "int4"):
        state = dict(model.state_dict())
        return QuantizedGPT(model.config, state, form, model.device, model.dtype)  # type: ignore[arg-type]
    return model.to(getattr(torch, form))


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


@pytest.mark.parametrize("kind", KINDS)
def test_a_recorded_step_writes_the_same_text(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = lively(**KINDS[kind])
    recorded = []

    def record(run: Any) -> Any:
        recorded.append(run)
        return run

    runner = TorchRunner(model)
    monkeypatch.setattr(runner, "_graphs", CudaGraphDecoder(model, record))
    batch = BatchScheduler(runner, 4)
    keys = [batch.join(prompt, greedy(max_new_tokens=18)) for prompt in PROMPTS]
    texts: dict[int | None, list[int]] = {key: [] for key in keys}
    while batch:
        for token in batch.step():
            texts[token.row].append(token.id)
    for key, prompt in zip(keys, PROMPTS, strict=True):
        assert texts[key] == naive_greedy(model, prompt, 18)[len(prompt) :]
    assert recorded


def chosen(times: dict[int, float], steps: int) -> list[int]:
    """The numbers of threads that are chosen where a step with n of them takes times[n]."""
    choice = ThreadChoice(list(times))
    result = []
    for _ in range(steps):
        result.append(choice.now)
        choice.took(times[choice.now])
    return result


@pytest.mark.parametrize("best", [1, 2, 4])
def test_the_number_of_threads_is_the_fastest_and_is_tried_again(best: int) -> None:
    times = {number: 1.0 if number == best else 1.5 for number in (1, 2, 4)}
    numbers = chosen(times, 140)
    assert numbers[:9] == [1, 1, 1, 2, 2, 2, 4, 4, 4]
    assert numbers[9:137] == [best] * 128
    assert numbers[137:] == [1, 1, 1]


def test_a_choice_that_turns_slow_is_made_anew() -> None:
    choice = ThreadChoice([1, 2])
    for seconds in (2, 2, 2, 1, 1, 1, 1, 5, 1, 5, 5):
        choice.took(seconds)
    assert choice.now == 2
    choice.took(5)
    assert choice.now == 1


def test_a_hopeless_number_of_threads_is_tried_once() -> None:
    assert chosen({1: 1.0, 2: 9.0}, 6) == [1, 1, 1, 2, 1, 1]


def test_all_threads_are_among_the_candidates() -> None:
    assert [candidates(n) for n in (1, 2, 6)] == [[1], [1, 2], [1, 2, 4, 6]]


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


@pytest.mark.parametrize("size", [64, 1000, 6400])
def test_the_likeliest_are_found_group_by_group(size: int) -> None:
    scores = torch.randn(3, size)
    best, ids = likeliest(scores, 20)
    expected = scores.topk(20)
    assert torch.equal(best, expected.values)
    assert torch.equal(ids, expected.indices)


def test_without_limits_every_token_is_drawn_as_often_as_it_is_likely() -> None:
    scores = torch.tensor([[0.3, 0.05, 0.5, 0.15]]).log()
    settings = SamplingSettings(temperature=1.0, top_k=None, top_p=1.0)
    assert not settings.limited
    generators = [torch.Generator().manual_seed(row) for row in range(4000)]
    drawn = draw(scores.expand(4000, 4), settings, generators, [()] * 4000).ids
    shares = torch.bincount(torch.tensor(drawn), minlength=4) / 4000
    torch.testing.assert_close(shares, scores[0].exp(), rtol=0, atol=0.03)


def test_limits_are_the_same_for_a_vocabulary_too_large_to_sort() -> None:
    scores = 3 * torch.randn(2, 5000)
    for limits in ({"top_p": 0.6}, {"top_p": 1.0, "min_p": 0.05}, {"top_p": 0.99999}):
        settings = SamplingSettings(top_k=None, **limits)  # type: ignore[arg-type]
        sorted_all = SamplingSettings(top_k=5000, **limits)  # type: ignore[arg-type]
        (best, ids), (all_best, all_ids) = (keep_likely(scores, s) for s in (settings, sorted_all))
        assert kept(best, ids) == kept(all_best, all_ids)


def kept(best: torch.Tensor, ids: torch.Tensor) -> Sequence[list[int]]:
    pairs = zip(best, ids, strict=True)
    return [row_ids[row > float("-inf")].tolist() for row, row_ids in pairs]
