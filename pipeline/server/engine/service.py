"""The life of a request: admitted, its model loaded, its prompts encoded, texts generated, and
cancelled when no client waits any more. Knows nothing of HTTP."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pipeline.chat.encoder import ChatTemplateError
from pipeline.inference.stop_strings import token_offsets
from pipeline.options.config import Config, ServeOptions
from pipeline.server.engine.answers import response_builder
from pipeline.server.engine.catalogue import Catalogue, ServedModel
from pipeline.server.engine.model_cache import LoadedModel, ModelCache
from pipeline.server.engine.protocol import ChatRequest, CompletionRequest
from pipeline.server.engine.work_queue import GenerationRequest, Piece, Prompt
from pipeline.server.engine.worker import Worker
from pipeline.server.errors import ApiError, bad_request, from_hatchery, stopping
from pipeline.server.metrics import Metrics
from utils.errors import HatcheryError

_RETRY_AFTER = 1  # seconds


class Service:
    """What all requests share. Created and used in one event loop.

    `warn` is called with what went wrong with a model.
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
        self.models = ModelCache(catalogue, options, config.paths.tokenizers_dir, warn)
        self.worker = Worker(asyncio.get_running_loop(), metrics, warn)
        self._active: set[ActiveRequest] = set()
        self._waiting = 0
        self._stopping = False

    async def start(self, request: CompletionRequest | ChatRequest) -> "ActiveRequest":
        """Admit a request and begin to generate; the caller closes it.

        Raises:
            ApiError: 429, too many wait; or it cannot be answered.
        """
        if self._stopping:
            raise stopping()
        if self._waiting >= self.options.queue:
            raise ApiError(429, "Too many requests are waiting.", code="queue_full",
                           found=f"{self._waiting} requests", remedy="send it again in a moment",
                           retry_after=_RETRY_AFTER)  # fmt: skip
        active = ActiveRequest(self, request)
        try:
            await active.begin()
        except BaseException:
            active.close()
            raise
        return active

    async def load(self, name: str) -> ServedModel:
        """Load a model into memory.

        Raises:
            ApiError: see `ModelCache.acquire`; 408, no other model was evicted in time.
        """
        seconds = self.options.request_seconds
        try:
            async with asyncio.timeout(seconds):
                loaded = await self.models.acquire(name)
        except TimeoutError:
            raise _expired(
                seconds, "wait for the others, or serve with a larger --models"
            ) from None
        self.models.release(loaded)
        return loaded.served

    def enter(self, request: "ActiveRequest") -> None:
        """A request waits for its first row."""
        self._active.add(request)
        self.count_waiting(1)

    def leave(self, request: "ActiveRequest") -> None:
        """A request is over."""
        self._active.discard(request)

    def count_waiting(self, more: int) -> None:
        """Add `more` to the number of requests that wait for a row."""
        self._waiting += more
        self.metrics.waiting.set(self._waiting)
        self.metrics.models.set(len(self.models))

    def stop(self) -> None:
        """Fail every open request; the engine thread ends after its step."""
        self._stopping = True
        for request in self._active:
            request.fail(stopping())
        self.worker.stop()
        self.models.close()


