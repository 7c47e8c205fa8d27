"""A headless Chromium that a test drives through the DevTools protocol, and what the terminal that
a page draws shows: the few sequences that Textual writes, put on a grid of cells."""

import asyncio
import base64
import json
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
from rich.cells import cell_len

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 90.0  # seconds that anything may take on a busy machine
_AGAIN = 20.0  # seconds after which a click without effect is repeated
_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run "
    "--disable-component-update --disable-sync --disable-dev-shm-usage --window-size=1200,800 "
    "--remote-debugging-port=0"
)
_PIECES = re.compile(
    r"\x1b\[(?P<position>\d*;?\d*)H|\x1b\[[0-9;?<>$]*[a-zA-Z]|\x1b\]22;[a-z-]*\x07|(?P<text>.)",
    re.S,
)


class Grid:
    """Cells of `columns` and `rows`; a wide character takes two, the second one empty."""

    def __init__(self, columns: int, rows: int) -> None:
        self._cells = [[" "] * columns for _ in range(rows)]
        self._row = self._column = 0

    def write(self, output: str) -> None:
        """Follow whole sequences; what lies outside of the grid is dropped."""
        for piece in _PIECES.finditer(output):
            if piece["position"] is not None:
                row, _, column = piece["position"].partition(";")
                self._row, self._column = int(row or 1) - 1, int(column or 1) - 1
            elif piece["text"] == "\n":
                self._row += 1
            elif piece["text"] == "\r":
                self._column = 0
            elif piece["text"]:
                self._put(piece["text"])

    def _put(self, character: str) -> None:
        width = cell_len(character)
        for offset in range(width):
            if self._row < len(self._cells) and self._column < len(self._cells[self._row]):
                self._cells[self._row][self._column] = "" if offset else character
            self._column += 1

    @property
    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self._cells]

    def find(self, text: str) -> tuple[int, int] | None:
        """Column and row of the first cell of `text`, from 0."""
        for number, row in enumerate(self._cells):
            at = "".join(row).find(text)
            if at >= 0:
                return at, number
        return None


class Page:
    """One page: what its terminal shows, and the mouse and keys on it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._calls = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.grid = Grid(400, 200)
        self.size = (0, 0)
        self.requested: list[str] = []
        self.complaints: list[str] = []

    async def listen(self) -> None:
        """Take in what the browser tells, until it is gone."""
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told.get("result", {}))
            elif told["method"] == "Network.webSocketFrameReceived":
                frame = told["params"]["response"]
                if frame["opcode"] == 2:
                    self.grid.write(base64.b64decode(frame["payloadData"]).decode())
            elif told["method"] == "Network.webSocketFrameSent":
                self._sent(told["params"]["response"]["payloadData"])
            elif told["method"] == "Network.requestWillBeSent":
                self.requested.append(told["params"]["request"]["url"])
            elif told["method"] in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(str(told["params"]))

    def _sent(self, payload: str) -> None:
        kind, *facts = json.loads(payload)
        if kind == "resize":
            self.size = facts[0]["width"], facts[0]["height"]

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        answer = self._answers[self._calls] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._calls, "method": method, "params": parameters})
        return await asyncio.wait_for(answer, PATIENCE)

    async def evaluate(self, script: str) -> Any:
        answer = await self.call("Runtime.evaluate", expression=script, returnByValue=True)
        return answer["result"].get("value")

    async def until(self, true: Callable[[], object], seconds: float = PATIENCE) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.02)

    async def shows(self, text: str) -> None:
        """Wait until the terminal shows `text`."""
        try:
            await self.until(lambda: self.grid.find(text))
        except TimeoutError:
            shown = "\n".join(line for line in self.grid.lines if line)
            raise AssertionError(f"{text!r} never came:\n{shown}\n{self.complaints}") from None

    async def click(self, text: str, leads_to: str) -> None:
        """Click on the first place that shows `text` until `leads_to` is shown: like a person,
        once more where the screen moved away beneath the mouse."""
        await self.shows(text)
        for _ in range(round(PATIENCE / _AGAIN)):
            await self._press(text)
            with suppress(TimeoutError):
                return await self.until(lambda: self.grid.find(leads_to), _AGAIN)
        return await self.shows(leads_to)

    async def _press(self, text: str) -> None:
        """Press where `text` is after the browser has answered, which takes seconds on a busy
        machine: the app may have drawn it elsewhere meanwhile, or be where the click leads."""
        box = await self.evaluate(
            "(() => { const s = document.querySelector('.xterm-screen').getBoundingClientRect();"
            "return [s.x, s.y, s.width, s.height] })()"
        )
        if (found := self.grid.find(text)) is None:
            return
        column, row = found[0] + len(text) // 2, found[1]
        columns, rows = self.size
        x = box[0] + (column + 0.5) * box[2] / columns
        y = box[1] + (row + 0.5) * box[3] / rows
        for kind, buttons in (("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)):
            pressed: dict[str, Any] = {"type": kind, "x": x, "y": y, "buttons": buttons}
            await self.call("Input.dispatchMouseEvent", **pressed, button="left", clickCount=1)

    async def picture(self, file: Path) -> None:
        shot = await self.call("Page.captureScreenshot", format="png")
        file.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def page(url: str, profile: Path) -> AsyncIterator[Page]:
    """Chromium with a profile of its own, showing `url`."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        *(CHROMIUM, *_FLAGS.split(), f"--user-data-dir={profile}", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        port = await _port(profile / "DevToolsActivePort")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as listed:
                targets = await listed.json()
            target = next(target for target in targets if target["type"] == "page")
            async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                shown = Page(socket)
                listening = asyncio.create_task(shown.listen())
                for domain in ("Network", "Page", "Runtime", "Log"):
                    await shown.call(f"{domain}.enable")
                await shown.call("Emulation.setFocusEmulationEnabled", enabled=True)
                await shown.call("Page.navigate", url=url)
                yield shown
                listening.cancel()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _port(file: Path) -> str:
    async with asyncio.timeout(PATIENCE):
        while not file.exists() or "\n" not in file.read_text():
            await asyncio.sleep(0.02)
    return file.read_text().split("\n")[0]
