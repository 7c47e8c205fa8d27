"""Rows that hold several texts: each reads as if it were alone, forward and backward."""

from typing import Any

import pytest
import torch
from torch import Tensor

from model.gpt import GPT
from model.layers.attention import attend, block_causal_mask
from tests.model.test_model import KINDS, small

TEXTS = (5, 9, 1, 7, 12)  # ids of each text, two rows of 22 and 12
ROWS = ((0, 1, 2, 3), (4,))
SHAPES: dict[str, dict[str, Any]] = KINDS | {
    "qwen3": {"qk_norm": True, "head_dim": 16},
    "all heads": {"num_kv_heads": 4},
    "one key head": {"num_kv_heads": 1},
}


def texts() -> list[tuple[Tensor, Tensor]]:
    """Inputs and targets of each text, the beginning of each not scored."""
    generator = torch.Generator().manual_seed(5)
    found = []
    for length in TEXTS:
        ids = torch.randint(61, (length + 1,), generator=generator)
        targets = ids[1:].clone()
        targets[: length // 3] = -100
        found.append((ids[:-1], targets))
    return found


def packed(length: int = 24) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs, targets, positions and documents of the rows, filled up to `length`."""
    inputs, positions = torch.zeros(2, 2, length, dtype=torch.int64).unbind()
    targets, documents = torch.full((2, 2, length), -100).unbind()
    documents = documents.fill_(-1)
    for row, members in enumerate(ROWS):
        at = 0
        for number in members:
            some, wanted = texts()[number]
            where = slice(at, at + len(some))
            inputs[row, where], targets[row, where] = some, wanted
            positions[row, where] = torch.arange(len(some))
            documents[row, where] = number
            at += len(some)
    return inputs, targets, positions, documents


def gradients(model: GPT) -> dict[str, Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


@pytest.mark.parametrize("kernel", ["math", "sdpa"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_packed_text_is_read_and_learned_as_alone(shape: str, kernel: str) -> None:
    torch.manual_seed(0)
    model = GPT(small(attention=kernel, **SHAPES[shape]))
    rows = packed()
    loss = model.loss(*rows)
    loss.backward()
    found, each = gradients(model), model.token_losses(*rows)
    scored = sum(int((targets >= 0).sum()) for _, targets in texts())
    alone = torch.zeros(())
    for number, (inputs, targets) in enumerate(texts()):
        count = int((targets >= 0).sum())
        part = model.loss(inputs[None], targets[None]) * count / scored
        part.backward()
        alone += part.detach()
        own = model.token_losses(inputs[None], targets[None])[0]
        torch.testing.assert_close(each[rows[3] == number], own, atol=1e-5, rtol=0)
    torch.testing.assert_close(loss, alone, atol=1e-6, rtol=0)
    assert not each[rows[3] < 0].any()
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel", ["math", "sdpa"])
def test_packed_logits_are_those_of_the_texts_alone(kernel: str) -> None:
    torch.manual_seed(0)
    model = GPT(small(attention=kernel)).eval()
    inputs, _, positions, documents = packed()
    mask = block_causal_mask(documents, torch.float32)
    with torch.no_grad():
        logits = model.logits(model.hidden(inputs, positions=positions, mask=mask))
        for number, (ids, _) in enumerate(texts()):
            alone = model(ids[None])["logits"]
            assert alone is not None
            torch.testing.assert_close(logits[documents == number], alone[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kernel", ["math", "sdpa"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_of_filling_alone_cost_nothing_and_give_no_nan(
    kernel: str, dtype: torch.dtype
) -> None:
    model = GPT(small(attention=kernel))
    inputs = torch.zeros(2, 24, dtype=torch.int64)
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        loss = model.loss(
            inputs, torch.full_like(inputs, -100), inputs, torch.full_like(inputs, -1)
        )
    loss.backward()
    assert loss.item() == 0
    assert all(not gradient.any() for gradient in gradients(model).values())


def test_packed_rows_in_half_precision_stay_near() -> None:
    torch.manual_seed(0)
    model, rows = GPT(small()), packed()
    full = model.loss(*rows)
    for kernel in ("math", "sdpa"):
        model.config = model.config.model_copy(update={"attention": kernel})
        with torch.autocast("cpu", torch.bfloat16):
            assert model.loss(*rows).item() == pytest.approx(full.item(), rel=0.02)


def test_no_text_of_a_row_feels_another() -> None:
    torch.manual_seed(0)
    model, (inputs, targets, positions, documents) = GPT(small()), packed()
    before = model.token_losses(inputs, targets, positions, documents)
    changed = torch.where(documents == 1, (inputs + 1) % 61, inputs)
    after = model.token_losses(changed, targets, positions, documents)
    assert torch.equal(before[documents != 1], after[documents != 1])
    assert not torch.equal(before[documents == 1], after[documents == 1])


def test_recomputed_activations_of_packed_rows_change_no_gradient() -> None:
    torch.manual_seed(0)
    model, found = GPT(small()), []
    for recompute in (False, True):
        model.gradient_checkpointing = recompute
        model.loss(*packed()).backward()
        found.append(gradients(model))
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name])


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_the_kernels_agree_on_documents_numbered_in_any_order(kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, 9, 8, generator=generator)
    k, v = (torch.randn(2, kv_heads, 9, 8, generator=generator) for _ in range(2))
    documents = torch.tensor([[7, 7, 7, 2, 2, 9, 9, 9, 9], [0, 1, 1, 1, 1, 1, 1, -1, -1]])
    mask = block_causal_mask(documents, torch.float32)
    by_math = attend(q, k, v, mask, "math", 0.0)
    torch.testing.assert_close(attend(q, k, v, mask, "sdpa", 0.0), by_math)
    for row, number in ((0, 2), (1, 1)):
        own = documents[row] == number
        parts = (tensor[row : row + 1, :, own] for tensor in (q, k, v))
        torch.testing.assert_close(by_math[row, own], attend(*parts, None, "math", 0.0)[0])


def test_positions_without_documents_are_our_own_mistake() -> None:
    model, (inputs, targets, positions, documents) = GPT(small()), packed()
    with pytest.raises(ValueError, match="belong together"):
        model.loss(inputs, targets, positions)
    with pytest.raises(ValueError, match="belong together"):
        model.token_losses(inputs, targets, documents=documents)


@pytest.mark.slow
def test_packed_rows_compile_without_a_break() -> None:
    torch.manual_seed(0)
    model = GPT(small(num_layers=1))
    compiled = torch.compile(model.loss, dynamic=False, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*packed()), model.loss(*packed()))
