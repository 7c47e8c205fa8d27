"""The routes: models, completions, chat, health, metrics and the page for people."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

import msgspec
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from pipeline.server.engine.catalogue import Offer
from pipeline.server.engine.protocol import Chat, Completion, Named, parse
from pipeline.server.engine.service import Request, Service
from pipeline.server.engine.work_queue import Piece
from pipeline.server.errors import ApiError
from pipeline.server.http.guard import internal, read_body
from pipeline.server.http.page import page

_T = TypeVar("_T")
_STREAMED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def create_app(service: Service) -> FastAPI:
    """The application; what may ask it and how much is `guard`'s concern."""
    app = FastAPI(title="Hatchery", openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(ApiError, _on_error)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_mistake)

    @app.get("/v1/models")
    async def models() -> Response:
        offers = await asyncio.to_thread(service.shelf.offers)
        facts = {
            "device": service.shelf.device.type,
            "memory_free": await asyncio.to_thread(service.shelf.memory_free),
        }
        rows = [_described(offer, service) for offer in offers]
        return _json({"object": "list", "data": rows, "hatchery": facts})

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        offer = await asyncio.to_thread(service.shelf.find, name)
        return _json(_described(offer, service))

    @app.post("/v1/models/load")
    async def load(http: HttpRequest) -> Response:
        named = parse(Named, await read_body(http, service.options.max_body))
        offer = await _until_gone(http, service.load(named.model))
        return _json(_described(offer, service))

    @app.post("/v1/models/unload")
    async def unload(http: HttpRequest) -> Response:
        named = parse(Named, await read_body(http, service.options.max_body))
        offer = await asyncio.to_thread(service.shelf.find, named.model)
        service.shelf.unload(offer)
        return _json(_described(offer, service))

    @app.post("/v1/completions")
    async def completions(http: HttpRequest) -> Response:
        asked = parse(Completion, await read_body(http, service.options.max_body))
        return await _respond(service, asked, http)

    @app.post("/v1/chat/completions")
    async def chat(http: HttpRequest) -> Response:
        asked = parse(Chat, await read_body(http, service.options.max_body))
        return await _respond(service, asked, http)

    @app.get("/health")
    async def health() -> Response:
        return _json({"status": "ok"})

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/")
    async def for_people() -> Response:
        return await asyncio.to_thread(page)

    return app


async def _respond(service: Service, asked: Completion | Chat, http: HttpRequest) -> Response:
    """Answer whole or in a stream, which begins with the first text: what goes wrong before that
    has a status of its own."""
    request: Request | None = None
    try:
        request = await _until_gone(http, service.ask(asked))
        if asked.stream:
            return _Stream(request, await _until_gone(http, request.next()))
        answer = await _until_gone(http, _whole(request))
        request.close()
        return answer
    except BaseException:
        if request is not None:
            request.close()
        raise


async def _whole(request: Request) -> Response:
    """All of the answer; put into JSON in a thread: the tokens of prompts can take a second."""
    while not request.done:
        for piece in await request.next():
            request.answer.take(piece)
    usage, figures = request.usage, request.figures
    return await asyncio.to_thread(lambda: _json(request.answer.whole(usage, figures)))


async def _until_gone(http: HttpRequest, work: Coroutine[Any, Any, _T]) -> _T:
    """What `work` returns; it is cancelled when the client hangs up.

    Raises:
        ClientDisconnect: nobody is there any more.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(http))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def _gone(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


class _Stream(StreamingResponse):
    """Server-sent events; however it ends, the request is closed."""

    def __init__(self, request: Request, first: list[Piece]) -> None:
        super().__init__(_events(request, first), headers=_STREAMED, media_type="text/event-stream")
        self._request = request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._request.close()


async def _events(request: Request, first: list[Piece]) -> AsyncIterator[bytes]:
    """One event for each chunk; those of a step go out together."""
    opening = request.answer.opening(request.texts)
    yield b"".join(map(_event, opening))
    try:
        chunks = await asyncio.to_thread(_chunks, request, first)  # for the same reason
        while not request.done:
            yield b"".join(map(_event, chunks))
            chunks = _chunks(request, await request.next())
        yield b"".join(map(_event, _last(request, chunks))) + b"data: [DONE]\n\n"
    except ApiError as error:
        yield _event(error.body)
    except Exception as error:
        yield _event(internal(error).body)
        raise


def _chunks(request: Request, news: list[Piece]) -> list[dict[str, Any]]:
    return [chunk for piece in news if (chunk := request.answer.chunk(piece))]


def _last(request: Request, chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last chunks, with what was measured and, where it was asked for, the usage."""
    if request.asked.stream_options.include_usage:
        chunks = [*chunks, request.answer.ending(request.usage)]
    chunks[-1] |= {"hatchery": request.figures}
    return chunks


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


def _json(body: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")


def _described(offer: Offer, service: Service) -> dict[str, Any]:
    """A model as /v1/models lists it."""
    checkpoint = offer.checkpoint
    return {
        "id": offer.id,
        "object": "model",
        "created": int(checkpoint.modified),
        "owned_by": "hatchery",
        "hatchery": {
            "run": checkpoint.run,
            "checkpoint": checkpoint.name,
            "step": checkpoint.step,
            "val_loss": checkpoint.val_loss,
            "best": checkpoint.best,
            "latest": checkpoint.latest,
            "parameters": offer.parameters,
            "context": offer.context,
            "bytes": offer.bytes,
            "chat": offer.chat,
            "loaded": service.shelf.holds(offer),
        },
    }


async def _on_error(_: HttpRequest, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    body = msgspec.json.encode(error.body)
    return Response(body, error.status, error.headers, media_type="application/json")


async def _on_http(http: HttpRequest, error: Exception) -> Response:
    """Routes that are not there, and methods that a route does not have."""
    assert isinstance(error, HTTPException)
    path = http.url.path[:100]
    if error.status_code == 405:
        found = ApiError(405, f"{http.method[:20]} is not possible here.",
                         code="method_not_allowed", found=path)  # fmt: skip
    else:
        found = ApiError(error.status_code, "There is nothing here.", code="not_found",
                         found=path, remedy="programs ask /v1/models, /v1/completions and "
                         "/v1/chat/completions")  # fmt: skip
    answer = await _on_error(http, found)
    answer.headers.update(error.headers or {})
    return answer


async def _on_mistake(http: HttpRequest, error: Exception) -> Response:
    return await _on_error(http, internal(error))
