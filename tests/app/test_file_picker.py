"""Picking a path: what a folder shows, what a field then holds, and folders that never answer."""

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import pytest
from textual.pilot import Pilot

from app.tui.app import HatcheryApp
from app.tui.forms import folder_listing
from app.tui.forms.field import TextLine
from app.tui.forms.field_panel import FieldPanel
from app.tui.forms.field_spec import Field, fields_of
from app.tui.forms.file_picker import FilePicker
from app.tui.forms.folder_listing import (
    Listing,
    Wanted,
    first_listing,
    listing,
    places_to_begin,
    put_in,
    typed_path,
    wanted,
)
from app.tui.stage.screen import StageScreen
from pipeline.options.config import Config
from tests.support import hostile
from tests.support.pilot import NARROW, opened, play, shown, until

EVERY = {field.path: field for section in Config.model_fields for field in fields_of(section)}
INPUT, LOAD = EVERY["cleanup.input"], EVERY["tokenize.load"]


def want(field: Field) -> Wanted:
    found = wanted(field)
    assert found is not None
    return found


@pytest.fixture
def texts(workspace: Path) -> Path:
    folder = workspace / "my_texts"
    (folder / "Sub").mkdir(parents=True)
    for name in ("b.txt", "A.md", "rows.jsonl.gz", "scan.pdf", ".hidden", "two words.txt"):
        (folder / name).write_text("x" * 2048)
    return folder


def test_a_folder_shows_folders_first_then_files_with_what_can_be_read(texts: Path) -> None:
    found = listing(texts, want(INPUT)).entries
    assert [(entry.name, entry.kind, entry.reads) for entry in found] == [
        ("Sub", "folder", True),
        ("A.md", "md", True),
        ("b.txt", "txt", True),
        ("rows.jsonl.gz", "jsonl", True),
        ("scan.pdf", "not read here", False),
        ("two words.txt", "txt", True),
    ]
    assert [entry.size for entry in found] == [None, *[2048] * 5]


def test_broken_links_pipes_and_loops_are_shown_for_what_they_are(texts: Path) -> None:
    (texts / "gone.txt").symlink_to("nowhere")
    (texts / "loop").symlink_to(texts)
    os.mkfifo(texts / "pipe.txt")
    found = {entry.name: (entry.kind, entry.reads) for entry in listing(texts, want(INPUT)).entries}
    assert found["gone.txt"] == ("broken link", False)
    assert found["pipe.txt"] == ("not a file", False)
    assert found["loop"] == ("folder", True)


@pytest.mark.parametrize("name", ["absent", "b.txt", "no\x00name", "x" * 300, "Sub/none"])
def test_what_is_no_folder_is_a_fault_and_no_failure(texts: Path, name: str) -> None:
    found = listing(texts / name, want(INPUT))
    assert found.entries == ()
    assert found.fault


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_a_fault(texts: Path) -> None:
    (texts / "Sub").chmod(0)
    assert "denied" in listing(texts / "Sub", want(INPUT)).fault


def test_of_very_many_entries_the_first_are_shown_and_the_rest_counted(
    texts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_listing, "MOST", 3)
    found = listing(texts, want(INPUT))
    assert [entry.name for entry in found.entries] == ["Sub", "A.md", "b.txt"]
    assert found.left_out == 3


def test_folders_are_told_by_what_makes_them_one_of_a_kind(workspace: Path) -> None:
    for place in ("run_a/run.json", "step/manifest.json", "hub/config.json", "plain/x.txt"):
        Path(place).parent.mkdir()
        Path(place).touch()
    Path("old.pt").touch()
    found = listing(workspace, want(EVERY["inference.checkpoint"])).entries
    assert {entry.name: entry.kind for entry in found} == {
        "run_a": "run",
        "step": "checkpoint",
        "hub": "model",
        "plain": "folder",
        "old.pt": "PyTorch checkpoint",
    }


def test_every_setting_of_a_path_can_be_picked_and_no_other() -> None:
    picked = {path for path, field in EVERY.items() if wanted(field) is not None}
    assert {path for path, field in EVERY.items() if field.kind in ("path", "paths")} <= picked
    assert {
        "tokenize.load",
        "inference.checkpoint",
        "train.init_from",
        "export.checkpoint",
    } < picked
    assert picked.isdisjoint({"train.name", "cleanup.source", "inference.stop", "train.batch_size"})


