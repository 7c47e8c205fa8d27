"""A model as a GGUF file: the names and layouts of its tensors, and their number formats.

Format: github.com/ggml-org/ggml, docs/gguf.md. Tensors are converted one at a time while they are
written, so that memory holds the model once and a single tensor twice.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Format
from torch import Tensor

from model.config import ModelConfig
from model.gpt import GPT
from model.huggingface.families import architecture
from model.huggingface.weights import state_to_hf
from model.layers.rope import inverse_wavelengths
from pipeline.export.gguf_metadata import describe_model, describe_squared_relu, describe_tokenizer
from pipeline.export.gguf_tokenizer import Vocabulary
from pipeline.runs.text_bounds import TextBounds
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.errors import RefusedError

_ARCHITECTURES = {
    "LlamaForCausalLM": gguf.MODEL_ARCH.LLAMA,
    "Qwen3ForCausalLM": gguf.MODEL_ARCH.QWEN3,
    "ArceeForCausalLM": gguf.MODEL_ARCH.ARCEE,
    "ApertusForCausalLM": gguf.MODEL_ARCH.APERTUS,
    "GPT2LMHeadModel": gguf.MODEL_ARCH.GPT2,
}
# The one activation that llama.cpp has for each; Apertus's xIELU can be made squared ReLU.
_ACTIVATIONS = {
    gguf.MODEL_ARCH.LLAMA: "swiglu",
    gguf.MODEL_ARCH.QWEN3: "swiglu",
    gguf.MODEL_ARCH.ARCEE: "relu2",
    gguf.MODEL_ARCH.APERTUS: "relu2",
    gguf.MODEL_ARCH.GPT2: "gelu",
}
_NEIGHBOURS_TURN = (gguf.MODEL_ARCH.LLAMA, gguf.MODEL_ARCH.ARCEE)
FORMATS = {"f32": Format.F32, "f16": Format.F16, "bf16": Format.BF16, "q8_0": Format.Q8_0}
_TORCH = {Format.F32: torch.float32, Format.F16: torch.float16, Format.BF16: torch.bfloat16}
_BLOCK = 32  # values that share a scale in Q8_0
_LARGEST_F16 = 65504.0


@dataclass(frozen=True)
class _Entry:
    """A tensor of the file: how it is got, its shape (rows first) and its format."""

    get: Callable[[], Tensor]
    shape: tuple[int, ...]
    format: Format

    @property
    def byte_shape(self) -> tuple[int, ...]:
        return tuple(gguf.quant_shape_to_byte_shape(self.shape, self.format))

    @property
    def bytes(self) -> int:
        return int(np.prod(self.byte_shape, dtype=np.int64))


def refuse_unknown(config: ModelConfig, *checkpoint: str) -> None:
    """Refuse a model that llama.cpp would compute differently.

    Raises:
        RefusedError: names the switch.
    """
    family = str(architecture(config))
    arch = _ARCHITECTURES.get(family)
    scaling = config.rope_scaling
    why = ""
    if arch is None:
        why = f"{family}: no GGUF file of this program holds it"
    elif config.mlp != _ACTIVATIONS[arch]:
        why = f"mlp {config.mlp}: llama.cpp computes {arch.name} with {_ACTIVATIONS[arch]}"
    elif arch == gguf.MODEL_ARCH.ARCEE and config.bias:
        why = "bias with mlp relu2: llama.cpp computes ARCEE without"
    elif arch == gguf.MODEL_ARCH.QWEN3 and scaling is not None and scaling.kind == "llama3":
        why = "qk_norm with rope_scaling llama3: llama.cpp stretches Qwen3's rotations only evenly"
    if why:
        raise RefusedError(
            "No GGUF file can hold this model.",
            found=why,
            remedy="what holds this model: {}",
            commands=[("export", *checkpoint, "--to", "hf")],
        )


class GgufModel:
    """What a GGUF file of `model` will hold; `write` writes it.

    `dtype` is a key of `FORMATS`. Vectors and learned positions are always float32, and so are
    matrices in q8_0 whose rows are no multiple of 32, which `left_wide` names. Without `tokenizer`
    and `words` the file is for a reader of ids.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer | None,
        words: Vocabulary | None,
        name: str,
        dtype: str,
        bounds: TextBounds | None = None,
    ) -> None:
        self._config, self._tokenizer, self._words = model.config, tokenizer, words
        self._bounds = bounds
        self._name, self._dtype = name, dtype
        self._arch = _ARCHITECTURES[str(architecture(model.config))]
        self._entries = dict(self._tensors(model))

    @property
    def bytes(self) -> int:
        """Size of all tensors in the file."""
        return sum(entry.bytes for entry in self._entries.values())

    @property
    def left_wide(self) -> list[str]:
        """Matrices that q8_0 cannot hold."""
        return [
            name
            for name, entry in self._entries.items()
            if _is_matrix(name, entry.shape) and entry.format != FORMATS[self._dtype]
        ]

    def write(self, path: Path) -> Iterator[int]:
        """Write the file; yields the bytes of each tensor as it is written.

        Raises:
            RefusedError: a weight that float16 cannot hold.
            OSError: as the file system says.
        """
        writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[self._arch])
        try:
            describe_model(writer, self._config, self._name, self._dtype)
            if self._arch == gguf.MODEL_ARCH.APERTUS:
                describe_squared_relu(writer, self._config.num_layers)
            describe_tokenizer(writer, self._tokenizer, self._words, self._bounds)
            for name, entry in self._entries.items():
                quantized = entry.format == Format.Q8_0
                writer.add_tensor_info(
                    name,
                    entry.byte_shape if quantized else entry.shape,
                    np.dtype(np.uint8 if quantized else np.float32),
                    entry.bytes,
                    entry.format,
                )
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for name, entry in self._entries.items():
                writer.write_tensor_data(_converted(name, entry.get(), entry.format))
                yield entry.bytes
        finally:
            writer.close()

    def _tensors(self, model: GPT) -> Iterator[tuple[str, _Entry]]:
        names = gguf.get_tensor_name_map(self._arch, self._config.num_layers)
        heads = {"q_proj": self._config.num_heads, "k_proj": self._config.kv_heads}
        tensors = state_to_hf(model)
        if self._arch == gguf.MODEL_ARCH.APERTUS:  # has no tied head in llama.cpp
            tensors.setdefault("lm_head.weight", tensors["model.embed_tokens.weight"])
        for theirs, tensor in tensors.items():
            name = names.get_name(theirs, try_suffixes=(".weight", ".bias"))
            assert name is not None, theirs
            module, kind = theirs.split(".")[-2:]
            if self._arch == gguf.MODEL_ARCH.GPT2 and module.startswith("c_") and kind == "weight":
                tensor = tensor.T
            paired = heads.get(module, 0) if self._arch in _NEIGHBOURS_TURN else 0
            shape = tuple(tensor.shape)
            yield name, _Entry(_getter(tensor, paired), shape, self._format(name, shape))
        scaling = self._config.rope_scaling
        if scaling is not None and scaling.kind == "llama3":
            plain = self._config.model_copy(update={"rope_scaling": None})
            factors = inverse_wavelengths(plain) / inverse_wavelengths(self._config)
            yield "rope_freqs.weight", _Entry(lambda: factors, tuple(factors.shape), Format.F32)

    def _format(self, name: str, shape: tuple[int, ...]) -> Format:
        target = FORMATS[self._dtype]
        fits = target != Format.Q8_0 or shape[-1] % _BLOCK == 0
        return target if _is_matrix(name, shape) and fits else Format.F32


