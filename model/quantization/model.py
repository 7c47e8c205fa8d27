"""A whole model with its matrices in 8 or 4 bits (`model.quantization.layers`): it reads and writes
text, and neither trains nor is saved."""

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.device import dtype_on
from model.gpt import GPT
from model.layers.rope import RotaryEmbedding
from model.quantization.layers import (
    Form,
    Int4Linear,
    Int8Linear,
    Int8Table,
    matrix_bytes,
    quantized_linear,
    suits_int4,
)

_HEAD, _TABLE = "head.weight", "embedding.weight"


class QuantizedGPT(GPT):
    """`GPT` that keeps norms, biases and position table in `dtype` and everything else in `form`.

    `slow` says that torch has no kernel for it here: it spreads the weights out at every use.
    """

    def __init__(
        self,
        config: ModelConfig,
        state: dict[str, Tensor],
        form: Form,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """Takes the tensors out of `state` one by one, so that memory never holds all twice."""
        with torch.device("meta"):
            super().__init__(config)
        self.form = form
        self._device, self._dtype = device, dtype
        for name in list(_matrices(self)):
            bias = state.pop(f"{name}.bias", None)
            weight = _moved(state.pop(f"{name}.weight"), device)
            bias = None if bias is None else bias.to(device, dtype)
            self.set_submodule(name, quantized_linear(weight, bias, form))
        table = Int8Linear(_moved(state.pop(_TABLE), device))
        self.scores = Int8Linear(_moved(state.pop(_HEAD), device)) if _HEAD in state else table
        self.embedding = Int8Table(table, dtype)  # type: ignore[assignment]
        self.head = None
        rest = {name: state.pop(name).to(device, dtype, copy=True) for name in list(state)}
        self.load_state_dict(rest, assign=True)
        if self.rotary is not None:
            self.rotary = RotaryEmbedding(config).to(device)
        self.eval().requires_grad_(False)

    @property
    def slow(self) -> bool:
        return not all(m.fast for m in self.modules() if isinstance(m, Int8Linear | Int4Linear))

    @property
    def device(self) -> torch.device:
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        return self._dtype

    @property
    def head_weight(self) -> Tensor:
        """The output matrix (V, C), computed anew at every use."""
        return self.scores.rows(torch.arange(self.config.vocab_size, device=self._device))

    def logits(self, hidden: Tensor) -> Tensor:
        return self.scores(hidden)  # type: ignore[no-any-return]


def not_in_int4(config: ModelConfig) -> list[str]:
    """The kinds of matrices whose sizes do not suit int4, such as "mlp.down": they become int8."""
    with torch.device("meta"):
        found = _matrices(GPT(_with_layers(config, 1)))
    odd = [name.split(".", 2)[2] for name, m in found.items() if not suits_int4(*m.weight.shape)]
    return list(dict.fromkeys(odd))


def weight_bytes(config: ModelConfig, form: Form | None, dtype: torch.dtype) -> int:
    """Memory that a model's weights need in `form`; None: all of them in `dtype`.

    All layers are alike, so two are enough to know any number of them: a description of a
    thousand million layers takes no longer to refuse than another.
    """
    one, two = (_built_bytes(_with_layers(config, n), form, dtype) for n in (1, 2))
    return one + (config.num_layers - 1) * (two - one)


def _with_layers(config: ModelConfig, layers: int) -> ModelConfig:
    return config.model_copy(update={"num_layers": layers})


def _built_bytes(config: ModelConfig, form: Form | None, dtype: torch.dtype) -> int:
    with torch.device("meta"):
        model = GPT(config)
    total = sum(parameter.numel() for parameter in model.parameters()) * dtype.itemsize
    if form is None:
        return total
    kinds: list[tuple[Tensor, Form]] = [(m.weight, form) for m in _matrices(model).values()]
    kinds += [(m.weight, "int8") for m in (model.embedding, model.head) if m is not None]
    for weight, kind in kinds:
        outputs, inputs = weight.shape
        total += matrix_bytes(outputs, inputs, kind) - weight.numel() * dtype.itemsize
    return total


def _moved(weight: Tensor, device: torch.device) -> Tensor:
    return weight.to(device, dtype_on(device, weight.dtype))


def _matrices(model: GPT) -> dict[str, nn.Linear]:
    """The matrices of the blocks by their names."""
    found = model.blocks.named_modules(prefix="blocks")
    return {name: module for name, module in found if isinstance(module, nn.Linear)}
