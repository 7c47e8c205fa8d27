"""A model's description in files: our own keys, and Hugging Face's config.json both ways. Never
imports torch.

A setting that changes the arithmetic and that we do not compute is refused by its key. A
combination of switches that no family holds is written as `HatcheryForCausalLM`: only we can open
it.
"""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model.config import ModelConfig
from model.huggingface.families import FAMILIES, family_of
from model.huggingface.family import unsupported
from utils.errors import UsageError

_OURS_ALONE = ("HatcheryForCausalLM", "hatchery")


def read_model_config(path: Path) -> ModelConfig:
    """The model described by a config.json of ours (its "model" section), by a file of the model's
    keys alone, or by the config.json of a Hugging Face folder.

    Raises:
        UsageError: unreadable, not JSON, or a key or value that is not valid; names it.
    """
    found = read_json_object(path)
    if "model_type" in found or "hatchery" in found:
        return config_from_hf(found, where=str(path))
    if isinstance(found.get("model"), dict):
        return parse_model_config(found["model"], where=str(path), prefix="model.")
    return parse_model_config(found, where=str(path))


def read_json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        UsageError: it cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not valid JSON: {error}.") from error
    if not isinstance(found, dict):
        raise UsageError(f"{path} is not a JSON object.", found=type(found).__name__)
    return found


def config_from_hf(found: Mapping[str, Any], *, where: str = "config.json") -> ModelConfig:
    """The model that a Hugging Face config.json describes.

    Raises:
        UsageError: an architecture or a setting that this program does not compute; names the key.
    """
    if isinstance(found.get("hatchery"), dict):
        return parse_model_config(found["hatchery"], where=where, prefix="hatchery.")
    families = {family.model_type: family for family in FAMILIES}
    kind = found.get("model_type")
    if kind not in families:
        raise unsupported(where, "model_type", kind, ", ".join(families))
    if found.get("quantization_config") is not None:
        raise unsupported(where, "quantization_config", "quantized weights", "plain weights")
    return parse_model_config(families[kind].read(found, where), where=where)


def is_of_others(path: Path) -> bool:
    """Whether weights come from elsewhere: what we trained has our own description, which an export
    of weights of others does not write.

    Raises:
        UsageError: its config.json cannot be read.
    """
    return path.is_dir() and not isinstance(
        read_json_object(path / "config.json").get("hatchery"), dict
    )


def config_to_hf(
    config: ModelConfig,
    *,
    bos_token_id: int | None = None,
    eos_token_id: int | list[int] | None = None,
    pad_token_id: int | None = None,
    dtype: str = "float32",
) -> dict[str, Any]:
    """The content of config.json, for transformers 5 and 4; our own description rides along."""
    family = family_of(config)
    architecture, model_type = (
        _OURS_ALONE if family is None else (family.architecture, family.model_type)
    )
    shared = {
        "architectures": [architecture],
        "model_type": model_type,
        "vocab_size": config.vocab_size,
        "bos_token_id": bos_token_id,
        "eos_token_id": eos_token_id,
        "pad_token_id": pad_token_id,
        "tie_word_embeddings": config.tie_word_embeddings,
        "initializer_range": config.initializer_range,
        "use_cache": config.use_cache,
        "dtype": dtype,
        "torch_dtype": dtype,
        "hatchery": config.model_dump(mode="json"),
    }
    return shared if family is None else shared | family.write(config)


def parse_model_config(values: Mapping[str, Any], *, where: str, prefix: str = "") -> ModelConfig:
    """Validate `values`; `where` and `prefix` tell the reader of an error where they stand.

    Raises:
        UsageError: names the dotted path, what was found, and the valid names.
    """
    try:
        return ModelConfig.model_validate_json(json.dumps(dict(values)))
    except ValidationError as error:
        first = error.errors()[0]
        key = prefix + ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            valid = list(ModelConfig.model_fields)
            close = difflib.get_close_matches(str(first["loc"][-1]), valid, n=1)
            meant = f" Did you mean {prefix}{close[0]}?" if close else ""
            raise UsageError(
                f"{where}: {key} is not a setting of the model.{meant}",
                remedy=f"valid names: {', '.join(valid)}",
            ) from error
        if not first["loc"]:
            raise UsageError(f"{where}: {message}.") from error
        raise UsageError(f"{where}: {key}: {message}.", found=repr(first["input"])) from error
