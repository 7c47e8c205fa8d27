"""The list of corpora, used as a person uses it."""

import json
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from app.tui.app import HatcheryApp
from app.tui.board.corpora_screen import CorporaScreen
from app.tui.board.screen import BoardScreen
from app.tui.stage.screen import StageScreen
from app.tui.widgets.confirm import ConfirmDialog
from pipeline.corpora import LAST, last_corpus, remember
from pipeline.stages import MISSING, Product
from tests.support.pilot import NARROW, WIDE, opened, play, shown, until
from tests.support.snapshots import NOW, check
from tests.support.stage_runner import run_stage


def _texts(folder: str, word: str, count: int = 5) -> Path:
    made = Path(folder)
    made.mkdir()
    for number in range(count):
        (made / f"{number}.txt").write_text(f"{word} {number} goes on and on, day by day. " * 30)
    return made


@pytest.fixture
def corpora(prepared: Path) -> Path:
    """A workspace with the corpora `files`, prepared, and `poems`, clean and worked on last."""
    Path("config.json").unlink()
    run_stage("cleanup", cleanup={"input": [_texts("poems", "A rose")]})
    assert last_corpus(Path("data")).name == "poems"
    return prepared


def _on_board(app: HatcheryApp) -> bool:
    return isinstance(app.screen, BoardScreen)


_CLEAN = Product("fresh", "poems", "5 documents of 6", Path("data/c"), NOW - 3600)
_LEARNED = Product("fresh", "first", "4,096 ids, 3.70 bytes per token", Path("t"), NOW - 7100)
_FOREIGN = _LEARNED._replace(
    state="stale", why="it learned from python, not from poems", foreign=True
)
_PICTURED = {
    "poems": {
        "download": Product("fresh", "poems", "your own files in texts/poems"),
        "cleanup": _CLEAN,
        "tokenize": _FOREIGN,
        "prepare": MISSING,
        "train": MISSING._replace(elsewhere="first of python"),
    },
    "python": {
        "download": Product("fresh", "python", "embedded in this Python"),
        "cleanup": Product("fresh", "python", "511 documents of 522", Path("c"), NOW - 7200),
        "tokenize": _LEARNED,
        "prepare": Product(
            "stale", "python", "2.44 M tokens, 19,030 windows of 256", Path("d"), NOW - 7000,
            "first has changed since",
        ),
        "train": Product("fresh", "first", "step 1,361, val 3.272", Path("r"), NOW - 600),
    },
    "shakespeare": {"download": Product("missing", "shakespeare"), "tokenize": _FOREIGN},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_list_looks_as_it_did(
    workspace: Path, frozen: None, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr("pipeline.survey.survey", lambda config: _PICTURED["poems"])
    monkeypatch.setattr("pipeline.survey.survey_all", lambda config: _PICTURED)
    Path("data/raw/poems").mkdir(parents=True)
    remember(Path("data"), "poems")

    async def scene() -> None:
        async with opened(size) as (app, pilot):
            await pilot.press("o")
            await until(pilot, lambda: "5 documents" in shown(app))
            await check(pilot, "corpora")

    play(scene)


def test_the_board_names_the_corpus_and_its_rows_are_about_that(corpora: Path) -> None:
    async def scene() -> None:
        async with opened() as (app, _):
            text = shown(app)
            assert "corpus poems" in text
            assert "5 documents of 5" in text
            assert "it learned from files, not from poems" in text
            assert "--source poems" in text  # in the command of the highlighted stage

    play(scene)


@pytest.mark.slow
def test_enter_works_on_another_corpus_from_then_on(corpora: Path) -> None:
    async def scene() -> None:
        async with opened() as (app, pilot):
            await pilot.press("o")
            await until(pilot, lambda: "● 40" in shown(app))
            assert isinstance(app.screen, CorporaScreen)
            assert app.screen._list.current == "poems"
            while app.screen._list.current != "files":
                await pilot.press("down")
            await pilot.press("enter")
            await until(pilot, lambda: _on_board(app) and app.corpus == "files")
            await until(pilot, lambda: "corpus files" in shown(app))
            assert "40 documents" in shown(app)
            assert app.products["prepare"].state == "fresh"

    play(scene)
    assert last_corpus(Path("data")).name == "files"


@pytest.mark.slow
def test_a_source_that_is_not_fetched_yet_can_be_worked_on(corpora: Path) -> None:
    async def scene() -> None:
        async with opened() as (app, pilot):
            await pilot.press("o")
            await until(pilot, lambda: "shakespeare" in shown(app))
            assert isinstance(app.screen, CorporaScreen)
            while app.screen._list.current != "shakespeare":
                await pilot.press("down")
            await pilot.press("enter")
            await until(pilot, lambda: "corpus shakespeare" in shown(app))
            await until(pilot, lambda: "Next: Download" in shown(app))

    play(scene)


@pytest.mark.slow
@pytest.mark.parametrize(("key", "source"), [("y", "poems"), ("n", "files"), ("escape", "files")])
def test_a_corpus_that_config_json_names_is_changed_there_only_after_a_question(
    corpora: Path, key: str, source: str
) -> None:
    Path("config.json").write_text('{"dataset": {"source": "files"}, "train": {"seed": 7}}')

    async def scene() -> None:
        async with opened() as (app, pilot):
            assert app.corpus == "files"
            await pilot.press("o")
            await until(pilot, lambda: "poems" in shown(app))
            assert isinstance(app.screen, CorporaScreen)
            while app.screen._list.current != "poems":
                await pilot.press("up")
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, ConfirmDialog))
            await pilot.press(key)
            await until(pilot, lambda: not isinstance(app.screen, ConfirmDialog))
            await until(pilot, lambda: app.corpus == source)

    play(scene)
    said: Any = json.loads(Path("config.json").read_text())
    assert said == {"dataset": {"source": source}, "train": {"seed": 7}}


