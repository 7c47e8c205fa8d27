"""A workspace where every stage has run, for what is tried in many of its states."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.advice import LINE, made
from tests.support.servers.hub import Hub, serving

SETTINGS: dict[str, Any] = {
    "model": {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "num_kv_heads": 2},
    "cleanup": {"workers": 1, "min_words": 0},
    "tokenize": {"vocab_size": 300},
    "prepare": {"workers": 1, "window": 16},
    "train": {"max_steps": 2, "batch_size": 2, "tensorboard": False, "device": "cpu"},
    "inference": {"max_length": 2},
    "serve": {"port": 0},
    "bench": {"seconds": 0.01, "prompt": 8, "texts": 2, "batch_size": 1, "window": 8},
    "quickstart": {"max_steps": 2, "vocab_size": 300},
}
"""Trainings of two steps and the smallest of models, in config.json."""


@pytest.fixture(scope="session")
def _house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("config.json").write_text(json.dumps(SETTINGS))
        Path("notes").mkdir()
        for number in range(30):
            Path(f"notes/{number:02}.txt").write_text(f"Note {number}. {LINE * 4}")
        made("cleanup", "--input", "notes")
        made("tokenize", "--train", "char", "--name", "chars")
        made("prepare")
        made("prepare", "--test")
        made("train", "--name", "first")
    return folder


@pytest.fixture
def house(_house: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The workspace, copied; Python's own library is a few files there."""
    library = workspace / "library"
    library.mkdir()
    for name in ("os", *(f"part_{number}" for number in range(40))):
        (library / f"{name}.py").write_text(f"def {name}_read(path):\n    return path\n" * 20)
    monkeypatch.setattr("sysconfig.get_path", lambda name, *_, **__: str(library))
    monkeypatch.setenv("HF_ENDPOINT", "")
    shutil.copytree(_house, workspace, dirs_exist_ok=True, symlinks=True)
    return workspace


@pytest.fixture(scope="session")
def hub(_house: Path) -> Iterator[Hub]:
    """A hub with one model, and the tokenizer that the program advises."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(_house)
        made("export", "--output", "exported")
    files = {file.name: file.read_bytes() for file in (_house / "exported").iterdir()}
    shutil.rmtree(_house / "exported")
    with serving(dict.fromkeys(("someone/small", "codellama/CodeLlama-7b-hf"), files)) as hub:
        yield hub
