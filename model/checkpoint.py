"""Checkpoints: folders that are Hugging Face models and hold all that a run needs to go on.

`model.safetensors`, `config.json` and the tokenizer's files open in transformers; beside them lie
`optimizer.safetensors` and `state.json`, and the manifest with every file's checksum. Older
layouts (a folder without a manifest, sharded weights, `.pt` files) are read, never written.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.config import ModelConfig, parameter_count
from model.device import dtype_on
from model.gpt import GPT
from model.huggingface.config import (
    config_to_hf,
    parse_model_config,
    read_json_object,
    read_model_config,
)
from model.huggingface.generation_config import FILE as GENERATION
from model.huggingface.generation_config import GenerationConfig, as_json
from model.huggingface.peft import (
    ADAPTER,
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    adapter_config,
    adapter_tensors,
    load_adapters,
    read_settings,
)
from model.huggingface.weights import refuse_mismatch, state_from_hf, state_to_hf
from model.language_model import LanguageModel
from model.lora import adapters, add_adapters
from model.quantization.layers import Form
from model.quantization.model import QuantizedGPT
from model.tensors import read_pickled, read_tensors, tensor_count, total_bytes, write_tensors
from utils.artefacts import MANIFEST, Source, build_folder, read_manifest
from utils.errors import RefusedError, UsageError
from utils.files import require_space
from utils.units import human_bytes
from utils.verification import verify

WEIGHTS, OPTIMIZER = "model.safetensors", "optimizer.safetensors"
CONFIG, STATE, INDEX = "config.json", "state.json", "model.safetensors.index.json"
PICKLED = "pytorch_model.bin"
_PREFIXES = ("_orig_mod.", "module.")  # left by torch.compile and DistributedDataParallel
_MODEL_KEYS = ("model", "model_state_dict", "state_dict")
_SMALL_FILES = 1 << 20
_LARGEST_TABLE = 2 << 30  # bytes of rotations for all positions: those of a million take 1 GiB


def save_checkpoint(
    folder: Path,
    model: GPT,
    *,
    tokenizer_files: Mapping[str, Path | bytes],
    bos_token_id: int | None,
    eos_token_id: int | None,
    pad_token_id: int | None,
    generation: GenerationConfig | None = None,
    optimizer_state: Mapping[str, Tensor] | None,
    state: Mapping[str, Any],
    command: str,
    options: Mapping[str, Any],
    inputs: Sequence[Source] = (),
) -> None:
    """Write a checkpoint all or nothing; an older one at `folder` stays until this one is whole.

    `state` is JSON: step, position in the data, scores; floats come back bit for bit.
    `generation` is what the weights that training began with declared: its ends come first, and
    its file is kept. Of an adapted model the weights are merged, and the subfolder `adapter` holds
    the adapters themselves in PEFT's files.

    Raises:
        DiskFullError: too little room, found before the first byte or while writing.
        RefusedError: another process is writing the same checkpoint.
        ValueError: `state` holds NaN, infinity or something that is not JSON.
    """
    weights = state_to_hf(model)
    generation = (generation or GenerationConfig()).with_end(eos_token_id)
    described = config_to_hf(
        model.config,
        bos_token_id=bos_token_id,
        eos_token_id=as_json(generation.ends),
        pad_token_id=pad_token_id,
        dtype=str(model.dtype).removeprefix("torch."),
    )
    small = {CONFIG: _json(described), STATE: _json(state)}
    tensors = {WEIGHTS: weights}
    if adapters(model):
        small[f"{ADAPTER}/{ADAPTER_CONFIG}"] = _json(adapter_config(model))
        tensors[f"{ADAPTER}/{ADAPTER_WEIGHTS}"] = adapter_tensors(model)
    if optimizer_state is not None:
        tensors[OPTIMIZER] = dict(optimizer_state)
    if generation.content is not None:
        small[GENERATION] = _json(generation.content)
    for name, content in tokenizer_files.items():
        small[name] = content if isinstance(content, bytes) else content.read_bytes()
    needed = sum(map(total_bytes, tensors.values()))
    require_space(folder, needed + sum(map(len, small.values())) + _SMALL_FILES)
    with build_folder(
        folder, kind="checkpoint", command=command, options=options, inputs=inputs
    ) as builder:
        for name in list(builder.units):  # leftovers of a killed save: tensors may have changed
            (builder.path / name).unlink()
            del builder.units[name]
        for name, data in small.items():
            builder.write(name, data)
        for name, values in tensors.items():
            builder.commit(name, {name: write_tensors(builder.path / name, values)})


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode()


def load_weights(
    path: Path,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    config: ModelConfig | None = None,
) -> LanguageModel:
    """The model in a checkpoint folder, a Hugging Face folder or a `.pt` file, in eval mode.

    `dtype` converts the weights; None keeps that of the file. `config` takes the place of the
    file's own description, for switches that leave the weights alone, such as dropout.

    Raises:
        RefusedError: a file is missing or damaged, or tensors and description do not fit.
        UsageError: config.json describes a model that this program does not compute.
    """
    described, state = read_weights(path)
    with torch.device("meta"):  # no time is spent on fresh weights
        model = LanguageModel(config or described)
    _refuse_misfit(model, state)
    stored = state["embedding.weight"].dtype
    model = model.to(dtype_on(torch.device(device), dtype or stored)).to_empty(device=device)
    model.load_state_dict(state)
    return model.eval()


def load_quantized(
    path: Path, form: Form, device: torch.device, dtype: torch.dtype
) -> QuantizedGPT:
    """The same model with its matrices in 8 or 4 bits, and `dtype` for all else.

    Raises:
        RefusedError, UsageError: as `load_weights`.
    """
    config, state = read_weights(path)
    with torch.device("meta"):
        _refuse_misfit(GPT(config), state)
    return QuantizedGPT(config, state, form, device, dtype)


def read_weights(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """What model is in a file or folder, and its tensors under our names, on the CPU.

    Raises:
        RefusedError, UsageError: as `load_weights`.
    """
    if not path.is_dir():
        return _read_pt_file(path)
    config = load_config(path)
    return config, state_from_hf(_folder_tensors(path), config)


def describe(path: Path) -> ModelConfig:
    """The model that a checkpoint folder, a Hugging Face folder or a `.pt` file holds.

    Raises:
        RefusedError, UsageError: as `load_config`; a `.pt` file that does not say what it holds.
    """
    return load_config(path) if path.is_dir() else _read_pt_file(path)[0]


def load_config(folder: Path) -> ModelConfig:
    """The model that a checkpoint folder holds.

    Raises:
        RefusedError: no checkpoint there, or config.json differs from its checksum.
        UsageError: it describes a model that this program does not compute, or a larger one than
            the weights beside it can be.
    """
    _verify(folder, [CONFIG])
    config = read_model_config(folder / CONFIG)
    stored = _stored(folder)
    if stored is not None:
        _refuse_absurd(folder / CONFIG, config, *stored)
    return config


def _stored(folder: Path) -> tuple[int, int] | None:
    """Tensors in the files of a folder, and the bytes of these; None where no weights are there
    that can be read, which loading them will tell."""
    files = [folder / WEIGHTS]
    if not files[0].is_file() and (folder / INDEX).is_file():
        shards = read_json_object(folder / INDEX).get("weight_map", {}).values()
        files = [folder / str(shard) for shard in sorted({*map(str, shards)})]
    elif not files[0].is_file() and (folder / PICKLED).is_file():
        size = (folder / PICKLED).stat().st_size
        return size, size  # a tensor takes more than a byte
    try:
        return sum(map(tensor_count, files)), sum(file.stat().st_size for file in files)
    except (RefusedError, OSError):
        return None


def _refuse_absurd(where: Path, config: ModelConfig, tensors: int, stored: int) -> None:
    """Refuse sizes that weights of `stored` bytes cannot have, before anything of such a size is
    made: no format takes less than a byte for a value, and every layer has tensors of its own.

    Raises:
        UsageError: names both sizes.
    """
    angles = 8 * config.max_position_embeddings * config.head_size  # cosines and sines, float32
    if config.position == "rope" and angles > max(stored, _LARGEST_TABLE):
        raise UsageError(
            f"{where} describes a context that no such model has.",
            found=f"{config.max_position_embeddings:,} tokens, whose rotations alone take "
            f"{human_bytes(angles)}",
            remedy="set max_position_embeddings to what the model was trained with",
        )
    values = parameter_count(config)
    if values > stored or config.num_layers > tensors:
        raise UsageError(
            f"{where} describes a much larger model than the weights beside it are.",
            found=f"{config.num_layers:,} layers and {values:,} values, in files of {stored:,} "
            f"bytes with {tensors:,} tensors",
            remedy="fetch the model again, or choose another one",
        )


def load_training_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The optimizer's tensors (on the CPU) and the JSON state of a checkpoint of ours.

    Raises:
        RefusedError: the folder holds weights only, or a file is missing or damaged.
    """
    if read_manifest(folder) is None:
        raise RefusedError(
            f"{folder} cannot be resumed: it holds no training state.",
            found=f"no {MANIFEST}",
            remedy="start a new run from its weights instead",
        )
    _verify(folder, [STATE, OPTIMIZER])
    return read_tensors(folder / OPTIMIZER), read_json_object(folder / STATE)