def _is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    """Whether it takes the target format; learned positions are added, not multiplied."""
    return len(shape) > 1 and not name.startswith("position")


def _getter(tensor: Tensor, heads: int) -> Callable[[], Tensor]:
    return (lambda: _neighbours(tensor, heads)) if heads else (lambda: tensor)


def _neighbours(rows: Tensor, heads: int) -> Tensor:
    """Rows of queries or keys (heads * head_dim, ...) with the channels i and i + head_dim/2 of
    each head, which turn together, side by side: llama.cpp's order for Llama."""
    pairs = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return pairs.transpose(1, 2).reshape(rows.shape)


def _converted(name: str, tensor: Tensor, target: Format) -> np.ndarray[Any, Any]:
    """`tensor` in the bytes of the file.

    Raises:
        RefusedError: float16 cannot hold a value.
    """
    tensor = tensor.detach().cpu()
    if target == Format.Q8_0:
        found: np.ndarray[Any, Any] = gguf.quants.quantize(tensor.float().numpy(), target)
        return found
    if target == Format.F16 and tensor.abs().max() > _LARGEST_F16:
        raise RefusedError(
            f"float16 cannot hold {name}.",
            found=f"a weight of {tensor.abs().max().item():.3g}, beyond {_LARGEST_F16:,.0f}",
            remedy="--dtype bf16 or --dtype f32",
        )
    tensor = tensor.to(_TORCH[target]).contiguous()
    return tensor.view(torch.int16).numpy() if target == Format.BF16 else tensor.numpy()
