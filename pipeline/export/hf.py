"""A checkpoint as a clean Hugging Face folder: weights, description, tokenizer, sampling."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoint import CONFIG, WEIGHTS
from model.gpt import GPT
from model.huggingface.config import config_to_hf
from model.huggingface.weights import state_to_hf
from model.tensors import write_tensors
from pipeline.options.config import InferenceOptions
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.artefacts import FolderBuilder
from utils.files import write_json

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


class HfModel:
    """What the folder will hold; `write` writes it. `ends` are ids that end a text."""

    def __init__(
        self, model: GPT, tokenizer: Tokenizer, dtype: torch.dtype, ends: frozenset[int]
    ) -> None:
        self._model, self._tokenizer, self._dtype = model, tokenizer, dtype
        self._ends = sorted(ends | {i for i in (tokenizer.eos_id,) if i is not None})
        self._weights: Mapping[str, Tensor] = state_to_hf(model)

    @property
    def bytes(self) -> int:
        """Size of all tensors."""
        return sum(tensor.numel() for tensor in self._weights.values()) * self._dtype.itemsize

    def write(self, builder: FolderBuilder) -> None:
        """Write every file as a unit of `builder`."""
        for name, data in self._tokenizer.files().items():
            builder.write(name, data)
        for name, value in ((CONFIG, self._config()), ("generation_config.json", self._sampling())):
            builder.commit(name, {name: write_json(builder.path / name, value)})
        path: Path = builder.path / WEIGHTS
        builder.commit(WEIGHTS, {WEIGHTS: write_tensors(path, self._weights, self._dtype)})

    def _config(self) -> dict[str, Any]:
        described = config_to_hf(
            self._model.config,
            bos_token_id=self._tokenizer.bos_id,
            eos_token_id=self._tokenizer.eos_id,
            pad_token_id=self._tokenizer.pad_id,
            dtype=str(self._dtype).removeprefix("torch."),
        )
        return described | {"eos_token_id": self._eos()}

    def _sampling(self) -> dict[str, Any]:
        ours = InferenceOptions()
        return {
            "bos_token_id": self._tokenizer.bos_id,
            "eos_token_id": self._eos(),
            "pad_token_id": self._tokenizer.pad_id,
            "do_sample": True,
            "temperature": ours.temperature,
            "top_k": ours.top_k,
            "top_p": ours.top_p,
            "max_new_tokens": ours.max_length,
        }

    def _eos(self) -> int | list[int] | None:
        if not self._ends:
            return None
        return self._ends[0] if len(self._ends) == 1 else self._ends
