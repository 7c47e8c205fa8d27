"""The names that a setting may have here: sources, tokenizers, runs, tasks. Knows no widgets."""

from collections.abc import Callable
from pathlib import Path

from app.tui.forms.field_spec import Field
from pipeline import corpora
from pipeline.options.config import Config
from pipeline.runs import folders as runs
from pipeline.runs import inventory
from pipeline.source_table import SOURCES

TASKS_FIELD = "benchmark.tasks"


def namer(field: Field) -> Callable[[Config], list[str]] | None:
    """What lists the names for a setting, reading folders; None where it takes no names."""
    name = field.path.rpartition(".")[2]
    return _BY_PATH.get(field.path) or _BY_NAME.get(name)


def _sources(config: Config) -> list[str]:
    """Those we know, then those that only have a folder."""
    known = [source.name for source in SOURCES]
    there = [path.name for path in _folders(config.paths.data_dir / "raw")]
    return _printable(dict.fromkeys(known + there))


def _corpora(config: Config) -> list[str]:
    return _printable(dict.fromkeys(corpora.corpora(config.paths.data_dir)))


def _tokenizers(config: Config) -> list[str]:
    folders = _folders(config.paths.tokenizers_dir)
    return _printable({path.name: None for path in folders if (path / "tokenizer.json").is_file()})


def _runs(config: Config) -> list[str]:
    """Newest first."""
    try:
        return _printable({run.name: None for run in runs.runs(config.paths.checkpoints_dir)})
    except OSError:
        return []


def _resumable(command: str) -> Callable[[Config], list[str]]:
    """The runs that a stage trains."""

    def names(config: Config) -> list[str]:
        home = config.paths.checkpoints_dir
        found = [name for name in _runs(config) if runs.trained_by(home / name) == command]
        return ["auto", *found] if found else []

    return names


def _example_sets(config: Config) -> list[str]:
    """Newest first."""
    made = corpora.example_sets(config.paths.data_dir)
    return _printable({folder.name: None for folder, _ in made})


def _checkpoints(config: Config) -> list[str]:
    """Runs, newest first, and then each of their checkpoints, by step."""
    names = _runs(config)
    return names + _printable(
        {
            str(checkpoint.path): None
            for name in names
            for checkpoint in reversed(
                inventory.checkpoints_in(config.paths.checkpoints_dir / name)
            )
        }
    )


def _tasks(config: Config) -> list[str]:
    """Those that need no network first."""
    from pipeline.evaluation.tasks import TASKS

    return sorted(TASKS, key=lambda name: TASKS[name].embedded is None)


def _folders(parent: Path) -> list[Path]:
    try:
        return sorted(path for path in parent.iterdir() if path.is_dir())
    except OSError:
        return []


def _printable(names: dict[str, None]) -> list[str]:
    """What can be typed: a name with control characters cannot."""
    return [name for name in names if name.isprintable() and not name.startswith(".")]


_BY_NAME = {"source": _sources, "tokenizer": _tokenizers, "checkpoint": _runs, "init_from": _runs}
_BY_PATH = {
    "benchmark.checkpoint": _checkpoints,
    "benchmark.every_checkpoint": _runs,
    TASKS_FIELD: _tasks,
    "benchmark.samples": lambda _: ["all"],
    "download.name": _sources,
    "lima.from_corpus": _corpora,
    "sft.data": _example_sets,
    "sft.resume": _resumable("sft"),
    "tokenize.load": _tokenizers,
    "train.resume": _resumable("train"),
}
