"""A model as a GGUF file: metadata, the names and layouts of tensors, their number formats.

Format: github.com/ggml-org/ggml, docs/gguf.md. Tensors are converted one at a time while they are
written, so that memory holds the model once and a single tensor twice.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Format
from torch import Tensor

from model.config import ModelConfig, architecture
from model.gpt import GPT
from model.huggingface import state_to_hf
from model.rope import inverse_wavelengths
from pipeline.export.gguf_tokenizer import Vocabulary
from pipeline.tokenizer import Tokenizer
from utils.errors import RefusedError

_ARCHITECTURES = {
    "LlamaForCausalLM": gguf.MODEL_ARCH.LLAMA,
    "Qwen3ForCausalLM": gguf.MODEL_ARCH.QWEN3,
    "GPT2LMHeadModel": gguf.MODEL_ARCH.GPT2,
}
FORMATS = {"f32": Format.F32, "f16": Format.F16, "bf16": Format.BF16, "q8_0": Format.Q8_0}
_FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}
_TORCH = {Format.F32: torch.float32, Format.F16: torch.float16, Format.BF16: torch.bfloat16}
_BLOCK = 32  # values that share a scale in Q8_0
_LARGEST_F16 = 65504.0
_TO_HF = "export --to hf can hold this model"


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


def refuse_unknown(config: ModelConfig) -> None:
    """Refuse a model that llama.cpp would compute differently.

    Raises:
        RefusedError: names the switch.
    """
    kind = architecture(config)
    scaling = config.rope_scaling
    why = ""
    if kind != "GPT2LMHeadModel" and config.mlp != "swiglu":
        why = f"mlp {config.mlp}: llama.cpp computes {_ARCHITECTURES[str(kind)].name} with swiglu"
    elif kind == "Qwen3ForCausalLM" and scaling is not None and scaling.kind == "llama3":
        why = "qk_norm with rope_scaling llama3: llama.cpp stretches Qwen3's rotations only evenly"
    if why:
        raise RefusedError("No GGUF file can hold this model.", found=why, remedy=_TO_HF)


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
    ) -> None:
        self._config, self._tokenizer, self._words = model.config, tokenizer, words
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
            self._describe(writer)
            self._describe_tokenizer(writer)
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
        for theirs, tensor in state_to_hf(model).items():
            name = names.get_name(theirs, try_suffixes=(".weight", ".bias"))
            assert name is not None, theirs
            module, kind = theirs.split(".")[-2:]
            if self._arch == gguf.MODEL_ARCH.GPT2 and module.startswith("c_") and kind == "weight":
                tensor = tensor.T
            paired = heads.get(module, 0) if self._arch == gguf.MODEL_ARCH.LLAMA else 0
            shape = tuple(tensor.shape)
            yield name, _Entry(_getter(tensor, paired), shape, self._format(name, shape))
        scaling = self._config.rope_scaling
        if scaling is not None and scaling.kind == "llama3":
            plain = self._config.model_copy(update={"rope_scaling": None})
            factors = inverse_wavelengths(plain) / inverse_wavelengths(self._config)
            yield "rope_freqs.weight", _Entry(lambda: factors, tuple(factors.shape), Format.F32)

    def _format(self, name: str, shape: tuple[int, ...]) -> Format:
        wanted = FORMATS[self._dtype]
        fits = wanted != Format.Q8_0 or shape[-1] % _BLOCK == 0
        return wanted if _is_matrix(name, shape) and fits else Format.F32

    def _describe(self, writer: gguf.GGUFWriter) -> None:
        config = self._config
        writer.add_name(self._name)
        writer.add_type("model")
        writer.add_file_type(_FILE_TYPES[self._dtype])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        writer.add_vocab_size(config.vocab_size)
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_layers)
        writer.add_feed_forward_length(config.mlp_size)
        writer.add_head_count(config.num_heads)
        writer.add_head_count_kv(config.kv_heads)
        writer.add_key_length(config.head_size)
        writer.add_value_length(config.head_size)
        if config.position == "learned":
            writer.add_layer_norm_eps(config.layer_norm_eps)
            return
        writer.add_layer_norm_rms_eps(config.layer_norm_eps)
        writer.add_rope_dimension_count(config.head_size)
        writer.add_rope_freq_base(config.rope_theta)
        if config.rope_scaling is not None and config.rope_scaling.kind == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(config.rope_scaling.factor)

    def _describe_tokenizer(self, writer: gguf.GGUFWriter) -> None:
        words, tokenizer = self._words, self._tokenizer
        if words is None or tokenizer is None:
            writer.add_tokenizer_model("no_vocab")
            return
        writer.add_tokenizer_model(words.model)
        writer.add_tokenizer_pre(words.pre)
        writer.add_token_list(words.tokens)
        writer.add_token_types(words.types)
        if words.scores is not None:
            writer.add_token_scores(words.scores)
            writer.add_remove_extra_whitespaces(False)
        if words.merges is not None:
            writer.add_token_merges(words.merges)
        assert tokenizer.eos_id is not None
        # A text of ours begins with BOS, or with EOS where there is none.
        writer.add_bos_token_id(tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id)
        writer.add_eos_token_id(tokenizer.eos_id)
        if tokenizer.unk_id is not None:
            writer.add_unk_token_id(tokenizer.unk_id)
        if tokenizer.pad_id is not None:
            writer.add_pad_token_id(tokenizer.pad_id)
        writer.add_add_bos_token(True)
        writer.add_add_eos_token(False)
        writer.add_add_space_prefix(words.space_prefix)
        writer.add_chat_template(tokenizer.chat_template)


def _is_matrix(name: str, shape: tuple[int, ...]) -> bool:
    """Whether it takes the wanted format; learned positions are added, not multiplied."""
    return len(shape) > 1 and not name.startswith("position")


def _getter(tensor: Tensor, heads: int) -> Callable[[], Tensor]:
    return (lambda: _neighbours(tensor, heads)) if heads else (lambda: tensor)


def _neighbours(rows: Tensor, heads: int) -> Tensor:
    """Rows of queries or keys (heads * head_dim, ...) with the channels i and i + head_dim/2 of
    each head, which turn together, side by side: llama.cpp's order for Llama."""
    pairs = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return pairs.transpose(1, 2).reshape(rows.shape)


def _converted(name: str, tensor: Tensor, wanted: Format) -> np.ndarray[Any, Any]:
    """`tensor` in the bytes of the file.

    Raises:
        RefusedError: float16 cannot hold a value.
    """
    tensor = tensor.detach().cpu()
    if wanted == Format.Q8_0:
        found: np.ndarray[Any, Any] = gguf.quants.quantize(tensor.float().numpy(), wanted)
        return found
    if wanted == Format.F16 and tensor.abs().max() > _LARGEST_F16:
        raise RefusedError(
            f"float16 cannot hold {name}.",
            found=f"a weight of {tensor.abs().max().item():.3g}, beyond {_LARGEST_F16:,.0f}",
            remedy="--dtype bf16 or --dtype f32",
        )
    tensor = tensor.to(_TORCH[wanted]).contiguous()
    return tensor.view(torch.int16).numpy() if wanted == Format.BF16 else tensor.numpy()


def metadata_bytes(words: Vocabulary) -> int:
    """About the size of everything in the file that is no tensor."""
    texts: Mapping[str, list[str]] = {"tokens": words.tokens, "merges": words.merges or []}
    return 65536 + sum(len(text.encode()) + 16 for part in texts.values() for text in part)
