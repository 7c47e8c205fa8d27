"""Options models as command-line flags, and typed flags as a layer of settings.

A stage's own fields are flags of their bare name; every field of every section can also be typed
with its dotted path (`--model.hidden-size 384`).
"""

import inspect
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

from cyclopts import Group, Parameter, convert
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from app.commands.settings import load_config
from pipeline.options.config import Config, Settings
from pipeline.stages import Stage
from utils.config import nested_model, valid_names
from utils.errors import UsageError

EVERYWHERE = Group("Everywhere", sort_key=90)
_OPTIONS = Group("Options", sort_key=1)
_OTHER_SECTIONS = Group("Other sections of config.json", sort_key=80)


class Invocation(NamedTuple):
    """What a stage's command line means: the stage, its settings, and whether to print JSON."""

    stage: Stage
    settings: Settings
    as_json: bool

    @property
    def config(self) -> Config:
        """All settings, typed or not."""
        return self.settings.config


def stage_command(stage: Stage, arguments: Sequence[str]) -> Callable[..., Invocation]:
    """A function whose signature is the flags of `stage` and the dotted ones in `arguments`."""

    def command(*positional: Any, **typed: Any) -> Invocation:
        typed |= dict(zip(inspect.signature(command).parameters, positional, strict=False))
        as_json, file = bool(typed.pop("json", False)), typed.pop("config", None)
        flat = {name.replace("__", "."): value for name, value in typed.items()}
        try:
            return Invocation(stage, load_config(flat, file), as_json)
        except UsageError as error:
            raise _with_flags_as_typed(error, flat, arguments) from error.__cause__

    parameters = {
        f"{section}__{name}": _parameter([section, name], field, f"--{_kebab(name)}")
        for section in filter(None, (stage.section, stage.also))
        for name, field in _in_order(section_model(section))
    }
    if names_corpus(stage):
        field = section_model("dataset").model_fields["source"]
        parameters["dataset__source"] = _parameter(
            ["dataset", "source"], field, "--source", "--dataset.source"
        )
    for path, field in _dotted(arguments):
        name = "__".join(path)
        if name in parameters and path == ["dataset", "source"]:
            continue
        bare = [f"--{_kebab(path[1])}"] if name in parameters else []
        parameters[name] = _parameter(path, field, *bare, _flag(path))
    everywhere = (
        ("config", Path | None, "Settings stronger than config.json"),
        ("json", bool | None, "Print every event as a line of JSON"),
    )
    for name, annotation, text in everywhere:
        described = Parameter(name=f"--{name}", help=text, group=EVERYWHERE, negative=())
        parameters[name] = inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[annotation, described],
        )
    ordered = sorted(parameters.values(), key=lambda parameter: parameter.kind)
    command.__signature__ = inspect.Signature(ordered)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in ordered}
    command.__doc__ = stage.purpose + "."
    return command


def _with_flags_as_typed(
    error: UsageError, paths: Iterable[str], arguments: Sequence[str]
) -> UsageError:
    """The same error whose remedy names a flag as it was typed: --batch-size, where that stood in
    the arguments and not --train.batch-size."""
    remedy = error.remedy
    typed = {argument.partition("=")[0] for argument in arguments}
    for path in paths:
        whole, bare = _flag(path.split(".")), f"--{_kebab(path.rpartition('.')[2])}"
        if whole not in typed and bare in typed:
            remedy = re.sub(rf"{re.escape(whole)}(?![\w.-])", bare, remedy)
    named = UsageError(error.problem, found=error.found, remedy=remedy)
    named.commands = error.commands
    return named


def names_corpus(stage: Stage) -> bool:
    """Whether `--source` stands for dataset.source: a stage on tokens has no setting of its own
    for the corpus that they are of."""
    return "tokens" in stage.needs


def short_flag(field: FieldInfo) -> str | None:
    """The flag that a field has beside the one of its name, such as one for a single of several
    values."""
    extra = field.json_schema_extra
    found = extra.get("flag") if isinstance(extra, dict) else None
    return found if isinstance(found, str) else None


def section_model(section: str) -> type[BaseModel]:
    """The options model of a section of config.json."""
    model = nested_model(Config.model_fields[section].annotation)
    assert model is not None
    return model


