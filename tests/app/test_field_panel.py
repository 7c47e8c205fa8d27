"""The panel of settings by itself: what keys and clicks do to the draft, what is drawn."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot
from textual.strip import Strip

from app.tui.forms.draft import Draft
from app.tui.forms.field import FieldLine, TextLine
from app.tui.forms.field_panel import FieldPanel
from app.tui.forms.field_spec import fields_of
from app.tui.forms.suggestions import namer
from app.tui.themes import DARK
from app.tui.widgets.completion import Choices, completed_path, matching
from pipeline.options.config import Config
from tests.support.pilot import shown, until
from utils.artefacts import build_folder
from utils.config import Layer


class Bench(App[None]):
    """Nothing but a panel."""

    def __init__(self, draft: Draft, *sections: str) -> None:
        super().__init__()
        self.register_theme(DARK)
        self.theme = DARK.name
        self.draft = draft
        self._sections = sections

    def compose(self) -> ComposeResult:
        groups = [(section, fields_of(section)) for section in self._sections]
        yield FieldPanel(self.draft, groups, origins=True)

    @property
    def panel(self) -> FieldPanel:
        return self.query_one(FieldPanel)

    def line(self, path: str) -> FieldLine:
        return next(line for line in self.panel.lines if line.margins.field.path == path)


@asynccontextmanager
async def bench(
    draft: Draft, *sections: str, size: tuple[int, int] = (90, 40)
) -> AsyncIterator[tuple[Bench, Pilot[None]]]:
    app = Bench(draft, *sections)
    async with app.run_test(size=size) as pilot:
        await pilot.pause()
        yield app, pilot


def play(act: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(act())


@pytest.mark.slow
def test_a_choice_is_changed_by_the_arrows_space_and_clicks_on_its_ends() -> None:
    async def act() -> None:
        async with bench(Draft([]), "tokenize") as (app, pilot):
            choice = app.line("tokenize.train")
            choice.focus()
            await pilot.press("right", "space")
            assert app.draft.changes == {"tokenize.train": "char"}
            await pilot.press("left")
            assert app.draft.changes == {"tokenize.train": "bpe"}
            left = choice.styles.padding.left
            await pilot.click(choice, offset=(left, 0))
            assert app.draft.changes == {}
            await pilot.click(choice, offset=(left + len("‹ none ›") - 1, 0))
            assert app.draft.changes == {"tokenize.train": "bpe"}
            await pilot.click(choice, offset=(5, 0))  # its name only takes the focus
            assert app.draft.changes == {"tokenize.train": "bpe"}

    play(act)


@pytest.mark.slow
def test_what_is_wrong_stands_below_its_field_until_it_is_right() -> None:
    async def act() -> None:
        async with bench(Draft([]), "quickstart") as (app, pilot):
            app.line("quickstart.minutes").focus()
            await pilot.press("a")
            await until(pilot, lambda: "needs a number, such as 0.5" in shown(app))
            rows = shown(app).splitlines()
            wrong = next(n for n, row in enumerate(rows) if "✕ Minutes" in row)
            assert "needs a number" in rows[wrong + 1]
            await pilot.press("backspace", "7")
            await until(pilot, lambda: "needs a number" not in shown(app))
            assert "• Minutes" in shown(app)
            assert app.draft.changes == {"quickstart.minutes": 7.0}

    play(act)


@pytest.mark.slow
def test_the_rest_is_built_only_when_it_is_asked_for() -> None:
    async def act() -> None:
        async with bench(Draft([]), "train", "model") as (app, pilot):
            few = len(list(app.panel.lines))
            assert (few < 12, app.panel.hidden > 50) == (True, True)
            assert f"▸ {app.panel.hidden} more" in shown(app)
            app.panel.toggle()
            await until(pilot, lambda: len(list(app.panel.lines)) == few + app.panel.hidden)
            app.panel.toggle()
            await until(pilot, lambda: len(list(app.panel.lines)) == few)

    play(act)


@pytest.mark.slow
def test_a_path_behind_more_is_opened_and_gets_the_focus() -> None:
    async def act() -> None:
        async with bench(Draft([]), "train") as (app, pilot):
            app.panel.focus_path("train.beta1")
            await until(pilot, lambda: "Beta1" in shown(app))
            await until(pilot, lambda: app.line("train.beta1").has_focus)
            await until(pilot, lambda: "AdamW first-moment decay" in shown(app))

    play(act)


def test_a_preset_changes_what_the_other_fields_show() -> None:
    async def act() -> None:
        file = Layer("config.json", {"model": {"hidden_size": 320, "num_heads": 5}})
        async with bench(Draft([file]), "model") as (app, pilot):
            assert "config.json" in shown(app)
            app.line("model.preset").focus()
            await pilot.press("right")
            width = app.line("model.hidden_size")
            assert isinstance(width, TextLine)
            await until(pilot, lambda: width.value == "128")

    play(act)


@pytest.mark.slow
def test_foreign_text_is_shown_but_never_obeyed_and_to_look_is_not_to_change() -> None:
    evil = "\x1b]52;c;aGk=\x07[/red]\u202e"

    async def act() -> None:
        file = Layer("config\x1b[2J.json", {"train": {"name": evil, "optimizer": evil}})
        async with bench(Draft([file]), "train") as (app, pilot):
            app.line("train.name").focus()
            await pilot.press("down", "up")
            text = shown(app)
            assert "␛]52;c;aGk=␇[/red]�" in text
            assert not set(text) & set("\x1b\x07\u202e\x9b")
            assert app.draft.changes == {}

    play(act)


def test_a_pasted_control_character_becomes_its_picture() -> None:
    async def act() -> None:
        async with bench(Draft([]), "train") as (app, pilot):
            field = app.line("train.name")
            assert isinstance(field, TextLine)
            field.focus()
            field.insert_text_at_cursor("a\x1b[2Jb")
            await pilot.pause()
            assert field.value == "a␛[2Jb"

    play(act)


@pytest.mark.slow
def test_a_path_is_completed_while_it_is_typed(workspace: Path) -> None:
    Path("notes").mkdir()

    async def act() -> None:
        async with bench(Draft([]), "cleanup") as (app, pilot):
            field = app.line("cleanup.input")
            assert isinstance(field, TextLine)
            field.focus()
            await pilot.press("x", "space", "n", "o")
            await until(pilot, lambda: "x notes/" in shown(app))
            await pilot.press("right")
            assert field.value == "x notes/"
            await pilot.pause()
            assert app.draft.changes == {"cleanup.input": ["x", "notes/"]}

    play(act)


def tokenizers(*names: str) -> None:
    for name in names:
        folder = Path("tokenizers", name)
        folder.mkdir(parents=True)
        (folder / "tokenizer.json").touch()


@pytest.mark.slow
def test_a_name_is_completed_while_it_is_typed(workspace: Path) -> None:
    tokenizers("python-8k", "python-16k")

    async def act() -> None:
        async with bench(Draft([]), "prepare") as (app, pilot):
            app.line("prepare.tokenizer").focus()
            await pilot.press("p", "y")
            await until(pilot, lambda: "python-16k" in shown(app))
            await pilot.press("right")
            await until(pilot, lambda: app.draft.changes == {"prepare.tokenizer": "python-16k"})

    play(act)


@pytest.mark.slow
def test_the_names_there_are_are_listed_when_asked_for_and_enter_takes_one(
    workspace: Path,
) -> None:
    tokenizers("a-chars", "b-bpe", "b-wide")

    async def act() -> None:
        async with bench(Draft([]), "prepare") as (app, pilot):
            field = app.line("prepare.tokenizer")
            field.focus()
            await pilot.press("alt+down")
            await until(pilot, lambda: app.query(Choices))
            assert all(name in shown(app) for name in ("a-chars", "b-bpe", "b-wide"))
            await pilot.press("b")  # what is typed makes the list shorter
            await until(pilot, lambda: app.query(Choices) and "a-chars" not in shown(app))
            await pilot.press("down", "down", "enter")
            await until(pilot, lambda: app.draft.changes == {"prepare.tokenizer": "b-wide"})
            await until(pilot, lambda: not app.query(Choices))
            assert field.has_focus

    play(act)


@pytest.mark.slow
def test_typing_lists_the_names_and_enter_keeps_what_was_typed_until_one_is_chosen(
    workspace: Path,
) -> None:
    tokenizers("gpt2-mine", "gpt2-yours")

    async def act() -> None:
        async with bench(Draft([]), "prepare") as (app, pilot):
            field = app.line("prepare.tokenizer")
            assert isinstance(field, TextLine)
            field.focus()
            await pilot.press(*"gpt2")
            await until(pilot, lambda: app.query(Choices) and "gpt2-yours" in shown(app))
            field.action_take()
            await pilot.pause()
            assert field.value == "gpt2"
            await pilot.press("down", "enter")
            await until(pilot, lambda: field.value == "gpt2-mine")
            await until(pilot, lambda: not app.query(Choices))

    play(act)


@pytest.mark.slow
@pytest.mark.parametrize("key", ["alt+down", "ctrl+space", "ctrl+@"])
def test_the_list_is_left_by_its_ends_by_escape_and_with_the_field(
    key: str, workspace: Path
) -> None:
    tokenizers("one", "two")

    async def act() -> None:
        async with bench(Draft([]), "prepare") as (app, pilot):
            field = app.line("prepare.tokenizer")
            field.focus()
            await pilot.press(key)
            await until(pilot, lambda: app.query(Choices))
            await pilot.press("escape")
            await until(pilot, lambda: not app.query(Choices))
            assert field.has_focus
            await pilot.press(key)
            await until(pilot, lambda: app.query(Choices))
            await pilot.press("down", "down")
            assert app.line("prepare.window").has_focus
            await until(pilot, lambda: not app.query(Choices))
            await pilot.press("up", key)
            await until(pilot, lambda: app.query(Choices))
            await pilot.press("tab")
            await until(pilot, lambda: not app.query(Choices))
            await pilot.press("up", key)
            await until(pilot, lambda: app.query(Choices))
            await pilot.press(key)  # the key that opened it closes it
            await until(pilot, lambda: not app.query(Choices))
            assert field.has_focus
            assert app.draft.changes == {}

    play(act)


@pytest.mark.slow
def test_a_click_on_its_arrow_opens_the_list(workspace: Path) -> None:
    tokenizers("one", "two")

    async def act() -> None:
        async with bench(Draft([]), "prepare") as (app, pilot):
            field = app.line("prepare.tokenizer")
            await until(pilot, lambda: "▼" in shown(app))
            await pilot.click(field, offset=(field.outer_size.width - 1, 0))
            await until(pilot, lambda: app.query(Choices))
            assert app.draft.changes == {}

    play(act)


@pytest.mark.slow
@pytest.mark.parametrize("section", ["cleanup", "tokenize", "prepare", "train", "export"])
def test_down_and_up_always_move_on(section: str, workspace: Path) -> None:
    """Through every setting, also those with names to choose from, there and back."""
    tokenizers("one", "two")
    Path("data/raw/mine").mkdir(parents=True)
    Path("checkpoints/run_2026_01_01_10_00_first/checkpoint_step_000010").mkdir(parents=True)

    async def act() -> None:
        async with bench(Draft([]), section, size=(90, 90)) as (app, pilot):
            app.panel.toggle()
            await until(pilot, lambda: len(list(app.panel.lines)) == len(fields_of(section)))
            first, *rest = list(app.panel.lines)
            first.focus()
            for line in rest:
                await pilot.press("down")
                if app.focused is not line:  # the line between the first and the rest
                    await pilot.press("down")
                assert app.focused is line
            for line in reversed([first, *rest[:-1]]):
                await pilot.press("up")
                if app.focused is not line:
                    await pilot.press("up")
                assert app.focused is line
            assert not app.query(Choices)
            assert app.draft.changes == {}

    play(act)


@pytest.mark.slow
def test_a_click_takes_a_name_from_the_list(workspace: Path) -> None:
    tokenizers("one", "two")

    async def act() -> None:
        async with bench(Draft([]), "prepare") as (app, pilot):
            app.line("prepare.tokenizer").focus()
            await pilot.press("alt+down")
            await until(pilot, lambda: app.query(Choices))
            await pilot.pause()
            await pilot.click(Choices, offset=(3, 1))
            await until(pilot, lambda: app.draft.changes == {"prepare.tokenizer": "two"})

    play(act)


def test_down_goes_on_where_there_are_no_names(workspace: Path) -> None:
    async def act() -> None:
        async with bench(Draft([]), "prepare") as (app, pilot):
            app.line("prepare.tokenizer").focus()
            await pilot.press("down")
            await until(pilot, lambda: app.line("prepare.window").has_focus)

    play(act)


def test_each_setting_has_the_names_it_may_have(workspace: Path) -> None:
    tokenizers("chars", "evil\x1bname")
    Path("data/raw/mine").mkdir(parents=True)
    step = Path("checkpoints/run_2026_01_01_10_00_first/checkpoint_step_000010")
    step.mkdir(parents=True)
    (step / "manifest.json").touch()
    tuned = Path("checkpoints/sft_lima_2026_01_02_10_00")
    shutil.copytree(step, tuned / step.name)
    (tuned / "run.json").write_text('{"command": "sft"}')
    with build_folder(Path("data/post-training/lima"), kind="examples", command="lima", options={}):
        pass
    config = Config()
    names: dict[str, list[str]] = {}
    for section in Config.model_fields:
        for field in fields_of(section):
            if (listed := namer(field)) is not None:
                names[field.path] = listed(config)
    runs = ["run_2026_01_01_10_00_first"]
    assert names["train.resume"] == ["auto", *runs]
    assert names["sft.resume"] == ["auto", tuned.name]
    assert names["sft.data"] == ["lima"]
    assert set(names["inference.checkpoint"]) == {*runs, tuned.name}
    assert names["inference.checkpoint"] == names["train.init_from"] == names["sft.checkpoint"]
    assert names["prepare.tokenizer"] == names["tokenize.load"] == ["chars"]
    assert names["cleanup.source"] == names["dataset.source"]
    assert {"python", "wikipedia", "mine"} < set(names["download.name"])


def test_of_several_names_the_last_is_completed_and_none_that_needs_quotes() -> None:
    names = ["run_a", "run_b", "two words"]
    assert matching(names, "run_a ru", many=True) == ["run_a run_a", "run_a run_b"]
    assert matching(names, "", many=True) == ["run_a", "run_b"]
    assert matching(names, "two", many=False) == ["two words"]


@pytest.mark.parametrize(
    ("typed", "many", "completed"),
    [
        ("no", False, "notes/"),
        ("./no", False, "./notes/"),
        ("notes/", False, "notes/a.txt"),
        ("notes/a.txt", False, None),
        ("absent/x", False, None),
        ("", False, None),
        ("notes/.", False, "notes/.hidden"),
        ("a b no", True, "a b notes/"),
        ("'no", True, None),
        ("two", True, None),  # its blank would have to be quoted
        ("two", False, "two words.txt"),
        ("\x00", False, None),
    ],
)
def test_paths_complete_to_what_is_there(
    typed: str, many: bool, completed: str | None, workspace: Path
) -> None:
    Path("notes").mkdir()
    for name in ("notes/a.txt", "notes/.hidden", "two words.txt", "evil\x1bname"):
        Path(name).touch()
    assert completed_path(typed, many=many) == completed


def test_a_field_that_is_removed_while_it_is_drawn_harms_nothing() -> None:
    async def act() -> None:
        async with bench(Draft([]), "prepare") as (app, _):
            line = next(app.panel.lines)
            removed = type(line)(line.margins.field, app.draft)  # its parent is gone by then
            assert removed.parent is None
            strips = [Strip.blank(40)]
            assert removed.margins.drawn(strips, Region(0, 0, 40, 1)) == strips
            drawn = line.margins.drawn(strips, Region(0, 0, 40, 1))
            assert line.margins.field.label in drawn[0].text

    play(act)
