"""The compare screen, used as a user does, on a server without models."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.client.client import Endpoint, Model
from app.tui.app import HatcheryApp
from app.tui.compare.body import Duel
from app.tui.compare.pane import Pane
from app.tui.compare.screen import CompareScreen
from app.tui.compare.votes_screen import VotesScreen
from app.tui.forms.field import TextLine
from app.tui.widgets.confirm import Question
from pipeline.benchmark import votes
from tests.support.fake_models import MODELS, ONE, TWO, FakeClient, FakeServing
from tests.support.pilot import NARROW, WIDE, opened, play, shown, until
from tests.support.snapshots import check
from utils.errors import HatcheryError

BEST = [f"{TWO}/600", f"{ONE}/600"]


class Stage:
    """The screen, open, and the server behind it."""

    def __init__(self, app: HatcheryApp, pilot: Any, client: FakeClient) -> None:
        self.app, self.pilot, self.client = app, pilot, client
        self.serving = FakeServing(client)
        app._serving = self.serving  # type: ignore[assignment]

    @property
    def screen(self) -> CompareScreen:
        assert isinstance(self.app.screen, CompareScreen)
        return self.app.screen

    @property
    def round(self) -> Any:
        return self.screen.match.round

    async def sees(self, *words: str) -> None:
        try:
            await until(self.pilot, lambda: all(word in shown(self.app) for word in words))
        except TimeoutError:
            pytest.fail(f"{words} not in\n{shown(self.app)}", pytrace=False)

    async def ask(self, prompt: str) -> None:
        """Write a prompt and wait for every answer."""
        await until(self.pilot, lambda: self.screen.query_one(Duel)._prompt.has_focus)
        await self.pilot.press(*prompt.replace(" ", "_"), "enter")
        await until(self.pilot, lambda: self.round.asked and not self.round.busy)
        await self.pilot.pause(0.15)


@asynccontextmanager
async def comparing(
    models: list[str] | None = None,
    size: tuple[int, int] = WIDE,
    client: FakeClient | None = None,
) -> AsyncIterator[Stage]:
    """With `models` standing already, or else at the choice."""
    async with opened(size) as (app, pilot):
        stage = Stage(app, pilot, client or FakeClient())
        app.open_compare(models or ())
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await until(pilot, lambda: app.screen.match.there)
        if models:
            await until(pilot, lambda: len(app.screen.query(Pane)) == len(models))
        await pilot.pause(0.3)
        yield stage


@pytest.mark.parametrize("way", [("3", "comma", "7"), ("3", "minus", "7"), ("a", "l", "l")])
def test_numbers_ranges_and_all_choose_who_answers(workspace: Path, way: tuple[str, ...]) -> None:
    expected = {"comma": [3, 7], "minus": [3, 4, 5, 6, 7], "l": list(range(1, 9))}[way[1]]

    async def scene() -> None:
        async with comparing() as stage:
            await stage.sees("exp2 step 600  ▲ best", "exp1 step 800  ● latest")
            await stage.pilot.press(*way, "enter")
            await until(stage.pilot, lambda: stage.screen.match.sides)
            ids = [side.model.id for side in stage.screen.match.sides]
            assert ids == [MODELS[number - 1].id for number in expected]

    play(scene)


def test_space_and_the_mouse_choose_and_a_wrong_number_is_told(workspace: Path) -> None:
    async def scene() -> None:
        async with comparing() as stage:
            await stage.pilot.press("space", "down", "space")
            await stage.sees("2 chosen · 108.7 MiB of memory", "numbers 1,3")
            await stage.pilot.click("Models", offset=(10, 5))
            await stage.sees("3 chosen", "numbers 1,3,6")
            await stage.pilot.press("9", "enter")
            await stage.sees("9 is not there: the models are 1 to 8")
            assert stage.screen.match.sides == []

    play(scene)


@pytest.mark.parametrize(("size", "columns"), [(WIDE, 3), (NARROW, 2), ((200, 60), 4)])
def test_answers_stream_side_by_side_and_the_fastest_is_marked(
    workspace: Path, size: tuple[int, int], columns: int
) -> None:
    models = [*BEST, f"{ONE}/200", f"{ONE}/400"]

    async def scene() -> None:
        async with comparing(models, size) as stage:
            stage.client.hold = asyncio.Event()
            await stage.pilot.press("d", "e", "f", "enter")
            await until(stage.pilot, lambda: all(a.text for a in stage.round.answers))
            await stage.sees("writing …", "They share this machine")
            stage.client.hold.set()
            await stage.sees("118 tok/s ★", "highest speed exp2 step 600")
            panes = [pane for pane in stage.screen.query(Pane) if pane.display]
            assert len(panes) == columns
            assert ("‹ 1/2 ›" in shown(stage.app)) == (columns < 4)
            seeds = {ask.sampling.seed for ask in stage.client.asked}
            assert len(seeds) == 1
            assert {ask.prompt for ask in stage.client.asked} == {"def"}
            assert set(stage.client.loads) == set(models)

    play(scene)


def test_tab_and_clicks_reach_the_panes_of_every_page(workspace: Path) -> None:
    models = [*BEST, f"{ONE}/200", f"{ONE}/400"]

    async def scene() -> None:
        async with comparing(models, NARROW) as stage:
            duel = stage.screen.query_one(Duel)
            for place in (0, 1, 2, 3):
                await stage.pilot.press("tab")
                await until(stage.pilot, lambda p=place: duel._arena.current == p)
            await stage.sees("‹ 2/2 ›", "exp1 step 400")
            await stage.pilot.press("tab")
            await until(stage.pilot, lambda: duel._prompt.has_focus)
            await stage.pilot.click("Pages", offset=(1, 0))
            await stage.sees("‹ 1/2 ›", "exp2 step 600")

    play(scene)


def test_a_blind_vote_hides_names_and_speeds_until_it_is_given_and_is_kept(
    workspace: Path,
) -> None:
    async def scene() -> None:
        async with comparing(BEST) as stage:
            stage.client.words |= {BEST[0]: " one two", BEST[1]: " red blue"}
            await stage.pilot.press("tab")
            await until(stage.pilot, lambda: not stage.screen.query_one(Duel)._prompt.has_focus)
            await stage.pilot.press("b")
            await stage.ask("hen")
            assert "exp" not in shown(stage.app)
            assert "tok/s" not in shown(stage.app)
            await stage.sees("1 A", "2 B", "after your vote")
            second = stage.round.answers[1].contender.name
            await stage.pilot.press("2")
            await stage.sees("your choice", "exp1 step 600", "exp2 step 600", "tok/s")
            await stage.pilot.press("1")  # one vote for each prompt
            [kept] = votes.read(votes.FOLDER).votes
            assert (kept.winner, kept.blind, kept.prompt) == (second, True, "hen")
            assert set(kept.models) == set(BEST)
            assert votes.text_hash(stage.round.answers[0].text) == kept.texts[0]
            assert kept.seed == stage.client.asked[0].sampling.seed
            await stage.pilot.press("v")
            await until(stage.pilot, lambda: isinstance(stage.app.screen, VotesScreen))
            await stage.sees("1 / 1", "No significant difference", "21% - 100%")

    play(scene)


def test_a_click_votes_and_nobody_being_better_counts_too(workspace: Path) -> None:
    async def scene() -> None:
        async with comparing(BEST) as stage:
            await stage.ask("hen")
            first = stage.screen.query(Pane).first()
            await stage.pilot.click(first, offset=(4, first.size.height + 1))
            await stage.sees("your choice")
            await stage.pilot.press("enter")
            await stage.ask("s")
            await stage.pilot.press("0")
            await stage.sees("none is better")
            kept = votes.read(votes.FOLDER).votes
            assert [vote.winner for vote in kept] == [BEST[0], None]
            assert [vote.blind for vote in kept] == [False, False]

    play(scene)


def test_the_first_esc_stops_and_the_next_leaves(workspace: Path) -> None:
    async def scene() -> None:
        async with comparing(BEST) as stage:
            stage.client.hold = asyncio.Event()
            await stage.pilot.press("x", "enter")
            await until(stage.pilot, lambda: all(a.text for a in stage.round.answers))
            await stage.pilot.press("escape")
            await until(stage.pilot, lambda: stage.client.open == 0)
            await stage.sees("stopped")
            screen = stage.screen
            await stage.pilot.press("escape")
            await until(stage.pilot, lambda: stage.app.screen is not screen)

    play(scene)


def test_a_round_that_is_left_is_found_as_it_was_and_can_still_be_voted_on(
    workspace: Path,
) -> None:
    async def scene() -> None:
        async with comparing(BEST) as stage:
            await stage.ask("hen")
            await stage.pilot.press("enter", *"fox", "escape")
            await until(stage.pilot, lambda: not isinstance(stage.app.screen, CompareScreen))
            stage.app.open_jobs()
            stage.app.open_compare()
            await stage.sees(f"{TWO}/600 answers", "118 tok/s ★", "vote 2", "fox")
            await stage.pilot.press("tab", "2")
            await stage.sees("your choice")
            assert len(stage.client.asked) == 2
            [kept] = votes.read(votes.FOLDER).votes
            assert (kept.prompt, kept.winner) == ("hen", BEST[1])
            await stage.pilot.press("a", "enter")  # the same models: the vote stays given
            await stage.sees("your choice")

    play(scene)


def test_below_another_screen_models_write_on_and_no_second_comparison_is_opened(
    workspace: Path,
) -> None:
    async def scene() -> None:
        async with comparing(BEST) as stage:
            stage.client.hold = asyncio.Event()
            await stage.pilot.press("x", "enter")
            await until(stage.pilot, lambda: all(a.text for a in stage.round.answers))
            first, found = stage.screen, stage.round
            stage.app.open_jobs()
            await until(stage.pilot, lambda: stage.app.screen is not first)
            stage.client.hold.set()
            await until(stage.pilot, lambda: not found.busy)
            stage.app.open_compare([BEST[0], f"{ONE}/200"])
            await stage.sees("118 tok/s", f"{ONE}/200 answers")
            assert stage.app.screen_stack.count(first) == 1
            assert stage.app.screen is first
            assert [ask.model for ask in stage.client.asked] == [*BEST, f"{ONE}/200"]

    play(scene)


def test_a_round_that_is_being_written_is_not_taken_away_by_other_models(workspace: Path) -> None:
    async def scene() -> None:
        async with comparing(BEST) as stage:
            stage.client.hold = asyncio.Event()
            await stage.pilot.press("x", "enter")
            await until(stage.pilot, lambda: all(a.text for a in stage.round.answers))
            stage.app.open_runs()
            stage.app.open_compare([f"{ONE}/200"])
            await until(stage.pilot, lambda: stage.app._notifications)
            assert "still writing" in next(iter(stage.app._notifications)).message
            assert [side.model.id for side in stage.screen.match.sides] == BEST

    play(scene)


def test_settings_saved_elsewhere_hold_here_too_and_what_was_changed_here_stays(
    workspace: Path,
) -> None:
    Path("config.json").write_text('{"inference": {"top_p": 0.5}}')

    async def scene() -> None:
        async with comparing(BEST) as stage:
            assert stage.screen.match.sampling.top_p == 0.5
            await stage.pilot.press("tab", "t", "ctrl+u", "0", "escape")
            await stage.sees("temperature 0 ·", "top-k 50", "top-p 0.5 ")
            await stage.pilot.press("escape")
            await until(stage.pilot, lambda: not isinstance(stage.app.screen, CompareScreen))
            Path("config.json").write_text('{"inference": {"top_k": 7, "temperature": 1.5}}')
            stage.app.open_compare(["gone/step-7"])
            await stage.sees("temperature 0 ·", "top-k 7", "top-p 0.95")
            told = stage.app._notifications
            await until(stage.pilot, lambda: any("gone/step-7" in one.message for one in told))
            await stage.pilot.press("tab", "t")
            shown_there = {
                line.margins.field.path: line.value for line in stage.screen.query(TextLine)
            }
            assert shown_there["inference.top_k"] == "7"
            assert shown_there["inference.temperature"] == "0"

    play(scene)


def test_steps_of_a_run_are_walked_with_one_prompt(workspace: Path) -> None:
    async def scene() -> None:
        async with comparing(BEST[:1]) as stage:
            await stage.ask("hen")
            await stage.pilot.press("left")
            await stage.sees("step 400 · val 3.500", f"{TWO}/400 answers")
            await stage.pilot.press("right")
            await stage.sees("step 600 · val 3.100", f"{TWO}/600 answers")
            assert [ask.model for ask in stage.client.asked] == [f"{TWO}/600", f"{TWO}/400"]
            assert len({ask.sampling for ask in stage.client.asked}) == 1
            await stage.pilot.click(".ruler", offset=(3, 1))  # the first mark
            await stage.sees("step 200 · val 4.000", f"{TWO}/200 answers")

    play(scene)


def test_a_failing_model_says_why_and_a_dead_server_is_started_by_one_key(
    workspace: Path,
) -> None:
    async def scene() -> None:
        async with comparing(BEST) as stage:
            gone = HatcheryError("The connection broke off.", found="closed")
            stage.client.fails[BEST[0]] = gone
            await stage.ask("hen")
            await stage.sees("✕ The connection broke off.", f"{ONE}/600 answers")
            stage.serving.state = "died"
            stage.serving.fault = HatcheryError("The model server has ended.", found="signal 9")
            await stage.sees("The model server has ended.", "r starts it again")
            stage.client.fails.clear()
            await stage.pilot.press("r")
            await stage.sees(f"{TWO}/600 answers", "so their speeds do not compare")
            assert "highest speed" not in shown(stage.app)
            assert stage.serving.starts == 1
            assert len(stage.client.asked) == 3

    play(scene)


def test_models_are_added_and_taken_out_and_answers_stay(workspace: Path) -> None:
    async def scene() -> None:
        async with comparing(BEST) as stage:
            await stage.ask("hen")
            await stage.pilot.press("a")
            await stage.sees("Which models?", "numbers 3,7")
            await stage.pilot.press("3", "comma", "7", "comma", "5", "enter")
            await stage.sees(f"{ONE}/200", f"{TWO}/600", "116 tok/s")
            assert len(stage.client.asked) == 3
            await stage.pilot.press("tab", "delete")
            await until(stage.pilot, lambda: len(stage.screen.query(Pane)) == 2)
            assert [side.model.id for side in stage.screen.match.sides] == [BEST[1], f"{ONE}/200"]

    play(scene)


def test_too_little_memory_is_told_before_anything_is_loaded(workspace: Path) -> None:
    client = FakeClient([Model("big", bytes=1 << 60), Model("small", bytes=1)])

    async def scene() -> None:
        async with comparing(client=client) as stage:
            await stage.pilot.press("a", "l", "l")
            await stage.sees("too much")
            await stage.pilot.press("enter")
            await until(stage.pilot, lambda: isinstance(stage.app.screen, Question))
            await stage.sees("These 2 models need 1048576.0 TiB", "Load (y)")
            await stage.pilot.press("n")
            assert stage.screen.match.sides == []
            await stage.pilot.press("enter")
            await until(stage.pilot, lambda: isinstance(stage.app.screen, Question))
            await stage.pilot.press("y")
            await until(stage.pilot, lambda: len(stage.screen.query(Pane)) == 2)

    play(scene)


def test_a_remote_model_is_added_and_its_key_is_nowhere_on_the_disk(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Endpoint] = []

    def client_for(endpoint: Endpoint) -> FakeClient:
        made.append(endpoint)
        return FakeClient([Model("far")])

    monkeypatch.setattr("app.tui.compare.screen.Client", client_for)

    async def scene() -> None:
        async with comparing() as stage:
            await stage.pilot.press("u", *"nonsense", "enter", "enter", "enter")
            await stage.sees("an address such as")
            await stage.pilot.press(*["backspace"] * 8, *"http://far.example/v1", "enter")
            await stage.pilot.press("enter", *"sesame-open", "enter")
            await stage.sees("far @ far.example", "remote")
            assert "sesame" not in shown(stage.app)
            await stage.pilot.press("9", "comma", "1", "enter")
            await stage.ask("hen")
            await stage.pilot.press("e", "1")
            await stage.sees("your choice")
            await until(stage.pilot, lambda: list(votes.FOLDER.glob("compare_*.md")))

    play(scene)
    assert made == [Endpoint("http://far.example/v1", "sesame-open")]
    written = [path for path in workspace.rglob("*") if path.is_file()]
    assert any(path.suffix == ".md" for path in written)
    assert not [path for path in written if b"sesame" in path.read_bytes()]


def test_settings_hold_for_all_and_prompts_come_back_with_the_arrow(workspace: Path) -> None:
    async def scene() -> None:
        async with comparing(BEST) as stage:
            await stage.ask("hen")
            await stage.pilot.press("t", "0", "down", "down", "down")
            await stage.pilot.press("down", "down", "down", "9", "escape")
            await stage.sees("temperature 0 ·")
            await stage.pilot.press("enter")
            await until(stage.pilot, lambda: stage.screen.query_one(Duel)._prompt.has_focus)
            await stage.pilot.press("ctrl+u", *"fox", "enter")
            await until(stage.pilot, lambda: len(stage.client.asked) == 4)
            await stage.pilot.press("enter")
            await stage.pilot.press("up", "up")
            prompt = stage.screen.query_one(Duel)._prompt
            await until(stage.pilot, lambda: prompt.text.startswith("hen"))
            assert {ask.sampling.temperature for ask in stage.client.asked[2:]} == {0.0}
            assert {ask.sampling.seed for ask in stage.client.asked[2:]} == {9}

    play(scene)


def test_what_a_model_writes_never_reaches_the_terminal_as_commands(workspace: Path) -> None:
    client = FakeClient([Model("a[/b]\x1b[2J"), Model("b\x9b")])
    client.words = {m.id: f" [/x] \x1b]52;c;AAAA\x07 {m.id} \u202e end" for m in client.listed}

    async def scene() -> None:
        async with comparing(client=client) as stage:
            await stage.pilot.press("a", "l", "l", "enter")
            await stage.ask("hen")
            await stage.pilot.press("p", "1")
            await stage.sees("[/x]", "your choice")
            for size in (NARROW, WIDE):
                await stage.pilot.resize_terminal(*size)
                text = shown(stage.app)
                assert not [c for c in text if c in "\x1b\x07\x9b\u202e"]

    play(scene)


async def _choosing(stage: Stage) -> None:
    await stage.pilot.press("3", "comma", "7")
    await stage.sees("2 chosen")


async def _streaming(stage: Stage) -> None:
    stage.client.hold = asyncio.Event()
    stage.screen.match.random.seed(1)
    await stage.pilot.press(*"def_parse", "enter")
    await until(stage.pilot, lambda: all("seed" in a.text for a in stage.round.answers))


async def _voted(stage: Stage) -> None:
    stage.screen.match.random.seed(1)
    await stage.ask("def_parse")
    await stage.pilot.press("p", "2")
    await stage.sees("your choice")


@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("name", ["choosing", "streaming", "voted"])
def test_the_screen_looks_as_it_did(
    workspace: Path, frozen: None, monkeypatch: pytest.MonkeyPatch, name: str, size: tuple[int, int]
) -> None:
    models = [*BEST, f"{ONE}/400"] if name != "choosing" else None

    async def scene() -> None:
        async with comparing(models, size) as stage:
            for one in MODELS:
                stage.client.words[one.id] = f"(self, text, {one.step}): return the seed of it"
            await {"choosing": _choosing, "streaming": _streaming, "voted": _voted}[name](stage)
            await check(stage.pilot, f"compare_{name}")

    play(scene)
