"""`python main.py` opens the app where it can be shown, and says why where it cannot."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.launcher import obstacle
from tests.support.terminals import terminal

ROOT = Path(__file__).parents[2]
MAIN = str(ROOT / "main.py")
PAINTED = "Pipeline"


@pytest.mark.parametrize(
    ("environment", "encoding", "is_terminal", "words"),
    [
        ({"TERM": "xterm"}, "utf-8", True, ""),
        ({}, "utf-8", True, ""),
        ({"TERM": "xterm"}, "ascii", True, ""),
        ({"TERM": "xterm"}, "utf-8", False, "needs a terminal"),
        ({"TERM": "dumb"}, "utf-8", True, "TERM=xterm-256color python main.py"),
        ({"TERM": "xterm"}, "iso8859-1", True, "LC_ALL=C.UTF-8 python main.py"),
    ],
)
def test_what_stands_in_the_way_is_named_with_the_way_out(
    environment: dict[str, str], encoding: str, is_terminal: bool, words: str
) -> None:
    found = obstacle(environment, encoding, terminal=is_terminal)
    assert words in found
    assert bool(found) == bool(words)


def test_without_a_terminal_it_prints_the_help_says_why_and_exits_with_2(workspace: Path) -> None:
    done = subprocess.run([sys.executable, MAIN], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "python main.py quickstart" in done.stdout
    assert "needs a terminal" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_dumb_terminal_gets_the_help_and_the_way_out(workspace: Path) -> None:
    with terminal(MAIN, environment={"TERM": "dumb"}) as opened:
        assert opened.ended() == 2
        assert "TERM=xterm-256color python main.py" in opened.text
        assert "\x1b[?1049h" not in opened.output.decode()


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "LANG": ""},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii:strict"},
    ],
    ids=["C", "C without UTF-8", "ascii"],
)
def test_a_locale_without_characters_still_draws_in_utf_8(
    environment: dict[str, str], workspace: Path
) -> None:
    with terminal(MAIN, environment=environment) as opened:
        opened.until(PAINTED)
        opened.type("q")
        assert opened.ended() == 0
        assert "╭" in opened.output.decode("utf-8", "strict")


@pytest.mark.slow
def test_no_color_is_honoured(workspace: Path) -> None:
    with terminal(MAIN, environment={"NO_COLOR": "1"}) as opened:
        opened.until(PAINTED)
        opened.type("q")
        assert opened.ended() == 0
        colours = re.findall(r"[34]8;2;(\d+);(\d+);(\d+)", opened.output.decode())
        assert colours
        assert all(len(set(colour)) == 1 for colour in colours)


@pytest.mark.slow
def test_a_window_too_small_says_so_and_comes_back_when_it_grows(workspace: Path) -> None:
    with terminal(MAIN, size=(40, 10)) as opened:
        opened.until("make the window larger")
        opened.resize(100, 30)
        grown = opened.until("quickstart", since=len(opened.output))
        opened.resize(59, 30)
        opened.until("59 x 30 now", since=grown)
        opened.type("q")
        assert opened.ended() == 0


def test_what_waits_beside_the_app_loads_nothing_large() -> None:
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import app.launcher\n"
    script += "print(*sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.decode().split()}
    assert loaded & {"textual", "rich", "pydantic", "cyclopts", "asyncio", "numpy"} == set()
