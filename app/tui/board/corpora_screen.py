"""The corpora of this workspace: how far down the pipeline each is, and which one to work on."""

import time
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from app.tui.forms.config_file import save_changes
from app.tui.screen import HatcheryScreen
from app.tui.widgets.confirm import ConfirmDialog
from app.tui.widgets.meter import columns
from app.tui.widgets.text import MUTED, block, joined, mark, plain
from app.tui.widgets.virtual_list import RowList
from pipeline.stages import MISSING, STAGES, Product
from utils.errors import HatcheryError
from utils.units import ago

_NEW = "/"  # the key of the last row; no corpus is called so
_NEW_TEXT = "new corpus from a folder or file …"
_ROOMY = 100  # cells from which a column holds more than a mark
_STEPS = {
    "cleanup": "documents",
    "tokenize": "tokenizer",
    "prepare": "tokens",
    "train": "trained",
}
_WIDE, _SHORT = (14, 16, 12, 20), (10, 9, 6, 7)  # cells of these columns
_NAMES = {stage.command: stage.title for stage in STAGES}

Products = dict[str, Product]


class CorporaScreen(HatcheryScreen):
    """Every corpus on a line, the one made last first; Enter works on it from now on."""

    HELP = (
        "A corpus is a body of text: a folder of yours, a file, Python's own library, a source "
        "that can be fetched. Everything on the board is about one of them, marked ▸ here. Enter "
        "works on the one under the cursor from now on, on the board, in forms and on the command "
        "line; --source NAME means one for a single command. Nothing is changed by that.\n\n"
        "n makes a new one: its form asks for a folder or a file."
    )
    CSS = """
    CorporaScreen {
        #list { height: 1fr; }
        #titles { height: 1; color: $text-muted; }
        #about { height: 9; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "New corpus", id="corpora.new"),
    ]

    def __init__(self) -> None:
        super().__init__("corpora")
        self._found: dict[str, Products] = {}

    def content(self) -> ComposeResult:
        with Vertical(id="list", classes="panel") as box:
            box.border_title = "Corpora"
            yield Static(plain("looking …", "italic"), id="titles")
            yield RowList(self._line, id="rows")
        with Vertical(id="about", classes="panel"):
            yield Static(id="products")

    def on_mount(self) -> None:
        self._list.focus()
        self.hatchery.surveyed.subscribe(self, lambda _: self._look())
        self._look()

    def on_resize(self) -> None:
        self.call_after_refresh(self._show)

    @property
    def _list(self) -> RowList:
        return self.query_one("#rows", RowList)

    @work(thread=True, group="corpora", exclusive=True, exit_on_error=False)
    def _look(self) -> None:
        from pipeline.survey import survey_all

        found = survey_all(self.hatchery.config)
        self.app.call_from_thread(self._looked, found)

    def _looked(self, found: dict[str, Products]) -> None:
        first, self._found = not self._found, found
        self._list.show([*found, _NEW])
        if first and self.hatchery.corpus in found:
            self._list.action_move(list(found).index(self.hatchery.corpus))
        self._show()

    def _show(self) -> None:
        if not self._found:
            return
        width = self._list.scrollable_content_region.width
        heads = [plain(text, MUTED) for text in ("corpus", *_STEPS.values(), "age")]
        self.query_one("#titles", Static).update(_columned([plain(""), *heads], width))
        self._list.refresh()
        self._about()

    def _line(self, name: str, width: int) -> Content:
        if name == _NEW:
            return joined(("+  ", "bold $accent"), _NEW_TEXT)
        products = self._found[name]
        here = name == self.hatchery.corpus
        times = [made.made for made in products.values() if made.made and not made.foreign]
        age = ago(max(0.0, time.time() - max(times))) if times else ""
        there = products.get("cleanup", MISSING).state != "missing" or bool(times)
        cells = [
            plain("▸" if here else "", "bold $accent"),
            plain(name, "bold" if here else "" if there else MUTED),
            *(_cell(step, products.get(step, MISSING), roomy=width >= _ROOMY) for step in _STEPS),
            plain(age, MUTED),
        ]
        return _columned(cells, width)

    @on(RowList.Moved)
    def _about(self) -> None:
        """The panel on the corpus under the cursor."""
        name = self._list.current
        if name is None:
            return
        title, about = (_NEW_TEXT, _about_new()) if name == _NEW else (name, self._products(name))
        self.query_one("#about").border_title = plain(title)
        self.query_one("#products", Static).update(about)

    def _products(self, name: str) -> Content:
        lines = []
        for command, product in self._found[name].items():
            when = f"  {ago(max(0.0, time.time() - product.made))}" if product.made else ""
            what = f"{product.title}  " if product.title not in ("", name) else ""
            figure = product.figure if product.state != "missing" else "not yet"
            text = joined(mark(product.state), f" {_NAMES[command]:<10} {what}{figure}")
            why = f"  {product.why}" if product.why else ""
            lines.append(joined(text, (f"{why}{when}", MUTED)))
        return Content("\n").join(lines)

    @on(RowList.Chosen)
    def _chosen(self) -> None:
        name = self._list.current
        if name == _NEW:
            self.action_new()
        elif name is not None:
            self._work_on(name)

    def _work_on(self, name: str) -> None:
        """From now on; where config.json names another corpus, only after a question."""
        named = self.hatchery.config.dataset.source
        if named in (None, name):
            self._switch(name)
            return
        question = Content("\n").join(
            [
                joined("config.json says that the corpus is ", (named, "bold $accent"), "."),
                joined("Let it say ", (name, "bold $accent"), " from now on?"),
            ]
        )

        def answered(yes: bool | None) -> None:
            if yes:
                self._switch(name)

        self.app.push_screen(ConfirmDialog(question, "Change it"), answered)

    def _switch(self, name: str) -> None:
        app = self.hatchery
        try:
            if app.config.dataset.source not in (None, name):
                save_changes({"dataset.source": name})
                app.reload_config()
            app.work_on(name)
        except HatcheryError as error:
            app.tell(error)
            return
        self.app.pop_screen()

    def action_new(self) -> None:
        """The form of the stage that makes one, where it asks for the texts."""
        self.app.pop_screen()
        self.hatchery.open("stage", "cleanup", at="cleanup.input")


def _cell(step: str, product: Product, *, roomy: bool) -> Content:
    """How far one stage is: its mark, and its name or size where there is room; of the documents
    always how many."""
    if product.state == "missing" or product.foreign:
        return mark("missing")
    sized = step in ("cleanup", "prepare")
    short = product.figure.split(" of ")[0].split(",")[0] if sized else product.title
    short = short.removesuffix("s").removesuffix(" document").removesuffix(" token")
    return joined(mark(product.state), f" {short}" if roomy or step == "cleanup" else "")


def _columned(cells: list[Content], width: int) -> Content:
    """A line of the list in `width` cells; the name has what the other columns leave."""
    rest = _WIDE if width >= _ROOMY else _SHORT
    name = max(12, width - 1 - sum(rest) - 10 - 2 * 6)
    return columns(cells, [1, name, *rest, -10])


def _about_new() -> Content:
    return block(
        "Opens the form of Clean at the field Input: a folder, a file or several, of .txt, .md, "
        ".py, .jsonl, .json or .parquet, plain or .gz.\n\n"
        "They are only read. The corpus is called like the folder or file, or as you say."
    )
