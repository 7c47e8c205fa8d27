"""Runs and their checkpoints: which is best, what each is made of, and what to do with them."""

import shlex
import time
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from app.tui.runs.tree import Row, RunList, look, rows
from app.tui.runs.wording import details, heading, line
from app.tui.screen import HatcheryScreen
from app.tui.widgets.confirm import ConfirmDialog
from app.tui.widgets.find_bar import FindBar
from app.tui.widgets.text import MUTED, block, joined, plain
from pipeline.runs import folders
from pipeline.runs.inventory import LOOSE
from pipeline.runs.lineage import Facts, Proofs, facts_of, proofs_of
from utils.errors import HatcheryError
from utils.units import human_bytes


class Runs(OptionList):
    """The tree; Enter is in the footer, since it is the way in."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select", "Charts")]


class RunsScreen(HatcheryScreen):
    """The folder of runs as a tree, and the details of the line under the cursor."""

    HELP = (
        "Every run with its checkpoints, newest first. ★ best is the checkpoint with the lowest "
        "validation loss, ● latest the one that training goes on from; ✕ is half-written, damaged "
        "or left over, and says why. Val is nats per token: it compares only between runs with "
        "the same tokenizer.\n\n"
        "What is under the cursor: t talks to it, resume goes on with the run, branch starts a new "
        "run from the checkpoint. Space chooses several, v lets them answer one prompt side by "
        "side.\n\n"
        "b judges those that are chosen, else the checkpoint under the cursor, or on a run all of "
        "its checkpoints: scores at tasks, which of them is better and what cannot be told apart. "
        "It works offline."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "resume", "Resume", id="runs.resume"),
        Binding("t", "talk", "Talk", id="runs.talk"),
        Binding("g", "generate", "Generate as a job", show=False, id="runs.generate"),
        Binding("space", "choose", "Choose", id="runs.choose"),
        Binding("v", "compare", "Compare", id="runs.compare"),
        Binding("delete", "delete", "Delete", key_display="Del", id="runs.delete"),
        Binding("b", "judge", "Benchmark", id="runs.judge"),
        Binding("f", "branch", "Branch off", id="runs.branch"),
        Binding("p", "windows", "The windows of its step", show=False, id="runs.windows"),
        Binding("y", "copy", "Copy the path", id="runs.copy"),
        Binding("slash", "filter", "Filter", key_display="/", id="runs.filter"),
        Binding("left", "fold(True)", "Close a run", show=False),
        Binding("right", "fold(False)", "Open a run", show=False),
    ]
    DEFAULT_CSS = """
    RunsScreen {
        #runs { height: 1fr; }
        #tree { width: 2fr; height: 1fr; }
        #heading { height: 1; }
        #details { width: 1fr; min-width: 40; height: 1fr; }
        #details:focus { border: round $accent; }
        &.-narrow #runs { layout: vertical; }
        &.-narrow #tree { width: 1fr; height: 3fr; }
        &.-narrow #details { width: 1fr; height: 2fr; }
    }
    """

    def __init__(self) -> None:
        super().__init__("runs")
        self._run_list: RunList | None = None
        self._rows: list[Row] = []
        self._folded: set[str] = set()
        self._chosen: dict[Path, str] = {}
        self._words = ""

    def content(self) -> ComposeResult:
        with Horizontal(id="runs"):
            with Vertical(id="tree", classes="panel") as tree:
                tree.border_title = "Runs"
                yield Static(id="heading")
                yield Runs(id="list", compact=True)
            with VerticalScroll(id="details", classes="panel") as box:
                box.border_title = "Details"
                yield Static(plain("looking …", "italic"), id="about")
        yield FindBar()

    def on_mount(self) -> None:
        self._list.focus()
        self.hatchery.surveyed.subscribe(self, lambda _: self._look())
        self.set_interval(self.hatchery.intervals.artefacts, self._look)
        self._look()

    def on_screen_resume(self) -> None:
        self._look()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    @property
    def _list(self) -> Runs:
        return self.query_one("#list", Runs)

    @property
    def _row(self) -> Row | None:
        number = self._list.highlighted
        return self._rows[number] if number is not None and number < len(self._rows) else None

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "compare" or len(self._chosen) > 1

    # Looking.

    @work(thread=True, group="runs", exclusive=True, exit_on_error=False)
    def _look(self) -> None:
        run_list = look(self.hatchery.config.paths.checkpoints_dir)
        self.app.call_from_thread(self._looked, run_list)

    def _looked(self, run_list: RunList) -> None:
        changed, self._run_list = run_list != self._run_list, run_list
        if changed:
            there = {row.path for row in rows(run_list)}
            self._chosen = {path: name for path, name in self._chosen.items() if path in there}
        self._show()

    def _show(self) -> None:
        """Draw the tree again; the cursor stays on what it was on."""
        if self._run_list is None:
            return
        before, number = self._row, self._list.highlighted or 0
        self._rows = rows(self._run_list, self._folded, self._words)
        width = max(30, self._list.size.width - 1)
        now = time.time()
        lines = [line(r, width, now, chosen=r.path in self._chosen) for r in self._rows]
        self._list.clear_options()
        self._list.add_options([Option(shown) for shown in lines])
        self.query_one("#heading", Static).update(heading(width))
        places = [n for n, r in enumerate(self._rows) if before and r.path == before.path]
        if self._rows:
            self._list.highlighted = places[0] if places else min(number, len(self._rows) - 1)
        else:
            self.query_one("#about", Static).update(self._nothing())
        runs = [row for row in self._rows if row.top]
        size = human_bytes(sum(row.size for row in runs))
        chosen = f"{len(self._chosen)} chosen · " if self._chosen else ""
        self.header.fact(f"{chosen}{len(runs)} {'run' if len(runs) == 1 else 'runs'} · {size}")

    def _nothing(self) -> Content:
        assert self._run_list is not None
        if self._words:
            return plain(f"No run is called like {self._words!r}. Esc in / shows all.")
        return block(
            f"There is no run in {self._run_list.folder} yet.\n\n"
            "5 on the board trains one, 0 raises a first model in a few minutes."
        )

    @on(OptionList.OptionHighlighted, "#list")
    def _moved(self) -> None:
        row = self._row
        if row is not None:
            self._read_details(row)

    @work(thread=True, group="details", exclusive=True, exit_on_error=False)
    def _read_details(self, row: Row) -> None:
        folder = self.hatchery.config.paths.checkpoints_dir
        loose = row.run == LOOSE or (row.kind == "fault" and row.path.parent == folder)
        facts = Facts() if loose else facts_of(folder / row.run, folder)
        proofs = () if row.run == LOOSE and row.top else proofs_of(row.path)
        self.app.call_from_thread(self._details_read, row, facts, proofs)

    def _details_read(self, row: Row, facts: Facts, proofs: Proofs) -> None:
        if row == self._row:
            self.query_one("#about", Static).update(details(row, facts, time.time(), proofs))

    # Doing.

    @on(OptionList.OptionSelected, "#list")
    def _opened(self) -> None:
        row = self._row
        folder = self.hatchery.config.paths.checkpoints_dir
        if row is not None and row.run != LOOSE and (folder / row.run).is_dir():
            self.hatchery.open("run", folder / row.run)
        elif row is not None:
            self.hatchery.note(f"{row.name} has no charts: t lets a model write")

    def action_fold(self, close: bool) -> None:
        row = self._row
        if row is None:
            return
        (self._folded.add if close else self._folded.discard)(row.run)
        tops = [n for n, r in enumerate(self._rows) if r.top and r.run == row.run]
        if close and tops:
            self._list.highlighted = tops[0]
        self._show()

    def _usable(self, what: str) -> Row | None:
        """The row under the cursor, if a model can be loaded from it."""
        row = self._row
        if row is not None and (row.kind == "fault" or (row.why and not row.writing)):
            self.hatchery.note(f"{row.name} cannot be {what}: {row.why}")
            return None
        return row

    def action_resume(self) -> None:
        row = self._usable("resumed")
        if row is None:
            return
        if row.run == LOOSE:
            self.hatchery.note("Only a run can be resumed, and this lies in none")
        elif row.writing:
            self.hatchery.note(f"{row.run} runs already: Enter shows it")
        else:
            self.hatchery.open("stage", self._trained_by(row), ["--resume", row.run])

    def _trained_by(self, row: Row) -> str:
        """The command that goes on with the run of a row."""
        return folders.trained_by(self.hatchery.config.paths.checkpoints_dir / row.run)

    def action_branch(self) -> None:
        row = self._usable("branched from")
        if row is None or row.run == LOOSE:
            return
        if row.top:
            self.hatchery.note("Choose a checkpoint of the run to branch from")
        elif row.latest:
            self.hatchery.note("This is the newest checkpoint: r goes on from it in the same run")
        else:
            self.hatchery.open("stage", self._trained_by(row), ["--resume", str(row.path)])

    def action_generate(self) -> None:
        row = self._usable("loaded")
        if row is not None:
            where = row.run if row.top and row.run != LOOSE else str(row.path)
            self.hatchery.open("stage", "inference", ["--checkpoint", where])

    def action_talk(self) -> None:
        row = self._usable("loaded")
        if row is not None:
            self.hatchery.open("chat", _offered(row))

    def action_choose(self) -> None:
        row = self._usable("chosen")
        if row is None or (row.run == LOOSE and row.top):
            return
        if row.path in self._chosen:
            del self._chosen[row.path]
        else:
            self._chosen[row.path] = row.run if row.top else str(row.path)
        self._show()
        self.refresh_bindings()
        self._list.action_cursor_down()

    def action_judge(self) -> None:
        """The form of the benchmark with what is chosen, else with what is under the cursor."""
        chosen = list(self._chosen.values())
        if chosen:
            self.hatchery.open("stage", "benchmark", ["--checkpoint", *chosen])
        elif (row := self._usable("judged")) is not None:
            if row.top and row.run != LOOSE:
                self.hatchery.open("stage", "benchmark", ["--every-checkpoint", row.run])
            elif not row.top:
                self.hatchery.open("stage", "benchmark", ["--checkpoint", str(row.path)])

    def action_compare(self) -> None:
        rows = [row for row in self._rows if row.path in self._chosen]
        self.hatchery.open("compare", [_offered(row) for row in rows])

    def action_windows(self) -> None:
        row = self._row
        folder = self.hatchery.config.paths.checkpoints_dir
        if row is not None and row.run != LOOSE:
            self.hatchery.open("data", folder / row.run, row.step or None)

    def action_copy(self) -> None:
        row = self._row
        if row is not None:
            self.app.copy_to_clipboard(shlex.quote(str(row.path)))
            self.hatchery.note(f"Copied {row.path}")

    def action_filter(self) -> None:
        self.query_one(FindBar).ask("filter", "/", self._words)

    @on(FindBar.Typed)
    def _filtered(self, event: FindBar.Typed) -> None:
        self._words = event.text
        self._show()

    def action_delete(self) -> None:
        row = self._row
        if row is None or (row.run == LOOSE and row.top):
            return
        if row.top and row.writing:
            self.hatchery.note(f"{row.run} is being trained: stop it first")
            return
        below = [r for r in self._rows if row.top and r.run == row.run and not r.top]
        count = f" with {len(below)} checkpoints" if len(below) > 1 else ""
        words = [" best"] * row.best + [" latest"] * row.latest
        kind = {"run": "the run", "checkpoint": "the checkpoint", "fault": "what is left of"}
        role = f", the{' and'.join(words)} of {row.run}" if words else ""
        name = (row.path.name, "bold $accent")
        lines = [
            joined(("Delete ", "bold"), f"{kind[row.kind]} ", name, f"{count}{role}?"),
            plain(row.path, MUTED),
            plain(""),
            joined(f"{human_bytes(row.size)} will be free. ", ("There is no way back.", "bold")),
        ]
        question = Content("\n").join(lines)

        def answered(yes: bool | None) -> None:
            if yes:
                self._delete(row)

        self.app.push_screen(ConfirmDialog(question, "Delete"), answered)

    @work(thread=True, group="delete", exit_on_error=False)
    def _delete(self, row: Row) -> None:
        from pipeline.runs.deletion import delete

        try:
            delete(row.path, self.hatchery.config.paths.checkpoints_dir)
        except HatcheryError as error:
            self.app.call_from_thread(self.hatchery.tell, error)
        else:
            text = f"Deleted {row.path.name}: {human_bytes(row.size)} free"
            self.app.call_from_thread(self.hatchery.note, text)
        self.app.call_from_thread(self._look)


def _offered(row: Row) -> str:
    """What the model server calls a run's best checkpoint, or one of its checkpoints."""
    if row.top:
        return row.run
    name = f"step-{row.step}" if row.step is not None else row.name
    return name if row.run == LOOSE else f"{row.run}/{name}"
