"""The engine thread: continuous batching of all texts of all models, a step of each model in turn.

A text joins the batch as soon as its model has a free row and leaves when it ends or its request is
cancelled. With nothing to do the thread sleeps.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread

from pipeline.inference.writer import refuse_nan
from pipeline.server.engine.work_queue import GenerationRequest, ModelQueue, Piece, Text
from pipeline.server.errors import ApiError, from_hatchery
from pipeline.server.metrics import Metrics
from utils.errors import HatcheryError, is_out_of_memory


class Worker:
    """The thread. `submit` and `stop` are called from the event loop `loop`.

    `on_failure` is called in the event loop with what went wrong with a model as a whole.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        on_failure: Callable[[str], None],
    ) -> None:
        self._loop, self._metrics, self._on_failure = loop, metrics, on_failure
        self._wake = Condition()
        self._inbox: list[GenerationRequest] = []
        self._stopped = False
        self._queues: dict[ModelQueue, None] = {}
        self._pieces: dict[GenerationRequest, list[Piece]] = {}
        # Not a daemon: a thread that is inside torch when the interpreter ends aborts the process.
        self.thread = Thread(target=self._run, name="engine", daemon=False)
        self.thread.start()

    def submit(self, request: GenerationRequest) -> None:
        """Let the texts of `request` be written."""
        with self._wake:
            self._inbox.append(request)
            self._wake.notify()

    def stop(self) -> None:
        """End the thread after the step it is in."""
        with self._wake:
            self._stopped = True
            self._wake.notify()

    def _run(self) -> None:
        while (requests := self._next()) is not None:
            for request in requests:
                if request.prompts:
                    request.queue.unscored.append(request)
                else:
                    request.queue.waiting.extend(request.texts)
                self._queues[request.queue] = None
            for queue in list(self._queues):
                self._advance(queue)
                if queue.idle:
                    del self._queues[queue]
            self._count()

    def _next(self) -> list[GenerationRequest] | None:
        """New requests; waits for one where nothing is being written. None at the end."""
        with self._wake:
            while not (self._inbox or self._queues or self._stopped):
                self._wake.wait()
            requests, self._inbox = self._inbox, []
            return None if self._stopped else requests

    def _advance(self, queue: ModelQueue) -> None:
        """One step of one model; an error ends the texts of this model only."""
        try:
            self._drop_cancelled(queue)
            self._score(queue)
            self._admit(queue)
            self._count()
            if queue.texts:
                self._step(queue)
        except Exception as error:
            self._fail_model(queue, error)
        self._deliver_pieces()

    def _count(self) -> None:
        self._metrics.rows.set(sum(len(queue.texts) for queue in self._queues))

    def _drop_cancelled(self, queue: ModelQueue) -> None:
        """Take out the texts of cancelled requests."""
        for key in [key for key, text in queue.texts.items() if text.request.cancelled]:
            queue.batch.leave(key)
            del queue.texts[key]
        if any(text.request.cancelled for text in queue.waiting):
            queue.waiting = deque(text for text in queue.waiting if not text.request.cancelled)
        if queue.unscored and queue.unscored[0].cancelled:
            queue.scoring = None
        queue.unscored = deque(request for request in queue.unscored if not request.cancelled)

    def _score(self, queue: ModelQueue) -> None:
        """Score the next chunk of the first request's prompts, one chunk only so that no other
        request waits long; after the last chunk its texts may join."""
        if not queue.unscored:
            return
        request = queue.unscored[0]
        queue.scoring = queue.scoring or request.score()
        piece = next(queue.scoring, None)
        if piece is None:
            queue.scoring = None
            queue.waiting.extend(queue.unscored.popleft().texts)
        else:
            self._is_nan(queue, request, float(piece.logprobs.sum()), "in a prompt")

    def _admit(self, queue: ModelQueue) -> None:
        while queue.waiting and queue.batch.free:
            text = queue.waiting.popleft()
            if text.request.cancelled:
                continue
            if text.request.began is None:
                text.request.began = text.request.clock()
                self._call_in_loop(text.request.on_begin)
            try:
                key = queue.batch.join(text.ids, text.settings)
            except HatcheryError as error:
                self._fail(text.request, from_hatchery(error, code="invalid_value"))
                continue
            if key is None:
                self._collect(text, text.body.end("length"))
            else:
                queue.texts[key] = text

    def _step(self, queue: ModelQueue) -> None:
        with self._metrics.step_seconds.time():
            tokens = queue.batch.step()
        self._metrics.new_tokens.inc(len(tokens))
        for token in tokens:
            text = queue.texts[token.row]
            if token.finish:
                del queue.texts[token.row]
            where = f"after {len(text.body.tokens)} new tokens"
            if text.request.cancelled or self._is_nan(queue, text.request, token.logprob, where):
                continue
            text.request.new_tokens += 1
            new_text = text.body.push(token)
            self._collect(text, new_text)
            if text.body.finish and not token.finish:
                queue.batch.leave(token.row)
                del queue.texts[token.row]

    def _is_nan(
        self, queue: ModelQueue, request: GenerationRequest, logprob: float | None, where: str
    ) -> bool:
        """Whether the model computes NaN; the request has failed then."""
        try:
            refuse_nan(queue.writer.name, logprob, where)
        except HatcheryError as error:
            self._fail(request, from_hatchery(error, code="model_unusable"))
            return True
        return False

    def _fail_model(self, queue: ModelQueue, error: Exception) -> None:
        """A step failed: fail all requests of the model, which will be loaded again."""
        queue.broken = True
        name = queue.writer.name
        if is_out_of_memory(error):
            failure = ApiError(503, f"There is no memory left to write with {name}.",
                               code="out_of_memory", found=str(error)[:300],
                               remedy="send fewer or shorter texts at once")  # fmt: skip
        else:
            failure = ApiError(503, f"{name} has failed and is loaded anew.", code="model_failed",
                               found=f"{type(error).__name__}: {error}"[:300])  # fmt: skip
        for request in {text.request for text in [*queue.texts.values(), *queue.waiting]} | {
            *queue.unscored
        }:
            self._fail(request, failure)
        queue.texts.clear()
        queue.waiting.clear()
        queue.unscored.clear()
        queue.scoring = None
        self._call_in_loop(self._on_failure, f"{failure.message} {failure.found}")

    def _fail(self, request: GenerationRequest, error: ApiError) -> None:
        request.cancelled = True  # its other texts leave at the next step
        self._pieces.pop(request, None)
        self._call_in_loop(request.deliveries.put_nowait, error)

    def _collect(self, text: Text, new_text: str) -> None:
        if piece := text.piece(new_text):
            self._pieces.setdefault(text.request, []).append(piece)

    def _deliver_pieces(self) -> None:
        """All that a step brought, in one call into the event loop."""
        if self._pieces:
            pieces, self._pieces = self._pieces, {}
            self._call_in_loop(_deliver, pieces)

    def _call_in_loop(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the event loop has ended
            self._stopped = True


def _deliver(pieces: dict[GenerationRequest, list[Piece]]) -> None:
    for request, delivery in pieces.items():
        request.deliveries.put_nowait(delivery)
