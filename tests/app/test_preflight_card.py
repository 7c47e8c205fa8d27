"""The pre-flight card as a user meets it: it says what is needed, and what would help."""

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from app.tui.stage import preflight
from app.tui.stage import preflight_card as module
from app.tui.stage.preflight import MeasuredSpeed, outlook, speed_settings
from app.tui.stage.preflight_card import PreflightCard
from pipeline.planning.remedies import Remedy
from tests.support.pilot import play, shown, until
from tests.support.stage_runner import settings
from utils.text import safe

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"model": {"preset": "tiny"}, "train": {"batch_size": 4}}


class Host(App[None]):
    """Nothing but the card, and the changes that it proposed."""

    def __init__(self) -> None:
        super().__init__()
        self.chosen: list[dict[str, Any]] = []

    def compose(self) -> ComposeResult:
        yield PreflightCard()

    def on_preflight_card_chosen(self, message: PreflightCard.Chosen) -> None:
        self.chosen.append(message.changes)


@asynccontextmanager
async def hosted(width: int = 70) -> AsyncIterator[tuple[Host, PreflightCard, Pilot[None]]]:
    app = Host()
    async with app.run_test(size=(width, 40)) as pilot:
        yield app, app.query_one(PreflightCard), pilot


@pytest.mark.slow
def test_it_says_what_a_training_needs(prepared: Path) -> None:
    async def scene() -> None:
        async with hosted() as (app, card, pilot):
            card.show(settings(**SMALL))
            await until(pilot, lambda: "not measured yet" in shown(app))
            for word in ("4 layers × 128", "files · ", "free: fits", "checkpoint", "epoch"):
                assert word in shown(app)

    play(scene)


def test_it_says_in_full_what_a_training_does_that_nobody_asked_for(prepared: Path) -> None:
    async def scene() -> None:
        async with hosted(40) as (app, card, pilot):
            card.show(settings(train={"batch_size": 4}, model={"max_position_embeddings": 16}))
            await until(pilot, lambda: "Note" in shown(app))
            words = " ".join(shown(app).split())
            assert "The model's context is 16 tokens" in words
            assert "not the 32 that the tokens were prepared with." in words

    play(scene)


