"""The embedded corpus: the library of the running Python, and its language reference.

Nothing is downloaded or written; the files are read where the interpreter keeps them.
"""

import sysconfig
from collections.abc import Iterator
from pathlib import Path

from pipeline.sources.items import Input, as_input
from utils.errors import HatcheryError

# Tests repeat themselves; the others are tables, generated code, or programs of their own.
_LEFT_OUT = frozenset(
    {
        *("test", "tests", "idlelib", "lib2to3", "turtledemo", "encodings", "pydoc_data"),
        *("site-packages", "dist-packages", "__pycache__", "ensurepip", "lib-dynload"),
        *("_sysconfigdata", "config", "__phello__"),
    }
)
_GENERATED = ("_sysconfigdata", "_pydatetime_data")
_TABLES = frozenset({"html/entities.py", "keyword.py", "token.py", "symbol.py", "this.py"})
_LARGEST = 512 * 1024


def library_folder() -> Path:
    """Where the running interpreter keeps its library.

    Raises:
        HatcheryError: this Python has no library as files (it is frozen or zipped).
    """
    folder = Path(sysconfig.get_path("stdlib"))
    if not (folder / "os.py").is_file():
        raise HatcheryError(
            "This Python does not keep its library as source files.",
            found=f"no os.py in {folder}",
            remedy="use another Python, or text of your own: {}",
            commands=[("cleanup", "--input", "FOLDER")],
        )
    return folder


def library_inputs() -> list[Input]:
    """The library's modules, sorted, and the topics of its reference where they are shipped."""
    folder = library_folder()
    inputs = [as_input(path, path.relative_to(folder).as_posix()) for path in _modules(folder)]
    topics = folder / "pydoc_data" / "topics.py"
    if topics.is_file():
        inputs.append(Input(topics, "pydoc_data/topics.py", "topics", topics.stat().st_size))
    return inputs


def _modules(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            if not entry.name.startswith("config-") and entry.name not in _LEFT_OUT:
                yield from _modules(entry)
        elif (
            entry.suffix == ".py"
            and not entry.name.startswith(_GENERATED)
            and not entry.as_posix().endswith(tuple(_TABLES))
            and 0 < entry.stat().st_size <= _LARGEST
        ):
            yield entry
