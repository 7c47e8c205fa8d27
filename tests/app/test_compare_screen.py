"""The compare screen, used as a user does, on a server without models."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.client.client import Endpoint, Model
from app.client.responses import RequestRefusedError
from app.tui.app import HatcheryApp
from app.tui.compare.body import CompareBody
from app.tui.compare.pane import Pane
from app.tui.compare.screen import CompareScreen
from app.tui.compare.votes_screen import VotesScreen
from app.tui.forms.field import TextLine
from app.tui.widgets.confirm import ConfirmDialog
from pipeline.evaluation import votes
from tests.support.fake_client import MODELS, ONE, TWO, FakeClient, FakeServerProcess
from tests.support.pilot import NARROW, WIDE, opened, play, shown, until
from tests.support.snapshots import check
from utils.errors import HatcheryError

BEST = [f"{TWO}/600", f"{ONE}/600"]


class ComparePilot:
    """The screen, open, and the server behind it."""

    def __init__(self, app: HatcheryApp, pilot: Any, client: FakeClient) -> None:
        self.app, self.pilot, self.client = app, pilot, client
        self.serving = FakeServerProcess(client)
        app._serving = self.serving  # type: ignore[assignment]

    @property
    def screen(self) -> CompareScreen:
        assert isinstance(self.app.screen, CompareScreen)
        return self.app.screen

    @property
    def round(self) -> Any:
        return self.screen.comparison.round

    async def sees(self, *words: str) -> None:
        try:
            await until(self.pilot, lambda: all(word in shown(self.app) for word in words))
        except TimeoutError:
            pytest.fail(f"{words} not in\n{shown(self.app)}", pytrace=False)

    async def ask(self, prompt: str) -> None:
        """Write a prompt and wait for every answer."""
        await until(self.pilot, lambda: self.screen.query_one(CompareBody)._prompt.has_focus)
        await self.pilot.press(*prompt.replace(" ", "_"), "enter")
        await until(self.pilot, lambda: self.round.asked and not self.round.busy)
        await self.pilot.pause(0.15)


@asynccontextmanager
async def comparing(
    models: list[str] | None = None,
    size: tuple[int, int] = WIDE,
    client: FakeClient | None = None,
) -> AsyncIterator[ComparePilot]:
    """With `models` standing already, or else at the choice."""
    async with opened(size) as (app, pilot):
        compare = ComparePilot(app, pilot, client or FakeClient())
        app.open_compare(models or ())
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await until(pilot, lambda: app.screen.comparison.there)
        if models:
            await until(pilot, lambda: len(app.screen.query(Pane)) == len(models))
        await pilot.pause(0.3)
        yield compare


@pytest.mark.slow
@pytest.mark.parametrize("way", [("3", "comma", "7"), ("3", "minus", "7"), ("a", "l", "l")])
def test_numbers_ranges_and_all_choose_who_answers(workspace: Path, way: tuple[str, ...]) -> None:
    expected = {"comma": [3, 7], "minus": [3, 4, 5, 6, 7], "l": list(range(1, 9))}[way[1]]

    async def scene() -> None:
        async with comparing() as compare:
            await compare.sees("exp2 step 600  ▲ best", "exp1 step 800  ● latest")
            await compare.pilot.press(*way, "enter")
            await until(compare.pilot, lambda: compare.screen.comparison.candidates)
            ids = [candidate.model.id for candidate in compare.screen.comparison.candidates]
            assert ids == [MODELS[number - 1].id for number in expected]

    play(scene)


@pytest.mark.slow
def test_space_and_the_mouse_choose_and_a_wrong_number_is_told(workspace: Path) -> None:
    async def scene() -> None:
        async with comparing() as compare:
            await compare.pilot.press("space", "down", "space")
            await compare.sees("2 chosen · 108.7 MiB of memory", "numbers 1,3")
            await compare.pilot.click("Models", offset=(10, 5))
            await compare.sees("3 chosen", "numbers 1,3,6")
            await compare.pilot.press("9", "enter")
            await compare.sees("9 is not there: the models are 1 to 8")
            assert compare.screen.comparison.candidates == []

    play(scene)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "columns"), [(WIDE, 3), (NARROW, 2), ((200, 60), 4)])
def test_answers_stream_side_by_side_and_the_fastest_is_marked(
    workspace: Path, size: tuple[int, int], columns: int
) -> None:
    models = [*BEST, f"{ONE}/200", f"{ONE}/400"]

    async def scene() -> None:
        async with comparing(models, size) as compare:
            compare.client.hold = asyncio.Event()
            await compare.pilot.press("d", "e", "f", "enter")
            await until(compare.pilot, lambda: all(a.text for a in compare.round.answers))
            await compare.sees("writing …", "They share this machine")
            compare.client.hold.set()
            await compare.sees("118 tok/s ★", "highest speed exp2 step 600")
            panes = [pane for pane in compare.screen.query(Pane) if pane.display]
            assert len(panes) == columns
            assert ("‹ 1/2 ›" in shown(compare.app)) == (columns < 4)
            seeds = {ask.sampling.seed for ask in compare.client.requests}
            assert len(seeds) == 1
            assert {ask.prompt for ask in compare.client.requests} == {"def"}
            assert set(compare.client.loads) == set(models)

    play(scene)


@pytest.mark.slow
def test_tab_and_clicks_reach_the_panes_of_every_page(workspace: Path) -> None:
    models = [*BEST, f"{ONE}/200", f"{ONE}/400"]

    async def scene() -> None:
        async with comparing(models, NARROW) as compare:
            body = compare.screen.query_one(CompareBody)
            for place in (0, 1, 2, 3):
                await compare.pilot.press("tab")
                await until(compare.pilot, lambda p=place: body._panes_view.current == p)
            await compare.sees("‹ 2/2 ›", "exp1 step 400")
            await compare.pilot.press("tab")
            await until(compare.pilot, lambda: body._prompt.has_focus)
            await compare.pilot.click("Pages", offset=(1, 0))
            await compare.sees("‹ 1/2 ›", "exp2 step 600")

    play(scene)


@pytest.mark.slow
def test_a_blind_vote_hides_names_and_speeds_until_it_is_given_and_is_kept(
    workspace: Path,
) -> None:
    async def scene() -> None:
        async with comparing(BEST) as compare:
            compare.client.words |= {BEST[0]: " one two", BEST[1]: " red blue"}
            await compare.pilot.press("tab")
            await until(
                compare.pilot, lambda: not compare.screen.query_one(CompareBody)._prompt.has_focus
            )
            await compare.pilot.press("b")
            await compare.ask("hen")
            assert "exp" not in shown(compare.app)
            assert "tok/s" not in shown(compare.app)
            await compare.sees("1 A", "2 B", "after your vote")
            second = compare.round.answers[1].candidate.name
            await compare.pilot.press("2")
            await compare.sees("your choice", "exp1 step 600", "exp2 step 600", "tok/s")
            await compare.pilot.press("1")  # one vote for each prompt
            [kept] = votes.read(votes.FOLDER).votes
            assert (kept.winner, kept.blind, kept.prompt) == (second, True, "hen")
            assert set(kept.models) == set(BEST)
            assert votes.text_hash(compare.round.answers[0].text) == kept.texts[0]
            assert kept.answers[0] == compare.round.answers[0].text
            assert kept.seed == compare.client.requests[0].sampling.seed
            await compare.pilot.press("v")
            await until(compare.pilot, lambda: isinstance(compare.app.screen, VotesScreen))
            await compare.sees("1 / 1", "No significant difference", "21% - 100%")

    play(scene)


@pytest.mark.slow
def test_a_click_votes_and_nobody_being_better_counts_too(workspace: Path) -> None:
    async def scene() -> None:
        async with comparing(BEST) as compare:
            await compare.ask("hen")
            first = compare.screen.query(Pane).first()
            await compare.pilot.click(first, offset=(4, first.size.height + 1))
            await compare.sees("your choice")
            await compare.pilot.press("enter")
            await compare.ask("s")
            await compare.pilot.press("0")
            await compare.sees("none is better")
            kept = votes.read(votes.FOLDER).votes
            assert [vote.winner for vote in kept] == [BEST[0], None]
            assert [vote.blind for vote in kept] == [False, False]

    play(scene)


@pytest.mark.slow
def test_the_first_esc_stops_and_the_next_leaves(workspace: Path) -> None:
    async def scene() -> None:
        async with comparing(BEST) as compare:
            compare.client.hold = asyncio.Event()
            await compare.pilot.press("x", "enter")
            await until(compare.pilot, lambda: all(a.text for a in compare.round.answers))
            await compare.pilot.press("escape")
            await until(compare.pilot, lambda: compare.client.open == 0)
            await compare.sees("stopped")
            screen = compare.screen
            await compare.pilot.press("escape")
            await until(compare.pilot, lambda: compare.app.screen is not screen)

    play(scene)


@pytest.mark.slow
def test_a_round_that_is_left_is_found_as_it_was_and_can_still_be_voted_on(
    workspace: Path,
) -> None:
    async def scene() -> None:
        async with comparing(BEST) as compare:
            await compare.ask("hen")
            await compare.pilot.press("enter", *"fox", "escape")
            await until(compare.pilot, lambda: not isinstance(compare.app.screen, CompareScreen))
            compare.app.open_jobs()
            compare.app.open_compare()
            await compare.sees(f"{TWO}/600 answers", "118 tok/s ★", "vote 2", "fox")
            await compare.pilot.press("tab", "2")
            await compare.sees("your choice")
            assert len(compare.client.requests) == 2
            [kept] = votes.read(votes.FOLDER).votes
            assert (kept.prompt, kept.winner) == ("hen", BEST[1])
            await compare.pilot.press("a", "enter")  # the same models: the vote stays given
            await compare.sees("your choice")

    play(scene)


@pytest.mark.slow
def test_below_another_screen_models_write_on_and_no_second_comparison_is_opened(
    workspace: Path,
) -> None:
    async def scene() -> None:
        async with comparing(BEST) as compare:
            compare.client.hold = asyncio.Event()
            await compare.pilot.press("x", "enter")
            await until(compare.pilot, lambda: all(a.text for a in compare.round.answers))
            first, found = compare.screen, compare.round
            compare.app.open_jobs()
            await until(compare.pilot, lambda: compare.app.screen is not first)
            compare.client.hold.set()
            await until(compare.pilot, lambda: not found.busy)
            compare.app.open_compare([BEST[0], f"{ONE}/200"])
            await compare.sees("118 tok/s", f"{ONE}/200 answers")
            assert compare.app.screen_stack.count(first) == 1
            assert compare.app.screen is first
            assert [ask.model for ask in compare.client.requests] == [*BEST, f"{ONE}/200"]

    play(scene)


@pytest.mark.slow
def test_a_round_that_is_being_written_is_not_taken_away_by_other_models(workspace: Path) -> None:
    async def scene() -> None:
        async with comparing(BEST) as compare:
            compare.client.hold = asyncio.Event()
            await compare.pilot.press("x", "enter")
            await until(compare.pilot, lambda: all(a.text for a in compare.round.answers))
            compare.app.open_runs()
            compare.app.open_compare([f"{ONE}/200"])
            await until(compare.pilot, lambda: compare.app._notifications)
            assert "still writing" in next(iter(compare.app._notifications)).message
            assert [
                candidate.model.id for candidate in compare.screen.comparison.candidates
            ] == BEST

    play(scene)


@pytest.mark.slow
def test_settings_saved_elsewhere_hold_here_too_and_what_was_changed_here_stays(
    workspace: Path,
) -> None:
    Path("config.json").write_text('{"inference": {"top_p": 0.5}}')

    async def scene() -> None:
        async with comparing(BEST) as compare:
            assert compare.screen.comparison.sampling.top_p == 0.5
            await compare.pilot.press("tab", "t", "ctrl+u", "0", "escape")
            await compare.sees("temperature 0 ·", "top-k 50", "top-p 0.5 ")
            await compare.pilot.press("escape")
            await until(compare.pilot, lambda: not isinstance(compare.app.screen, CompareScreen))
            Path("config.json").write_text('{"inference": {"top_k": 7, "temperature": 1.5}}')
            compare.app.open_compare(["gone/step-7"])
            await compare.sees("temperature 0 ·", "top-k 7", "top-p 0.95")
            told = compare.app._notifications
            await until(compare.pilot, lambda: any("gone/step-7" in one.message for one in told))
            await compare.pilot.press("tab", "t")
            shown_there = {
                line.margins.field.path: line.value for line in compare.screen.query(TextLine)
            }
            assert shown_there["inference.top_k"] == "7"
            assert shown_there["inference.temperature"] == "0"

    play(scene)


@pytest.mark.slow
def test_steps_of_a_run_are_walked_with_one_prompt(workspace: Path) -> None:
    async def scene() -> None:
        async with comparing(BEST[:1]) as compare:
            await compare.ask("hen")
            await compare.pilot.press("left")
            await compare.sees("step 400 · val 3.500", f"{TWO}/400 answers")
            await compare.pilot.press("right")
            await compare.sees("step 600 · val 3.100", f"{TWO}/600 answers")
            assert [ask.model for ask in compare.client.requests] == [f"{TWO}/600", f"{TWO}/400"]
            assert len({ask.sampling for ask in compare.client.requests}) == 1
            await compare.pilot.click(".ruler", offset=(3, 1))  # the first mark
            await compare.sees("step 200 · val 4.000", f"{TWO}/200 answers")

    play(scene)


@pytest.mark.slow
def test_a_failing_model_says_why_and_a_dead_server_is_started_by_one_key(
    workspace: Path,
) -> None:
    async def scene() -> None:
        async with comparing(BEST) as compare:
            gone = HatcheryError("The connection broke off.", found="closed")
            compare.client.fails[BEST[0]] = gone
            await compare.ask("hen")
            await compare.sees("✕ The connection broke off.", f"{ONE}/600 answers")
            compare.serving.state = "died"
            compare.serving.fault = HatcheryError("The model server has ended.", found="signal 9")
            await compare.sees("The model server has ended.", "r starts it again")
            compare.client.fails.clear()
            await compare.pilot.press("r")
            await compare.sees(f"{TWO}/600 answers", "so their speeds do not compare")
            assert "highest speed" not in shown(compare.app)
            assert compare.serving.starts == 1
            assert len(compare.client.requests) == 3

    play(scene)


@pytest.mark.slow
def test_models_are_added_and_taken_out_and_answers_stay(workspace: Path) -> None:
    async def scene() -> None:
        async with comparing(BEST) as compare:
            await compare.ask("hen")
            await compare.pilot.press("a")
            await compare.sees("Which models?", "numbers 3,7")
            await compare.pilot.press("3", "comma", "7", "comma", "5", "enter")
            await compare.sees(f"{ONE}/200", f"{TWO}/600", "116 tok/s")
            assert len(compare.client.requests) == 3
            await compare.pilot.press("tab", "delete")
            await until(compare.pilot, lambda: len(compare.screen.query(Pane)) == 2)
            assert [candidate.model.id for candidate in compare.screen.comparison.candidates] == [
                BEST[1],
                f"{ONE}/200",
            ]

    play(scene)


@pytest.mark.slow
def test_too_little_memory_is_told_before_anything_is_loaded(workspace: Path) -> None:
    client = FakeClient([Model("big", bytes=1 << 60), Model("small", bytes=1)])

    async def scene() -> None:
        async with comparing(client=client) as compare:
            await compare.pilot.press("a", "l", "l")
            await compare.sees("too much")
            await compare.pilot.press("enter")
            await until(compare.pilot, lambda: isinstance(compare.app.screen, ConfirmDialog))
            await compare.sees("These 2 models need 1048576.0 TiB", "Load (y)")
            await compare.pilot.press("n")
            assert compare.screen.comparison.candidates == []
            await compare.pilot.press("enter")
            await until(compare.pilot, lambda: isinstance(compare.app.screen, ConfirmDialog))
            await compare.pilot.press("y")
            await until(compare.pilot, lambda: len(compare.screen.query(Pane)) == 2)

    play(scene)


@pytest.mark.slow
def test_a_remote_model_is_added_and_its_key_is_nowhere_on_the_disk(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Endpoint] = []

    def client_for(endpoint: Endpoint) -> FakeClient:
        made.append(endpoint)
        return FakeClient([Model("far")])

    monkeypatch.setattr("app.tui.compare.screen.Client", client_for)

    async def scene() -> None:
        async with comparing() as compare:
            await compare.pilot.press("u", *"nonsense", "enter", "enter", "enter")
            await compare.sees("an address such as")
            await compare.pilot.press(*["backspace"] * 8, *"http://far.example/v1", "enter")
            await compare.pilot.press("enter", *"sesame-open", "enter")
            await compare.sees("far @ far.example", "remote")
            assert "sesame" not in shown(compare.app)
            await compare.pilot.press("9", "comma", "1", "enter")
            await compare.ask("hen")
            await compare.pilot.press("e", "1")
            await compare.sees("your choice")
            await until(compare.pilot, lambda: list(votes.FOLDER.glob("compare_*.md")))

    play(scene)
    assert made == [Endpoint("http://far.example/v1", "sesame-open")]
    written = [path for path in workspace.rglob("*") if path.is_file()]
    assert any(path.suffix == ".md" for path in written)
    assert not [path for path in written if b"sesame" in path.read_bytes()]


@pytest.mark.slow
def test_settings_hold_for_all_and_prompts_come_back_with_the_arrow(workspace: Path) -> None:
    async def scene() -> None:
        async with comparing(BEST) as compare:
            await compare.ask("hen")
            await compare.pilot.press("t", "0", "down", "down", "down")
            await compare.pilot.press("down", "down", "down", "9", "escape")
            await compare.sees("temperature 0 ·")
            await compare.pilot.press("enter")
            await until(
                compare.pilot, lambda: compare.screen.query_one(CompareBody)._prompt.has_focus
            )
            await compare.pilot.press("ctrl+u", *"fox", "enter")
            await until(compare.pilot, lambda: len(compare.client.requests) == 4)
            await compare.pilot.press("enter")
            await compare.pilot.press("up", "up")
            prompt = compare.screen.query_one(CompareBody)._prompt
            await until(compare.pilot, lambda: prompt.text.startswith("hen"))
            assert {ask.sampling.temperature for ask in compare.client.requests[2:]} == {0.0}
            assert {ask.sampling.seed for ask in compare.client.requests[2:]} == {9}

    play(scene)


@pytest.mark.slow
def test_what_a_model_writes_never_reaches_the_terminal_as_commands(workspace: Path) -> None:
    client = FakeClient([Model("a[/b]\x1b[2J"), Model("b\x9b")])
    client.words = {m.id: f" [/x] \x1b]52;c;AAAA\x07 {m.id} \u202e end" for m in client.listed}

    async def scene() -> None:
        async with comparing(client=client) as compare:
            await compare.pilot.press("a", "l", "l", "enter")
            await compare.ask("hen")
            await compare.pilot.press("p", "1")
            await compare.sees("[/x]", "your choice")
            for size in (NARROW, WIDE):
                await compare.pilot.resize_terminal(*size)
                text = shown(compare.app)
                assert not [c for c in text if c in "\x1b\x07\x9b\u202e"]

    play(scene)


async def _picking(compare: ComparePilot) -> None:
    await compare.pilot.press("3", "comma", "7")
    await compare.sees("2 chosen")


async def _streaming(compare: ComparePilot) -> None:
    compare.client.hold = asyncio.Event()
    compare.screen.comparison.random.seed(1)
    await compare.pilot.press(*"def_parse", "enter")
    await until(compare.pilot, lambda: all("seed" in a.text for a in compare.round.answers))


async def _voted(compare: ComparePilot) -> None:
    compare.screen.comparison.random.seed(1)
    await compare.ask("def_parse")
    await compare.pilot.press("p", "2")
    await compare.sees("your choice")


@pytest.mark.slow
@pytest.mark.parametrize("size", [WIDE, NARROW])
@pytest.mark.parametrize("name", ["choosing", "streaming", "voted"])
def test_the_screen_looks_as_it_did(
    workspace: Path, frozen: None, monkeypatch: pytest.MonkeyPatch, name: str, size: tuple[int, int]
) -> None:
    models = [*BEST, f"{ONE}/400"] if name != "choosing" else None

    async def scene() -> None:
        async with comparing(models, size) as compare:
            for one in MODELS:
                compare.client.words[one.id] = f"(self, text, {one.step}): return the seed of it"
            await {"choosing": _picking, "streaming": _streaming, "voted": _voted}[name](compare)
            await check(compare.pilot, f"compare_{name}")

    play(scene)


@asynccontextmanager
async def starting(models: list[str] | None = None) -> AsyncIterator[ComparePilot]:
    """While the model server starts."""
    async with opened() as (app, pilot):
        compare = ComparePilot(app, pilot, FakeClient(reachable=False))
        app.open_compare(models or ())
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await compare.sees("starting the model server")
        await until(pilot, lambda: compare.screen.query_one(CompareBody)._prompt.has_focus)
        yield compare


@pytest.mark.slow
def test_a_prompt_sent_while_the_server_starts_is_put_to_those_who_are_chosen(
    workspace: Path,
) -> None:
    async def scene() -> None:
        async with starting() as compare:
            await compare.pilot.press("d", "e", "f", "enter")
            await compare.sees("then your prompt is sent", "def")
            compare.client.reachable.set()
            await compare.sees("numbers 1,3")  # the choice
            assert compare.client.requests == []
            await compare.pilot.press("1", "comma", "3", "enter")
            await until(compare.pilot, lambda: len(compare.client.requests) == 2)
            assert {one.prompt for one in compare.client.requests} == {"def"}

    play(scene)


@pytest.mark.slow
def test_a_prompt_sent_while_the_server_starts_is_put_to_those_who_were_asked_for(
    workspace: Path,
) -> None:
    async def scene() -> None:
        async with starting(BEST) as compare:
            await compare.pilot.press("d", "e", "f", "enter")
            compare.client.reachable.set()
            await until(compare.pilot, lambda: len(compare.client.requests) == 2)
            assert {one.prompt for one in compare.client.requests} == {"def"}

    play(scene)


@pytest.mark.slow
def test_the_choice_does_not_come_between_while_a_prompt_is_written(workspace: Path) -> None:
    async def scene() -> None:
        async with starting() as compare:
            await compare.pilot.press("d", "e")
            compare.client.reachable.set()
            await compare.sees("8 models are there: Enter chooses")
            await compare.pilot.press("f", "1")
            assert compare.screen.query_one(CompareBody)._prompt.text == "def1"
            await compare.pilot.press("enter")
            await compare.sees("numbers 1,3")
            await compare.pilot.press("2", "enter")
            await until(compare.pilot, lambda: len(compare.client.requests) == 1)
            assert compare.client.requests[0].prompt == "def1"

    play(scene)


@pytest.mark.slow
def test_without_a_word_the_choice_comes_as_soon_as_it_can(workspace: Path) -> None:
    async def scene() -> None:
        async with starting() as compare:
            compare.client.reachable.set()
            await compare.sees("numbers 1,3")
            await compare.pilot.press("2", "enter")
            await until(compare.pilot, lambda: compare.screen.comparison.candidates)
            assert compare.client.requests == []

    play(scene)


@pytest.mark.slow
def test_what_was_refused_is_not_asked_again_by_a_key(workspace: Path) -> None:
    async def scene() -> None:
        async with comparing(BEST) as compare:
            compare.client.fails[BEST[0]] = RequestRefusedError("It is too long.")
            await compare.ask("def")
            await compare.sees("It is too long.")
            assert "r Again" not in shown(compare.app)
            assert compare.screen.query_one(CompareBody)._prompt.text == "def"
            compare.client.fails[BEST[0]] = HatcheryError("Memory is used up.")
            await compare.pilot.press("enter")
            await compare.ask("more")
            await compare.sees("Memory is used up.", "r Again")

    play(scene)
