"""Drives the app as a user does: keys and clicks in, what the screen says out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from textual.pilot import Pilot

from app.tui.app import HatcheryApp
from app.tui.core import Intervals

WIDE, NARROW = (120, 40), (80, 24)
_PATIENCE = 60.0  # seconds that a condition may take on a busy machine
_SHORT = Intervals(jobs=0.2, artefacts=0.5, log=0.02, silent_log=0.05, holder=0.1)


def play(act: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run one scene to its end."""
    asyncio.run(act())


@asynccontextmanager
async def opened(
    size: tuple[int, int] = WIDE,
) -> AsyncIterator[tuple[HatcheryApp, Pilot[None]]]:
    """The app in the working directory, after its first look around."""
    app = HatcheryApp(_SHORT)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: bool(app.products) and app.reading is not None)
        await pilot.pause()
        yield app, pilot


async def until(pilot: Pilot[Any], true: Callable[[], object]) -> None:
    """Wait for a condition, however busy the machine is."""
    async with asyncio.timeout(_PATIENCE):
        while not true():
            await pilot.pause(0.02)


def shown(app: HatcheryApp) -> str:
    """The characters on the screen, line by line."""
    return "\n".join(strip.text.rstrip() for strip in app.screen._compositor.render_strips())
