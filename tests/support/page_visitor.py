"""Somebody in front of the page: opens it in headless Chromium, looks, clicks and types."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestServer

from tests.support.browser import PATIENCE, Page, page
from tests.support.servers.page_api import TOKEN, Imitation


class Person:
    """Hands and eyes of a person at the page."""

    def __init__(self, shown: Page) -> None:
        self.page = shown

    async def js(self, script: str) -> Any:
        asked = {"expression": script, "returnByValue": True, "awaitPromise": True}
        answer = await self.page.call("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in answer, answer
        return answer.get("result", {}).get("value")  # none while another page is being opened

    async def until(self, script: str) -> Any:
        """Wait until `script` gives something true, and return that."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not (value := await self.js(script)):
                    await asyncio.sleep(0.02)
                return value
        except TimeoutError:
            text = await self.js("document.body.innerText")
            raise AssertionError(f"never true: {script}\n{text}\n{self.page.complaints}") from None

    async def sees(self, text: str, within: str = "body") -> None:
        """Wait until what is shown within a selector's first element contains `text`."""
        await self.until(
            f"""((node) => node?.checkVisibility() && node.innerText.includes({json.dumps(text)}))(
              document.querySelector({within!r}))"""
        )

    async def press(self, key: str, text: str = "", modifiers: int = 0) -> None:
        codes = {"Enter": 13, "Escape": 27, "ArrowRight": 39, "ArrowDown": 40}
        known = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper()))}
        pressed = known | {"modifiers": modifiers} | ({"text": text} if text else {})
        await self.page.call("Input.dispatchKeyEvent", type="keyDown", **pressed)
        await self.page.call("Input.dispatchKeyEvent", type="keyUp", **known)

    async def type(self, text: str) -> None:
        await self.page.call("Input.insertText", text=text)

    async def send(self, prompt: str) -> None:
        await self.until("!document.querySelector('#send').disabled")
        await self.js("document.querySelector('#prompt').focus()")
        await self.type(prompt)
        await self.press("Enter", "\r")

    async def click(self, text: str, within: str = "body") -> None:
        """Click in the middle of the last button or label that shows exactly `text`, once it has
        stayed where it is for two frames and nothing lies over it."""
        box = await self.until(
            f"""(async () => {{
              const all = document.querySelectorAll({within!r} + " :is(button, label)");
              const found = [...all].findLast((one) => one.innerText?.trim() === {json.dumps(text)}
                && one.checkVisibility() && !one.disabled);
              if (!found) return null;
              found.scrollIntoView({{ block: "nearest" }});
              const middle = () => {{
                const box = found.getBoundingClientRect();
                return [box.x + box.width / 2, box.y + box.height / 2];
              }};
              const before = middle();
              for (let frame = 0; frame < 2; frame++)
                await new Promise((resolve) => requestAnimationFrame(resolve));
              const [x, y] = middle();
              const same = x === before[0] && y === before[1];
              return same && found.contains(document.elementFromPoint(x, y)) && [x, y];
            }})()"""
        )
        for kind in ("mousePressed", "mouseReleased"):
            at = {"type": kind, "x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            await self.page.call("Input.dispatchMouseEvent", **at)

    async def reload(self, until: str = "models.size") -> None:
        """Load the page anew, and wait until a script gives something true."""
        await self.js("window.old = true")
        await self.page.call("Page.reload")
        await self.until(f"!window.old && typeof store === 'object' && {until}")

    async def idle(self) -> None:
        await self.until("document.querySelector('#stop').hidden")


@asynccontextmanager
async def visiting(origin: str, fragment: str, profile: Path) -> AsyncIterator[Person]:
    """The page of a server in a fresh browser; at the end nothing may have gone wrong."""
    async with page(f"{origin}/{fragment}", profile) as shown:
        driver = Person(shown)
        size = {"width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        await shown.call("Emulation.setDeviceMetricsOverride", **size)
        await driver.until("document.readyState === 'complete' && typeof store === 'object'")
        yield driver
        wrong = ("Content Security Policy", "exceptionId")
        assert not [told for told in shown.complaints if any(word in told for word in wrong)]
        here = (origin + "/", f"blob:{origin}/", "data:")
        assert not [address for address in shown.requested if not address.startswith(here)]


@asynccontextmanager
async def opened(
    profile: Path, fragment: str = f"#token={TOKEN}"
) -> AsyncIterator[tuple[Person, Imitation]]:
    """The page of an imitation, and the imitation."""
    imitation = Imitation()
    server = TestServer(imitation.application())
    await server.start_server()
    try:
        async with visiting(f"http://127.0.0.1:{server.port}", fragment, profile) as person:
            yield person, imitation
    finally:
        imitation.gate.set()
        imitation.listing.set()
        await server.close()
