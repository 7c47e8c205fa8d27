"""The app in a browser: it works like in a terminal, offline, and for nobody else."""

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestClient, TestServer
from textual_serve.app_service import AppService
from textual_serve.download_manager import DownloadManager
from yarl import URL

from app.web.command import loopback
from app.web.server import PageApp, Server, bounded, known_name
from tests.support.browser import CHROMIUM, PATIENCE, page
from tests.support.run_folders import finished_run
from utils.ports import listen

MAIN = str(Path(__file__).parents[2] / "main.py")
PICTURES = "HATCHERY_TEST_PICTURES"  # environment: a folder that keeps the browser's screenshots


@contextmanager
def served() -> Iterator[str]:
    """`python main.py web` in the working directory; its address."""
    command = [sys.executable, MAIN, "web", "--port", "0", "--no-open"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        _, complaints = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "Traceback" not in complaints


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
def test_a_click_leads_from_the_board_to_a_run_without_the_internet(workspace: Path) -> None:
    finished_run("run_2026_01_01_10_00_first")

    async def act(url: str) -> None:
        async with page(url, workspace / "profile") as shown:
            await shown.shows("val 3.205")
            await shown.click("c Runs", leads_to="› runs")
            await shown.click("▾ run_2026", leads_to="› run_2026")
            await shown.shows("validation")
            folder = Path(os.environ.get(PICTURES, workspace))
            await shown.picture(folder / "web_run.png")
            assert (folder / "web_run.png").stat().st_size > 10_000
            names = {urlsplit(address).hostname for address in shown.requested}
            assert names == {"127.0.0.1"}
            assert not [entry for entry in shown.complaints if "'level': 'error'" in entry]

    with served() as url:
        asyncio.run(act(url))


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
@pytest.mark.parametrize(
    ("width", "height", "phone"),
    [(390, 844, True), (360, 640, True), (412, 915, True), (844, 390, False), (1280, 800, False)],
)
def test_on_a_phone_the_cells_can_be_read_and_the_page_for_phones_is_named(
    workspace: Path, width: int, height: int, phone: bool
) -> None:
    hint = "document.querySelector('.hint').checkVisibility()"
    cell = "document.querySelector('.xterm-screen').getBoundingClientRect().height"

    async def act(url: str) -> None:
        async with page("about:blank", workspace / "profile") as shown:
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": True}
            await shown.call("Emulation.setDeviceMetricsOverride", **size)
            await shown.call("Page.navigate", url=url)
            await shown.shows("Quickstart")
            columns, rows = shown.size
            assert columns >= 60
            assert await shown.evaluate("innerWidth") == width  # not a wider page made small
            assert await shown.evaluate(cell) / rows >= 16
            assert await shown.evaluate(hint) == phone
            assert await shown.evaluate("document.documentElement.scrollHeight") <= height
            if phone:
                assert "python main.py serve" in await shown.evaluate("document.body.innerText")
                await shown.evaluate("document.querySelector('#told').click()")
                await shown.until(lambda: shown.size[1] > rows)
                assert not await shown.evaluate(hint)

    with served() as url:
        asyncio.run(act(url))


def test_an_app_is_ended_even_where_nobody_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nowhere(_: object = None) -> None:
        return

    monkeypatch.setattr(
        AppService, "stop", lambda _: asyncio.sleep(600)
    )  # it does not end by itself

    async def act() -> None:
        app = PageApp(
            "", write_bytes=nowhere, write_str=nowhere, close=nowhere,
            download_manager=DownloadManager(),
        )  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            "sleep", "600", stdin=asyncio.subprocess.PIPE
        )
        app._process = process
        ending = asyncio.create_task(app.stop())
        await asyncio.sleep(0.1)
        assert process.returncode is None
        ending.cancel()
        await asyncio.wait([ending])
        assert process.returncode is not None

    asyncio.run(act())


@asynccontextmanager
async def guarded() -> AsyncIterator[tuple[TestClient, str]]:
    """A client of the server's routes, and the token."""
    listening = listen("127.0.0.1", 0)
    server = Server(listening)
    async with TestClient(TestServer(server.application())) as client:
        yield client, URL(server.url).query["token"]
    listening.close()


async def answers(path: str, token: str | None = None, **headers: str) -> int:
    """The status for a first visitor, or one who came in with the token of the printed address."""
    async with guarded() as (client, right):
        if token is not None:
            address = f"/?token={right if token == 'right' else token}"
            async with client.get(address, allow_redirects=False) as came:
                if came.status != 303:
                    return came.status
                client.session.cookie_jar.update_cookies(came.cookies, URL("http://127.0.0.1"))
        async with client.get(path, headers=headers) as answer:
            return answer.status


