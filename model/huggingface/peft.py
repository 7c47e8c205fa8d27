"""Adapters in the files of Hugging Face's PEFT: `adapter_config.json` and
`adapter_model.safetensors`.

The file names them after the layers of the family, "base_model.model." first. Layers that share A
here have it once each there, so that it comes back bit for bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.gpt import GPT
from model.huggingface.config import read_json_object
from model.huggingface.families import family_of
from model.huggingface.weights import refuse_mismatch
from model.lora import AdaptedLinear, LoraSettings, adapters
from model.tensors import read_tensors
from utils.errors import RefusedError

ADAPTER = "adapter"
"""The folder of an adapter in that of its checkpoint."""
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass(frozen=True)
class _Place:
    """Where the adapter of the layer `ours` lives: `sizes` rows of B in each of the layers
    `theirs`."""

    ours: str
    theirs: tuple[str, ...]
    sizes: tuple[int, ...]

    def names(self, letter: str) -> list[str]:
        return [f"base_model.model.{name}.lora_{letter}.weight" for name in self.theirs]


def adapter_config(model: GPT) -> dict[str, Any]:
    """The content of adapter_config.json for an adapted model."""
    settings = _settings(model)
    family = family_of(model.config)
    layers = {name for place in _places(model) for name in place.theirs}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": settings.base,
        "inference_mode": True,
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "target_modules": sorted({name.rpartition(".")[2] for name in layers}),
        # GPT-2's layers in transformers hold (inputs, outputs).
        "fan_in_fan_out": family is not None and family.model_type == "gpt2",
        "bias": "none",
    }


def adapter_tensors(model: GPT) -> dict[str, Tensor]:
    """The content of adapter_model.safetensors for an adapted model; views of its own tensors."""
    layers = adapters(model)
    tensors: dict[str, Tensor] = {}
    for place in _places(model):
        layer = layers[place.ours]
        parts = torch.split(layer.lora_b.detach(), list(place.sizes))
        tensors |= dict.fromkeys(place.names("A"), layer.lora_a.detach())
        tensors |= dict(zip(place.names("B"), parts, strict=True))
    return tensors


def read_settings(folder: Path) -> LoraSettings:
    """What an adapter folder says of its adapters.

    Raises:
        RefusedError: a setting that changes the arithmetic and that we do not compute.
        UsageError: the file cannot be read.
    """
    found = read_json_object(folder / ADAPTER_CONFIG)
    plain = {"peft_type": "LORA", "bias": "none", "use_rslora": False, "use_dora": False}
    for key, value in plain.items():
        if found.get(key, value) != value:
            raise RefusedError(
                f"{folder / ADAPTER_CONFIG}: {key} is not supported.",
                found=repr(found[key]),
                remedy=f"supported: {value!r}",
            )
    numbers = [found.get(key, 0) for key in ("r", "lora_alpha", "lora_dropout")]
    if not all(isinstance(number, int | float) for number in numbers) or numbers[0] < 1:
        raise RefusedError(
            f"{folder / ADAPTER_CONFIG} does not describe adapters.",
            found=f"r, lora_alpha and lora_dropout are {', '.join(map(repr, numbers))}",
        )
    rank, alpha, dropout = numbers
    return LoraSettings(rank, alpha, dropout, found.get("base_model_name_or_path"))


def load_adapters(folder: Path, model: GPT) -> None:
    """Put the matrices of an adapter folder into an adapted model, bit for bit.

    Raises:
        RefusedError: the file is missing or damaged, or holds the adapters of another model, of
            another rank, or with matrices A of their own where this model shares one.
    """
    found = read_tensors(folder / ADAPTER_WEIGHTS)
    layers, missing = adapters(model), []
    new: list[tuple[AdaptedLinear, Tensor, Tensor]] = []
    for place in _places(model):
        a, b = place.names("A"), place.names("B")
        absent = [name for name in (*a, *b) if name not in found]
        missing += absent
        if absent:
            continue
        shared, *others = [found.pop(name) for name in a]
        if not all(torch.equal(shared, other) for other in others):
            raise RefusedError(
                f"{folder} was not trained here: {', '.join(place.theirs)} share no matrix A.",
                remedy="merge it with PEFT's merge_and_unload, and begin from that model",
            )
        layer, joined = layers[place.ours], torch.cat([found.pop(name) for name in b])
        for name, tensor, own in ((a[0], shared, layer.lora_a), (b[0], joined, layer.lora_b)):
            if tensor.shape != own.shape:
                raise RefusedError(
                    f"The adapter in {folder} does not fit the model: {name} has another shape.",
                    found=f"{tuple(tensor.shape)}, expected {tuple(own.shape)}",
                )
        new.append((layer, shared, joined))
    refuse_mismatch(missing, list(found))
    with torch.no_grad():
        for layer, a_values, b_values in new:
            layer.lora_a.copy_(a_values)
            layer.lora_b.copy_(b_values)


def _settings(model: GPT) -> LoraSettings:
    return next(layer.settings for layer in adapters(model).values())


def _places(model: GPT) -> Iterator[_Place]:
    """Of each adapted layer; a model that no family holds keeps our own names."""
    layers, family = adapters(model), family_of(model.config)
    if family is None:
        for name, layer in layers.items():
            yield _Place(name, (name,), (layer.out_features,))
        return
    for entry in family.layout(model.config):
        ours, _, kind = entry.ours.rpartition(".")
        if kind == "weight" and ours in layers:
            theirs = tuple(name.rpartition(".")[0] for name in entry.theirs)
            yield _Place(ours, theirs, entry.sizes or (layers[ours].out_features,))
