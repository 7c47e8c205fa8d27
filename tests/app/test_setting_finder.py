"""The search among settings: which it finds, in which order, and where it leads."""

import json
from pathlib import Path

import pytest
from textual.pilot import Pilot

from app.tui.app import HatcheryApp
from app.tui.forms.field_panel import FieldPanel
from app.tui.forms.field_spec import fields_of
from app.tui.forms.setting_finder import SettingFinder, flag_of, found
from app.tui.settings.screen import SettingsScreen
from app.tui.stage.screen import StageScreen
from pipeline.options.config import Config
from tests.support.pilot import NARROW, WIDE, opened, play, shown, until

EVERY = [field for section in Config.model_fields for field in fields_of(section)]


def paths(typed: str, *sections: str) -> list[str]:
    fields = [f for f in EVERY if not sections or f.section in sections]
    return [field.path for field in found(fields, typed)]


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("batch size", "train.batch_size"),
        ("--batch-size", "train.batch_size"),
        ("--train.batch-size", "train.batch_size"),
        ("batch_size", "train.batch_size"),
        ("SIZE batch", "train.batch_size"),
        ("theta", "model.rope_theta"),
        ("gradient norm", "train.gradient_clip"),  # only its help says so
        ("muon", "train.optimizer"),  # one of its choices
    ],
)
def test_a_setting_is_found_by_name_flag_choice_and_help(typed: str, first: str) -> None:
    assert paths(typed, "train", "model")[0] == first


@pytest.mark.slow
def test_each_setting_is_found_by_its_own_path_flag_and_label() -> None:
    for field in EVERY:
        for typed in (field.path, flag_of(field, ()), flag_of(field, [field.section])):
            assert field.path in paths(typed)
        assert field.path in paths(field.label)


def test_what_begins_with_a_word_stands_before_what_only_mentions_it() -> None:
    listed = paths("learning", "train")
    assert listed[0] == "train.learning_rate"
    in_name = [path for path in listed if "learning" in path]
    assert listed[: len(in_name)] == in_name


@pytest.mark.parametrize("typed", ["no such thing", "batch zzz", "[/foo]", "\x1b[2J", "漢字"])
def test_nothing_is_found_where_a_word_occurs_nowhere(typed: str) -> None:
    assert paths(typed) == []


@pytest.mark.parametrize("typed", ["", " ", "\t"])
def test_without_words_all_are_shown_in_their_order(typed: str) -> None:
    assert paths(typed) == [field.path for field in EVERY]


async def _focused(app: HatcheryApp, pilot: Pilot[None], path: str) -> None:
    def there() -> bool:
        if not app.screen.query(FieldPanel):
            return False
        line = app.screen.query_one(FieldPanel).focused_line
        return line is not None and line.margins.field.path == path

    await until(pilot, there)


@pytest.mark.slow
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_enter_goes_to_a_setting_that_the_form_hides(
    workspace: Path, size: tuple[int, int]
) -> None:
    async def act() -> None:
        async with opened(size) as (app, pilot):
            app.open_stage("train")
            await until(pilot, lambda: app.screen.query(FieldPanel))
            panel = app.screen.query_one(FieldPanel)
            await until(pilot, lambda: panel.hidden > 30)
            assert "Beta1" not in shown(app)
            await pilot.press("slash", *"beta1")
            await until(pilot, lambda: "first-moment" in shown(app))
            assert "of 6" in shown(app)  # the count of all, hidden ones too
            await pilot.press("enter")
            await _focused(app, pilot, "train.beta1")
            await until(pilot, lambda: "Beta1" in shown(app))
            assert "^f Find" in shown(app)

    play(act)


@pytest.mark.slow
def test_escape_leaves_all_as_it_was(workspace: Path) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            app.open_stage("prepare")
            await until(pilot, lambda: app.screen.query("#start"))
            await pilot.pause()
            screen = app.screen
            before, focused = shown(app), screen.focused
            await pilot.press("slash", *"workers", "down", "up")
            await until(pilot, lambda: "--workers" in shown(app))
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is screen)
            await until(pilot, lambda: shown(app) == before)
            assert screen.focused is focused
            assert isinstance(screen, StageScreen)
            assert screen.form.draft.changes == {}

    play(act)


@pytest.mark.slow
def test_control_f_searches_from_inside_a_field_where_a_slash_is_text(workspace: Path) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            app.open_stage("prepare")
            await until(pilot, lambda: app.screen.query("#start"))
            screen = app.screen
            assert isinstance(screen, StageScreen)
            screen.query_one(FieldPanel).focus_path("prepare.tokenizer")
            await _focused(app, pilot, "prepare.tokenizer")
            await pilot.press("a", "slash")
            await until(pilot, lambda: screen.form.draft.changes == {"prepare.tokenizer": "a/"})
            assert app.screen is screen
            await pilot.press("ctrl+f")
            await until(pilot, lambda: isinstance(app.screen, SettingFinder))
            await pilot.press(*"window", "enter")
            await _focused(app, pilot, "prepare.window")

    play(act)


@pytest.mark.slow
def test_in_the_settings_all_sections_are_searched(workspace: Path) -> None:
    async def act() -> None:
        async with opened(NARROW) as (app, pilot):
            app.open_settings()
            await until(pilot, lambda: app.screen.query(FieldPanel))
            await pilot.pause()
            await pilot.press("slash")
            await until(pilot, lambda: f"{len(EVERY)} of {len(EVERY)} settings" in shown(app))
            await pilot.press(*"--serve.port", "enter")
            await _focused(app, pilot, "serve.port")
            await pilot.press("escape", "slash", *"theta", "enter")
            await _focused(app, pilot, "model.rope_theta")  # behind "more", in another section

    play(act)


@pytest.mark.slow
def test_words_that_are_nowhere_say_so_and_enter_does_nothing(workspace: Path) -> None:
    async def act() -> None:
        async with opened(NARROW) as (app, pilot):
            app.open_stage("prepare")
            await until(pilot, lambda: app.screen.query("#start"))
            await pilot.press("slash", *"zzz")
            await until(pilot, lambda: "No setting has these words" in shown(app))
            await pilot.press("enter")
            assert isinstance(app.screen, SettingFinder)

    play(act)


@pytest.mark.slow
def test_foreign_values_in_the_list_are_never_obeyed(workspace: Path) -> None:
    evil = "\x1b]52;c;aGk=\x07[/red]\u202e"
    Path("config.json").write_text(json.dumps({"train": {"name": evil}}))

    async def act() -> None:
        async with opened() as (app, pilot):
            app.open_settings()
            await until(pilot, lambda: isinstance(app.screen, SettingsScreen))
            await until(pilot, lambda: app.screen.query(FieldPanel))
            await pilot.press("slash", *"train.name")
            await until(pilot, lambda: "␛]52;c;" in shown(app))
            assert not set(shown(app)) & set("\x1b\x07\u202e\x9b")

    play(act)


@pytest.mark.slow
def test_a_click_goes_to_the_setting(workspace: Path) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            app.open_stage("prepare")
            await until(pilot, lambda: app.screen.query("#start"))
            await pilot.press("slash", *"prepare")
            await until(pilot, lambda: "Val split" in shown(app) or "--window" in shown(app))
            rows = shown(app).splitlines()
            row = next(n for n, text in enumerate(rows) if "--window" in text)
            column = rows[row].index("--window")
            await pilot.click(offset=(column, row))
            if isinstance(app.screen, SettingFinder):
                await pilot.click(offset=(column, row))
            await _focused(app, pilot, "prepare.window")

    play(act)
