"""The engine thread: one thread writes all texts of all models, a step of each model in turn.

A text joins as soon as its model has a free row and leaves when it ends or nobody waits for it any
more. Between texts the thread sleeps.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from threading import Condition, Thread

from pipeline.inference.writer import refuse_nan
from pipeline.server.engine.work_queue import Desk, Job, Piece, Text
from pipeline.server.errors import ApiError, from_hatchery
from pipeline.server.metrics import Metrics
from utils.errors import HatcheryError, is_out_of_memory


class Worker:
    """The thread. `submit` and `stop` are called from the event loop `loop`.

    `on_failure` hears in the event loop what went wrong with a model as a whole.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        metrics: Metrics,
        on_failure: Callable[[str], None],
    ) -> None:
        self._loop, self._metrics, self._on_failure = loop, metrics, on_failure
        self._wake = Condition()
        self._inbox: list[Job] = []
        self._stopped = False
        self._desks: dict[Desk, None] = {}
        self._news: dict[Job, list[Piece]] = {}
        # Not a daemon: a thread that is inside torch when the interpreter ends aborts the process.
        self.thread = Thread(target=self._run, name="engine", daemon=False)
        self.thread.start()

    def submit(self, job: Job) -> None:
        """Let the texts of `job` be written."""
        with self._wake:
            self._inbox.append(job)
            self._wake.notify()

    def stop(self) -> None:
        """End the thread after the step it is in."""
        with self._wake:
            self._stopped = True
            self._wake.notify()

    def _run(self) -> None:
        while (jobs := self._next()) is not None:
            for job in jobs:
                if job.prompts:
                    job.desk.unscored.append(job)
                else:
                    job.desk.waiting.extend(job.texts)
                self._desks[job.desk] = None
            for desk in list(self._desks):
                self._turn(desk)
                if desk.idle:
                    del self._desks[desk]
            self._count()

    def _next(self) -> list[Job] | None:
        """New jobs; waits for one where nothing is being written. None at the end."""
        with self._wake:
            while not (self._inbox or self._desks or self._stopped):
                self._wake.wait()
            jobs, self._inbox = self._inbox, []
            return None if self._stopped else jobs

    def _turn(self, desk: Desk) -> None:
        """One step of one model; whatever goes wrong ends its own texts only."""
        try:
            self._clear(desk)
            self._score(desk)
            self._admit(desk)
            self._count()
            if desk.texts:
                self._step(desk)
        except Exception as error:
            self._break(desk, error)
        self._send()

    def _count(self) -> None:
        self._metrics.rows.set(sum(len(desk.texts) for desk in self._desks))

    def _clear(self, desk: Desk) -> None:
        """Take out the texts that nobody waits for."""
        for key in [key for key, text in desk.texts.items() if text.job.cancelled]:
            desk.batch.leave(key)
            del desk.texts[key]
        if any(text.job.cancelled for text in desk.waiting):
            desk.waiting = deque(text for text in desk.waiting if not text.job.cancelled)
        if desk.unscored and desk.unscored[0].cancelled:
            desk.scoring = None
        desk.unscored = deque(job for job in desk.unscored if not job.cancelled)

    def _score(self, desk: Desk) -> None:
        """Read on in the prompts of the first job that wants them scored, a piece only, so that
        nobody else waits long; after the last piece its texts may join."""
        if not desk.unscored:
            return
        job = desk.unscored[0]
        desk.scoring = desk.scoring or job.score()
        piece = next(desk.scoring, None)
        if piece is None:
            desk.scoring = None
            desk.waiting.extend(desk.unscored.popleft().texts)
        else:
            self._unusable(desk, job, float(piece.logprobs.sum()), "in a prompt")

    def _admit(self, desk: Desk) -> None:
        while desk.waiting and desk.batch.free:
            text = desk.waiting.popleft()
            if text.job.cancelled:
                continue
            if text.job.began is None:
                text.job.began = text.job.clock()
                self._tell(text.job.on_begin)
            try:
                key = desk.batch.join(text.ids, text.settings)
            except HatcheryError as error:
                self._fail(text.job, from_hatchery(error, code="invalid_value"))
                continue
            if key is None:
                self._note(text, text.body.end("length"))
            else:
                desk.texts[key] = text

    def _step(self, desk: Desk) -> None:
        with self._metrics.step_seconds.time():
            tokens = desk.batch.step()
        self._metrics.new_tokens.inc(len(tokens))
        for token in tokens:
            text = desk.texts[token.row]
            if token.finish:
                del desk.texts[token.row]
            where = f"after {len(text.body.tokens)} new tokens"
            if text.job.cancelled or self._unusable(desk, text.job, token.logprob, where):
                continue
            text.job.new_tokens += 1
            said = text.body.push(token)
            self._note(text, said)
            if text.body.finish and not token.finish:
                desk.batch.leave(token.row)
                del desk.texts[token.row]

    def _unusable(self, desk: Desk, job: Job, logprob: float | None, where: str) -> bool:
        """Whether the model has computed no number; the job has failed then."""
        try:
            refuse_nan(desk.writer.name, logprob, where)
        except HatcheryError as error:
            self._fail(job, from_hatchery(error, code="model_unusable"))
            return True
        return False

    def _break(self, desk: Desk, error: Exception) -> None:
        """A step failed: end all texts of the model, which is to be loaded anew."""
        desk.broken = True
        name = desk.writer.name
        if is_out_of_memory(error):
            failure = ApiError(503, f"There is no memory left to write with {name}.",
                               code="out_of_memory", found=str(error)[:300],
                               remedy="send fewer or shorter texts at once")  # fmt: skip
        else:
            failure = ApiError(503, f"{name} has failed and is loaded anew.", code="model_failed",
                               found=f"{type(error).__name__}: {error}"[:300])  # fmt: skip
        for job in {text.job for text in [*desk.texts.values(), *desk.waiting]} | {*desk.unscored}:
            self._fail(job, failure)
        desk.texts.clear()
        desk.waiting.clear()
        desk.unscored.clear()
        desk.scoring = None
        self._tell(self._on_failure, f"{failure.message} {failure.found}")

    def _fail(self, job: Job, error: ApiError) -> None:
        job.cancelled = True  # its other texts leave at the next step
        self._news.pop(job, None)
        self._tell(job.told.put_nowait, error)

    def _note(self, text: Text, said: str) -> None:
        if piece := text.piece(said):
            self._news.setdefault(text.job, []).append(piece)

    def _send(self) -> None:
        """All that a step brought, in one call into the event loop."""
        if self._news:
            news, self._news = self._news, {}
            self._tell(_deliver, news)

    def _tell(self, call: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the event loop has ended, and with it whoever would listen
            self._stopped = True


def _deliver(news: dict[Job, list[Piece]]) -> None:
    for job, pieces in news.items():
        job.told.put_nowait(pieces)
