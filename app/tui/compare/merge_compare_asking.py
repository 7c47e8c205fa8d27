"""Who of a comparison is asked, and when: all at once, those that failed, or one step of a run.
Knows of widgets only that they have workers."""

from collections.abc import Callable, Sequence

from textual.widget import Widget
from textual.worker import Worker

from app.tui.compare.comparison import Answer
from app.tui.compare.merge_compare_run import Connect, answer_all
from app.tui.compare.round import Match

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
