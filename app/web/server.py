"""Serves the app to browsers: a page, a web socket, and one app process for each open page.

Whoever reaches the socket drives the app, so every request carries the token of the printed
address, first in the address and then in a cookie. A page of another site can neither read it nor
connect: the host name must be one that no foreign name server answers for, and the origin ours.
"""

import asyncio
import html
import ipaddress
import secrets
import shlex
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

import textual_serve.server
from aiohttp import web
from textual_serve.app_service import AppService
from textual_serve.server import to_int

from utils.errors import HatcheryError
from utils.files import write_file

_PAGE = Template(Path(__file__).with_name("page.html").read_text("utf-8"))
_MAIN = Path(__file__).parents[2] / "main.py"
_PATIENCE = 3  # seconds that open pages have to end at Ctrl-C, and the app of a page that is gone
_HEARTBEAT_SECONDS = 15
_WIDTHS, _HEIGHTS = (20, 500), (6, 300)  # cells
_REDIRECT_SECONDS = 30.0  # that the browser has to read the file which leads to the page
_HEADERS = {
    # Nothing is loaded from elsewhere, and no other page frames this one.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'nonce-{nonce}'; "
    "img-src 'self' data:; font-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; connect-src {websocket}; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def known_name(host: str) -> bool:
    """Whether a Host header names this machine and not a name that a foreign name server could
    point at it (DNS rebinding)."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name in ("localhost", socket.gethostname().lower())
    return True


def bounded(width: int, height: int) -> tuple[int, int]:
    """The size of a terminal that a page asks for, in cells, within what a screen can have: every
    cell of it costs the app memory."""
    (least, most), (lowest, highest) = _WIDTHS, _HEIGHTS
    return min(max(width, least), most), min(max(height, lowest), highest)


async def _close(page: web.WebSocketResponse) -> None:
    await page.close()


class PageApp(AppService):
    """The app process of one open page."""

    async def start(self, width: int, height: int) -> None:
        """Start it in a terminal of that size, bounded."""
        await super().start(*bounded(width, height))

    async def set_terminal_size(self, width: int, height: int) -> None:
        """Change its size, bounded."""
        await super().set_terminal_size(*bounded(int(width), int(height)))

    async def stop(self) -> None:
        """Ask it to end; one that does not is ended."""
        process = self._process
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await super().stop()
        finally:  # also where the server, which ends, does not wait for it
            if process is not None:
                if process.returncode is None:
                    with suppress(ProcessLookupError):
                        process.kill()
                await process.wait()


class Server(textual_serve.server.Server):
    """The app behind `listening`, until Ctrl-C."""

    def __init__(self, listening: socket.socket) -> None:
        host, port = listening.getsockname()[:2]
        # `exec`, so that the app is our own child and notices when this process is gone.
        command = f"exec {shlex.join([sys.executable, str(_MAIN)])}"
        super().__init__(command, host, port, title="Hatchery")
        self._socket = listening
        self._sessions: set[asyncio.Task[object]] = set()
        self._token = secrets.token_urlsafe(24)
        self._cookie = f"hatchery_{port}"
        shown = f"[{host}]" if ":" in host else host
        # Neither in /tmp nor hidden: browsers in a sandbox would not see it.
        self._redirect = Path.cwd() / f"open_hatchery_{port}.html"
        self.url = f"http://{shown}:{port}/?token={self._token}"

    def run(self, *, browser: bool) -> None:
        """Serve until SIGINT or SIGTERM."""
        if browser:
            threading.Thread(target=self._open_browser, daemon=True).start()
        try:
            web.run_app(self.application(), sock=self._socket, print=None, shutdown_timeout=1)
        finally:
            self._leave_no_redirect()

    def _open_browser(self) -> None:
        """Open the page by way of a file that only its owner can read: the command line of a
        browser, which all users of a machine can see, has no token in it."""
        target = html.escape(self.url, quote=True)
        page = f'<meta http-equiv="refresh" content="0; url={target}"><a href="{target}">open</a>'
        try:
            write_file(self._redirect, page, private=True)
        except (OSError, HatcheryError):
            return  # the address was printed
        webbrowser.open(self._redirect.as_uri())
        time.sleep(_REDIRECT_SECONDS)
        self._leave_no_redirect()

    def _leave_no_redirect(self) -> None:
        with suppress(OSError):
            self._redirect.unlink(missing_ok=True)

    def application(self) -> web.Application:
        """The routes behind the guard."""
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/", self._page)
        app.router.add_get("/ws", self._session)
        app.router.add_static("/static", self.statics_path)
        app.on_shutdown.append(self._end_sessions)
        return app

    async def _session(self, request: web.Request) -> web.StreamResponse:
        """One open page: its app runs until the page is closed."""
        task = asyncio.current_task()
        assert task is not None
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)
        page = web.WebSocketResponse(heartbeat=_HEARTBEAT_SECONDS)
        await page.prepare(request)
        app = PageApp(
            self.command,
            write_bytes=page.send_bytes,
            write_str=page.send_str,
            close=lambda: _close(page),
            download_manager=self.download_manager,
        )
        size = [to_int(request.query.get(name, ""), 0) for name in ("width", "height")]
        try:
            await app.start(*size)
            await self._process_messages(page, app)
        except asyncio.CancelledError:
            await page.close()
        finally:
            await app.stop()
        return page

    async def _end_sessions(self, _: web.Application) -> None:
        for task in self._sessions:
            task.cancel()
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=_PATIENCE)

    async def _page(self, request: web.Request) -> web.Response:
        websocket = f"{'wss' if request.secure else 'ws'}://{request.host}/ws"
        facts = {"websocket": websocket, "nonce": secrets.token_urlsafe(12)}
        headers = {name: value.format(**facts) for name, value in _HEADERS.items()}
        text = _PAGE.substitute(facts)
        return web.Response(text=text, content_type="text/html", headers=headers)

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        origin = request.headers.get("Origin")
        if not known_name(request.host):
            raise web.HTTPForbidden(text="This name is not one of this machine: use its address.")
        if origin is not None and urlsplit(origin).netloc != request.host:
            raise web.HTTPForbidden(text="Another site cannot drive the app.")
        if self._is_token(request.query.get("token", "")):
            response = web.HTTPSeeOther("/")  # so that the token is in no bookmark or picture
            response.set_cookie(self._cookie, self._token, httponly=True, samesite="Strict")
            raise response
        if not self._is_token(request.cookies.get(self._cookie, "")):
            raise web.HTTPForbidden(
                text="Open the address that `python main.py web` printed; it ends with a token."
            )
        return await handler(request)

    def _is_token(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(errors="replace"), self._token.encode())
