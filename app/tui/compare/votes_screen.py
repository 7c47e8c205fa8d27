"""What the votes between models say together, and every vote."""

import time
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from app.tui.compare.merge_compare_votes import about, heading, line, shortened, standing
from app.tui.screen import HatcheryScreen
from app.tui.widgets.text import MUTED, plain
from app.tui.widgets.virtual_list import RowList
from pipeline.benchmark import votes
from pipeline.benchmark.votes import Votes


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
