"""uvicorn in a thread of its own, from `with` to its end."""

import asyncio
import gc
import resource
import socket
import threading
import traceback
from collections import deque
from types import TracebackType
from typing import Self

import uvicorn

from pipeline.options.config import Config, ServeOptions
from pipeline.server.engine.catalogue import Catalogue
from pipeline.server.engine.service import Service
from pipeline.server.http.api import create_app
from pipeline.server.http.deadlines import Connection, ConnectionLimits
from pipeline.server.http.guard import Guard, is_loopback
from pipeline.server.metrics import Metrics
from utils.errors import HatcheryError

_STOP_SECONDS = 3.0  # for everything to end
_FILES = 128  # that a process has open besides connections
_WARNINGS = 100  # held until they are reported


class Server:
    """A server behind `listening`. `warnings` are what somebody should know, the oldest first."""

    def __init__(
        self,
        config: Config,
        options: ServeOptions,
        catalogue: Catalogue,
        listening: socket.socket,
        token: str | None,
    ) -> None:
        self.metrics = Metrics()
        self.warnings: deque[str] = deque(maxlen=_WARNINGS)
        self._warned: dict[str, None] = {}
        self._config, self._options, self._catalogue = config, options, catalogue
        self._socket, self._token = listening, token
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)
        self._parts: (
            tuple[asyncio.AbstractEventLoop, Service, uvicorn.Server, ConnectionLimits] | None
        ) = None

    def __enter__(self) -> Self:
        gc.freeze()  # looking for garbage in all of torch stopped every stream for 0.2 s
        self._thread.start()
        self._ready.wait()
        self.check()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._parts is not None and self._thread.is_alive():
            self._parts[0].call_soon_threadsafe(self._stop)
        self._thread.join(_STOP_SECONDS)
        self._socket.close()
        gc.unfreeze()

    def check(self) -> None:
        """Raise what ended the server, where that was not us."""
        if self._failure is not None:
            raise self._failure
        if self._ready.is_set() and not self._thread.is_alive():
            raise HatcheryError("The server has ended by itself.")

    def totals(self) -> dict[str, int]:
        """Requests answered, tokens read and written so far."""
        names = {
            "requests": "hatchery_requests_total",
            "prompt_tokens": "hatchery_prompt_tokens_total",
            "new_tokens": "hatchery_new_tokens_total",
        }
        return {name: self.metrics.total(counter) for name, counter in names.items()}

    @property
    def rows(self) -> int:
        """Texts being written now."""
        return self.metrics.total("hatchery_rows")

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        options = self._options
        service = Service(self._config, options, self._catalogue, self.metrics, self._warn)
        connections = min(
            options.connections, _allowed_files(options.connections + _FILES) - _FILES
        )
        limits = ConnectionLimits(
            max(1, connections), options.receive_seconds, options.request_seconds
        )
        guard = Guard(
            create_app(service),
            self.metrics,
            token=self._token,
            loopback=is_loopback(options.host),
            origins=options.allowed_origins or (),
            on_exception=self._note_exception,
        )
        server = uvicorn.Server(
            uvicorn.Config(
                guard,
                http=type("Served", (Connection,), {"limits": limits}),
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=1,
            )
        )
        self._parts = asyncio.get_running_loop(), service, server, limits
        serving = asyncio.ensure_future(server.serve([self._socket]))
        while not (server.started or serving.done()):
            await asyncio.sleep(0.01)
        self._ready.set()
        try:
            await serving
        finally:
            service.stop()

    def _stop(self) -> None:
        assert self._parts is not None
        _, service, server, limits = self._parts
        service.stop()
        for connection in list(limits.waiting):
            connection.drop()
        server.should_exit = True

    def _note_exception(self, error: BaseException) -> None:
        where = "".join(traceback.format_exception(error)[-3:]).strip()
        self._warn(f"A mistake in Hatchery itself: {where}")

    def _warn(self, message: str) -> None:
        """Remember something to tell, once: a client that asks again makes it no news."""
        if message not in self._warned:
            self._warned[message] = None
            self.warnings.append(message)
            if len(self._warned) > _WARNINGS:
                del self._warned[next(iter(self._warned))]


def _allowed_files(requested: int) -> int:
    """Files that this process may have open, raised to `requested` where that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return requested
    if soft < requested:
        raised = requested if hard == resource.RLIM_INFINITY else min(requested, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
        except (ValueError, OSError):  # a limit of the system that it does not tell
            return soft
        return raised
    return soft
