"""What the votes between models say together, and every vote."""

import time
from collections.abc import Sequence
from typing import ClassVar

import msgspec
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from app.tui.screen import HatcheryScreen
from app.tui.widgets.meter import columns
from app.tui.widgets.text import MUTED, block, joined, plain
from app.tui.widgets.virtual_list import RowList
from pipeline.evaluation import votes
from pipeline.evaluation.votes import Standing, Vote, Votes
from pipeline.runs.folders import short_name
from utils.units import ago

_BAR = 20  # cells of the picture of an interval


class _List(RowList):
    """The votes; there is nothing to open."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "choose", show=False)]


class VotesScreen(HatcheryScreen):
    """Standings above, below them the votes, newest first."""

    HELP = (
        "Every model that stood in a vote, with the share that it won and the interval that holds "
        "the true share in 95 of 100 cases (Wilson). The line below says whether the leader is "
        "better than the runner-up or whether chance explains it.\n\n"
        "b counts blind votes only: those where the names were hidden."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("b", "blind", "Blind votes only", id="votes.blind"),
    ]
    DEFAULT_CSS = """
    VotesScreen {
        #standings { height: auto; max-height: 50%; }
        #verdict { height: auto; max-height: 3; padding: 0 2; }
        #votes { height: 1fr; }
        #prompt { height: auto; max-height: 6; padding: 0 2; margin-bottom: 1; }
    }
    """

    def __init__(self) -> None:
        super().__init__("compare", "votes")
        self._read = Votes(())
        self._blind = False

    def content(self) -> ComposeResult:
        with Vertical(id="standings", classes="panel") as box:
            box.border_title = "Standings"
            yield Static()
        yield Static(id="verdict")
        with Vertical(id="votes", classes="panel") as box:
            box.border_title = "Votes"
            yield _List(self._line)
        yield Static(id="prompt")

    def on_mount(self) -> None:
        self.query_one(RowList).focus()
        self._look()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    @work(thread=True, group="votes", exclusive=True, exit_on_error=False)
    def _look(self) -> None:
        read = votes.read(votes.FOLDER)
        found = read._replace(votes=tuple(shortened(read.votes)))
        self.app.call_from_thread(self._looked, found)

    def _looked(self, found: Votes) -> None:
        self._read = found
        self._show()

    @property
    def _counted(self) -> list[votes.Vote]:
        return [vote for vote in self._read.votes if vote.blind or not self._blind]

    def _show(self) -> None:
        counted = self._counted
        box = self.query_one("#standings", Vertical)
        width = max(40, box.content_size.width)
        ranked = votes.standings(counted)
        lines = [heading(width), *(standing(one, width) for one in ranked)]
        empty = "Nobody has voted yet: on the compare screen, 1-9 votes for an answer."
        box.query_one(Static).update(Content("\n").join(lines) if ranked else plain(empty))
        self.query_one("#verdict", Static).update(plain(votes.verdict(counted), "bold"))
        keys = [str(n) for n, vote in enumerate(self._read.votes) if vote in counted][::-1]
        self.query_one(RowList).show(keys)
        self.query_one(RowList).refresh()
        blind = sum(vote.blind for vote in self._read.votes)
        count = len(self._read.votes)
        lost = f" · {self._read.unreadable} lines unreadable" * bool(self._read.unreadable)
        only = "blind votes only · " if self._blind else ""
        self.header.fact(f"{only}{count} {'vote' if count == 1 else 'votes'}, {blind} blind{lost}")
        self._tell()

    def _line(self, key: str, width: int) -> Content:
        return line(self._read.votes[int(key)], time.time(), width)

    def on_row_list_moved(self) -> None:
        self._tell()

    def _tell(self) -> None:
        """The whole prompt and the settings of the vote under the cursor."""
        key = self.query_one(RowList).current
        found = about(self._read.votes[int(key)]) if key is not None else plain("", MUTED)
        self.query_one("#prompt", Static).update(found)

    def action_blind(self) -> None:
        self._blind = not self._blind
        self._show()


def heading(width: int) -> Content:
    """The names of the columns of `standing`."""
    names = ["model", "won", "share", "95 % interval", ""]
    return _fitted([plain(name, MUTED) for name in names], width)


def standing(one: Standing, width: int) -> Content:
    """A line: wins, votes, the share, and its interval in figures and as a picture."""
    cells = [
        plain(one.model),
        plain(f"{one.wins} / {one.votes}"),
        plain(f"{one.share:.0%}", "bold"),
        plain(f"{one.low:.0%} - {one.high:.0%}", MUTED),
        interval(one),
    ]
    return _fitted(cells, width)


def interval(one: Standing) -> Content:
    """From 0 to 1: where the true share lies, `●` is the share itself."""
    low, high = (round(bound * (_BAR - 1)) for bound in (one.low, one.high))
    at = min(max(round(one.share * (_BAR - 1)), low), high)
    return joined(
        ("·" * low, MUTED),
        ("─" * (at - low), "$accent"),
        ("●", "bold $accent"),
        ("─" * (high - at), "$accent"),
        ("·" * (_BAR - 1 - high), MUTED),
    )


def _fitted(cells: list[Content], width: int) -> Content:
    rest = [-9, -6, -13, _BAR][: 4 if width >= 90 else 3]
    return columns(cells[: len(rest) + 1], [width - sum(2 + abs(w) for w in rest), *rest])


def line(vote: Vote, now: float, width: int) -> Content:
    """A vote: what won over what, for which prompt."""
    won = joined(("✔ ", "$success"), vote.winner) if vote.winner else plain("none better", MUTED)
    beaten = ", ".join(model for model in vote.models if model != vote.winner)
    cells = [
        won,
        plain(f"over {beaten}" if vote.winner else beaten, MUTED),
        plain(vote.prompt),
        plain("blind" if vote.blind else "open", MUTED),
        plain(ago(max(0.0, now - vote.time)), MUTED),
    ]
    room = width - 5 - 10 - 8
    return columns(cells, [room // 3, room // 3, room - 2 * (room // 3), 5, -10])


def about(vote: Vote) -> Content:
    """The whole prompt, and the settings."""
    named = [f"{name} {value}" for name, value in vote.sampling.items() if value not in ([], None)]
    if vote.seed is not None:
        named.append(f"seed {vote.seed}")
    if vote.chat:
        named.insert(0, "chat")
    prompt = joined(("Prompt ", MUTED), block(vote.prompt))
    return Content("\n").join([prompt, plain(" · ".join(named), MUTED)])


def shortened(votes: Sequence[Vote]) -> list[Vote]:
    """The votes with the runs in them called as they were named, where that is enough."""
    full = {model for vote in votes for model in vote.models}
    short = [short_name(model) for model in full]
    names = {m: s if short.count(s) == 1 else m for m, s in zip(full, short, strict=True)}
    return [
        msgspec.structs.replace(
            vote,
            models=tuple(names[model] for model in vote.models),
            winner=names.get(vote.winner or ""),
        )
        for vote in votes
    ]
