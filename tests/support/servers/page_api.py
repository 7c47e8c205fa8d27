"""An imitation of the server for tests of its page: a test says what it answers, and when."""

import asyncio
import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from aiohttp import web

from pipeline.server.http.page import page_text

PAGE = Path(__file__).parents[3] / "pipeline" / "server" / "http" / "page.html"
TOKEN = "correct-horse"


def facts(run: str, step: int, **more: Any) -> dict[str, Any]:
    known = {"run": run, "checkpoint": f"step {step}", "step": step, "val_loss": 3.2, "best": True}
    sizes = {"latest": True, "parameters": 14_200_000, "context": 512, "bytes": 57_000_000}
    return known | sizes | {"loaded": False} | more


class Imitation:
    """What the page asks of the server. A text is streamed as far as `gate` has been opened, and
    the models are told while `listing` is open."""

    def __init__(self) -> None:
        self.models = {
            "run_2026_01_01_10_00_first/step-600": facts("run_2026_01_01_10_00_first", 600),
            "run_2026_01_02_10_00_second/step-90": facts("run_2026_01_02_10_00_second", 90),
        }
        self.text = "The small hen lays an egg. It is green.\nThe end"
        self.requests: list[dict[str, Any]] = []
        self.refusals: list[web.Response] = []
        self.failure: dict[str, Any] | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.listing = asyncio.Event()
        self.listing.set()
        self.cut = False
        self.left = 0
        self.pieces = re.compile(r"\s*\S{1,40}|\s+")

    def application(self) -> web.Application:
        application = web.Application(client_max_size=1 << 24)
        application.router.add_get("/", self.page)
        application.router.add_get("/v1/models", self.listed)
        application.router.add_post("/v1/completions", self.streamed)
        application.router.add_post("/v1/chat/completions", self.streamed)
        return application

    async def page(self, request: web.Request) -> web.Response:
        source = page_text()
        allowed = {
            tag: f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'"
            for tag in ("script", "style")
            for body in re.findall(f"<{tag}>(.*?)</{tag}>", source, re.DOTALL)
        }
        policy = (
            f"default-src 'none'; script-src {allowed['script']}; style-src {allowed['style']}; "
            "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        headers = {"Content-Security-Policy": policy}
        return web.Response(text=source, content_type="text/html", headers=headers)

    def refused(self, request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return refusal(401, "The token is wrong.")
        return self.refusals.pop(0) if self.refusals and request.method == "POST" else None

    async def listed(self, request: web.Request) -> web.Response:
        if refused := self.refused(request):
            return refused
        await self.listing.wait()
        data = [
            {"id": name, "object": "model", "hatchery": known}
            for name, known in self.models.items()
        ]
        own = {"device": "cpu", "memory_free": 8 << 30}
        return web.json_response({"object": "list", "data": data, "hatchery": own})

    async def streamed(self, request: web.Request) -> web.StreamResponse:
        if refused := self.refused(request):
            return refused
        asked = await request.json()
        self.requests.append(asked)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            await self.write(response, asked)
        except (ConnectionResetError, asyncio.CancelledError):
            self.left += 1
            raise
        return response

    async def write(self, response: web.StreamResponse, asked: dict[str, Any]) -> None:
        pieces = self.pieces.findall(self.text)
        for number, piece in enumerate(pieces):
            await response.write(event(choices=[choice(asked, piece, number)]))
            if number % 5 == 4:
                await self.opened(response)
        if self.cut:
            return
        if self.failure is not None:
            await response.write(event(error=self.failure))
            return
        done = choice(asked, "", 0) | {"finish_reason": "length", "logprobs": None}
        usage = {"prompt_tokens": 3, "completion_tokens": len(pieces), "total_tokens": 9}
        speed = 80.0 + len(str(asked["model"])) + 10 * ("second" in asked["model"])
        measured = {"seconds": 1.5, "first_token_ms": 41.2, "tokens_per_second": speed}
        await response.write(event(choices=[done]))
        await response.write(event(choices=[], usage=usage, hatchery=measured))
        await response.write(b"data: [DONE]\r\n\r\n")

    async def opened(self, response: web.StreamResponse) -> None:
        """Wait for the gate; a comment now and then finds out whether the client is there."""
        while not self.gate.is_set():
            await response.write(b": waiting\n\n")
            await asyncio.sleep(0.02)


def refusal(status: int, message: str, **headers: str) -> web.Response:
    body = {"error": {"message": message, "type": "invalid_request_error", "code": "none"}}
    return web.json_response(body, status=status, headers=headers)


def event(**chunk: Any) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\r\n\r\n"


def choice(asked: dict[str, Any], text: str, number: int) -> dict[str, Any]:
    logprob = -0.01 - (number % 7) * 0.8
    if "messages" in asked:
        content = [{"token": text, "logprob": logprob, "bytes": None, "top_logprobs": []}]
        return {"index": 0, "delta": {"content": text}, "logprobs": {"content": content}}
    logprobs = {"tokens": [text], "token_logprobs": [logprob], "top_logprobs": None}
    return {"index": 0, "text": text, "logprobs": logprobs}
