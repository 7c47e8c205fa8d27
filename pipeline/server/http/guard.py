"""Authentication, host and origin checks, the size of bodies, and counters: ASGI middleware around
the whole application."""

import asyncio
import hmac
import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request

from pipeline.server.errors import ApiError
from pipeline.server.metrics import Metrics

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

DISCONNECTED = 499
"""What a request is counted as whose client hung up: nginx's number, which is never sent."""

ANY_ORIGIN = "*"
_UNGUARDED = ("/", "/health")
_ALLOWED_METHODS = b"GET, HEAD, POST, OPTIONS"
_EXPOSED_HEADERS = b"Retry-After, x-should-retry"
_PREFLIGHT_SECONDS = b"600"  # for which a browser need not ask again


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """The application behind a token, host and origin checks, and counters.

    `token` None asks for none. `loopback` says that only this machine reaches the server: then no
    name may be used that a foreign name server could point at it (DNS rebinding). `origins` are
    the sites whose pages may use it, beside its own. `on_exception` is called with unexpected
    exceptions, for which clients get a 503.
    """

    def __init__(
        self,
        app: Application,
        metrics: Metrics,
        *,
        token: str | None,
        loopback: bool,
        origins: Collection[str] = (),
        on_exception: Callable[[BaseException], None],
    ) -> None:
        self._app, self._metrics = app, metrics
        self._token = None if token is None else token.encode()
        self._loopback, self._on_exception = loopback, on_exception
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status: int | None = None
        shared = self._shared_with(scope)

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *shared]
            await send(message)

        try:
            self._check(scope, allowed=bool(shared))
            if shared and scope["method"] == "OPTIONS":
                await _answer_preflight(scope, counted)
            else:
                await self._app(scope, receive, counted)
        except ApiError as error:
            await respond(error, counted)
        except ClientDisconnect:
            status = status or DISCONNECTED
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # of libraries in Rust a panic, which is no Exception
            self._on_exception(error)
            if status is None:
                await respond(internal(error), counted)
        route = getattr(scope.get("route"), "path", "other")
        self._metrics.answers.labels(route, str(status or DISCONNECTED)).inc()

    def _shared_with(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Headers that let the page of an allowed site read the answer; none for others."""
        origin = dict(scope["headers"]).get(b"origin", b"")
        if not origin or not self._origins & {origin.decode("latin-1"), ANY_ORIGIN}:
            return []
        return [
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED_HEADERS),
            (b"vary", b"Origin"),
        ]

    def _check(self, scope: Scope, *, allowed: bool) -> None:
        """Raise where somebody asks who may not; `allowed` says that the origin may."""
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if self._loopback and not _own_name(host):
            raise ApiError(403, "This name is not one of this machine: use its address.",
                           code="wrong_host", found=host[:100])  # fmt: skip
        origin = headers.get(b"origin")
        if origin is not None and not allowed and urlsplit(origin).netloc != host:
            raise ApiError(403, "Pages of another site may not use this server.",
                           code="wrong_origin", found=origin[:100],
                           remedy="allow it: serve --allow-origin ORIGIN")  # fmt: skip
        preflight = allowed and scope["method"] == "OPTIONS"  # browsers send it without a token
        if self._token is None or scope["path"] in _UNGUARDED or preflight:
            return
        kind, _, given = headers.get(b"authorization", "").partition(" ")
        token = given.strip().encode() if kind.lower() == "bearer" else b""
        if not hmac.compare_digest(token, self._token):
            raise ApiError(401, "The token is wrong." if token else "A token is missing.",
                           code="invalid_api_key",
                           remedy="send it as API key: the header Authorization: Bearer TOKEN; "
                           "the server showed it when it started")  # fmt: skip


async def _answer_preflight(scope: Scope, send: Send) -> None:
    """Tell a browser what a page of an allowed site may send."""
    asked = dict(scope["headers"])
    headers = [
        (b"access-control-allow-methods", _ALLOWED_METHODS),
        (b"access-control-allow-headers", asked.get(b"access-control-request-headers", b"*")),
        (b"access-control-max-age", _PREFLIGHT_SECONDS),
    ]
    if b"access-control-request-private-network" in asked:
        headers.append((b"access-control-allow-private-network", b"true"))
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _own_name(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return is_loopback(name) or name == socket.gethostname().lower()


def internal(error: BaseException) -> ApiError:
    """The failure that an unexpected exception becomes for the client."""
    return ApiError(503, "The server made a mistake; it goes on.", code="internal",
                    found=type(error).__name__, remedy="the server's log says more")  # fmt: skip


async def respond(error: ApiError, send: Send) -> None:
    """Send an error as the whole answer."""
    body = json.dumps(error.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    raw = [(k.encode(), v.encode()) for k, v in (headers | error.headers).items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request, of which no more than `limit` bytes are ever held.

    Raises:
        ApiError: 413, it is longer.
    """
    length = request.headers.get("content-length", "0")
    body = bytearray()
    if not length.isdigit() or int(length) <= limit:
        async for part in request.stream():
            body += part
            if len(body) > limit:
                break
        else:
            return bytes(body)
    raise ApiError(413, f"The request is longer than {limit:,} bytes.", code="request_too_large",
                   remedy="send less, or serve with a larger --max-body")  # fmt: skip
