"""The panel where other runs are chosen to lie over a chart."""

from collections.abc import Sequence
from pathlib import Path

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import OptionList

from app.jobs.folder import EVENTS
from app.tui.widgets.text import MUTED, joined, plain

_MOST = 4
_LISTED = 50


class Overlays(Vertical):
    """A list of runs, some of them chosen; closed at first."""

    class Changed(Message):
        """Other runs were chosen."""

        def __init__(self, runs: Sequence[Path]) -> None:
            super().__init__()
            self.runs = runs

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id, classes="panel")
        self._runs: list[Path] = []
        self._chosen: list[Path] = []
        self.display = False
        self.border_title = plain("Overlay (Enter chooses, v closes)")

    def compose(self) -> ComposeResult:
        yield OptionList(compact=True)

    def open(self, checkpoints: Path, but: Path | None) -> bool:
        """List the runs there are, `but` the watched one; False where there is none."""
        listed = self.query_one(OptionList)
        self._runs = _with_curves(checkpoints, but)
        at = listed.highlighted or 0
        listed.clear_options()
        listed.add_options([self._line(run) for run in self._runs])
        if self._runs:
            self.display = True
            listed.highlighted = min(at, len(self._runs) - 1)
            listed.focus()
        return bool(self._runs)

    def close(self) -> None:
        self.display = False

    def _line(self, run: Path) -> Content:
        sign = ("● ", "$accent") if run in self._chosen else ("○ ", MUTED)
        return joined(sign, run.name)

    @on(OptionList.OptionSelected)
    def _toggled(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        run = self._runs[event.option_index]
        if run in self._chosen:
            self._chosen.remove(run)
        elif len(self._chosen) < _MOST:
            self._chosen.append(run)
        else:
            self.notify(f"{_MOST} runs at most lie over one chart", markup=False)
        event.option_list.replace_option_prompt_at_index(event.option_index, self._line(run))
        self.post_message(self.Changed(tuple(self._chosen)))


def _with_curves(checkpoints: Path, but: Path | None) -> list[Path]:
    """The runs that have recorded events, newest first."""
    found = [path.parent for path in checkpoints.glob(f"*/{EVENTS}")]
    found = [path for path in found if but is None or path.name != but.name]
    return sorted(found, key=lambda path: path.name, reverse=True)[:_LISTED]
