"""A request's way: admitted, its model fetched, its prompts encoded, written, and given up when
nobody waits any more. Knows nothing of HTTP."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from pipeline.options.config import Config, ServeOptions
from pipeline.server.engine.answers import answer_for
from pipeline.server.engine.catalogue import Catalogue, Offer
from pipeline.server.engine.model_cache import Loaded, Shelf
from pipeline.server.engine.prompts import encode, new_tokens, new_tokens_after
from pipeline.server.engine.protocol import Chat, Completion
from pipeline.server.engine.work_queue import Job, Piece
from pipeline.server.engine.worker import Worker
from pipeline.server.errors import ApiError, stopping
from pipeline.server.metrics import Metrics

_COME_AGAIN = 1  # seconds


class Service:
    """What all requests share. Made and used in one event loop.

    `warn` hears what went wrong with a model.
    """

    def __init__(
        self,
        config: Config,
        options: ServeOptions,
        catalogue: Catalogue,
        metrics: Metrics,
        warn: Callable[[str], None],
    ) -> None:
        self.options, self.metrics = options, metrics
        self.shelf = Shelf(catalogue, options, config.paths.tokenizers_dir, warn)
        self.worker = Worker(asyncio.get_running_loop(), metrics, warn)
        self.encoding = ThreadPoolExecutor(2, "encode")
        self._open: set[Request] = set()
        self._waiting = 0
        self._stopping = False

    async def ask(self, asked: Completion | Chat) -> "Request":
        """Let a request be answered; whoever asks closes it.

        Raises:
            ApiError: 429, too many wait; or it cannot be answered.
        """
        if self._stopping:
            raise stopping()
        if self._waiting >= self.options.queue:
            raise ApiError(429, "Too many requests are waiting.", code="queue_full",
                           found=f"{self._waiting} requests", remedy="send it again in a moment",
                           retry_after=_COME_AGAIN)  # fmt: skip
        request = Request(self, asked)
        try:
            await request.begin()
        except BaseException:
            request.close()
            raise
        return request

    async def load(self, name: str) -> Offer:
        """Have a model in memory.

        Raises:
            ApiError: see `Shelf.lease`; 408, others have not made room for it in time.
        """
        seconds = self.options.request_seconds
        try:
            async with asyncio.timeout(seconds):
                loaded = await self.shelf.lease(name)
        except TimeoutError:
            raise _expired(
                seconds, "wait for the others, or serve with a larger --models"
            ) from None
        self.shelf.release(loaded)
        return loaded.offer

    def enter(self, request: "Request") -> None:
        """A request waits for its first row."""
        self._open.add(request)
        self.wait(1)

    def leave(self, request: "Request") -> None:
        """A request is over."""
        self._open.discard(request)

    def wait(self, more: int) -> None:
        """So many more requests wait."""
        self._waiting += more
        self.metrics.waiting.set(self._waiting)
        self.metrics.models.set(len(self.shelf))

    def stop(self) -> None:
        """Tell every open request that it ends here; the engine thread ends after its step."""
        self._stopping = True
        for request in self._open:
            request.fail(stopping())
        self.worker.stop()
        self.shelf.close()
        self.encoding.shutdown(wait=False, cancel_futures=True)


class Request:
    """One request: `next` gives what was written since, until `done`."""

    def __init__(self, service: Service, asked: Completion | Chat) -> None:
        self._service, self.asked = service, asked
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        self._first: float | None = None
        self._loaded: Loaded | None = None
        self._job: Job | None = None
        self._failure: ApiError | None = None
        self._task = asyncio.current_task()
        self._prompt_tokens = 0
        self._unfinished = 0
        self._waits = True
        seconds = service.options.request_seconds
        late = _expired(seconds, "ask for fewer tokens")
        self._deadline = self._loop.call_later(seconds, self.fail, late)
        service.enter(self)

    @property
    def done(self) -> bool:
        """Whether all texts have ended."""
        return self._unfinished == 0

    async def begin(self) -> None:
        """Have the model loaded and the prompts encoded, and the writing begun."""
        try:
            await self._begin()
        except asyncio.CancelledError:
            if self._failure is not None:
                raise self._failure from None
            raise
        finally:
            self._task = None

    async def _begin(self) -> None:
        asked = self.asked
        limit = new_tokens(asked, self._service.options)
        self._loaded = loaded = await self._service.shelf.lease(asked.model)
        writer = loaded.desk.writer
        encoded = await self._loop.run_in_executor(self._service.encoding, encode, asked, loaded)
        ends, stop = writer.ends, list(asked.stop)
        if isinstance(asked, Chat):
            ends, stop = ends | loaded.chat.stop_ids, [*stop, *loaded.chat.stop_texts]
        self.answer = answer_for(asked, loaded.offer.id, writer.tokenizer)
        self._job = job = Job(loaded.desk, time.monotonic, on_begin=self._has_row)
        if isinstance(asked, Completion) and asked.echo:
            self.answer.echo(encoded)
            if asked.scored:
                job.prompts, job.alternatives = encoded, asked.alternatives or 0
        for number, prompt in enumerate(encoded):
            room = new_tokens_after(prompt.ids, limit, writer.context, asked)
            for index in range(asked.n):
                settings = asked.settings(index, ends, writer.tokenizer.vocab_size)
                settings = replace(settings, max_new_tokens=room)
                job.add(number * asked.n + index, prompt.ids, settings, stop)
        self._unfinished = self.texts = len(job.texts)
        self._prompt_tokens = sum(len(prompt.ids) for prompt in encoded)
        self._service.metrics.prompt_tokens.inc(self._prompt_tokens)
        self._service.worker.submit(job)

    async def next(self) -> list[Piece]:
        """What was written since the last time; waits until there is something.

        Raises:
            ApiError: it failed, took too long, or the server ends.
        """
        assert self._job is not None
        news = await self._job.told.get()
        if isinstance(news, ApiError):
            raise news
        if self._first is None:
            self._first = time.monotonic()
            self._service.metrics.first_token_seconds.observe(self._first - self._began)
        self._unfinished -= sum(piece.finish is not None for piece in news)
        return news

    def fail(self, error: ApiError) -> None:
        """End it with `error`, wherever it is."""
        self._failure = error
        if self._task is not None:
            self._task.cancel()
        if self._job is not None:
            self._job.cancelled = True
            self._job.told.put_nowait(error)

    def close(self) -> None:
        """Nobody waits for it any more: its texts leave. May be called more than once."""
        self._deadline.cancel()
        self._has_row()
        self._service.leave(self)
        if self._job is not None:
            self._job.cancelled = True
        if self._loaded is not None:
            self._service.shelf.release(self._loaded)
            self._loaded = None

    @property
    def usage(self) -> dict[str, int]:
        """Tokens read and written; a prompt counts once however many texts continue it."""
        new = self._job.new_tokens if self._job else 0
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": new,
            "total_tokens": self._prompt_tokens + new,
        }

    @property
    def figures(self) -> dict[str, Any]:
        """What was measured: all the time it took, until the first text, and the speed since it
        had a row."""
        now = time.monotonic()
        began = self._job.began if self._job and self._job.began else now
        new = self.usage["completion_tokens"]
        return {
            "seconds": round(now - self._began, 4),
            "first_token_ms": round(1000 * ((self._first or now) - self._began), 1),
            "tokens_per_second": round(new / (now - began), 1) if now > began else 0.0,
        }

    def _has_row(self) -> None:
        if self._waits:
            self._waits = False
            self._service.wait(-1)


def _expired(seconds: float, remedy: str) -> ApiError:
    return ApiError(408, f"The request took longer than {seconds:g} seconds.",
                    code="request_timeout", remedy=remedy)  # fmt: skip
