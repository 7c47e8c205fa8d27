"""config.json as a user edits it: setting by setting, as text, and when it is broken."""

import json
from pathlib import Path

import pytest

from app.tui.forms import config_file
from app.tui.forms.field_panel import FieldPanel
from app.tui.settings.screen import SettingsScreen
from app.tui.settings.text_editor import ConfigTextScreen, Editor
from tests.support.pilot import NARROW, opened, play, shown, until
from utils.errors import HatcheryError, UsageError

GOOD = {"extends": "base.json", "dataset": {"source": "python"}, "train": {"batch_size": 4}}


@pytest.fixture
def config(workspace: Path) -> Path:
    (workspace / "base.json").write_text('{"train": {"epochs": 2.5}}')
    (workspace / "config.json").write_text(json.dumps(GOOD))
    return workspace / "config.json"


@pytest.mark.slow
def test_a_setting_is_changed_saved_and_taken_out_again(config: Path) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            app.open_settings()
            await until(pilot, lambda: app.screen.query(FieldPanel))
            await pilot.pause()
            sections = app.screen.query_one("#section-list")
            await pilot.press(*["down"] * 7)
            await until(pilot, lambda: "Batch size" in shown(app))
            origins = [row.split() for row in shown(app).splitlines()]
            assert any(row[-2:] == ["config.json", "│"] and "size" in row for row in origins)
            assert any(row[-2:] == ["base.json", "│"] and "Epochs" in row for row in origins)
            panel = app.screen.query_one(FieldPanel)
            panel.focus_path("train.batch_size")
            await until(pilot, lambda: panel.focused_line is not None)
            await pilot.press("9")  # typing replaces what is there
            await until(pilot, lambda: "1 change unsaved" in shown(app))
            await pilot.press("enter")
            assert app.focused is sections
            await pilot.press("s")
            await until(pilot, lambda: app.config.train.batch_size == 9)
            assert json.loads(config.read_text()) == GOOD | {"train": {"batch_size": 9}}
            panel.focus_path("train.batch_size")
            await until(pilot, lambda: panel.focused_line is not None)
            await pilot.press("backspace", "ctrl+s")
            await until(pilot, lambda: app.config.train.batch_size == 16)

    play(act)
    assert json.loads(config.read_text()) == GOOD | {"train": {}}


@pytest.mark.slow
def test_broken_json_opens_as_text_at_the_fault_and_is_mended_there(workspace: Path) -> None:
    Path("config.json").write_text('{\n  "train": {"batch_size": 4},,\n}\n')

    async def act() -> None:
        async with opened(NARROW) as (app, pilot):
            await until(pilot, lambda: isinstance(app.screen, ConfigTextScreen))
            await until(pilot, lambda: "✕ line 2, column 30" in shown(app))
            editor = app.screen.query_one(Editor)
            await until(pilot, lambda: editor.cursor_location == (1, 29))
            await pilot.press("ctrl+s")  # what is not valid is not saved
            assert isinstance(app.screen, ConfigTextScreen)
            await pilot.press("delete", "backspace")
            await until(pilot, lambda: "● valid" in shown(app))
            await pilot.press("ctrl+s")
            await until(pilot, lambda: app.config_fault is None)
            await until(pilot, lambda: isinstance(app.screen, SettingsScreen))
            assert app.config.train.batch_size == 4

    play(act)
    assert json.loads(Path("config.json").read_text()) == {"train": {"batch_size": 4}}


@pytest.mark.slow
def test_a_wrong_value_in_the_file_opens_the_settings_at_its_field(workspace: Path) -> None:
    Path("config.json").write_text('{"train": {"batch_size": "many", "beta1": 0.8}}')

    async def act() -> None:
        async with opened() as (app, pilot):
            await until(pilot, lambda: "must be a whole number, not many" in shown(app))
            assert isinstance(app.screen, SettingsScreen)
            panel = app.screen.query_one(FieldPanel)
            await until(pilot, lambda: panel.focused_line is not None)
            assert panel.focused_line is not None
            assert panel.focused_line.margins.field.path == "train.batch_size"
            await pilot.press("8", "ctrl+s")
            await until(pilot, lambda: app.config_fault is None)

    play(act)
    assert json.loads(Path("config.json").read_text()) == {"train": {"batch_size": 8, "beta1": 0.8}}


@pytest.mark.slow
def test_a_key_that_is_no_setting_opens_the_text_at_that_key(workspace: Path) -> None:
    Path("config.json").write_text('{\n  "train": {\n    "bach_size": 4\n  }\n}')

    async def act() -> None:
        async with opened() as (app, pilot):
            await until(pilot, lambda: "✕ line 3, column 5" in shown(app))
            assert "write train.batch_size" in shown(app)
            assert "unsaved" not in shown(app)

    play(act)


def test_the_rest_of_a_file_stays_as_it_is(config: Path) -> None:
    config_file.save_changes({"prepare.window": 64}, {"train.batch_size"})
    saved = json.loads(config.read_text())
    assert saved == GOOD | {"train": {}, "prepare": {"window": 64}}
    assert list(saved) == ["extends", "dataset", "train", "prepare"]


