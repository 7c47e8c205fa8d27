"""Settings as the command line that has them, for advice that can be pasted."""

from typing import Any

from pipeline.options.config import Settings, typed_in
from pipeline.options.data import Options


def train_command(settings: Settings, changes: dict[str, Any]) -> tuple[str, ...]:
    """The words after `python main.py` that train with what was typed and these `changes`, by
    dotted names; a change to None takes a typed setting back.

    The corpus is named even where nobody typed it: another may be worked on meanwhile.
    """
    config, typed = settings
    given = {f"train.{n}": getattr(config.train, n) for n in sorted(typed_in("train", typed))}
    if "dataset.source" in typed or config.train.data is None:
        given["source"] = config.source
    anew = {"model.preset", "model.depth"} & changes.keys()
    if not anew:
        for name in sorted(typed_in("model", typed)):
            given[f"model.{name}"] = getattr(config.model, name, None)
    flags = [flag for name, value in (given | changes).items() for flag in _flag(name, value)]
    return ("train", *flags)


def changed_flags(options: Options, *left_out: str) -> list[str]:
    """The flags of all settings of a stage that are not at their defaults, but for some."""
    names = [name for name in options.model_fields_set if name not in left_out]
    fields, values = type(options).model_fields, {name: getattr(options, name) for name in names}
    changed = [n for n in fields if n in values and values[n] != fields[n].default]
    return [flag for name in changed for flag in _flag(name, values[name])]


def _flag(dotted: str, value: object) -> list[str]:
    name = dotted.removeprefix("train.").replace("_", "-")
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [] if value is None else [f"--{name}", str(value)]
