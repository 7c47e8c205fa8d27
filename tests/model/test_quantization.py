"""Weights in 8 and 4 bits: how far they may be off, what they weigh, and how they are loaded."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from model.config import ModelConfig
from model.generation.sampling import SamplingSettings
from model.gpt import GPT
from model.language_model import generate
from model.quantization import layers
from model.quantization.layers import (
    GROUP,
    Form,
    Int4Linear,
    Int8Linear,
    from_int4,
    matrix_bytes,
    quantized_linear,
    to_int4,
)
from model.quantization.model import QuantizedGPT, not_in_int4, weight_bytes
from pipeline.events import Event, Warned
from pipeline.inference import loading
from pipeline.options.config import LoadOptions
from tests.pipeline.test_train import TRAIN
from tests.support.stage_runner import run_stage
from tests.support.tiny_checkpoints import byte_tokenizer, lively_model, save_step
from utils.errors import OutOfMemoryError

CPU = torch.device("cpu")
U = 2.0**-8  # what rounding to bfloat16 may change, relatively
SIZES = [(48, 64), (33, 64), (64, 40), (16, 33), (258, 192)]
FORMS: list[Form] = ["int8", "int4"]


def weights(outputs: int, inputs: int) -> torch.Tensor:
    """Rows of very different sizes, one of them zero."""
    torch.manual_seed(outputs * inputs)
    rows = torch.randn(outputs, inputs) * torch.logspace(-3, 1, outputs)[:, None]
    rows[0] = 0
    return rows


@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
def test_an_int8_weight_is_off_by_half_a_step_of_its_row_at_most(outputs: int, inputs: int) -> None:
    weight = weights(outputs, inputs)
    stored = Int8Linear(weight).rows(torch.arange(outputs))
    step = weight.abs().amax(1, keepdim=True) / 127
    assert ((weight - stored).abs() <= step * (0.5 + 127 * U)).all()
    assert (stored[0] == 0).all()


def test_an_int4_weight_is_off_by_half_a_step_of_its_group_at_most() -> None:
    weight = weights(48, 96) + 0.3  # groups far from zero too
    groups = weight.view(48, -1, GROUP)
    step = (groups.amax(-1) - groups.amin(-1)) / 15
    quantized, factors = to_int4(weight)
    zero = factors[..., 1].float().abs()
    bound = step * (0.5 + 15.5 * U) + zero * U
    off = (weight - from_int4(quantized, factors)).view(groups.shape).abs().amax(-1)
    assert (off <= bound * 1.001).all()


@pytest.mark.parametrize("rows", [1, 3, 8, 40])
@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
def test_an_int8_product_stays_within_what_its_weights_and_bfloat16_allow(
    outputs: int, inputs: int, rows: int
) -> None:
    weight = weights(outputs, inputs)
    x, bias = torch.randn(rows, inputs), torch.randn(outputs)
    found = Int8Linear(weight, bias)(x)
    step = weight.abs().amax(1) / 127
    # Activations, the sum and its scaling are rounded to bfloat16 once each.
    bound = x.abs().sum(1)[:, None] * step * (0.5 + 127 * U) + 3.1 * U * (x.abs() @ weight.abs().T)
    assert found.dtype == torch.float32
    assert ((found - bias - x @ weight.T).abs() <= bound + 1e-5).all()


@pytest.mark.parametrize("rows", [1, 3, 8, 40])
def test_an_int4_product_is_that_of_the_stored_weights(rows: int) -> None:
    weight = weights(48, 96)
    stored = from_int4(*to_int4(weight))
    x = torch.randn(2, rows, 96)
    found = Int4Linear(weight)(x)
    bound = 3.1 * U * (x.abs() @ (stored.abs() + 16 * (weight - stored).abs()).T)
    assert found.shape == (2, rows, 48)
    assert ((found - x @ stored.T).abs() <= bound + 1e-5).all()


@pytest.mark.parametrize("form", FORMS)
def test_without_a_kernel_the_product_is_the_same_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch, form: Form
) -> None:
    weight, x = weights(48, 64), torch.randn(5, 64)
    fast = quantized_linear(weight, None, form)
    monkeypatch.setattr(layers, f"_{form}_works", lambda device: False)
    slow = quantized_linear(weight, None, form)
    assert not slow.fast
    assert torch.allclose(fast(x), slow(x), rtol=0.02, atol=0.02 * float(fast(x).abs().max()))


@pytest.mark.parametrize(("outputs", "inputs"), SIZES)
@pytest.mark.parametrize("form", FORMS)
def test_matrices_weigh_what_is_foretold(outputs: int, inputs: int, form: Form) -> None:
    module = quantized_linear(weights(outputs, inputs), None, form)
    assert _bytes(module) == matrix_bytes(outputs, inputs, form)
    divides = inputs % GROUP == 0 and outputs % 16 == 0
    assert isinstance(module, Int4Linear if form == "int4" and divides else Int8Linear)


def _bytes(module: torch.nn.Module) -> int:
    tensors = [b for n, b in module.named_buffers() if not n.startswith("rotary")]
    return sum(t.numel() * t.element_size() for t in [*tensors, *module.parameters()])


SHAPES: list[dict[str, Any]] = [
    {"hidden_size": 64, "tie_word_embeddings": True, "qk_norm": True},
    {"hidden_size": 64, "tie_word_embeddings": False, "num_kv_heads": 2, "intermediate_size": 100},
    {"hidden_size": 64, "position": "learned", "norm": "layernorm", "mlp": "gelu", "bias": True},
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", FORMS)
def test_a_whole_model_weighs_what_is_foretold_and_computes_nearly_the_same(
    shape: dict[str, Any], form: Form
) -> None:
    model = lively_model(3, initializer_range=0.05, **shape)
    small = quantized(model, form)
    assert _bytes(small) == weight_bytes(model.config, form, torch.float32)
    assert _bytes(small) < 0.4 * weight_bytes(model.config, None, torch.float32)
    ids = torch.randint(258, (2, 40))
    with torch.no_grad():
        wanted, found = model(ids)["logits"], small(ids)["logits"]
    assert (found - wanted).norm() < {"int8": 0.03, "int4": 0.3}[form] * wanted.norm()
    assert torch.allclose(small.hidden(ids) @ small.head_weight.T, found, rtol=0.1, atol=0.05)


def quantized(model: GPT, form: Form) -> QuantizedGPT:
    return QuantizedGPT(model.config, model.state_dict(), form, CPU, torch.float32)


def test_the_given_model_is_left_alone() -> None:
    model = lively_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small = quantized(model, "int8")
    small.norm.weight.mul_(2)  # type: ignore[union-attr]
    assert all(torch.equal(before[n], t) for n, t in model.state_dict().items())


@pytest.fixture(scope="module")
def trained() -> tuple[GPT, list[list[int]]]:
    """A model that has learned a few lines by heart, and these lines."""
    torch.manual_seed(0)
    lines = torch.randint(0, 96, (6, 48))
    model = GPT(ModelConfig(vocab_size=96, hidden_size=64, num_layers=2, num_heads=4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(90):
        optimizer.zero_grad()
        loss = model.loss(lines[:, :-1], lines[:, 1:])
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert loss < 0.2
    return model.eval(), lines.tolist()


@pytest.mark.parametrize(("form", "equal"), [("int8", 1.0), ("int4", 0.9)])
def test_a_trained_model_writes_the_same_text(
    trained: tuple[GPT, list[list[int]]], form: Form, equal: float
) -> None:
    model, lines = trained
    prompts = [line[: 4 + 3 * row] for row, line in enumerate(lines)]  # of unequal length
    settings = SamplingSettings(temperature=0, max_length=40)
    wanted, small = generate(model, prompts, settings), quantized(model, form)
    together = generate(small, prompts, settings)
    alone = [generate(small, [prompt], settings)[0] for prompt in prompts]
    for texts in (together, alone):
        same = [
            a == b for x, y in zip(texts, wanted, strict=True) for a, b in zip(x, y, strict=True)
        ]
        assert sum(same) >= equal * len(same)


def warnings(events: list[Event]) -> str:
    return " ".join(e.message for e in events if isinstance(e, Warned))


@pytest.mark.slow
def test_loading_says_what_the_form_costs_on_held_out_tokens(prepared: Path) -> None:
    run_stage("train", train=TRAIN, model={"hidden_size": 32, "num_layers": 1, "num_heads": 2})
    options: dict[str, Any] = {"prompt": "the", "max_length": 4, "device": "cpu"}
    said = warnings(run_stage("inference", inference=options | {"quantize": "int8"}))
    assert "in int8" in said
    before, after = (
        float(word) for word in said.split("perplexity ")[1].split(" (")[0].split(" -> ")
    )
    assert after == pytest.approx(before, rel=0.02)
    assert before > 1
    assert "held-out tokens." in said
    shutil.rmtree("data/tokenized_datasets")
    said = warnings(run_stage("inference", inference=options | {"quantize": "int4"}))
    assert "was not measured" in said


def test_matrices_that_stay_in_int8_are_named(workspace: Path) -> None:
    model = lively_model(intermediate_size=40)
    assert not_in_int4(model.config) == ["mlp.down"]
    save_step(Path("checkpoints/run_a"), 1, model, byte_tokenizer())
    said = warnings(run_stage("inference", inference={"prompt": "a", "quantize": "int4"}))
    assert "mlp.down stay in int8" in said


def test_any_number_of_layers_is_weighed_at_once() -> None:
    for depth in (1, 2, 5):
        model = lively_model(num_layers=depth, hidden_size=64, qk_norm=True)
        weighed = sum(parameter.numel() for parameter in model.parameters()) * 4
        assert weight_bytes(model.config, None, torch.float32) == weighed
    deep = lively_model(1, hidden_size=64).config.model_copy(update={"num_layers": 10**9})
    assert weight_bytes(deep, "int8", torch.float32) > 10**9 * 64 * 64
    assert not_in_int4(deep) == not_in_int4(lively_model(1, hidden_size=64).config)


def test_what_does_not_fit_is_told_what_would(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_step(Path("checkpoints/run_a"), 1, lively_model(), byte_tokenizer())
    config = lively_model().config
    room = weight_bytes(config, "int8", torch.float32)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    monkeypatch.setattr(loading, "load_weights", full)
    monkeypatch.setattr(loading, "memory_free", lambda device: room)
    with pytest.raises(OutOfMemoryError, match="not enough memory for it") as caught:
        loading.load_writer(path, "it", LoadOptions(device="cpu"), Path("tokenizers"))
    assert "--quantize int8" in caught.value.remedy
    assert "--quantize int4" in caught.value.remedy
    assert "bf16" not in caught.value.remedy
    monkeypatch.setattr(loading, "memory_free", lambda device: 10)
    with pytest.raises(OutOfMemoryError) as caught:
        loading.load_writer(path, "it", LoadOptions(device="cpu"), Path("tokenizers"))
    assert caught.value.remedy == "choose a smaller checkpoint"


def test_other_failures_of_loading_keep_their_name(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_step(Path("checkpoints/run_a"), 1, lively_model(), byte_tokenizer())

    def broken(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(loading, "load_weights", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        loading.load_writer(path, "it", LoadOptions(device="cpu"), Path("tokenizers"))
