"""Pictures of screens, compared with those kept in tests/app/snapshots.

What differs from machine to machine is frozen: every clock but the monotonic one, the machine's
load, blinking, random names. HATCHERY_SNAPSHOTS=update writes the pictures anew: look at them
before committing.
"""

import difflib
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input, TextArea

from app.tui.system import Reading, SystemReader
from utils.hardware import Machine

FOLDER = Path(__file__).parents[1] / "app" / "snapshots"
NOW = 1_795_262_400.0  # 2026-11-21 12:00 UTC
MACHINE = Reading(
    cores=8,
    cpu=0.42,
    memory_used=7 << 30,
    memory_total=32 << 30,
    disk_free=250 << 30,
    disk_total=500 << 30,
    gpus=(),
)
_HARDWARE = Machine(
    MACHINE.cores, 32 << 30, 25 << 30, MACHINE.disk_free, MACHINE.disk_total, "Linux", "3.11"
)
_SETTLED, _PATIENCE = 2.0, 60.0  # seconds
_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_CLIPS = re.compile(r'<clipPath id="[\w-]*line-\d+">.*?</clipPath>\s*', re.DOTALL)
_CLIPPED = re.compile(r' clip-path="url\(#[\w-]*line-\d+\)"')
_NAMES = re.compile(r"terminal-[\w-]*?(?=-(?:matrix|title|r\d|line|clip|body))")


@contextmanager
def frozen(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Stop whatever differs between two runs, while this context lasts."""
    patch.setattr(SystemReader, "read", lambda self: MACHINE)
    patch.setattr("app.tui.board.screen.workspace", lambda: "~/texts")
    patch.setattr("pipeline.planning.target.machine", lambda folder=None: _HARDWARE)
    patch.setattr("pipeline.planning.target.multiplies_bf16", lambda: False)
    patch.setattr("pipeline.planning.memory.torch_built_for", lambda: "cpu")
    for widget in (Input, TextArea):
        init = widget.__init__

        def still(self: Any, *args: Any, _init: Any = init, **options: Any) -> None:
            _init(self, *args, **options)
            self.cursor_blink = False

        patch.setattr(widget, "__init__", still)
    with time_machine.travel(datetime.fromtimestamp(NOW, ZoneInfo("UTC")), tick=False):
        yield


async def check(pilot: Pilot[Any], name: str) -> None:
    """Wait until the app shows the picture `name`; its size is added to the name.

    A screen that is still reading is no failure, one that ends differently is.
    """
    if time.time() != NOW:
        pytest.fail("the clock runs: what is pictured needs the fixture `frozen`", pytrace=False)
    app = pilot.app
    path = FOLDER / f"{name}_{app.size.width}x{app.size.height}.svg"
    if os.environ.get("HATCHERY_SNAPSHOTS") == "update":
        await pilot.pause(_SETTLED)
        path.parent.mkdir(exist_ok=True)
        path.write_text(picture(app), "utf-8")
    expected = path.read_text("utf-8") if path.exists() else ""
    deadline = time.monotonic() + _PATIENCE
    while (now := picture(app)) != expected and time.monotonic() < deadline:
        await pilot.pause(0.05)
    if now != expected:
        difference = difflib.unified_diff(words(expected), words(now), "kept", "now", n=1)
        lines = "\n".join(difference) or "only colours or styles differ"
        pytest.fail(f"{path.name} differs:\n{lines}", pytrace=False)


def picture(app: App[Any]) -> str:
    """The screen as SVG without web fonts and random names."""
    svg = app.export_screenshot(title="Hatchery", simplify=True)
    for pattern in (_FONTS, _CLIPS, _CLIPPED):  # a third of its size, for nothing one could see
        svg = pattern.sub("", svg)
    return _NAMES.sub("t", svg) + "\n"


def words(svg: str) -> list[str]:
    """The lines of text in a picture."""
    rows: dict[str, str] = {}
    for row, text in re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>([^<]*)</text>', svg):
        rows[row] = rows.get(row, "") + text.replace("&#160;", " ")
    return [text.rstrip() for text in rows.values()]
