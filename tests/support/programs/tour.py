"""Opens the app in this terminal, visits every screen of the working directory, and leaves."""

import asyncio
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

from textual.pilot import Pilot

from app.jobs.job import FAILED
from app.tui.app import HatcheryApp
from app.tui.widgets.frame import Header
from pipeline.stages import STAGES
from tests.support.hostile import strings
from utils.errors import HatcheryError

HARMLESS = "[/foo] [bold 漢字"  # what no widget may take for markup or swallow
SETTLE = 0.12  # seconds for what a screen reads in threads


async def look_around(app: HatcheryApp, *keys: str) -> None:
    """Walk through what the screen shows, then back home."""
    assert app.return_code is None, "the app has failed"
    await asyncio.sleep(SETTLE)
    for key in keys:
        app.simulate_key(key)
        await asyncio.sleep(0.03)
    await asyncio.sleep(SETTLE)
    home = app.screen_stack[0]
    while app.screen is not home:
        await app.pop_screen()


async def tour(pilot: Pilot[Any]) -> None:
    app = pilot.app
    assert isinstance(app, HatcheryApp)
    half = slice(app.size.width < 100, None, 2)  # two tours of different widths see everything
    while not app.products or not app.jobs:
        await asyncio.sleep(0.05)
    for text in (*strings(2000)[::100], HARMLESS):
        header = app.screen.query_one(Header)
        header.place(text, text)
        header.fact(text)
        app.note(text)
        app.tell(HatcheryError(text, found=text, remedy=text))
        await asyncio.sleep(0.02)
    app.clear_notifications()
    walk = ("down", "tab", "down", "pagedown", "end")
    await look_around(app, *walk, "tab", *walk, "tab")
    for job in list(app.jobs)[half]:
        app.open_job(job)
        await look_around(app, "g", "tab", "pagedown")
        if job.state in FAILED:
            app.open_doctor(job)
            await look_around(app, "l", "down")
    app.open_jobs()
    await look_around(app, *walk, "slash", "x", "enter", "question_mark")
    app.open_runs()
    await look_around(app, *walk, "slash", "r", "question_mark")
    for run in sorted(Path("checkpoints").iterdir())[half]:
        app.open_run(run)
        await look_around(app, "m", "v", "enter", "l", "g", "b")
    app.open_results()
    await look_around(app, *walk, "s", "s", "o")
    for keys in (("i", *walk), ("left", *walk, "t"), ("end", "i")):
        app.open_scores()
        await look_around(app, *keys)
    app.open_data()
    await look_around(app, "right", "right", "2", "down", "down", "3", "right", "4", "right")
    app.open_corpora()
    await look_around(app, *walk, "question_mark")
    app.open_settings()
    await look_around(app, "m", *("down",) * 6, "t", "pagedown")
    app.open_settings()
    await look_around(app, "slash", *walk)
    for stage in STAGES[half]:
        app.open_stage(stage.command)
        await look_around(app, "m", "down", "pagedown")
        app.open_stage(stage.command)
        await look_around(app, "slash", "e", "pagedown")
    for key in ("ctrl+p", "r", "u"):
        app.simulate_key(key)
    await asyncio.sleep(SETTLE)
    app.exit(return_code=app.return_code or 0)  # a failure on the way stays one


if __name__ == "__main__":
    seen = HatcheryApp()
    seen.run(auto_pilot=tour)
    sys.exit(seen.return_code or 0)
