"""Command lines as lists of words: laid over each other so that later flags win, and shortened.

Knows the settings by name only as far as it must: which flag means which setting, and which take
no value.
"""

from collections.abc import Iterator, Sequence

from pydantic.fields import FieldInfo

from app.commands.flags import names_corpus, section_model, short_flag
from pipeline.options.config import Config
from pipeline.stages import Stage

_POSITIONAL = ""


def overlaid(stage: Stage, typed: Sequence[str], more: Sequence[str]) -> list[str]:
    """The words `typed`, without the settings that `more` gives anew, and `more`.

    >>> overlaid(train, ["--batch-size", "16", "--test"], ["--batch-size", "8"])
    ["--test", "--batch-size", "8"]
    """
    given = {key for key, _ in _settings(stage, more)}
    kept = [words for key, words in _settings(stage, typed) if key not in given]
    return [word for words in (*kept, more) for word in words]


def without(stage: Stage, typed: Sequence[str], *names: str) -> list[str]:
    """The words `typed` without the stage's own settings `names`, such as "resume"."""
    dropped = {f"{stage.section}.{name}" for name in names}
    return [word for key, words in _settings(stage, typed) if key not in dropped for word in words]


def _settings(stage: Stage, words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Each setting by its dotted path, with its words; values without a flag have no path."""
    at = 0
    while at < len(words):
        word = words[at]
        if not word.startswith("--"):
            yield _POSITIONAL, [word]
            at += 1
            continue
        key, takes_value = _meaning(stage, word)
        end = at + 1
        while takes_value and "=" not in word and end < len(words) and not _is_flag(words[end]):
            end += 1
        yield key, list(words[at:end])
        at = end


def _is_flag(word: str) -> bool:
    return word.startswith("--")


def _meaning(stage: Stage, word: str) -> tuple[str, bool]:
    """The dotted path of a flag's setting, and whether a value follows."""
    known = {s: section_model(s).model_fields for s in filter(None, (stage.section, stage.also))}
    flag = word.partition("=")[0]
    named = {short_flag(field): name for fields in known.values() for name, field in fields.items()}
    name = named.get(flag, flag[2:].replace("-", "_"))
    if name == "source" and names_corpus(stage):
        name = "dataset.source"
    section, dot, own = name.rpartition(".")
    if not dot:
        homes = [s for s, fields in known.items() if name in fields or _positive(name) in fields]
        section, own = (homes[0] if homes else ""), name
    fields = known.get(section) or _fields(section)
    if own not in fields and _positive(own) in fields:
        return f"{section}.{_positive(own)}", False
    field = fields.get(own)
    is_switch = own == "json" if field is None else field.annotation is bool
    return f"{section}.{own}", not is_switch


def _positive(name: str) -> str:
    return name.removeprefix("no_")


def _fields(section: str) -> dict[str, FieldInfo]:
    """The settings of another section of config.json; those of a part of one are not listed."""
    return dict(section_model(section).model_fields) if section in Config.model_fields else {}