def test_only_the_last_of_quick_changes_is_reckoned(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def reckon(config: Any, measured: Any) -> Any:
        asked.append(config.train.batch_size)
        return outlook(config, measured)

    monkeypatch.setattr(module, "outlook", reckon)

    async def scene() -> None:
        async with hosted() as (app, card, pilot):
            for size in range(1, 9):
                card.show(settings(model={"preset": "tiny"}, train={"batch_size": size}))
            await until(pilot, lambda: "× 256 tokens" in shown(app))  # 8 windows of 32

    play(scene)
    assert asked[-1] == 8
    assert len(asked) < 8


def test_missing_tokens_are_a_sentence_with_the_next_command(workspace: Path) -> None:
    async def scene() -> None:
        async with hosted() as (app, card, pilot):
            card.show(settings())
            await until(pilot, lambda: "no tokens of python yet" in shown(app))
            assert "python main.py prepare --source python" in " ".join(shown(app).split())
            assert "without its vocabulary" in shown(app)

    play(scene)


@pytest.mark.parametrize(
    "sections",
    [
        {"train": {"resume": "nowhere"}},
        {"train": {"window": 100_000}},
        {"train": {"data": "elsewhere"}},
        {"model": {"vocab_size": 2}},
        {"model": {"max_position_embeddings": 16}, "train": {"window": 32}},
    ],
    ids=str,
)
def test_what_training_would_refuse_is_told_not_raised(
    prepared: Path, sections: dict[str, Any]
) -> None:
    found = outlook(settings(**sections))
    assert found.problem is not None
    assert found.plan is None


def test_damaged_files_are_told_not_raised(prepared: Path) -> None:
    folder = next(Path("data/tokenized_datasets").iterdir())
    for file in folder.iterdir():
        file.write_bytes(b"\x00{")
    assert outlook(settings(**SMALL)).problem is not None


@pytest.fixture
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three remedies, whatever the settings."""
    offered = [
        Remedy("half the batch", "1 GiB", {"train.batch_size": 8}),
        Remedy("[/b] checkpointing", "[red]", {"train.gradient_checkpointing": True}),
        Remedy("preset tiny", "0.4 GiB", {"model.preset": "tiny"}),
    ]
    monkeypatch.setattr(preflight, "remedies", lambda inputs, plan: offered)


@pytest.mark.slow
def test_a_remedy_is_taken_by_its_digit_by_enter_and_by_a_click(
    prepared: Path, crowded: None
) -> None:
    async def scene() -> None:
        async with hosted() as (app, card, pilot):
            card.show(settings(**SMALL))
            await until(pilot, lambda: "[/b] checkpointing" in shown(app))
            await pilot.press("tab", "2", "9")
            await pilot.press("down", "down", "enter")
            await pilot.click("#remedies", offset=(4, 0))
            await until(pilot, lambda: len(app.chosen) == 3)
            keys = [next(iter(changes)) for changes in app.chosen]
            assert keys[0] == "train.gradient_checkpointing"
            assert keys[2] == "train.batch_size"

    play(scene)


def test_a_worry_is_told_by_a_sign_and_words(prepared: Path) -> None:
    async def scene() -> None:
        async with hosted() as (app, card, pilot):
            card.show(settings(model={"preset": "1B"}, train={"batch_size": 65536}))
            await until(pilot, lambda: "does not fit" in shown(app))
            row = next(row for row in shown(app).splitlines() if "does not fit" in row)
            assert row.startswith("Memory")
            assert "⚠" in row

    play(scene)


EVENTS = """
import sys
print('{"event":"progress","time":1.0,"done":3,"message":"timing real steps"}', flush=True)
print('not an event')
print('{"event":"finished","time":2.0,"summary":{"numbers":[{"flops":1e9,"seconds":2.0,"probe":'
      '{"tokens_per_second":1234.0,"memory":536870912,"steps":5}}]}}', flush=True)
print(sys.argv[1:], file=open("asked", "w"))
"""
FAILING = """
print('{"event":"failed","time":1.0,"problem":"Out of [/memory]","remedy":"--batch-size 1"}')
"""
WAITING = """
import os, time
open("child", "w").write(str(os.getpid()))
time.sleep(600)
"""


def _child(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    Path("child.py").write_text(script, "utf-8")
    monkeypatch.setattr(module, "PROGRAM", (sys.executable, "child.py"))


@pytest.mark.slow
def test_a_probe_fills_in_the_time(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _child(monkeypatch, EVENTS)

    async def scene() -> None:
        async with hosted() as (app, card, pilot):
            card.show(settings(**SMALL))
            await until(pilot, lambda: "not measured yet" in shown(app))
            card.probe(["--batch-size", "4"])
            await until(pilot, lambda: "1,234 tokens/s in 5 real steps" in shown(app))
            card.show(settings(model={"preset": "tiny"}, train={"batch_size": 8}))
            await until(pilot, lambda: "by a probe of other settings" in shown(app))

    play(scene)
    assert Path("asked").read_text() == "['plan', '--json', '--batch-size', '4', '--probe']\n"


@pytest.mark.slow
def test_a_probe_that_fails_says_why(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _child(monkeypatch, FAILING)

    async def scene() -> None:
        async with hosted() as (app, card, pilot):
            card.show(settings(**SMALL))
            await until(pilot, lambda: "not measured yet" in shown(app))
            card.probe([])
            await until(pilot, lambda: "Out of [/memory]" in shown(app))
            assert "--batch-size 1" in shown(app)

    play(scene)


def test_the_child_goes_when_the_card_does(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _child(monkeypatch, WAITING)
    pid = Path("child")

    async def scene() -> None:
        async with hosted() as (_, card, pilot):
            card.show(settings(**SMALL))
            card.probe([])
            await until(pilot, lambda: pid.exists() and pid.read_text())
            await card.remove()
            await until(pilot, lambda: not _alive(int(pid.read_text())))

    play(scene)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_speed_of_other_settings_is_scaled_by_their_arithmetic(prepared: Path) -> None:
    config = settings(**SMALL)
    measured = MeasuredSpeed(1000.0, 1e9, 1, 5, speed_settings(config))
    same, larger = (outlook(c, measured).plan for c in (config, settings(model={"preset": "mini"})))
    assert same is not None
    assert larger is not None
    assert same.tokens_per_second == 1000.0
    assert larger.tokens_per_second is not None
    tiny = outlook(settings(model={"preset": "tiny"}), measured).plan
    assert tiny is not None
    assert tiny.tokens_per_second is not None
    assert larger.tokens_per_second < tiny.tokens_per_second / 3


def test_foreign_names_reach_the_screen_as_text(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "[/b]\x1b[2Jhens‮"
    found = outlook(settings(**SMALL))
    lines = [line._replace(figure=name, remark=name) for line in found.lines]
    monkeypatch.setattr(module, "outlook", lambda config, measured: found._replace(lines=lines))

    async def scene() -> None:
        async with hosted() as (app, card, pilot):
            card.show(settings(**SMALL))
            await until(pilot, lambda: safe(name) in shown(app))
            assert "\x1b" not in shown(app)

    play(scene)


@pytest.mark.slow
def test_the_card_loads_neither_torch_nor_transformers(prepared: Path) -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import app.tui.stage.preflight_card\n"
        "from app.tui.stage.preflight import outlook\n"
        "from app.commands.settings import load_config\n"
        "assert outlook(load_config({}).config).problem is None\n"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
