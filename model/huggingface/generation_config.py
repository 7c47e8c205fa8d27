"""What a Hugging Face folder says of the texts its model writes: which ids end one, and how they
are drawn by default. Never imports torch.

As in transformers, generation_config.json decides where it is there, else config.json.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.huggingface.config import read_json_object

FILE = "generation_config.json"
_CONFIG = "config.json"


@dataclass(frozen=True)
class GenerationConfig:
    """`ends` are the ids that end a text, in the order in which they are declared. `content` is
    that of generation_config.json, None where there is none."""

    ends: tuple[int, ...] = ()
    content: Mapping[str, Any] | None = None

    def with_end(self, eos: int | None) -> "GenerationConfig":
        """The same with one end more, where it is not declared."""
        if eos is None or eos in self.ends:
            return self
        ends = (*self.ends, eos)
        content = None if self.content is None else {**self.content, "eos_token_id": as_json(ends)}
        return GenerationConfig(ends, content)


def read_generation_config(path: Path) -> GenerationConfig:
    """What is declared in a folder; nothing is, beside a `.pt` file.

    Raises:
        UsageError: a file cannot be read, or holds no JSON object.
    """
    if not path.is_dir():
        return GenerationConfig()
    content = read_json_object(path / FILE) if (path / FILE).is_file() else None
    declared = read_json_object(path / _CONFIG) if content is None else content
    return GenerationConfig(_ids(declared.get("eos_token_id")), content)


def as_json(ends: tuple[int, ...]) -> int | list[int] | None:
    """Ends as both files write them: one id alone, several as a list."""
    return list(ends) if len(ends) > 1 else next(iter(ends), None)


def _ids(declared: Any) -> tuple[int, ...]:
    listed = declared if isinstance(declared, list) else [declared]
    return tuple(dict.fromkeys(i for i in listed if type(i) is int and i >= 0))
