"""A comparison: the models that were chosen, the round that is shown, and how its answers are
requested. Answers are cached, so that stepping through the checkpoints of a run asks each once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from random import Random
from typing import TypeAlias

from textual.widget import Widget
from textual.worker import Worker

from app.client.client import Client, Model, Sampling
from app.tui.compare.round import Answer, Round, new_round
from app.tui.compare.selection import LOCAL, Candidate, course
from utils.errors import HatcheryError

_CACHED_ANSWERS = 200  # answers
_STEP_DELAY = 0.25  # seconds on a step before its checkpoint is asked

Key: TypeAlias = tuple[tuple[str, str], str, bool, Sampling]
"""What decides an answer: server and model, the prompt, whether it is a chat, the settings."""

Connect: TypeAlias = Callable[[str], Awaitable[Client]]
"""The client of a server by its address; raises HatcheryError where there is none."""


class Comparison:
    """`candidates` are in the order they were chosen, in `round` in the order of the panes."""

    def __init__(self, sampling: Sampling, random: Random) -> None:
        self.sampling = sampling
        self.random = random
        self.blind = False
        self.chat = False
        self.candidates: list[Candidate] = []
        self.round = Round([])
        self._local: list[Candidate] = []
        self._added: list[Candidate] = []
        self._cache: dict[Key, Answer] = {}

    @property
    def there(self) -> list[Candidate]:
        """All that can be chosen."""
        return [*self._local, *self._added]

    def listed(self, models: Sequence[Model]) -> None:
        """The app's own server has these now."""
        self._local = [Candidate(model) for model in models]
        now = {one.model.id: one for one in self._local}
        self.candidates = [
            now.get(s.model.id, s) if s.where == LOCAL else s for s in self.candidates
        ]

    def add(self, models: Sequence[Model], where: str) -> list[Candidate]:
        """A remote server has these."""
        new = [Candidate(model, where) for model in models]
        self._added += [one for one in new if one not in self._added]
        return new

    def course(self, candidate: Candidate) -> list[Candidate]:
        """The checkpoints of the same run by their steps."""
        return course(candidate, self.there)

    def choose(self, candidates: Sequence[Candidate]) -> list[Answer]:
        """Let these stand. Answers that are there stay; those that are to be asked now come back,
        where a prompt was given before."""
        if list(map(_name, candidates)) == list(map(_name, self.candidates)):
            return []  # and the vote stays too
        self.candidates = list(candidates)
        old, found = self.round, {_name(a.candidate): a for a in self.round.answers}
        if old.hidden or not old.asked:
            self._clear()
            return []
        answers = [
            found.get(_name(candidate)) or self._answer(candidate) for candidate in candidates
        ]
        old.change(answers)
        return [answer for answer in answers if answer.state == "waiting"]

    def begin(self, prompt: str) -> Round:
        """Put a prompt to all."""
        self.round = new_round(
            self.candidates,
            prompt,
            self.sampling,
            chat=self.chat,
            blind=self.blind,
            random=self.random,
        )
        for answer in self.round.answers:
            self._store(answer)
        return self.round

    def toggle_blind(self) -> None:
        """From now on without names, for which seen answers go; or with names again."""
        self.blind = not self.blind
        if self.blind:
            self._clear()
        else:
            self.round.blind = False

    def remove(self, place: int) -> None:
        """Take a candidate out; the last one stays."""
        if len(self.candidates) > 1:
            gone = self.round.answers[place]
            self.candidates.remove(gone.candidate)
            self.round.change([a for a in self.round.answers if a is not gone])

    def show_step(self, place: int, step: int) -> Answer | None:
        """Put the checkpoint at place `step` of its run's course into a pane; the new answer, None
        where there is no other step. It is to be asked while it is `waiting`."""
        before = self.round.answers[place]
        steps = self.course(before.candidate)
        if not 0 <= step < len(steps) or steps[step] == before.candidate:
            return None
        answer = self._answer(steps[step]) if self.round.asked else Answer(steps[step])
        self.candidates = [s if s != before.candidate else steps[step] for s in self.candidates]
        self.round.change([a if a is not before else answer for a in self.round.answers])
        return answer

    def retry(self) -> list[Answer]:
        """Begin the failed answers anew."""
        failed = [answer for answer in self.round.answers if answer.retriable]
        new = {id(a): Answer(a.candidate, state="waiting") for a in failed}
        self.round.answers = [new.get(id(a), a) for a in self.round.answers]
        for answer in new.values():
            self._store(answer)
        return list(new.values())

    def _clear(self) -> None:
        self.round = Round([Answer(candidate) for candidate in self.candidates], blind=self.blind)

    def _answer(self, candidate: Candidate) -> Answer:
        """The cached answer to this prompt with these settings, or one to be asked."""
        known = self._cache.get(self._key(candidate))
        if known is not None and (known.busy or known.state == "done"):
            return known
        answer = Answer(candidate, state="waiting")
        self._store(answer)
        return answer

    def _store(self, answer: Answer) -> None:
        self._cache.pop(self._key(answer.candidate), None)
        self._cache[self._key(answer.candidate)] = answer
        while len(self._cache) > _CACHED_ANSWERS:
            del self._cache[next(iter(self._cache))]

    def _key(self, candidate: Candidate) -> Key:
        return _name(candidate), self.round.prompt, self.round.chat, self.round.sampling