@pytest.mark.parametrize(
    ("path", "inside", "text"),
    [
        ("cleanup.input", "my_texts", "my_texts"),
        ("cleanup.input", "my_texts/Sub/a b.txt", "my_texts/Sub/a b.txt"),
        ("cleanup.input", "", "."),
        ("cleanup.input", "-v", "./-v"),
        ("cleanup.input", "~", "./~"),
        ("tokenize.load", "gpt2", "./gpt2"),  # the folder, not the name
        ("tokenize.load", "tokenizers/mine", "tokenizers/mine"),
        ("cleanup.input", "evil\x1b[2J", None),
        ("cleanup.input", "half\udcff", None),
        ("cleanup.input", "new\nline", None),
    ],
)
def test_a_path_inside_the_workspace_is_typed_from_there(
    path: str, inside: str, text: str | None
) -> None:
    home = Path("/home/me/work")
    assert typed_path(EVERY[path], home / inside, home) == text


def test_a_path_outside_is_typed_whole() -> None:
    home = Path("/home/me/work")
    assert typed_path(INPUT, Path("/home/me/other"), home) == "/home/me/other"
    assert typed_path(INPUT, Path("/"), home) == "/"


@pytest.mark.parametrize(
    ("field", "typed", "picked", "then"),
    [
        (INPUT, "", "a.txt", "a.txt"),
        (INPUT, "a.txt", "b.txt", "a.txt b.txt"),
        (INPUT, "a.txt my", "my_texts", "a.txt my_texts"),
        (INPUT, "a.txt ", "two words.txt", "a.txt 'two words.txt'"),
        (INPUT, "'not closed", "b.txt", "''\"'\"'not' closed b.txt"),
        (LOAD, "gpt2", "tokenizers/mine", "tokenizers/mine"),
        (LOAD, "", "a b.json", "a b.json"),
    ],
)
def test_of_several_paths_one_more_is_put_in(
    field: Field, typed: str, picked: str, then: str
) -> None:
    assert put_in(field, typed, picked) == then


@pytest.mark.parametrize(
    ("path", "typed", "first"),
    [
        ("cleanup.input", "my_texts", "my_texts"),
        ("cleanup.input", "my_texts/b", "my_texts"),
        ("cleanup.input", "x.txt my_texts/Sub", "my_texts/Sub"),
        ("cleanup.input", "absent/deep", "."),
        ("inference.checkpoint", "", "checkpoints"),
        ("tokenize.load", "", "."),  # there is no folder of tokenizers
        ("inference.prompt", "FILE:my_texts/b.txt", "my_texts"),
        ("cleanup.input", "no\x00name", "."),
    ],
)
def test_it_begins_where_what_is_typed_leads(
    texts: Path, path: str, typed: str, first: str
) -> None:
    (texts.parent / "checkpoints").mkdir()
    home, field = texts.parent, EVERY[path]
    places = places_to_begin(field, typed, Config(), home)
    assert first_listing(places, want(field)).folder == Path(os.path.normpath(home / first))


async def _field(app: HatcheryApp, pilot: Pilot[None], command: str, path: str) -> TextLine:
    app.open_stage(command)
    await until(pilot, lambda: isinstance(app.screen, StageScreen) and app.screen.query("#command"))
    panel = app.screen.query_one(FieldPanel)
    panel.focus_path(path)
    await until(pilot, lambda: panel.focused_line is not None)
    line = panel.focused_line
    assert isinstance(line, TextLine)
    assert line.margins.field.path == path
    return line


@pytest.mark.slow
def test_a_folder_is_picked_with_the_keys_and_is_the_input(texts: Path) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            line = await _field(app, pilot, "cleanup", "cleanup.input")
            await until(pilot, lambda: "^o Files" in shown(app))
            form = app.screen
            await pilot.press("ctrl+o")
            await until(pilot, lambda: "my_texts/" in shown(app))
            await pilot.press(*"text", "enter")
            await until(pilot, lambda: "take this folder  my_texts/" in shown(app))
            assert ".hidden" not in shown(app)
            assert "not read here" in shown(app)
            await pilot.press("enter")
            await until(pilot, lambda: app.screen is form)
            await until(pilot, lambda: "python main.py cleanup --input my_texts" in shown(app))
            assert line.has_focus
            await pilot.press("ctrl+o")  # what lies in it is meant in its place
            await until(pilot, lambda: "take this folder  my_texts/" in shown(app))
            await pilot.press(*"Sub/")
            await until(pilot, lambda: "take this folder  Sub/" in shown(app))
            await pilot.press("backspace")
            await until(pilot, lambda: "take this folder  my_texts/" in shown(app))
            await pilot.press(*"two", "enter")
            await until(pilot, lambda: line.value == "'my_texts/two words.txt'")

    play(act)