@pytest.mark.slow
@pytest.mark.parametrize("way", ["n", "end enter"])
def test_a_new_corpus_begins_at_the_input_of_the_cleanup_form(corpora: Path, way: str) -> None:
    _texts("letters", "Dear friend")

    async def scene() -> None:
        async with opened() as (app, pilot):
            await pilot.press("o")
            await until(pilot, lambda: "new corpus from a folder" in shown(app))
            await pilot.press(*way.split())
            await until(pilot, lambda: isinstance(app.screen, StageScreen))
            await until(pilot, lambda: isinstance(app.screen.focused, Input))
            await pilot.press(*"letters")
            await until(pilot, lambda: "5 files" in shown(app))
            text = shown(app)
            assert "python main.py cleanup --input letters" in text
            assert "--source" not in text
            assert "data/cleaned_articles/letters" in text

    play(scene)


@pytest.mark.slow
def test_a_corpus_that_a_stage_made_is_worked_on_and_told_once(
    corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(HatcheryApp, "note", lambda self, text: told.append(text))

    async def scene() -> None:
        async with opened() as (app, pilot):
            run_stage("cleanup", cleanup={"input": [_texts("letters", "Dear friend")]})
            await until(pilot, lambda: "corpus letters" in shown(app))
            app.work_on("poems")
            await until(pilot, lambda: "corpus poems" in shown(app))

    play(scene)
    assert told == ["Working on the corpus letters now: o on the board chooses"]


@pytest.mark.slow
def test_what_a_form_was_left_with_of_a_corpus_goes_with_it(corpora: Path) -> None:
    async def scene() -> None:
        async with opened() as (app, pilot):
            app.drafts = {
                "cleanup": {"cleanup.input": ["x"], "cleanup.name": "x", "cleanup.workers": 1},
                "prepare": {"prepare.source": "x", "prepare.window": 64},
                "train": {"train.name": "big"},
            }
            app.work_on("files")
            await until(pilot, lambda: app.corpus == "files")
            assert app.drafts == {
                "cleanup": {"cleanup.workers": 1},
                "prepare": {"prepare.window": 64},
                "train": {"train.name": "big"},
            }

    play(scene)


@pytest.mark.slow
def test_a_corpus_that_cannot_be_noted_is_told(
    corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(path: Path, value: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pipeline.corpora.write_json", read_only)
    errors: list[str] = []
    monkeypatch.setattr(HatcheryApp, "tell", lambda self, error: errors.append(error.problem))

    async def scene() -> None:
        async with opened() as (app, pilot):
            await pilot.press("o")
            await until(pilot, lambda: "● 40" in shown(app))
            await pilot.press("down", "enter")
            await until(pilot, lambda: errors)
            assert isinstance(app.screen, CorporaScreen)

    play(scene)
    assert errors == ["The corpus to work on could not be noted."]
    assert json.loads((Path("data") / LAST).read_text()) == {"corpus": "poems"}


def test_remembering_what_is_remembered_writes_nothing(corpora: Path) -> None:
    before = (Path("data") / LAST).stat().st_mtime_ns
    remember(Path("data"), "poems")
    assert (Path("data") / LAST).stat().st_mtime_ns == before