def _name(candidate: Candidate) -> tuple[str, str]:
    """What stays the same when a model is brought into memory."""
    return candidate.where, candidate.model.id


class AnswerWorkers:
    """Its workers are those of `host`; `changed` is called when answers begin and when they end."""

    def __init__(
        self, host: Widget, comparison: Comparison, connect: Connect, changed: Callable[[], None]
    ) -> None:
        self._host, self._comparison = host, comparison
        self._connect, self._changed = connect, changed
        self._writing: Worker[None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether several that were asked together still write."""
        return self._writing is not None and self._writing.is_running

    def all(self, answers: Sequence[Answer]) -> None:
        """Ask all of these, where there are any."""
        if answers:
            self._writing = self._host.run_worker(self._answers(answers), group="answers")

    def again(self) -> None:
        """Ask again what failed."""
        self.all(self._comparison.retry())

    def step(self, place: int, step: int) -> None:
        """Show in a pane what the checkpoint at this step of its run makes of the prompt; whoever
        goes on to the next one soon asks only that."""
        answer = self._comparison.show_step(place, step)
        if answer is not None and answer.state == "waiting":
            asked = self._answers([answer], _STEP_DELAY)
            self._host.run_worker(asked, group=f"step {place}", exclusive=True)

    def stop(self) -> bool:
        """End what is being written; whether anything was."""
        busy = self._comparison.round.busy
        if busy:
            self._host.workers.cancel_node(self._host)
        return busy

    async def _answers(self, answers: Sequence[Answer], after: float = 0.0) -> None:
        self._changed()
        try:
            await answer_all(self._comparison.round, answers, self._connect, after=after)
        finally:
            if self._host.is_attached:
                self._changed()


async def answer_all(
    found: Round, answers: Sequence[Answer], connect: Connect, *, after: float = 0.0
) -> None:
    """After a number of seconds load every model, so that none has a head start, then let all
    write.

    Cancelled, it ends the requests and marks what was not finished as stopped.
    """
    try:
        await asyncio.sleep(after)
        await asyncio.gather(*(_load(answer, connect) for answer in answers))
        ready = [answer for answer in answers if answer.state == "waiting"]
        for answer in ready:
            answer.concurrent = len(ready) - 1
        await asyncio.gather(*(_write(found, one, connect) for one in ready))
    finally:
        for answer in answers:
            if answer.busy:
                answer.end("stopped")


async def _load(answer: Answer, connect: Connect) -> None:
    answer.state = "loading"
    try:
        client = await connect(answer.candidate.where)
        if answer.candidate.where == LOCAL:
            await client.load(answer.candidate.model.id)
    except HatcheryError as error:
        answer.end("failed", error)
    else:
        answer.state = "waiting"


async def _write(found: Round, answer: Answer, connect: Connect) -> None:
    try:
        client = await connect(answer.candidate.where)
        async with aclosing(client.stream(found.ask(answer.candidate))) as pieces:
            async for piece in pieces:
                answer.take(piece)
    except HatcheryError as error:
        answer.end("failed", error)
    else:
        answer.end("done")
