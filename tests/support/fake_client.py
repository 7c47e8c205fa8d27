"""A model server without models: what it says, fails at and holds back is scripted."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

from app.client.client import Model, Piece, Request
from utils.errors import HatcheryError

STEPS = ((200, 4.1), (400, 3.6), (600, 3.2), (800, 3.3))
ONE, TWO = "run_2026_11_20_10_00_exp1", "run_2026_11_21_10_00_exp2"


def model(run: str, step: int, loss: float, **facts: Any) -> Model:
    given = {"parameters": 14_200_000, "context": 256, "bytes": 57_000_000} | facts
    return Model(f"{run}/{step}", run, step, loss, **given)


MODELS = [
    *(model(TWO, step, loss - 0.1, best=step == 600, latest=step == 800) for step, loss in STEPS),
    *(model(ONE, step, loss, best=step == 600, latest=step == 800) for step, loss in STEPS),
]


class FakeClient:
    """Answers with the name of the model and the seed, once it is `reachable`; `fails` by id,
    `refuses` every request, `hold` is waited for before the last word. `requests` and `loads` are
    what came, `open` the streams that have not ended."""

    def __init__(self, models: list[Model] | None = None, *, reachable: bool = True) -> None:
        self.listed = MODELS if models is None else models
        self.words: dict[str, str] = {}
        self.fails: dict[str, HatcheryError] = {}
        self.load_fails: dict[str, HatcheryError] = {}
        self.refuses: HatcheryError | None = None
        self.prompt_tokens: int | None = None
        self.reachable = asyncio.Event()
        if reachable:
            self.reachable.set()
        self.hold: asyncio.Event | None = None
        self.requests: list[Request] = []
        self.loads: Counter[str] = Counter()
        self.open = 0
        self.closed = False

    async def models(self) -> list[Model]:
        return list(self.listed)

    async def load(self, name: str) -> None:
        self.loads[name] += 1
        if name in self.load_fails:
            raise self.load_fails[name]

    async def stream(self, request: Request) -> AsyncGenerator[Piece, None]:
        self.requests.append(request)
        self.open += 1
        try:
            if self.refuses is not None:
                if self.hold is not None:
                    await self.hold.wait()
                raise self.refuses
            words = self.words.get(
                request.model, f" {request.model} answers seed {request.sampling.seed}"
            )
            *first, last = [f" {word}" for word in words.split()]
            chances = [-0.1, -1.5, -3.0, -6.0]
            for number, word in enumerate(first):
                yield Piece(word, ((word, chances[number % 4]),))
                await asyncio.sleep(0)
            if request.model in self.fails:
                raise self.fails[request.model]
            if self.hold is not None:
                await self.hold.wait()
            yield Piece(last, ((last, -0.5),))
            place = [m.id for m in self.listed].index(request.model) if self.listed else 0
            figures = {
                "new_tokens": 60.0 + place,
                "seconds": 0.5 + place / 10,
                "first_token_ms": 30.0 + place,
                "tokens_per_second": 120.0 - place,
            }
            if self.prompt_tokens is not None:
                figures["prompt_tokens"] = float(self.prompt_tokens)
            yield Piece("", finish="length", figures=figures)
        finally:
            self.open -= 1

    async def close(self) -> None:
        self.closed = True


class FakeServerProcess:
    """In place of `app.client.server_process.ServerProcess`."""

    def __init__(self, client: FakeClient) -> None:
        self.fake = client
        self.state = "up" if client.reachable.is_set() else "starting"
        self.fault: HatcheryError | None = None
        self.note = ""
        self.starts = 0

    async def client(self) -> FakeClient:
        if self.state == "died":
            self.state, self.fault = "up", None
            self.starts += 1
        await self.fake.reachable.wait()
        self.state = "up"
        return self.fake

    async def stop(self) -> None:
        self.state = "off"
