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

from pipeline.server.engine.catalogue import ServedModel
from pipeline.server.engine.protocol import ChatRequest, CompletionRequest, ModelRequest, parse
from pipeline.server.engine.service import ActiveRequest, Service
from pipeline.server.engine.work_queue import Piece
from pipeline.server.errors import ApiError
from pipeline.server.http.guard import DISCONNECTED, internal, read_body
from pipeline.server.http.page import page

_T = TypeVar("_T")
_READ = ["GET", "HEAD"]
_STREAMED = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def create_app(service: Service) -> FastAPI:
    """The application; authentication and limits are in `guard`."""
    app = FastAPI(title="Hatchery", openapi_url=None, redirect_slashes=False)
    app.add_exception_handler(ApiError, _on_error)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(ClientDisconnect, _on_disconnect)
    app.add_exception_handler(Exception, _on_exception)

    @app.api_route("/v1/models", methods=_READ)
    @app.api_route("/v1/models/", methods=_READ)
    async def models() -> Response:
        listed = await asyncio.to_thread(service.models.served_models)
        facts = {
            "device": str(service.models.device),
            "memory_free": await asyncio.to_thread(service.models.memory_free),
        }
        rows = [_model_object(served, service) for served in listed]
        return _json({"object": "list", "data": rows, "hatchery": facts})

    @app.api_route("/v1/models/{name:path}", methods=_READ)
    async def model(name: str) -> Response:
        served = await asyncio.to_thread(service.models.find, name)
        return _json(_model_object(served, service))

    @app.post("/v1/models/load")
    async def load(http: HttpRequest) -> Response:
        named = parse(ModelRequest, await read_body(http, service.options.max_body))
        served = await _until_disconnected(http, service.load(named.model))
        return _json(_model_object(served, service))

    @app.post("/v1/models/unload")
    async def unload(http: HttpRequest) -> Response:
        named = parse(ModelRequest, await read_body(http, service.options.max_body))
        served = await asyncio.to_thread(service.models.find, named.model)
        service.models.unload(served)
        return _json(_model_object(served, service))

    @app.post("/v1/completions")
    async def completions(http: HttpRequest) -> Response:
        request = parse(CompletionRequest, await read_body(http, service.options.max_body))
        return await _respond(service, request, http)

    @app.post("/v1/chat/completions")
    async def chat(http: HttpRequest) -> Response:
        request = parse(ChatRequest, await read_body(http, service.options.max_body))
        return await _respond(service, request, http)

    @app.api_route("/health", methods=_READ)
    async def health() -> Response:
        return _json({"status": "ok"})

    @app.api_route("/metrics", methods=_READ)
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.api_route("/", methods=_READ)
    async def for_people() -> Response:
        return await asyncio.to_thread(page)

    return app


async def _respond(
    service: Service, request: CompletionRequest | ChatRequest, http: HttpRequest
) -> Response:
    """Answer whole or in a stream, which begins with the first text: what goes wrong before that
    has a status of its own."""
    active: ActiveRequest | None = None
    try:
        active = await _until_disconnected(http, service.start(request))
        if request.stream:
            return _Stream(active, await _until_disconnected(http, active.next()))
        answer = await _until_disconnected(http, _complete(active))
        active.close()
        return answer
    except BaseException:
        if active is not None:
            active.close()
        raise


async def _complete(active: ActiveRequest) -> Response:
    """All of the answer; put into JSON in a thread: the tokens of prompts can take a second."""
    while not active.done:
        for piece in await active.next():
            active.response.take(piece)
    usage, figures = active.usage, active.figures
    return await asyncio.to_thread(lambda: _json(active.response.whole(usage, figures)))


async def _until_disconnected(http: HttpRequest, work: Coroutine[Any, Any, _T]) -> _T:
    """What `work` returns; it is cancelled when the client disconnects.

    Raises:
        ClientDisconnect: before `work` was done.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(http))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def _disconnected(http: HttpRequest) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass


class _Stream(StreamingResponse):
    """Server-sent events; however it ends, the request is closed."""

    def __init__(self, active: ActiveRequest, first: list[Piece]) -> None:
        super().__init__(_events(active, first), headers=_STREAMED, media_type="text/event-stream")
        self._active = active

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._active.close()


async def _events(active: ActiveRequest, first: list[Piece]) -> AsyncIterator[bytes]:
    """One event for each chunk; those of a step go out together."""
    opening = active.response.opening(active.texts)
    yield b"".join(map(_event, opening))
    try:
        chunks = await asyncio.to_thread(_chunks, active, first)  # for the same reason
        while not active.done:
            yield b"".join(map(_event, chunks))
            chunks = _chunks(active, await active.next())
        yield b"".join(map(_event, _last(active, chunks))) + b"data: [DONE]\n\n"
    except ApiError as error:
        yield _event(error.body)
    except Exception as error:
        yield _event(internal(error).body)
        raise


def _chunks(active: ActiveRequest, pieces: list[Piece]) -> list[dict[str, Any]]:
    return [chunk for piece in pieces if (chunk := active.response.chunk(piece))]


def _last(active: ActiveRequest, chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last chunks, with what was measured and, where the client asked for it, the usage."""
    if active.request.stream_options.include_usage:
        chunks = [*chunks, active.response.ending(active.usage)]
    chunks[-1] |= {"hatchery": active.figures}
    return chunks


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


def _json(body: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(body), media_type="application/json")


def _model_object(served: ServedModel, service: Service) -> dict[str, Any]:
    """A model as /v1/models lists it."""
    checkpoint = served.checkpoint
    return {
        "id": served.id,
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
            "parameters": served.parameters,
            "context": served.context,
            "bytes": served.bytes,
            "chat": served.chat,
            "loaded": service.models.is_loaded(served),
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


async def _on_disconnect(_: HttpRequest, __: Exception) -> Response:
    """Nobody is there to read it: it is only counted."""
    return Response(status_code=DISCONNECTED)


async def _on_exception(http: HttpRequest, error: Exception) -> Response:
    return await _on_error(http, internal(error))
