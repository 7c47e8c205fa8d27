"""No text of any file reaches the terminal as a command, on any screen."""

import re
import shutil
from pathlib import Path

import pytest

from app.tui.widgets.meter import columns, fitted
from app.tui.widgets.text import block, joined, plain
from tests.support import hostile
from tests.support.programs import tour
from tests.support.sinks import run as sinks
from tests.support.terminals import terminal
from utils.text import safe

# Everything that Textual itself may write. A colour is 24 bits; 5 and 53 are in no style of ours.
_SECONDS = 250.0  # for a tour or a group of sinks; they need 15 on a machine that is free
_GROUPS = 4  # of sinks, so that several processes can share the work
_STYLE = r"(?:0|1|2|3|4|7|9|[34]8;2;\d+;\d+;\d+|39|49)"
OURS = re.compile(
    rf"\x1b\[(?:{_STYLE}(?:;{_STYLE})*)?m"
    r"|\x1b\[\d*;?\d*H"
    r"|\x1b\[\?(?:1049|1000|1003|1015|1006|1016|1004|25|7|2004|2026|2048)[hl]"
    r"|\x1b\[\?20(?:26|48)\$p"
    r"|\x1b\[>\d+u|\x1b\[<u"
    r"|\x1b\]22;[a-z-]+\x07"
    r"|\r\n"
)


def foreign(output: bytes) -> str:
    """What is left of the output without our own sequences, if anything in it is unsafe."""
    left = OURS.sub("", output.decode("utf-8"))
    at = next(
        (i for i, (a, b) in enumerate(zip(left, safe(left, lines=False), strict=True)) if a != b),
        None,
    )
    return "" if at is None else repr(left[max(0, at - 60) : at + 60])


@pytest.mark.parametrize("fragment", [f for f in hostile.FRAGMENTS if safe(f) != f])
def test_the_search_for_foreign_bytes_finds_them(fragment: str) -> None:
    written = f"\x1b[1;1H\x1b[1mtitle {fragment} end\x1b[0m".encode("utf-8", "replace")
    assert foreign(written) or "?" in written.decode()


@pytest.mark.parametrize("seed", range(4))
def test_every_way_into_a_widget_makes_500_strings_harmless(seed: int) -> None:
    for text in hostile.strings(500, seed):
        one_line = [plain(text), joined(text, (text, "bold")), fitted(text, 40)]
        one_line.append(columns([plain(text), plain(text)], [20, -20]))
        for content in one_line:
            assert content.plain == safe(content.plain, lines=False)
        assert block(text).plain == safe(text)


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("poisoned")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        hostile.fill()
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("size", [(120, 40), (80, 24)], ids=["120x40", "80x24"])
def test_a_tour_of_all_screens_writes_no_foreign_control_byte(
    size: tuple[int, int], poisoned: Path, workspace: Path
) -> None:
    shutil.copytree(poisoned, workspace, dirs_exist_ok=True, symlinks=True)
    with terminal(tour.__file__, size=size) as opened:
        code = opened.ended(_SECONDS)
        assert code == 0, opened.text[-3000:]
        assert opened.left_on == set()
        assert foreign(opened.output) == ""
        assert opened.mode == opened.mode_before
        # It was there to be seen: brackets and wide characters that nothing may swallow.
        for harmless in tour.HARMLESS.split():
            assert harmless in opened.text


@pytest.mark.slow
@pytest.mark.parametrize("group", range(_GROUPS))
def test_every_widget_is_fed_all_strings_and_writes_no_foreign_control_byte(
    group: int, workspace: Path
) -> None:
    names, size = sinks.NAMES[group::_GROUPS], (sinks.COLUMNS, sinks.ROWS)
    with terminal(sinks.__file__, *names, size=size) as opened:
        code = opened.ended(_SECONDS)
        assert code == 0, opened.text[-3000:]
        assert foreign(opened.output) == ""


def test_every_fragment_comes_alone_and_in_many_strings() -> None:
    given = sinks.fed()
    for fragment in hostile.FRAGMENTS:
        assert fragment in given
        assert sum(fragment in text for text in given) >= 8


def test_no_widget_is_forgotten() -> None:
    assert sinks.forgotten() == []


@pytest.mark.slow
def test_a_hostile_config_json_opens_the_settings_with_its_error(workspace: Path) -> None:
    Path("config.json").write_text('{"train": {"\\u001b[2J[/foo]\\ud800": 1}}')
    with terminal(str(Path(__file__).parents[2] / "main.py")) as opened:
        opened.until("[/foo]")
        opened.type("\x11")
        assert opened.ended() == 0
        assert foreign(opened.output) == ""
