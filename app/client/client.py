"""A client of any server that speaks the OpenAI protocol: our own, or a remote one.

What only our server knows (validation loss, memory, loading ahead) is used where it is there and
missed nowhere. Every failure is a `HatcheryError` with the server's own words. Never imports torch;
aiohttp costs 0.2 s and is imported when a session opens.
"""

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from app.client.requests import Model as Model
from app.client.requests import Piece as Piece
from app.client.requests import Request as Request
from app.client.requests import Sampling as Sampling
from app.client.responses import (
    Chunk,
    events,
    not_openai,
    read_chunk,
    read_json,
    read_model,
    refusal,
    refuse_errors,
    refuse_model,
    unknown_parameters,
)
from utils.errors import NetworkError

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

_CONNECT, _LIST, _SILENCE = 10.0, 30.0, 600.0  # seconds; loading a model is silent


@dataclass(frozen=True)
class Endpoint:
    """Where a server answers, with or without its /v1, and the key it wants."""

    url: str
    token: str | None = field(default=None, repr=False)

    @property
    def base(self) -> str:
        """The address that paths of the protocol follow."""
        return self.url.rstrip("/").removesuffix("/v1")


class Client:
    """A connection to one server, for use in one event loop; closed by `close` or `async with`.

    `ignored` names the sampling parameters that the server has refused as unknown.
    """

    def __init__(
        self, endpoint: Endpoint, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.endpoint = endpoint
        self.ignored: frozenset[str] = frozenset()
        self._clock = clock
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the connection and what is still being answered."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def models(self) -> list[Model]:
        """What the server offers.

        Raises:
            HatcheryError: it cannot be reached, or refuses.
        """
        async with self._request("GET", "/v1/models", seconds=_LIST) as response:
            await refuse_errors(response)
            listed = (await read_json(response)).get("data")
            if not isinstance(listed, list):
                raise not_openai(response)
        return [read_model(item) for item in listed if isinstance(item, dict) and item.get("id")]

    async def load(self, model: str) -> None:
        """Bring a model into the server's memory ahead of the first question; a server that does
        not know how does it then.

        Raises:
            HatcheryError: it cannot be loaded.
        """
        body = {"model": model}
        async with self._request("POST", "/v1/models/load", body=body) as response:
            await refuse_model(response)

    async def stream(self, request: Request) -> AsyncGenerator[Piece, None]:
        """The answer as it is written; closing the generator ends it at the server.

        Raises:
            HatcheryError: the server refuses, fails, or is gone before the answer is whole.
        """
        began = self._clock()
        first, count = began, 0
        finish: str | None = None
        reported: dict[str, float] = {}
        async with aclosing(self._chunks(request)) as chunks:
            async for chunk in chunks:
                finish = chunk.finish or finish or ("stop" if chunk.last else None)
                reported |= chunk.figures
                if chunk.text or chunk.tokens:
                    first = first if count else self._clock()
                    count += len(chunk.tokens) or 1
                    yield Piece(chunk.text, chunk.tokens)
        if finish is None:
            raise self._connection_error("the answer has no end")
        took, waited = self._clock() - began, first - began
        yield Piece("", finish=finish, figures=_figures(reported, count, took, waited))

    async def _chunks(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """What the server sends, asked again without parameters that it does not know."""
        while True:
            body = {
                name: value for name, value in request.body().items() if name not in self.ignored
            }
            async with self._request("POST", request.path, body=body) as response:
                if response.status in (400, 422):
                    error = await refusal(response)
                    unknown = unknown_parameters(error, body)
                    if not unknown:
                        raise error
                    self.ignored |= unknown
                    continue
                await refuse_errors(response)
                if response.content_type == "text/event-stream":
                    async with aclosing(events(response)) as chunks:
                        async for chunk in chunks:
                            yield chunk
                else:
                    yield read_chunk(json.dumps(await read_json(response)))
                return

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, *, body: Any = None, seconds: float | None = None
    ) -> AsyncIterator["ClientResponse"]:
        """A response to read from; whatever goes wrong with the connection becomes a sentence."""
        import aiohttp

        limits = aiohttp.ClientTimeout(total=seconds, sock_connect=_CONNECT, sock_read=_SILENCE)
        where = f"{self.endpoint.base}{path}"
        try:
            session = self._open_session()
            async with session.request(
                method, where, json=body, timeout=limits, allow_redirects=False
            ) as response:
                try:
                    yield response
                finally:
                    if not response.content.at_eof():
                        response.close()  # so that the server stops writing
        except aiohttp.ClientConnectorError as error:
            raise NetworkError(
                f"No server answers at {self.endpoint.base}.",
                found=error.os_error.strerror or str(error.os_error),
                remedy="check the address, and that the server runs",
            ) from error
        except aiohttp.InvalidURL as error:
            raise NetworkError(
                f"{self.endpoint.url} is not the address of a server.",
                remedy="give one such as http://127.0.0.1:8000",
            ) from error
        except TimeoutError as error:
            raise self._connection_error("it has not answered in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._connection_error(str(error) or type(error).__name__) from error

    def _open_session(self) -> "ClientSession":
        if self._session is None:
            import aiohttp

            token = self.endpoint.token
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            self._session = aiohttp.ClientSession(headers=headers)
        return self._session

    def _connection_error(self, found: str) -> NetworkError:
        return NetworkError(
            f"The connection to {self.endpoint.base} broke off.",
            found=found,
            remedy="send it again; if it happens again, look whether the server still runs",
        )


def _figures(
    reported: dict[str, float], count: int, took: float, waited: float
) -> dict[str, float]:
    """What was measured here, and above it what the server says; the speed is that of the tokens
    after the first, since the first waits for the prompt to be read."""
    tokens = reported.get("new_tokens", float(count))
    measured = {"new_tokens": tokens, "seconds": took, "first_token_ms": 1000 * waited}
    if tokens > 1 and took > waited:
        measured["tokens_per_second"] = (tokens - 1) / (took - waited)
    return measured | reported
