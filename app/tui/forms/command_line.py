"""Changed settings as the command line that means the same, and such a line as changes."""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import to_jsonable_python

from app.commands.flags import names_corpus
from app.tui.forms.field_spec import Field, fields_of
from pipeline.options.config import Config, typed_in
from pipeline.stages import Stage
from utils.errors import as_typed


class TypedArguments(NamedTuple):
    """What arguments say: settings by section.name as JSON would hold them, and `--config`."""

    changes: dict[str, Any]
    file: Path | None = None


def arguments(
    stage: Stage,
    typed: Mapping[str, Any],
    file: Path | None = None,
    *,
    proposed: Collection[str] = (),
) -> list[str]:
    """The arguments after the stage's command that set exactly `typed`.

    A stage's own options have bare names, and so has its corpus where it is among the `proposed`
    ones; those of other sections have their path.
    """
    words: list[str] = []
    own = [section for section in (stage.section, stage.also) if section]
    for section in dict.fromkeys([*own, *Config.model_fields]):
        for field in fields_of(section):
            if field.path in typed:
                corpus = field.path == "dataset.source" and names_corpus(stage)
                bare = section in own or (corpus and field.path in proposed)
                flags = _flags(field, typed[field.path], bare=bare)
                words = flags + words if _is_positional(flags) else words + flags
    return [*words, *([f"--config={file}"] if file is not None else [])]


def shell_line(stage: Stage, words: Sequence[str]) -> str:
    """The whole command, quoted for a shell."""
    return as_typed([stage.command, *words])


def _flags(field: Field, value: Any, *, bare: bool) -> list[str]:
    section, _, name = field.path.partition(".")
    name = name.replace("_", "-")
    prefix = "" if bare else f"{section.replace('_', '-')}."
    if field.kind == "switch":
        return [f"--{prefix}{'' if value else 'no-'}{name}"]
    flag = f"--{prefix}{name}"
    if isinstance(value, list):
        return _listed(flag, [str(item) for item in value], paths=field.kind == "paths")
    text = "null" if value is None else json.dumps(value) if field.kind == "json" else str(value)
    if isinstance(value, float):
        text = text.removesuffix(".0")
    if field.positional and bare and text and not text.startswith("-"):
        return [text]
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]


def _listed(flag: str, items: Sequence[str], *, paths: bool) -> list[str]:
    """One flag for all, where none of them could be taken for another flag, or a path for JSON."""
    if paths:
        items = [f"./{item}" if item.startswith(("-", "[", "{")) else item for item in items]
    if any(item.startswith("-") for item in items):
        return [f"{flag}={item}" for item in items]
    return [flag, *items]


def _is_positional(flags: Sequence[str]) -> bool:
    return len(flags) == 1 and not flags[0].startswith("-")


def parsed_changes(stage: Stage, words: Sequence[str]) -> TypedArguments:
    """What arguments of `stage` say, as the command line itself understands them.

    Raises:
        UsageError: there is no such flag, or a value is not valid.
    """
    if not words:
        return TypedArguments({})
    from app.commands.parser import parse_stage  # cyclopts, 100 ms

    plain, file = _without_file(words)
    config, typed = parse_stage([stage.command, *plain]).settings
    changes = {}
    for section in Config.model_fields:
        values = getattr(config, section)
        for name in sorted(typed_in(section, typed)):
            outer = name.partition(".")[0]
            given = getattr(values, outer) if outer in values.model_fields_set else None
            changes[f"{section}.{outer}"] = to_jsonable_python(given)
    return TypedArguments(changes, file)


def _without_file(words: Sequence[str]) -> tuple[list[str], Path | None]:
    """Arguments without `--config FILE`, and that file."""
    kept, file = [], None
    rest = iter(words)
    for word in rest:
        if word == "--config":
            file = Path(next(rest, ""))
        elif word.startswith("--config="):
            file = Path(word.removeprefix("--config="))
        else:
            kept.append(word)
    return kept, file