def load_adapted(folder: Path, model: GPT) -> None:
    """Freeze `model`, which holds the base's weights, and give it the adapters that a checkpoint of
    an adapted model has, bit for bit.

    Raises:
        RefusedError: the checkpoint has no adapter, or a damaged one, or that of another model.
    """
    _verify(folder, [f"{ADAPTER}/{name}" for name in (ADAPTER_CONFIG, ADAPTER_WEIGHTS)])
    add_adapters(model, read_settings(folder / ADAPTER), seed=0)  # all that it draws is replaced
    load_adapters(folder / ADAPTER, model)


def _verify(folder: Path, names: Sequence[str]) -> None:
    """Check the files against the manifest; where there is none, that they exist."""
    manifest = read_manifest(folder)
    known = set(names) if manifest is None else set(manifest.files)
    absent = [name for name in names if name not in known or not (folder / name).is_file()]
    if absent:
        raise RefusedError(
            f"{folder} is not a whole checkpoint.",
            found=f"no {', no '.join(absent)}"
            + ("" if manifest is None else f" in its {MANIFEST}"),
            remedy="choose a checkpoint folder, such as checkpoints/run_.../checkpoint_latest",
        )
    if manifest is not None:
        try:
            verify(folder, names)
        except RefusedError as error:
            stage = manifest.made_by.command  # which an export was made by, too
            aside = f"; {stage} --resume auto sets a damaged newest one aside"
            raise RefusedError(
                error.problem,
                found=error.found,
                remedy="use another checkpoint of this run, or copy this one again"
                + (aside if manifest.kind == "checkpoint" else ""),
            ) from error


