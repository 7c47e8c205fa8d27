"""Fixtures shared by all tests."""

import gc
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest

from tests.support.stage_runner import run_stage

ROOT = Path(__file__).parent.parent

# What whoever runs these tests has set for programs of their own, and no test may depend on: by
# their beginnings. The few of ours that tests read themselves are kept.
_SETTINGS = ("HATCHERY_", "XDG_", "HF_", "HUGGING", "TRANSFORMERS_", "TEXTUAL", "OPENAI_", "TERM")
_SETTINGS += ("COLUMNS", "LINES", "COLORTERM", "NO_COLOR", "FORCE_COLOR", "CLICOLOR", "TTY_")
_SETTINGS += ("DISPLAY", "WAYLAND_DISPLAY", "PYTHONIOENCODING", "PYTHONUTF8", "OMP_", "RAYON_")
_SETTINGS += ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
_KEPT = {
    "HATCHERY_KILLS",
    "HATCHERY_SHARED_DATA",
    "HATCHERY_SNAPSHOTS",
    "HATCHERY_TEST_HOME",
    "HATCHERY_TEST_PICTURES",
}


def _same_environment_for_everybody() -> TemporaryDirectory[str] | None:
    """Set here, before anything is imported that reads it, and handed on to every process that
    tests start. The folder that it makes is the home of all these: of this process and, where
    pytest-xdist runs the tests, of its workers, which import this file too."""
    for name in set(os.environ) - _KEPT:
        if name.startswith(_SETTINGS):
            del os.environ[name]
    os.environ["TERM"] = "xterm-256color"
    # Two torch threads on a core that something else uses wait for each other at every operation.
    os.environ["OMP_NUM_THREADS"] = "1"
    home = None
    if "HATCHERY_TEST_HOME" not in os.environ:
        home = TemporaryDirectory(prefix="hatchery-tests-")
        os.environ["HATCHERY_TEST_HOME"] = home.name
    os.environ["HOME"] = os.environ["HATCHERY_TEST_HOME"]
    return home


_HOME = _same_environment_for_everybody()


def pytest_unconfigure() -> None:
    if _HOME is not None:
        _HOME.cleanup()


# Ignored where a script started these tests in the background; programs they start inherit that.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def torch_for_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is foretold as where torch was built without CUDA, whose libraries take some too."""
    monkeypatch.setattr("pipeline.planning.memory.torch_built_for", lambda: "cpu")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real records kept beside the project; HATCHERY_SHARED_DATA names another place."""
    folder = Path(os.environ.get("HATCHERY_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"real records not found in {folder}")
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the working directory, as a user's would be."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Noon UTC on 21 November 2026 on an unchanging machine; see tests/support/snapshots.py."""
    from tests.support import snapshots  # loads textual

    with snapshots.frozen(monkeypatch):
        yield


WORDS = [
    "the",
    "small",
    "hen",
    "lays",
    "an",
    "egg",
    "and",
    "the",
    "old",
    "fox",
    "looks",
    "at",
    "it",
    "from",
    "under",
    "a",
    "green",
    "bush",
]


@pytest.fixture(scope="session")
def _prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with clean documents, a tokenizer and tokens, made by the real stages."""
    folder = tmp_path_factory.mktemp("prepared")
    random = Random(7)
    here = Path.cwd()
    os.chdir(folder)
    try:
        Path("notes").mkdir()
        for number in range(40):
            lines = [" ".join(random.choices(WORDS, k=12)).capitalize() + "." for _ in range(9)]
            Path(f"notes/{number:02}.txt").write_text("\n".join(lines), "utf-8")
        flags = {"source": "files"}
        run_stage("cleanup", cleanup=flags | {"input": ["notes"], "workers": 1})
        run_stage("tokenize", tokenize={"train": "char", "name": "chars", "source": "files"})
        run_stage("prepare", prepare=flags | {"tokenizer": "chars", "window": 32, "workers": 1})
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def prepared(_prepared: Path, workspace: Path) -> Path:
    """A fresh copy of a prepared workspace, as the working directory; dataset.source is files."""
    shutil.copytree(_prepared, workspace, dirs_exist_ok=True)
    Path("config.json").write_text('{"dataset": {"source": "files"}}', "utf-8")
    return workspace


@pytest.fixture(scope="module", autouse=True)
def _little_to_search_for_garbage() -> None:
    """With all that tests import, one full collection takes 0.3 s, and code that frees models
    asks for it often: what was there before a file of tests is left out."""
    gc.collect()
    gc.freeze()