class ActiveRequest:
    """One request being answered: `next` gives the pieces written since, until `done`."""

    def __init__(self, service: Service, request: CompletionRequest | ChatRequest) -> None:
        self._service, self.request = service, request
        self._loop = asyncio.get_running_loop()
        self._began = time.monotonic()
        self._first: float | None = None
        self._loaded: LoadedModel | None = None
        self._generation: GenerationRequest | None = None
        self._failure: ApiError | None = None
        self._task = asyncio.current_task()
        self._prompt_tokens = 0
        self._unfinished = 0
        self._is_waiting = True
        self._note = ""
        seconds = service.options.request_seconds
        late = _expired(seconds, "ask for fewer tokens")
        self._deadline = self._loop.call_later(seconds, self.fail, late)
        service.enter(self)

    @property
    def done(self) -> bool:
        """Whether all texts have ended."""
        return self._unfinished == 0

    async def begin(self) -> None:
        """Load the model, encode the prompts, and submit the texts to the engine thread."""
        try:
            await self._begin()
        except asyncio.CancelledError:
            if self._failure is not None:
                raise self._failure from None
            raise
        finally:
            self._task = None

    async def _begin(self) -> None:
        request = self.request
        wanted, limit = _token_limit(request, self._service.options)
        self._loaded = loaded = await self._service.models.acquire(request.model)
        writer = loaded.queue.writer
        encoded = await self._loop.run_in_executor(loaded.encoding, _encode, request, loaded)
        ends, stop = writer.ends, list(request.stop)
        if isinstance(request, ChatRequest):
            ends = ends | loaded.chat.stop_ids
            stop += [] if request.ignore_eos else loaded.chat.stop_texts
        self.response = response_builder(request, loaded.served.id, writer.tokenizer)
        self._generation = generation = GenerationRequest(
            loaded.queue, time.monotonic, on_begin=self._leave_waiting
        )
        if isinstance(request, CompletionRequest) and request.echo:
            self.response.echo(encoded)
            if request.scored:
                generation.prompts, generation.alternatives = encoded, request.alternatives or 0
        for number, prompt in enumerate(encoded):
            room = _tokens_that_fit(prompt.ids, limit, writer.context, request)
            if wanted is not None and room < wanted:
                self._note = f"{room} new tokens at most, where {wanted} were asked for"
            for index in range(request.n):
                settings = request.settings(index, ends, writer.tokenizer.vocab_size)
                settings = replace(
                    settings, max_new_tokens=room, counts_padding=writer.counts_padding
                )
                generation.add(number * request.n + index, prompt.ids, settings, stop)
        self._unfinished = self.texts = len(generation.texts)
        self._prompt_tokens = sum(len(prompt.ids) for prompt in encoded)
        self._service.metrics.prompt_tokens.inc(self._prompt_tokens)
        self._service.worker.submit(generation)

    async def next(self) -> list[Piece]:
        """What was written since the last time; waits until there is something.

        Raises:
            ApiError: it failed, took too long, or the server ends.
        """
        assert self._generation is not None
        delivery = await self._generation.deliveries.get()
        if isinstance(delivery, ApiError):
            raise delivery
        if self._first is None:
            self._first = time.monotonic()
            self._service.metrics.first_token_seconds.observe(self._first - self._began)
        self._unfinished -= sum(piece.finish is not None for piece in delivery)
        return delivery

    def fail(self, error: ApiError) -> None:
        """End it with `error`, wherever it is."""
        self._failure = error
        if self._task is not None:
            self._task.cancel()
        if self._generation is not None:
            self._generation.cancelled = True
            self._generation.deliveries.put_nowait(error)

    def close(self) -> None:
        """No client waits any more: its texts leave the batch. May be called more than once."""
        self._deadline.cancel()
        self._leave_waiting()
        self._service.leave(self)
        if self._generation is not None:
            self._generation.cancelled = True
        if self._loaded is not None:
            self._service.models.release(self._loaded)
            self._loaded = None

    @property
    def usage(self) -> dict[str, Any]:
        """Tokens read and written; a prompt counts once however many texts continue it. A note says
        where a text may not be as long as was asked for."""
        new = self._generation.new_tokens if self._generation else 0
        return {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": new,
            "total_tokens": self._prompt_tokens + new,
        } | ({"note": self._note} if self._note else {})

    @property
    def figures(self) -> dict[str, Any]:
        """What was measured: all the time it took, until the first text, and the speed since it
        had a row."""
        now = time.monotonic()
        began = self._generation.began if self._generation and self._generation.began else now
        new = self.usage["completion_tokens"]
        return {
            "seconds": round(now - self._began, 4),
            "first_token_ms": round(1000 * ((self._first or now) - self._began), 1),
            "tokens_per_second": round(new / (now - began), 1) if now > began else 0.0,
        }

    def _leave_waiting(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._service.count_waiting(-1)


def _expired(seconds: float, remedy: str) -> ApiError:
    return ApiError(408, f"The request took longer than {seconds:g} seconds.",
                    code="request_timeout", remedy=remedy)  # fmt: skip


def _token_limit(
    request: CompletionRequest | ChatRequest, options: ServeOptions
) -> tuple[int | None, int]:
    """New tokens of each text as asked for, and at most, before the model's context is known.

    Raises:
        ApiError: 400, more texts than this server writes for one request.
    """
    wanted = request.max_tokens
    if isinstance(request, ChatRequest) and request.max_completion_tokens is not None:
        wanted = request.max_completion_tokens
    texts = request.n * (len(request.prompt) if isinstance(request, CompletionRequest) else 1)
    if texts > options.max_n:
        raise bad_request(f"At most {options.max_n} texts are written for one request.", "n",
                          found=f"{texts}")  # fmt: skip
    return wanted, options.max_tokens if wanted is None else min(wanted, options.max_tokens)


def _encode(request: CompletionRequest | ChatRequest, loaded: LoadedModel) -> list[Prompt]:
    """Every prompt as ids; in a thread, for a prompt may be long.

    Ids are taken as they are. A text begins a document: the BOS before it is ours. So what an echo
    shows are the tokens of what was sent and nothing else, and the first of a text has a
    log-probability, that after BOS, where the first of some ids has none.

    Raises:
        ApiError: the tokenizer or its chat template cannot take it.
    """
    try:
        if isinstance(request, ChatRequest):
            arguments, answer = request.chat_template_kwargs, request.add_generation_prompt
            return [Prompt(loaded.chat.encode(request.messages, arguments, answer=answer))]
        return [_prompt(prompt, request, loaded) for prompt in request.prompt]
    except ChatTemplateError as error:
        raise bad_request(
            error.problem, error.param, code=error.code, found=error.found, remedy=error.remedy
        ) from error
    except HatcheryError as error:
        raise from_hatchery(error, code="invalid_prompt") from error


def _tokens_that_fit(
    ids: Sequence[int], limit: int, context: int, request: CompletionRequest | ChatRequest
) -> int:
    """New tokens that fit behind a prompt, `limit` at most.

    Raises:
        ApiError: 400, the prompt alone fills the context.
    """
    if len(ids) + min(limit, 1) > context:
        raise bad_request(
            f"The prompt has {len(ids):,} tokens, and this model's context holds {context:,}, the "
            "answer included.",
            "messages" if isinstance(request, ChatRequest) else "prompt",
            code="context_length_exceeded",
            remedy="shorten it",
        )
    return min(limit, context - len(ids))


def _prompt(sent: str | list[int], request: CompletionRequest, loaded: LoadedModel) -> Prompt:
    writer = loaded.queue.writer
    if isinstance(sent, str):
        prompt = Prompt(writer.prompt_ids(sent), added=len(writer.before(sent)))
        if sent and not request.add_special_tokens:
            prompt = Prompt(prompt.ids[prompt.added :])
    else:
        _check_ids(sent, writer.tokenizer.vocab_size)
        prompt = Prompt(sent)
    if request.echo:
        prompt.text = sent if isinstance(sent, str) else writer.tokenizer.decode(sent)
    if request.scored:
        before, own = prompt.ids[: prompt.added], prompt.ids[prompt.added :]
        prompt.offsets = token_offsets(writer.tokenizer, own, before)
    return prompt


def _check_ids(prompt: list[int], size: int) -> None:
    if not 0 <= min(prompt) <= max(prompt) < size:
        raise bad_request(f"Token ids are from 0 to {size - 1}.", "prompt",
                          found=f"{min(prompt)} to {max(prompt)}"[:60])  # fmt: skip