def _folder_tensors(folder: Path) -> dict[str, Tensor]:
    if (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file():
        if not (folder / WEIGHTS).exists() and (folder / PICKLED).is_file():
            return read_pickled(folder / PICKLED)
        _verify(folder, [WEIGHTS])
        return read_tensors(folder / WEIGHTS)
    shards = sorted(set(read_json_object(folder / INDEX).get("weight_map", {}).values()))
    if any(Path(shard).name != shard for shard in shards):
        raise RefusedError(f"{folder / INDEX} names a file outside of its folder.")
    _verify(folder, shards)
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        tensors |= read_tensors(folder / shard)
    return tensors


def _read_pt_file(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    """Description and weights of a `.pt` file: tensors under "model" or the like, or plain.

    The description is in the file ("config" or "model_config") or in a config.json beside it.
    """
    if not path.is_file():
        raise RefusedError(f"{path} does not exist.", remedy="choose a checkpoint folder")
    found = read_pickled(path)
    nested = next((found[key] for key in _MODEL_KEYS if isinstance(found.get(key), dict)), found)
    tensors = {_plain(name): t for name, t in nested.items() if isinstance(t, Tensor)}
    described = found.get("model_config", found.get("config"))
    if isinstance(described, dict):
        section = described.get("model", described)
        config = parse_model_config(section, where=f"the config in {path}")
    else:
        sibling = next((p / CONFIG for p in path.parents[:2] if (p / CONFIG).is_file()), None)
        if sibling is None:
            raise RefusedError(
                f"{path} does not say what model it holds.",
                found="no config in it and no config.json beside it",
                remedy=f"put the config.json that it was trained with into {path.parent}",
            )
        config = read_model_config(sibling)
    values = sum(tensor.numel() for tensor in tensors.values())
    _refuse_absurd(path, config, len(tensors), 4 * values)
    own_names = "embedding.weight" in tensors
    return config, tensors if own_names else state_from_hf(tensors, config)


def _plain(name: str) -> str:
    """`name` without the prefixes of wrappers, however deep they were stacked."""
    while name.startswith(_PREFIXES):
        name = name.split(".", 1)[1]
    return name


def _refuse_misfit(model: GPT, state: Mapping[str, Tensor]) -> None:
    """Refuse missing, unexpected or wrongly shaped tensors by name."""
    expected = model.state_dict()
    refuse_mismatch(
        [n for n in expected if n not in state], [n for n in state if n not in expected]
    )
    for name, tensor in expected.items():
        if tensor.shape != state[name].shape:
            raise RefusedError(
                f"The weights do not fit the model's description: {name} has another shape.",
                found=f"{tuple(state[name].shape)}, described as {tuple(tensor.shape)}",
            )
