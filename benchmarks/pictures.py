"""The README's pictures, from a real session: board, training form, run.

`python benchmarks/pictures.py [WORKSPACE]` opens the app in a workspace with a finished quickstart
(without one, quickstart runs first in a temporary folder) and writes app/pictures/*.svg.
"""

import asyncio
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from textual.pilot import Pilot  # noqa: E402

from app.tui.app import HatcheryApp  # noqa: E402
from pipeline.runs.inventory import list_runs  # noqa: E402

SIZE = (120, 36)
LARGEST = 80_000  # bytes
_SETTLED = 1.5  # seconds without a change on the screen
_FONTS = 'ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace'


def shrunk(svg: str) -> str:
    """Without fonts from the web, ids of one picture's own, and digits that nobody sees."""
    svg = re.sub(r"@font-face\s*\{[^}]*\}", "", svg)
    svg = re.sub(r"font-family:\s*Fira Code[^;]*;", f"font-family: {_FONTS};", svg)
    svg = re.sub(r"terminal-\d+-", "t", svg)
    svg = re.sub(r'="(\d+\.\d)\d+"', r'="\1"', svg)
    svg = re.sub(r"<clipPath id=\"tline-\d+\">.*?</clipPath>", "", svg, flags=re.S)
    svg = re.sub(r' clip-path="url\(#tline-\d+\)"', "", svg)
    svg = svg.replace(' shape-rendering="crispEdges"', "").replace('.0"', '"')
    return re.sub(r">\s+<", "><", re.sub(r"\n\s+", "\n", svg))


async def settled(pilot: Pilot[None]) -> str:
    """The screen as SVG, once it has not changed for a while."""
    before, since = "", time.monotonic()
    while time.monotonic() - since < _SETTLED:
        await pilot.pause(0.2)
        now = pilot.app.export_screenshot()
        text = re.sub(r"terminal-\d+-|CPU.*?<", "", now)
        if text != before:
            before, since = text, time.monotonic()
    return now


async def session() -> dict[str, str]:
    """The three screens in the working directory."""
    app = HatcheryApp()
    pictures = {}
    async with app.run_test(size=SIZE) as pilot:
        pictures["board"] = await settled(pilot)
        app.open_stage("train")
        pictures["train"] = await settled(pilot)
        app.pop_screen()
        newest = list_runs(app.config.paths.checkpoints_dir)[0]
        app.open_run(app.config.paths.checkpoints_dir / newest.name)
        pictures["run"] = await settled(pilot)
    return pictures


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        given = sys.argv[1:]
        os.chdir(given[0] if given else temporary)
        if not given:
            subprocess.run([sys.executable, str(ROOT / "main.py"), "quickstart"], check=True)
        pictures = asyncio.run(session())
        os.chdir(ROOT)
    folder = ROOT / "app" / "pictures"
    folder.mkdir(exist_ok=True)
    for name, svg in pictures.items():
        small = shrunk(svg)
        if len(small.encode()) > LARGEST:
            sys.exit(f"{name} has {len(small.encode()):,} bytes, more than {LARGEST:,}")
        (folder / f"{name}.svg").write_text(small, "utf-8")
        print(f"app/pictures/{name}.svg  {len(small.encode()):,} bytes")


if __name__ == "__main__":
    main()
