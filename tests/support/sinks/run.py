"""Feeds hostile strings to every widget that shows foreign text, in this terminal.

A sink is a way into a widget. Each gets all strings, a page at a time, and the next page comes
when every string of the last one is on the screen. What the terminal was sent is for a test to
look at. A widget of app/tui that no sink feeds is a failure; those that stand in the file of their
screen are shown by the tour of all screens.
"""

import asyncio
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[3]))

from textual.containers import Vertical
from textual.content import Content
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widget import Widget

from app import tui
from app.tui.app import HatcheryApp
from app.tui.compare.panes import Pages
from app.tui.data.documents import TabBar
from app.tui.forms.field_panel import More
from app.tui.forms.field_spec import Field
from app.tui.forms.file_picker import FilePicker
from app.tui.forms.folder_listing import Entry, Listing, Wanted
from app.tui.forms.setting_finder import SettingFinder
from app.tui.widgets import frame
from app.tui.widgets.confirm import ConfirmDialog
from app.tui.widgets.frame import TooSmall
from app.tui.widgets.text import plain
from tests.support.hostile import FRAGMENTS, strings
from tests.support.sinks import chat, compare, stages
from tests.support.sinks.sink import Sink, Told
from utils.errors import HatcheryError

COLUMNS, ROWS = 240, 120
_MIXED = 360
_PATIENCE = 60.0  # seconds for a page
SINKS = (*stages.SINKS, *chat.SINKS, *compare.SINKS)

# These show words of our own only.
OWN_WORDS: tuple[type[Widget], ...] = (TooSmall, TabBar, More, frame.KeyFooter, Pages)


class Sinks(HatcheryApp):
    """The app with a bench on which one widget at a time has all the room."""

    CSS_PATH = Path(tui.__path__[0], "tui.tcss")
    CSS = """
    #bench { height: 100%; width: 100%; & > * { height: 100%; width: 100%; max-height: 100%; } }
    #bench Header, #bench FindBar { dock: none; width: 100%; height: 1; margin: 0; }
    #bench .box { height: 2; border-top: solid $accent; border-bottom: solid $accent; }
    #bench Button { height: 1; width: 100%; }
    #bench .charts { layout: grid; grid-size: 3; grid-rows: 6; }
    #bench .high { grid-rows: 8; }
    #bench .wall { layout: grid; grid-size: 4; grid-rows: 8; }
    #bench .status, #bench .verdict, #bench .summary, #bench .below, #bench #compare-prompt,
    #bench Prompt {
        max-height: 100%;
    }
    #bench Choices, #bench #reasons, #bench #uses, #bench #ending { max-height: 100%; }
    #bench #reasons, #bench #examples { width: 1fr; }
    #bench #lists, #bench #example, #bench #raw { height: 1fr; }
    ConfirmDialog > Vertical { width: 220 !important; max-width: 220 !important; }
    ConfirmDialog > Vertical Static { max-height: 80 !important; }
    Toast { width: 200; max-width: 200; padding: 0; margin: 0; border: none; }
    """


async def shown_all(app: Sinks, name: str, texts: Sequence[str]) -> None:
    """Wait until each of the texts is on the screen, by the number it begins with."""
    marks = [text[: text.index("»") + 1] for text in texts]
    try:
        async with asyncio.timeout(_PATIENCE):
            while True:
                missing, there = marks, ""
                painted = asyncio.Event()
                app.call_after_refresh(painted.set)
                await painted.wait()
                strips = app.screen._compositor.render_strips()
                there = "\n".join(strip.text for strip in strips)
                missing = [mark for mark in marks if mark not in there]
                if not missing:
                    return
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"{name}: {missing} never came\n{there}") from None


def fed() -> list[str]:
    """Every fragment by itself, then many together."""
    return [*FRAGMENTS, *strings(_MIXED)]


def pages(size: int) -> Iterator[list[str]]:
    """All strings, each after its number; a long run of one letter is cut, so that the rest of
    its string is seen too. Drawing them is what takes time: a widget that lets anything through
    is found by far fewer than the thousands that try the functions which make text harmless."""
    every = [f"«{n}»{text.replace('x' * 3000, 'xxx')}" for n, text in enumerate(fed())]
    return (every[start : start + size] for start in range(0, len(every), size))


