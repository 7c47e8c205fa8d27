"""An imitation of a server that speaks the OpenAI protocol, in the loop of the test."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

OURS = {
    "run": "run_2026_11_21_10_00_first",
    "step": 400,
    "val_loss": 3.25,
    "best": True,
    "latest": True,
    "parameters": 2_560_000,
    "context": 256,
    "bytes": 10_240_000,
    "loaded": False,
}


class Imitation:
    """Answers as it is told. `bodies` are the requests that came, `left` the clients that went
    away before their answer was whole."""

    def __init__(self) -> None:
        self.models: Any = {"data": [{"id": "first/step-400", "hatchery": OURS}]}
        self.chunks: Sequence[bytes] = stream("Once upon", " a time", usage=2)
        self.refuse: Callable[[dict[str, Any]], web.StreamResponse | None] = lambda body: None
        self.breaks = False
        self.hold: asyncio.Event | None = None
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.loads: list[str] = []
        self.left = 0

    async def list_models(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers.get("Authorization"))
        return web.json_response(self.models)

    async def load(self, request: web.Request) -> web.Response:
        self.loads.append((await request.json())["model"])
        return web.json_response({})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body | {"path": request.path})
        refused = self.refuse(body)
        if refused is not None:
            return refused
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for chunk in self.chunks:
                await response.write(chunk)
                await asyncio.sleep(0)
            if self.hold is not None:
                await self.hold.wait()
        except (asyncio.CancelledError, ConnectionError):
            self.left += 1
            raise
        if self.breaks:
            assert request.transport is not None
            request.transport.abort()
        return response


@asynccontextmanager
async def serving(*, extras: bool = True) -> AsyncIterator[tuple[Imitation, str]]:
    """An imitation that listens, and its address; without `extras` as a remote one would be."""
    imitation = Imitation()
    app = web.Application()
    app.router.add_get("/v1/models", imitation.list_models)
    app.router.add_post("/v1/completions", imitation.answer)
    app.router.add_post("/v1/chat/completions", imitation.answer)
    if extras:
        app.router.add_post("/v1/models/load", imitation.load)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    try:
        yield imitation, f"http://{host}:{port}"
    finally:
        await runner.cleanup()


def stream(*texts: str, finish: str = "length", usage: int | None = None) -> list[bytes]:
    """The events of a completion whose every token is as likely as not."""
    events: list[dict[str, Any]] = []
    for text in texts:
        probabilities = {"tokens": [text], "token_logprobs": [-0.6931]}
        events.append({"choices": [{"index": 0, "text": text, "logprobs": probabilities}]})
    events.append({"choices": [{"index": 0, "text": "", "finish_reason": finish}]})
    if usage is not None:
        events.append({"choices": [], "usage": {"completion_tokens": usage, "prompt_tokens": 3}})
    return [*map(event, events), b"data: [DONE]\n\n"]


def event(value: Any) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(value)}\n\n".encode()