def _in_order(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    """The fields of a model as the help lists them: those that a form shows first come first."""
    common: tuple[str, ...] = getattr(model, "common_fields", ())
    names = dict.fromkeys([*common, *model.model_fields])
    return [(name, model.model_fields[name]) for name in names]


def _parameter(path: Sequence[str], field: FieldInfo, *flags: str) -> inspect.Parameter:
    """The flag of one field; None as default only means "not typed", since typed ones arrive."""
    extra = field.json_schema_extra
    positional = isinstance(extra, dict) and bool(extra.get("positional"))
    flags = (*flags, *filter(None, [short_flag(field)]))
    default = field.get_default(call_default_factory=True)
    annotation, as_json = _typed(field.annotation)
    described = Parameter(
        name=flags,
        help=_help(field, default),
        metavar="CHOICE" if _choices(field) and annotation == str | None else None,
        group=_OPTIONS if not flags[0].startswith("--" + path[0] + ".") else _OTHER_SECTIONS,
        show_default=False,
        show_choices=False,
        consume_multiple=True,
        negative=None if isinstance(default, bool) else (),
        converter=_from_json if as_json else _or_null if default is None else None,
    )
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD if positional else inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(
        "__".join(path), kind, default=None, annotation=Annotated[annotation, described]
    )


def _typed(annotation: Any) -> tuple[Any, bool]:
    """The type to read a flag as, and whether it is written as JSON: nested models and dicts."""
    parts = [annotation, *get_args(annotation)]
    nested = nested_model(annotation) is not None
    if nested or any(part is dict or get_origin(part) is dict for part in parts):
        return Any, True
    if str in parts:  # also of a union with a Literal, whose names are then not the only ones
        return str | None, False
    return annotation | None, False


def _from_json(_type: Any, tokens: Sequence[Any]) -> Any:
    try:
        return json.loads(tokens[0].value)
    except ValueError as error:
        raise ValueError("It is written as JSON, such as null or {...}.") from error


def _or_null(kind: Any, tokens: Sequence[Any]) -> Any:
    """A value as cyclopts reads it; null takes back what config.json says, also of a text."""
    return None if [token.value for token in tokens] == ["null"] else convert(kind, tokens)


def _help(field: FieldInfo, default: Any) -> str:
    notes = []
    if choices := _choices(field):
        notes.append(", ".join(choices))
    if default not in (None, "") and not isinstance(default, bool):
        notes.append(f"default: {default}")
    text = str(field.description).rstrip(".")
    return f"{text} [{'; '.join(notes)}]" if notes else text


def _choices(field: FieldInfo) -> list[str]:
    """The names that a field takes, empty where it takes any value."""
    literals = [part for part in _parts(field.annotation) if get_origin(part) is Literal]
    return [str(choice) for choice in get_args(literals[0])] if literals else []


def _parts(annotation: Any) -> Iterable[Any]:
    """An annotation and the members of its union."""
    return (annotation, *get_args(annotation))


def _dotted(arguments: Sequence[str]) -> Iterable[tuple[list[str], FieldInfo]]:
    """Paths and fields of the flags such as --model.hidden-size.

    Raises:
        UsageError: no setting has that path; says the valid names and the closest one.
    """
    for argument in arguments:
        flag = argument.partition("=")[0]
        if not flag.startswith("--") or "." not in flag or not flag[2:3].isalpha():
            continue
        path = flag[2:].replace("-", "_").split(".")
        field = _find(path)
        if field is None:
            path[-1] = path[-1].removeprefix("no_")
            field = _find(path)
        if field is None:
            raise _unknown(flag, path)
        yield path, field


def _find(path: Sequence[str]) -> FieldInfo | None:
    model: Any = Config
    field: FieldInfo | None = None
    for part in path:
        field = model.model_fields.get(part) if model is not None else None
        if field is None:
            return None
        model = nested_model(field.annotation)
    return field if len(path) > 1 else None


def _unknown(flag: str, path: Sequence[str]) -> UsageError:
    import difflib

    known = path[:-1]
    while known and not valid_names(Config, known):
        known = known[:-1]
    valid = valid_names(Config, known)
    close = difflib.get_close_matches(path[len(known)], valid, n=1, cutoff=0.5)
    meant = [*known, *close, *path[len(known) + 1 :]]
    where = ".".join(known) or "config.json"
    return UsageError(
        f"Unknown option {flag}.",
        found=f"{where} knows {', '.join(_kebab(name) for name in valid)}",
        remedy=f"did you mean {_flag(meant)}?" if close else f"leave out {flag}",
    )


def _flag(path: Sequence[str]) -> str:
    return "--" + ".".join(_kebab(part) for part in path)


def _kebab(name: str) -> str:
    return name.replace("_", "-")
