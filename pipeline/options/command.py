"""Settings as the command line that has them, for advice that can be pasted."""

from typing import Any, Final

from pydantic import BaseModel

from pipeline.options.config import Settings, typed_in
from pipeline.options.data import Options

_OTHER_SECTIONS = ("paths", "dataset")  # what a training reads beside its own and the model's
_LEFT_OUT: Final = object()


def train_command(settings: Settings, changes: dict[str, Any]) -> tuple[str, ...]:
    """The words after `python main.py` that train with what was typed and these `changes`, by
    dotted names.

    The corpus is named even where nobody typed it: another may be worked on meanwhile. A run that
    goes on has its own.
    """
    config, typed = settings
    given = {f"train.{n}": getattr(config.train, n) for n in sorted(typed_in("train", typed))}
    own = config.train.data is not None or config.train.resume is not None
    if "dataset.source" in typed or not own:
        given["source"] = config.source
    if "train.max_steps" in changes:
        given.pop("train.epochs", None)  # one length is enough
    anew = {"model.preset", "model.depth"} & changes.keys()
    if not anew:
        for name in sorted(typed_in("model", typed)):
            given[f"model.{name}"] = _value(config.model, name)
    others = (name for name in sorted(typed) if name.partition(".")[0] in _OTHER_SECTIONS)
    given |= {name: _value(config, name) for name in others if name != "dataset.source"}
    given = {name: value for name, value in (given | changes).items() if value is not _LEFT_OUT}
    file = [] if config.file is None else ["--config", str(config.file)]
    return ("train", *file, *(f for name, value in given.items() for f in _flag(name, value)))


def tuning_command(settings: Settings, changes: dict[str, Any]) -> tuple[str, ...]:
    """The words after `python main.py` that tune with what was typed and these `changes`, by the
    names of settings."""
    config, typed = settings
    given = {name: getattr(config.sft, name) for name in sorted(typed_in("sft", typed))}
    if "max_steps" in changes:
        given.pop("epochs", None)  # one length is enough
    file = [] if config.file is None else ["--config", str(config.file)]
    words = [word for name, value in (given | changes).items() for word in _flag(name, value)]
    return ("sft", *file, *words)


def _value(section: BaseModel, dotted: str) -> Any:
    """A setting by its path: None where null took it back, left out where what it is a part of is
    not set."""
    value: Any = section
    for name in dotted.split("."):
        if value is None:
            return _LEFT_OUT
        value = getattr(value, name) if name in value.model_fields_set else None
    return value


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
    if isinstance(value, BaseModel):
        return [f"--{name}", value.model_dump_json(exclude_unset=True)]
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}", "null" if value is None else str(value)]
