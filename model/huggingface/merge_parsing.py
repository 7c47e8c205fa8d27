"""Validates a model's settings and says what is wrong with them by name."""

import difflib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from model.config import ModelConfig
from utils.errors import UsageError


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
