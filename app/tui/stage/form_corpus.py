"""Which corpus the form of a stage is about, and what is wrong with its name. Knows no widgets."""

import difflib
from pathlib import Path

from pipeline import corpora
from pipeline.options.config import Config
from pipeline.source_table import SOURCES
from pipeline.stages import Stage
from utils.files import home_path

_TEXTS_IN = ("cleanup", "rehearse")
"""Stages whose input is texts as the user has them, rather than clean documents."""


def named_corpus(config: Config) -> str | None:
    """The corpus that a command should name, so that it means the same when it runs later; None
    where config.json names it, or where there is none yet."""
    if config.dataset.source is not None:
        return None
    meant = config.source
    there = meant != corpora.FALLBACK or corpora.corpora(config.paths.data_dir)
    return meant if there else None


def corpus_of(stage: Stage, config: Config) -> str:
    """The corpus that a stage works on with these settings."""
    return getattr(getattr(config, stage.section), "source", None) or config.source


def naming_setting(stage: Stage) -> str:
    """The setting of the stage that holds the name of a corpus or source."""
    return f"{stage.section}.{'name' if stage.command == 'download' else 'source'}"


def misplaced_path(stage: Stage, config: Config) -> Path | None:
    """The file or folder that stands where the name of a corpus belongs; None where none does."""
    section, _, name = naming_setting(stage).partition(".")
    named = getattr(getattr(config, section), name, None)
    if not named or not corpora.means_path(named, config.paths.data_dir):
        return None
    return home_path(named)


def takes_texts(stage: Stage) -> bool:
    """Whether a path that is typed as a corpus may become the stage's own input."""
    return stage.command in _TEXTS_IN


def _unknown_task(config: Config) -> str:
    """What is wrong with the tasks that are named; empty where nothing is."""
    from pipeline.evaluation.tasks import TASKS

    named = [n for typed in config.benchmark.tasks or [] for n in typed.split(",") if n.strip()]
    unknown = [name for name in named if name.strip() not in TASKS]
    if not unknown:
        return ""
    close = difflib.get_close_matches(unknown[0], TASKS, n=1)
    return f"there is no task {unknown[0]}: {f'{close[0]}?' if close else 'ctrl+o lists them'}"


def faults(stage: Stage, config: Config) -> dict[str, str]:
    """What is wrong with the names of corpora, in words, by their settings."""
    found: dict[str, str] = {}
    if stage.command == "download" and not (config.download.name or config.download.list):
        names = [source.name for source in SOURCES if source.where not in ("yours", "embedded")]
        found["download.name"] = f"which one? {', '.join(names)}"
    if stage.command == "benchmark" and (words := _unknown_task(config)):
        found["benchmark.tasks"] = words
    if (path := misplaced_path(stage, config)) is not None:
        kind = "file" if path.is_file() else "folder" if path.is_dir() else "path"
        does = "moves it to Input" if takes_texts(stage) else "opens Clean with it as Input"
        found[naming_setting(stage)] = f"that is a {kind}: Enter {does}"
    settings = dict.fromkeys([naming_setting(stage), *["cleanup.name"] * takes_texts(stage)])
    for setting in settings:
        section, _, name = setting.partition(".")
        given = getattr(getattr(config, section), name, None)
        if given and section == stage.section and not corpora.is_name(given):
            found.setdefault(setting, "becomes the name of a folder: letters, digits, _ and -")
    return found
