"""A checkpoint as a clean Hugging Face folder: weights, description, tokenizer, sampling."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.checkpoint import CONFIG, WEIGHTS
from model.gpt import GPT
from model.huggingface.config import config_to_hf, is_of_others, read_json_object
from model.huggingface.generation_config import FILE as GENERATION
from model.huggingface.generation_config import as_json, read_generation_config
from model.huggingface.weights import state_to_hf
from model.tensors import write_tensors
from pipeline.options.config import InferenceOptions
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.artefacts import FolderBuilder
from utils.files import write_json

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


class HfModel:
    """What the folder will hold: `describe` writes all but the weights, `write_weights` those.
    `origin` is the folder or file of the weights:
    what it says of the texts that they write is said here too."""

    def __init__(self, model: GPT, tokenizer: Tokenizer, dtype: torch.dtype, origin: Path) -> None:
        self._model, self._tokenizer, self._dtype = model, tokenizer, dtype
        self._of_others = is_of_others(origin)
        self._declared = read_json_object(origin / CONFIG) if self._of_others else {}
        self._generation = read_generation_config(origin)
        if not self._generation.ends:
            self._generation = self._generation.with_end(tokenizer.eos_id)
        self._weights: Mapping[str, Tensor] = state_to_hf(model)

    @property
    def bytes(self) -> int:
        """Size of all tensors."""
        return sum(tensor.numel() for tensor in self._weights.values()) * self._dtype.itemsize

    def describe(self, builder: FolderBuilder) -> None:
        """Write tokenizer, description and sampling, each file as a unit of `builder`."""
        for name, data in self._tokenizer.files().items():
            builder.write(name, data)
        config = self._config()
        for name, value in ((CONFIG, config), (GENERATION, self._sampling(config))):
            builder.commit(name, {name: write_json(builder.path / name, value)})

    def write_weights(self, builder: FolderBuilder) -> None:
        """Write the weights as a unit of `builder`."""
        path: Path = builder.path / WEIGHTS
        builder.commit(WEIGHTS, {WEIGHTS: write_tensors(path, self._weights, self._dtype)})

    def _config(self) -> dict[str, Any]:
        ends = self._generation.ends
        described = config_to_hf(
            self._model.config,
            bos_token_id=self._tokenizer.bos_id,
            eos_token_id=as_json(ends),
            pad_token_id=self._tokenizer.pad_id,
            dtype=str(self._dtype).removeprefix("torch."),
        )
        if self._of_others:
            del described["hatchery"]  # it says that we trained them: `is_of_others`
            described |= {name: self._declared.get(name) for name in _IDS}
        return described

    def _sampling(self, config: Mapping[str, Any]) -> Mapping[str, Any]:
        """The defaults that came with the weights; ours, where we trained them and none came."""
        if self._generation.content is not None:
            return self._generation.content
        ids = {name: config[name] for name in _IDS}
        if self._of_others:
            return ids
        ours = InferenceOptions()
        return ids | {
            "do_sample": True,
            "temperature": ours.temperature,
            "top_k": ours.top_k,
            "top_p": ours.top_p,
            "max_new_tokens": ours.max_length,
        }
