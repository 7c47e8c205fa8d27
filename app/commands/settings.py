"""config.json as the commands and the app read it."""

from pathlib import Path
from typing import Any

from pipeline.options.config import Config, Settings
from utils.config import COMMAND_LINE, Layer, nest, read_layers, resolve

CONFIG_FILE = Path("config.json")


def load_config(flat: dict[str, Any], file: Path | None = None) -> Settings:
    """Settings in order of strength: those typed, `flat` by dotted names, `--config`, config.json,
    defaults.

    Raises:
        UsageError: a file or value is not valid.
    """
    there = CONFIG_FILE.exists() or CONFIG_FILE.is_symlink()  # a link that leads nowhere is a fault
    layers = read_layers(CONFIG_FILE) if there else []
    if file is not None:
        layers += read_layers(file)
    layers.append(Layer(COMMAND_LINE, nest(flat)))
    config = resolve(Config, layers)
    return Settings(config if file is None else config.read_from(file), frozenset(flat))
