"""Serves the app to browsers: a page, a web socket, and one app process for each open page.

Whoever reaches the socket drives the app, so every request carries the token of the printed
address, first in the address and then in a cookie. A page of another site can neither read it nor
connect: the host name must be one that no foreign name server answers for, and the origin ours.
"""

import asyncio
import ipaddress
import secrets
import shlex
import socket
import sys
import threading
import webbrowser
from collections.abc import Awaitable, Callable
from pathlib import Path
from string import Template
from urllib.parse import urlsplit

import textual_serve.server
from aiohttp import web

_PAGE = Template(Path(__file__).with_name("page.html").read_text("utf-8"))
_MAIN = Path(__file__).parents[2] / "main.py"
_PATIENCE = 3  # seconds that open pages have to end at Ctrl-C
_HEADERS = {
    # Nothing is loaded from elsewhere, and no other page frames this one.
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'nonce-{nonce}'; "
    "img-src 'self' data:; font-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; connect-src {websocket}; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        OSError: the address is not ours, or taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


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
        self.url = f"http://{shown}:{port}/?token={self._token}"

    def run(self, *, browser: bool) -> None:
        """Serve until SIGINT or SIGTERM."""
        if browser:
            threading.Thread(target=webbrowser.open, args=(self.url,), daemon=True).start()
        web.run_app(self.application(), sock=self._socket, print=None, shutdown_timeout=1)

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
        return await self.handle_websocket(request)

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
