"""`python main.py` typed with any Python finds the one that has our packages, or says how."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose environment, if any, is made by the test."""
    (tmp_path / "app").mkdir()
    for name in ("main.py", "app/__init__.py", "app/environment.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def bare(checkout: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """main.py under this Python without site-packages."""
    command = [sys.executable, "-S", "-E", str(checkout / "main.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_it_goes_on_in_the_environment_that_make_filled(checkout: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    done = bare(checkout, "train", "--name", "two words")
    assert done.stdout == f"{checkout}/main.py train --name two words\n"


def test_without_one_it_names_the_command(checkout: Path) -> None:
    done = bare(checkout)
    assert done.returncode == 2
    assert "make demo" in done.stderr
    assert "Traceback" not in done.stderr