@pytest.mark.parametrize(
    ("path", "token", "headers", "status"),
    [
        ("/", None, {}, 403),
        ("/", "right", {}, 200),
        ("/", "wrong", {}, 403),
        ("/", "\udcff", {}, 403),
        ("/ws", None, {}, 403),
        ("/static/js/textual.js", None, {}, 403),
        ("/static/js/textual.js", "right", {}, 200),
        ("/", "right", {"Host": "evil.example:8000"}, 403),
        ("/", "right", {"Host": "127.0.0.1.evil.example"}, 403),
        ("/", "right", {"Host": "[::"}, 403),
        ("/ws", "right", {"Origin": "http://evil.example"}, 403),
        ("/ws", "right", {"Origin": "http://127.0.0.1:1"}, 403),
        ("/ws", "right", {"Origin": "null"}, 403),
        ("/static/../web.py", "right", {}, 404),
    ],
)
def test_only_who_has_the_token_drives_the_app_and_only_from_its_own_page(
    path: str, token: str | None, headers: dict[str, str], status: int
) -> None:
    assert asyncio.run(answers(path, token, **headers)) == status


def test_the_page_loads_nothing_from_elsewhere_and_shows_no_token() -> None:
    async def act() -> None:
        async with guarded() as (client, token):
            async with client.get(f"/?token={token}", allow_redirects=False) as came:
                cookie = came.headers["Set-Cookie"]
                assert came.headers["Location"] == "/"
                assert "HttpOnly" in cookie
                assert "SameSite=Strict" in cookie
                client.session.cookie_jar.update_cookies(came.cookies, URL("http://127.0.0.1"))
            async with client.get("/") as answer:
                text = await answer.text()
                assert token not in text
                assert "https://" not in text
                assert "default-src 'self'" in answer.headers["Content-Security-Policy"]

    asyncio.run(act())


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "hatchery.example"])
def test_an_address_that_others_reach_is_refused_unless_it_is_asked_for(host: str) -> None:
    assert not loopback(host)
    command = [sys.executable, MAIN, "web", "--host", host, "--no-open"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "--public" in done.stderr


@pytest.mark.slow
def test_a_taken_port_is_named_with_the_next_one(workspace: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, MAIN, "web", "--port", str(port), "--no-open"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    advised = re.search(r"--port (\d+)", done.stderr)
    assert advised is not None
    assert port < int(advised[1]) <= port + 100  # the next that nobody has
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8000", True),
        ("[::1]:8000", True),
        ("localhost", True),
        ("192.168.1.5:8000", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
        ("[", False),
    ],
)
def test_a_name_that_a_foreign_server_could_answer_for_is_unknown(host: str, known: bool) -> None:
    assert known_name(host) == known


def test_an_answer_is_sent_at_once() -> None:
    found: list[int] = []

    @web.middleware
    async def look(request: web.Request, handler: Any) -> web.StreamResponse:
        assert request.transport is not None
        connected = request.transport.get_extra_info("socket")
        found.append(connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return await handler(request)

    async def ask() -> None:
        listening = listen("127.0.0.1", 0)
        server = Server(listening)
        app = server.application()
        app.middlewares.insert(0, look)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.SockSite(runner, listening).start()
        async with ClientSession() as client, client.get(server.url, allow_redirects=False):
            pass
        await runner.cleanup()

    asyncio.run(ask())
    assert found
    assert found[0] != 0


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ((80, 24), (80, 24)),
        ((99999, 99999), (500, 300)),
        ((10**30, 1), (500, 6)),
        ((0, 0), (20, 6)),
        ((-5, 40), (20, 40)),
    ],
)
def test_a_page_gets_a_terminal_that_a_screen_can_have(
    asked: tuple[int, int], given: tuple[int, int]
) -> None:
    assert bounded(*asked) == given


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open("began", "w").write(f"{os.getpid()} {os.environ['COLUMNS']} {os.environ['ROWS']}")
sys.stdout.write("__GANGLION__\\n"); sys.stdout.flush()
while True: time.sleep(1)
"""


def test_the_app_ends_with_its_page_however_busy_it_is(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("stubborn.py").write_text(STUBBORN)
    monkeypatch.setattr("app.web.server._PATIENCE", 0.5)

    async def open_and_leave() -> int:
        listening = listen("127.0.0.1", 0)
        server = Server(listening)
        server.command = f"exec {sys.executable} stubborn.py"
        async with TestClient(TestServer(server.application())) as client:
            token = URL(server.url).query["token"]
            await client.get(f"/?token={token}")
            page = await client.ws_connect("/ws?width=99999&height=99999")
            while not Path("began").exists() or not Path("began").read_text():
                await asyncio.sleep(0.02)
            pid, width, height = map(int, Path("began").read_text().split())
            assert (width, height) == (500, 300)
            await page.close()
            while _is_there(pid):
                await asyncio.sleep(0.02)
        listening.close()
        return pid

    assert asyncio.run(open_and_leave()) > 0


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_browsers_command_line_has_no_token(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[tuple[str, int, str]] = []

    def look(address: str) -> bool:
        path = Path(URL(address).path)
        opened.append((address, path.stat().st_mode & 0o777, path.read_text()))
        return True

    monkeypatch.setattr("webbrowser.open", look)
    monkeypatch.setattr("app.web.server._REDIRECT_SECONDS", 0.0)
    listening = listen("127.0.0.1", 0)
    server = Server(listening)
    server._open_browser()
    listening.close()
    [(address, mode, text)] = opened
    token = URL(server.url).query["token"]
    assert token not in address
    assert mode == 0o600
    assert server.url in text
    assert not list(workspace.iterdir())
