"""Reads a model's description from a file and says what is wrong with it by name."""

import json
from pathlib import Path
from typing import Any

from model.config import ModelConfig
from model.huggingface.config_in import config_from_hf, parse_model_config
from utils.errors import UsageError


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