def test_a_depth_that_is_saved_replaces_the_sizes_beside_it(workspace: Path) -> None:
    Path("config.json").write_text('{"model": {"hidden_size": 512, "num_layers": 8}}')
    config_file.save_changes({"model.depth": 4, "model.bias": True})
    assert json.loads(Path("config.json").read_text()) == {"model": {"depth": 4, "bias": True}}


def test_what_would_be_no_valid_file_is_not_written(config: Path) -> None:
    before = config.read_text()
    with pytest.raises(UsageError, match=r"train\.batch_size"):
        config_file.save_changes({"train.batch_size": 0})
    with pytest.raises(UsageError, match="stands twice"):
        config_file.save_text('{"train": {}, "train": {}}')
    with pytest.raises(UsageError, match="extends itself"):
        config_file.save_text('{"extends": "config.json"}')
    assert config.read_text() == before


def test_a_link_stays_a_link_to_the_file_that_was_changed(workspace: Path) -> None:
    Path("real.json").write_text("{}")
    Path("config.json").symlink_to("real.json")
    config_file.save_changes({"train.seed": 7})
    assert Path("config.json").is_symlink()
    assert json.loads(Path("real.json").read_text()) == {"train": {"seed": 7}}


def test_a_first_change_makes_the_file(workspace: Path) -> None:
    config_file.save_changes({"train.seed": 7})
    assert json.loads(Path("config.json").read_text()) == {"train": {"seed": 7}}


@pytest.mark.slow
def test_what_was_taken_out_is_kept_until_it_is_saved(config: Path) -> None:
    async def act() -> None:
        async with opened() as (app, pilot):
            app.open_settings()
            await until(pilot, lambda: app.screen.query(FieldPanel))
            screen = app.screen
            assert isinstance(screen, SettingsScreen)
            screen.draft.remove("train.batch_size")
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is not screen)
            app.open_settings()
            await until(pilot, lambda: "1 change unsaved" in shown(app))
            await pilot.press("s")
            await until(pilot, lambda: "unsaved" not in shown(app))

    play(act)
    assert json.loads(config.read_text())["train"] == {}


@pytest.mark.parametrize(
    "before",
    [
        None,
        b"{}",
        b'{"train": {"batch_size": 4}}',
        b'{ "train" : {"batch_size":4 },\r\n\r\n  "prepare": {} }   \r\n',
        '{"train": {"name": "Hühner 漢字"}}\n\n\n'.encode(),
        b'\xef\xbb\xbf{"train": {}}',
    ],
)
def test_a_save_is_taken_back_byte_for_byte(before: bytes | None, workspace: Path) -> None:
    file = Path("config.json")
    if before is not None:
        file.write_bytes(before)
    saved = config_file.save_changes({"train.seed": 7, "prepare.window": 64})
    assert json.loads(file.read_bytes())["train"]["seed"] == 7
    config_file.undo_save(saved)
    assert (file.read_bytes() if file.exists() else None) == before


@pytest.mark.parametrize("change", ["edited", "gone", "saved again", "replaced by a link"])
def test_a_save_is_not_taken_back_where_the_file_has_changed_since(
    change: str, config: Path
) -> None:
    saved = config_file.save_changes({"train.seed": 7})
    if change == "edited":
        config.write_text(config.read_text().replace("7", "8"))
    elif change == "gone":
        config.unlink()
    elif change == "saved again":
        config_file.save_changes({"train.seed": 9})
    else:
        (config.parent / "other.json").write_text("{}")
        config.unlink()
        config.symlink_to("other.json")
    now = config.read_bytes() if config.exists() else None
    with pytest.raises(HatcheryError, match="has been changed since"):
        config_file.undo_save(saved)
    assert (config.read_bytes() if config.exists() else None) == now


def test_what_was_saved_is_told_with_what_was_there_before(config: Path) -> None:
    below = config_file.layers()
    saved = config_file.save_changes({"train.batch_size": 8, "train.name": "a"}, {"train.seed"})
    words = config_file.saved_words(below, saved)
    assert words == "train.batch_size 4 → 8, train.name none → a, train.seed taken out"
    many = {f"train.{name}": 1 for name in ("seed", "epochs", "log_every", "eval_batches")}
    assert config_file.saved_words(below, saved._replace(changes=many, removed=())).endswith(
        " and 1 more"
    )


@pytest.mark.slow
def test_u_takes_a_save_back_and_what_it_wrote_is_unsaved_again(config: Path) -> None:
    before = config.read_bytes()

    async def act() -> None:
        async with opened() as (app, pilot):
            told = app._notifications
            await pilot.press("s")
            await until(pilot, lambda: isinstance(app.screen, SettingsScreen))
            await until(pilot, lambda: app.screen.query(FieldPanel))
            screen = app.screen
            assert isinstance(screen, SettingsScreen)
            await pilot.press("u")
            await until(pilot, lambda: any("nothing was saved" in note.message for note in told))
            screen.draft.apply({"dataset.source": "mine"})
            await pilot.press("s")
            words = "dataset.source python → mine"
            await until(pilot, lambda: any(words in note.message for note in told))
            assert any("u takes it back" in note.message for note in told)
            assert b"mine" in config.read_bytes()
            await pilot.press("u")
            await until(pilot, lambda: config.read_bytes() == before)
            await until(pilot, lambda: "1 change unsaved" in shown(app))
            assert screen.draft.changes == {"dataset.source": "mine"}
            assert app.config.dataset.source == "python"

    play(act)