async def fill(app: Sinks, sink: Sink, bench: Vertical) -> None:
    """All strings through one sink."""
    widget = sink.build()
    await bench.mount(widget)
    for texts in pages(sink.page):
        done = sink.feed(widget, texts)
        if done is not None:
            await done
        await shown_all(app, sink.name, texts)
    for kind in sink.covers:
        found = [w for w in widget.walk_children(with_self=True) if isinstance(w, kind)]
        assert found, f"{sink.name} has no {kind.__name__}"
    await widget.remove()


async def notices(app: Sinks) -> None:
    """Those of the app, which are its own to make harmless."""
    for texts in pages(30):
        app.note("\n".join(texts[::2]))
        a, b, c = ("\n".join(texts[start::6]) for start in (1, 3, 5))
        app.tell(HatcheryError(a, found=b, remedy=c))
        await shown_all(app, "notices", texts)
        app.clear_notifications()
        # Textual removes the toasts alone, and what held them pushes the next ones down.
        await app.screen.query("ToastHolder").remove()


async def questions(app: Sinks) -> None:
    for texts in pages(60):
        await app.push_screen(ConfirmDialog(Content("\n").join(map(plain, texts)), texts[0]))
        await shown_all(app, "question", texts)
        await app.pop_screen()


async def files(app: Sinks) -> None:
    """Names and folders, as what is picked from."""
    for texts in pages(60):
        names = [text.replace("/", "∕") for text in texts]  # which no name can have
        entries = tuple(Entry(name, n % 2 == 0, name, True, 1, 1.0) for n, name in enumerate(names))
        found = Listing(Path(*names[-1:]), entries)
        picker = FilePicker(Wanted(texts[0], str), [Path(names[0])], read=lambda *_, f=found: f)
        await app.push_screen(picker)
        await shown_all(app, "files", texts)
        await app.pop_screen()


async def found_settings(app: Sinks) -> None:
    """Values of settings, as the search among them shows them."""
    for texts in pages(60):
        draft = Told()
        draft.texts = texts
        fields = [Field(f"train.f{n}", "x", "text", "Help", "", True) for n in range(len(texts))]
        finder = SettingFinder(draft, [("train", fields)])
        with patch("app.tui.forms.setting_finder.VALUE", 150):
            await app.push_screen(finder)
            await shown_all(app, "found settings", texts)
        await app.pop_screen()


OVER_SCREENS = {
    "notices": notices,
    "questions": questions,
    "files": files,
    "found settings": found_settings,
}
NAMES = (*(sink.name for sink in SINKS), *OVER_SCREENS)


def forgotten() -> list[str]:
    """The widgets of app/tui that no sink feeds."""
    covered = {kind for sink in SINKS for kind in sink.covers} | {*OWN_WORDS, ConfirmDialog}
    found = []
    for module in pkgutil.walk_packages(tui.__path__, f"{tui.__name__}."):
        classes = inspect.getmembers(importlib.import_module(module.name), inspect.isclass)
        own = [kind for _, kind in classes if kind.__module__ == module.name]
        if any(issubclass(kind, Screen) and kind is not ConfirmDialog for kind in own):
            continue
        unfed = (kind for kind in own if issubclass(kind, Widget) and kind not in covered)
        found += [f"{module.name}.{kind.__name__}" for kind in unfed]
    return found


async def feed_all(pilot: Pilot[Any]) -> None:
    """The sinks named in the arguments."""
    app = cast(Sinks, pilot.app)
    await app.push_screen(Screen())
    bench = Vertical(id="bench")
    await app.screen.mount(bench)
    known = {sink.name: sink for sink in SINKS}
    for name in sys.argv[1:]:
        if name in OVER_SCREENS:
            await OVER_SCREENS[name](app)
        else:
            await fill(app, known[name], bench)
    app.exit(return_code=app.return_code or 0)  # a failure on the way stays one


if __name__ == "__main__":
    seen = Sinks()
    seen.run(auto_pilot=feed_all)
    sys.exit(seen.return_code or 0)