@pytest.mark.slow
def test_escape_leaves_the_field_as_it_was(texts: Path) -> None:
    async def act() -> None:
        async with opened(NARROW) as (app, pilot):
            line = await _field(app, pilot, "tokenize", "tokenize.load")
            await pilot.press(*"gp", "ctrl+o")
            await until(pilot, lambda: isinstance(app.screen, FilePicker))
            await pilot.press("escape")
            await until(pilot, lambda: isinstance(app.screen, StageScreen))
            assert (line.value, line.has_focus) == ("gp", True)

    play(act)


@pytest.mark.slow
def test_a_setting_that_is_no_path_offers_no_files(workspace: Path) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            await _field(app, pilot, "train", "train.name")
            await pilot.press("ctrl+o")
            await pilot.pause()
            assert isinstance(app.screen, StageScreen)
            assert "^o Files" not in shown(app)

    play(act)


@pytest.mark.slow
def test_a_folder_that_never_answers_is_left_by_escape_and_what_it_says_too_late_is_not_shown(
    texts: Path,
) -> None:
    answer, asked = Event(), []

    def read(places: Sequence[Path], wish: Wanted) -> Listing:
        asked.append(places[0])
        if places[0].name == "Sub":
            answer.wait(60)
            return Listing(places[0], fault="too late")
        return first_listing(places, wish)

    async def act() -> None:
        async with opened() as (app, pilot):
            got: list[str | None] = []
            picker = FilePicker(want(INPUT), [texts, texts.parent], read=read)
            app.push_screen(picker, got.append)
            await until(pilot, lambda: "Sub/" in shown(app))
            await pilot.press(*"Sub", "enter")
            await until(pilot, lambda: "reading" in shown(app) and "my_texts/Sub …" in shown(app))
            await pilot.press("backspace")  # the keys still work
            await until(pilot, lambda: asked[-1] == texts.parent)
            await until(pilot, lambda: "my_texts/" in shown(app))
            answer.set()
            await pilot.pause(0.2)
            assert "too late" not in shown(app)
            await pilot.press("escape")
            await until(pilot, lambda: got == [None])

    play(act)


@pytest.mark.slow
def test_a_folder_that_cannot_be_read_says_why_and_the_one_before_stays(texts: Path) -> None:
    async def act() -> None:
        async with opened(NARROW) as (app, pilot):
            app.push_screen(FilePicker(want(INPUT), [texts, texts.parent]))
            await until(pilot, lambda: "Sub/" in shown(app))
            await pilot.press(*"absent/")
            await until(pilot, lambda: "No such file or directory" in shown(app))
            await pilot.press(*["backspace"] * 7)
            await until(pilot, lambda: "scan.pdf" in shown(app))

    play(act)


@pytest.mark.slow
def test_hostile_names_are_shown_harmless_and_what_cannot_be_typed_is_not_picked(
    texts: Path,
) -> None:
    names = [text.replace("/", "").replace("\x00", "")[:40] for text in hostile.FRAGMENTS]
    for number, name in enumerate(names):
        (texts / os.fsdecode(f"z{number} {name}.txt".encode("utf-8", "surrogatepass"))).touch()
    (texts / os.fsdecode(b"latin \xe9.txt")).touch()

    async def act() -> None:
        async with opened() as (app, pilot):
            line = await _field(app, pilot, "cleanup", "cleanup.input")
            await pilot.press(*"my_texts", "ctrl+o")
            await until(pilot, lambda: "take this folder" in shown(app))
            for _ in range(4):
                assert not set(shown(app)) & set("\x1b\x07\u202e\x9b\x9d")
                await pilot.press("pagedown")
            await pilot.press(*"latin")
            await until(pilot, lambda: "latin \ufffd.txt" in shown(app))
            await pilot.press("enter")
            told = app._notifications
            await until(pilot, lambda: any("cannot be typed" in note.message for note in told))
            assert line.value == "my_texts"

    play(act)
