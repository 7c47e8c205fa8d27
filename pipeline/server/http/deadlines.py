"""Connections with deadlines: a request has so long to arrive whole, an answer so long to be taken,
and where there are too many connections, the one that has been incomplete for longest is closed.

uvicorn has no deadline for a request that arrives byte by byte, and no middleware sees a request
whose headers have not ended. So its HTTP/1.1 protocol class is extended, which `uvicorn.Config`
takes as `http=`; what is used of that class is not documented, hence uvicorn is pinned.
"""

import asyncio
import json
import socket
from dataclasses import dataclass, field
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from pipeline.server.errors import ApiError, bad_request

_GRACE = 5.0  # seconds that an answer has after its request's time is up, to say so


@dataclass
class ConnectionLimits:
    """Limits of one server, and its connections that have not sent a whole request, oldest first.

    Times are seconds.
    """

    connections: int
    receive_seconds: float
    request_seconds: float
    waiting: "dict[Connection, None]" = field(default_factory=dict)

    def make_room(self, newest: "Connection") -> None:
        """Close the connection that has sent nothing whole for the longest time."""
        next(iter(self.waiting), newest).drop()


class Connection(H11Protocol):
    """uvicorn's connection with deadlines; `limits` is set in a subclass for each server."""

    limits: ConnectionLimits
    _timer: asyncio.TimerHandle | None = None
    _answering = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        _send_at_once(transport)
        if len(self.connections) > self.limits.connections:
            self.limits.make_room(self)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self.limits.waiting.pop(self, None)
        self._arm(None)
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        cycle = self.cycle
        if self._answering or cycle is None or cycle.more_body or cycle.response_complete:
            return
        self._answering = True
        self.limits.waiting.pop(self, None)
        self._arm(self.limits.request_seconds + _GRACE)

    def on_response_complete(self) -> None:
        self._await_request()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """uvicorn's answer to what is not HTTP, in the form that clients read."""
        self._end(bad_request("This is not a valid HTTP request.", code="invalid_http"))

    def drop(self) -> None:
        """Close without a word."""
        self.transport.abort()

    def _await_request(self) -> None:
        self._answering = False
        self.limits.waiting.pop(self, None)
        self.limits.waiting[self] = None
        self._arm(self.limits.receive_seconds)

    def _arm(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        if self._answering:
            self.drop()
        elif not self.transport.is_closing():
            seconds = self.limits.receive_seconds
            late = ApiError(408, f"The request was not whole after {seconds:g} seconds.",
                            code="request_timeout")  # fmt: skip
            self._end(late)

    def _end(self, error: ApiError) -> None:
        """Answer with `error`, where no answer has begun, and close."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps(error.body).encode()
            headers = {"content-type": "application/json", "connection": "close"}
            headers |= {"content-length": str(len(body))} | error.headers
            events: list[Any] = [
                h11.Response(status_code=error.status, headers=list(headers.items())),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ]
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        self.transport.close()


def _send_at_once(transport: asyncio.Transport) -> None:
    """Let the kernel not hold back the end of an answer until the client has acknowledged its
    beginning, 40 ms for some. asyncio does so only for sockets made with the protocol TCP by name,
    which `socket.create_server` does not."""
    connected = transport.get_extra_info("socket")
    if connected is not None and connected.family in (socket.AF_INET, socket.AF_INET6):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
