"""A comparison from the choice to the vote: who stands, what was asked, what is kept for scrubbing.
Knows no widgets and no servers."""

from collections.abc import Callable, Sequence
from random import Random

from textual.widget import Widget
from textual.worker import Worker

from app.client.client import Model, Sampling
from app.tui.compare.comparison import Answer, Connect, Key, Round, answer_all, begun
from app.tui.compare.selection import LOCAL, Contender, course

_KEPT = 200  # answers, for walking back and forth through the steps


class Match:
    """`sides` stand in the order they were chosen, `round` has them in the order of the panes."""

    def __init__(self, sampling: Sampling, random: Random) -> None:
        self.sampling = sampling
        self.random = random
        self.blind = False
        self.chat = False
        self.sides: list[Contender] = []
        self.round = Round([])
        self._local: list[Contender] = []
        self._added: list[Contender] = []
        self._kept: dict[Key, Answer] = {}

    @property
    def there(self) -> list[Contender]:
        """All that can be chosen."""
        return [*self._local, *self._added]

    def listed(self, models: Sequence[Model]) -> None:
        """The app's own server has these now."""
        self._local = [Contender(model) for model in models]
        now = {one.model.id: one for one in self._local}
        self.sides = [now.get(s.model.id, s) if s.where == LOCAL else s for s in self.sides]

    def add(self, models: Sequence[Model], where: str) -> list[Contender]:
        """A remote server has these."""
        new = [Contender(model, where) for model in models]
        self._added += [one for one in new if one not in self._added]
        return new

    def course(self, contender: Contender) -> list[Contender]:
        """The checkpoints of the same run by their steps."""
        return course(contender, self.there)

    def choose(self, sides: Sequence[Contender]) -> list[Answer]:
        """Let these stand. Answers that are there stay; those that are to be asked now come back,
        where a prompt was given before."""
        if list(map(_name, sides)) == list(map(_name, self.sides)):
            return []  # and the vote stays too
        self.sides = list(sides)
        old, found = self.round, {_name(a.contender): a for a in self.round.answers}
        if old.hidden or not old.asked:
            self._clear()
            return []
        answers = [found.get(_name(side)) or self._answer(side) for side in sides]
        old.change(answers)
        return [answer for answer in answers if answer.state == "waiting"]

    def begin(self, prompt: str) -> Round:
        """Put a prompt to all."""
        self.round = begun(
            self.sides, prompt, self.sampling, chat=self.chat, blind=self.blind, random=self.random
        )
        for answer in self.round.answers:
            self._keep(answer)
        return self.round

    def toggle_blind(self) -> None:
        """From now on without names, for which seen answers go; or with names again."""
        self.blind = not self.blind
        if self.blind:
            self._clear()
        else:
            self.round.blind = False

    def remove(self, place: int) -> None:
        """Take a side out; the last one stays."""
        if len(self.sides) > 1:
            gone = self.round.answers[place]
            self.sides.remove(gone.contender)
            self.round.change([a for a in self.round.answers if a is not gone])

    def scrub(self, place: int, step: int) -> Answer | None:
        """Put the checkpoint at place `step` of its run's course into a pane; the new answer, None
        where there is no other step. It is to be asked while it is `waiting`."""
        before = self.round.answers[place]
        steps = self.course(before.contender)
        if not 0 <= step < len(steps) or steps[step] == before.contender:
            return None
        answer = self._answer(steps[step]) if self.round.asked else Answer(steps[step])
        self.sides = [s if s != before.contender else steps[step] for s in self.sides]
        self.round.change([a if a is not before else answer for a in self.round.answers])
        return answer

    def retry(self) -> list[Answer]:
        """Begin the failed answers anew."""
        failed = [a for a in self.round.answers if a.state == "failed"]
        new = {id(a): Answer(a.contender, state="waiting") for a in failed}
        self.round.answers = [new.get(id(a), a) for a in self.round.answers]
        for answer in new.values():
            self._keep(answer)
        return list(new.values())

    def _clear(self) -> None:
        self.round = Round([Answer(side) for side in self.sides], blind=self.blind)

    def _answer(self, contender: Contender) -> Answer:
        """The kept answer to this prompt with these settings, or one to be asked."""
        kept = self._kept.get(self._key(contender))
        if kept is not None and (kept.busy or kept.state == "done"):
            return kept
        answer = Answer(contender, state="waiting")
        self._keep(answer)
        return answer

    def _keep(self, answer: Answer) -> None:
        self._kept.pop(self._key(answer.contender), None)
        self._kept[self._key(answer.contender)] = answer
        while len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]

    def _key(self, contender: Contender) -> Key:
        return _name(contender), self.round.prompt, self.round.chat, self.round.sampling


def _name(contender: Contender) -> tuple[str, str]:
    """What stays the same when a model is brought into memory."""
    return contender.where, contender.model.id


_HESITATION = 0.25  # seconds on a step before its checkpoint is asked


class Asking:
    """Its workers are those of `host`; `changed` is called when answers begin and when they end."""

    def __init__(
        self, host: Widget, match: Match, connect: Connect, changed: Callable[[], None]
    ) -> None:
        self._host, self._match = host, match
        self._connect, self._changed = connect, changed
        self._writing: Worker[None] | None = None

    @property
    def together(self) -> bool:
        """Whether several that were asked together still write."""
        return self._writing is not None and self._writing.is_running

    def all(self, answers: Sequence[Answer]) -> None:
        """Ask all of these, where there are any."""
        if answers:
            self._writing = self._host.run_worker(self._answers(answers), group="answers")

    def again(self) -> None:
        """Ask again what failed."""
        self.all(self._match.retry())

    def step(self, place: int, step: int) -> None:
        """Show in a pane what the checkpoint at this step of its run makes of the prompt; whoever
        goes on to the next one soon asks only that."""
        answer = self._match.scrub(place, step)
        if answer is not None and answer.state == "waiting":
            asked = self._answers([answer], _HESITATION)
            self._host.run_worker(asked, group=f"step {place}", exclusive=True)

    def stop(self) -> bool:
        """End what is being written; whether anything was."""
        busy = self._match.round.busy
        if busy:
            self._host.workers.cancel_node(self._host)
        return busy

    async def _answers(self, answers: Sequence[Answer], after: float = 0.0) -> None:
        self._changed()
        try:
            await answer_all(self._match.round, answers, self._connect, after=after)
        finally:
            if self._host.is_attached:
                self._changed()
