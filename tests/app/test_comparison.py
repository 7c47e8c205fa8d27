"""Comparing models, without a screen and without a server."""

import asyncio
import re
from dataclasses import replace
from random import Random

import pytest

from app.client.client import Model, Piece, Sampling
from app.tui.compare.comparison import Comparison, answer_all
from app.tui.compare.round import Answer, Round, letter, new_round, shuffled, summary
from app.tui.compare.selection import Candidate, labels, matching, memory, selected, shortage
from app.tui.compare.transcript import transcript
from app.tui.compare.wording import footnote, ruler, ruler_step, sampling_line, title
from tests.support.fake_client import MODELS, ONE, TWO, FakeClient, model
from utils.errors import HatcheryError

THERE = [Candidate(one) for one in MODELS]
SEEDED = Sampling(seed=7)


def finished(candidate: Candidate, text: str = "done", **figures: float) -> Answer:
    answer = Answer(candidate)
    answer.take(Piece(text))
    answer.take(Piece("", finish="stop", figures=figures))
    answer.end("done")
    return answer


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("1,3,5", [0, 2, 4]),
        ("5 1", [4, 0]),
        ("2-4,3", [1, 2, 3]),
        ("ALL", [0, 1, 2, 3, 4, 5]),
        (" 6, ", [5]),
        ("", []),
    ],
)
def test_models_are_chosen_by_numbers_in_the_order_given(text: str, places: list[int]) -> None:
    assert selected(text, 6) == places


@pytest.mark.parametrize("text", ["7", "0", "4-2", "1,x", "-1", "3-", "1;2", "²", "9" * 5000])
def test_a_choice_that_means_nothing_is_refused_with_what_is_needed(text: str) -> None:
    with pytest.raises(ValueError, match=r"1 to 6|1,3,5"):
        selected(text, 6)


def test_names_are_short_unless_two_models_would_share_one() -> None:
    again = Candidate(model("run_2026_11_22_10_00_exp1", 600, 3.0))
    assert labels([THERE[2], THERE[6]]) == ["exp2 step 600", "exp1 step 600"]
    assert labels([THERE[6], again]) == [f"{ONE}/600", again.model.id]
    remote = Candidate(Model("gpt"), "https://user:secret@example.org:8000")
    assert remote.short == remote.name == "gpt @ example.org"


def test_ids_runs_and_folders_find_the_model_they_mean() -> None:
    names = [f"{ONE}/200", TWO, f"checkpoints/{ONE}/checkpoint_step_000400", "gone", TWO]
    found = [one.model.id for one in matching(names, THERE)]
    assert found == [f"{ONE}/200", f"{TWO}/600", f"{ONE}/400"]


def test_memory_counts_what_is_not_loaded_yet_and_warns_only_when_it_is_short() -> None:
    loaded = Candidate(replace(MODELS[0], loaded=True))
    remote = Candidate(MODELS[1], "http://there")
    chosen = [loaded, remote, THERE[2], THERE[3]]
    assert memory(chosen) == 2 * 57_000_000
    assert shortage(chosen, 114_000_000) == shortage(chosen, None) == ""
    assert "need 108.7 MiB" in shortage(chosen, 113_999_999)


def test_the_order_of_a_blind_round_depends_on_the_seed_alone() -> None:
    orders = {tuple(c.model.id for c in shuffled(THERE, seed)) for seed in range(20)}
    assert len(orders) > 15
    assert shuffled(THERE, 3) == shuffled(THERE, 3)
    assert sorted(c.name for c in shuffled(THERE, 3)) == sorted(c.name for c in THERE)
    assert [letter(place) for place in (0, 25, 26)] == ["A", "Z", "A2"]


def test_nothing_tells_the_models_of_a_blind_round_before_the_vote() -> None:
    found = new_round(THERE[:3], "x", SEEDED, chat=False, blind=True, random=Random(1))
    found.answers = [finished(a.candidate, tokens_per_second=9.0) for a in found.answers]
    told = transcript(found, "now") + "".join(title(found, n, "A").plain for n in range(3))
    assert found.names() == ["A", "B", "C"]
    assert not re.search(r"exp|best|latest|tokens/s", told)
    winner = found.answers[1]
    found.decide(winner)
    assert winner.candidate.name in transcript(found, "now")


def test_all_are_asked_with_one_seed_and_without_one_it_is_drawn() -> None:
    fixed = new_round(THERE[:2], "x", SEEDED, chat=False, blind=False, random=Random(1))
    assert {fixed.ask(a.candidate).sampling.seed for a in fixed.answers} == {7}
    drawn = new_round(THERE[:2], "x", Sampling(), chat=True, blind=False, random=Random(1))
    [seed] = {drawn.ask(a.candidate).sampling.seed for a in drawn.answers}
    assert seed
    assert drawn.ask(THERE[0]).messages == ({"role": "user", "content": "x"},)


def test_the_summary_names_only_those_who_stand_alone() -> None:
    one = finished(THERE[0], seconds=1, new_tokens=9, tokens_per_second=9)
    two = finished(THERE[1], seconds=2, new_tokens=9, tokens_per_second=4.5)
    failed = Answer(THERE[2], figures={"tokens_per_second": 99.0}, state="failed")
    assert summary([one, two, failed]) == (one, None, one)
    assert summary([one, failed]) == (None, None, None)


def test_speeds_compare_only_between_those_that_wrote_at_the_same_time() -> None:
    one = finished(THERE[0], seconds=1, new_tokens=9, tokens_per_second=9)
    alone = finished(THERE[1], seconds=0.2, new_tokens=8, tokens_per_second=40)
    assert summary([one, alone]).fastest is alone
    one.concurrent = 1
    assert summary([one, alone]) == (None, one, None)
    found = Round([one, alone], "a", asked=True)
    assert "speeds do not compare" in footnote(found).plain
    alone.concurrent = 1
    assert "alone, each is faster" in footnote(found).plain


def test_a_transcript_holds_everything_and_no_text_breaks_out_of_it() -> None:
    found = Round([], "say\n```\nthis", sampling=SEEDED, asked=True)
    found.answers = [
        finished(THERE[0], "````\n# not a heading", seconds=1.0, new_tokens=3),
        Answer(THERE[4], text="half"),
    ]
    found.answers[1].end("failed", HatcheryError("It broke.", found="a hole", remedy="mend it"))
    text = transcript(found, "2026-11-21 12:00")
    for part in ("seed: 7", "temperature: 0.8", "half", "It broke.", "a hole", "3 tokens, 1.00 s"):
        assert part in text
    outside = re.sub(r"^(`{3,})text\n.*?\n\1$", "", text, flags=re.M | re.S)
    assert "not a heading" not in outside
    assert re.findall(r"^## .*", outside, re.M) == [
        "## Prompt",
        "## exp2 step 200",
        "## exp1 step 200",
    ]


def test_walking_through_steps_asks_each_once_and_keeps_the_answer() -> None:
    comparison = Comparison(SEEDED, Random(1))
    comparison.listed(MODELS)
    comparison.choose([THERE[6]])
    assert comparison.begin("x").answers[0].state == "waiting"
    comparison.round.answers[0].end("done")
    first = comparison.round.answers[0]
    other = comparison.show_step(0, 1)
    assert other is not None
    assert (other.candidate.model.step, other.state) == (400, "waiting")
    other.end("done")
    assert comparison.show_step(0, 2) is first
    assert comparison.show_step(0, 1) is other
    assert comparison.candidates == [THERE[5]]
    assert comparison.show_step(0, 4) is None  # there is none beyond the last
    comparison.sampling = replace(SEEDED, seed=8)
    comparison.begin("x")
    changed = comparison.show_step(0, 2)
    assert changed is not first
    assert changed is not None
    assert changed.state == "waiting"


def test_a_model_that_comes_later_answers_the_same_prompt_and_the_others_stay() -> None:
    comparison = Comparison(SEEDED, Random(1))
    comparison.listed(MODELS)
    comparison.choose(THERE[:2])
    for answer in comparison.begin("x").answers:
        answer.end("done")
    before = list(comparison.round.answers)
    [new] = comparison.choose(THERE[:3])
    assert comparison.round.answers == [*before, new]
    assert comparison.round.ask(new.candidate).sampling.seed == 7
    comparison.remove(0)
    assert comparison.candidates == THERE[1:3]


def test_turning_blind_clears_what_was_seen_with_names() -> None:
    comparison = Comparison(SEEDED, Random(1))
    comparison.listed(MODELS)
    comparison.choose(THERE[:2])
    comparison.begin("x").answers[0].take(Piece("seen"))
    comparison.toggle_blind()
    assert [answer.text for answer in comparison.round.answers] == ["", ""]
    assert comparison.round.names() == ["A", "B"]
    comparison.toggle_blind()
    assert comparison.round.names() == ["exp2 step 200", "exp2 step 400"]


def test_a_model_that_cannot_be_loaded_or_breaks_leaves_the_others_alone() -> None:
    client = FakeClient()
    client.load_fails[MODELS[0].id] = HatcheryError("Too large.")
    client.fails[MODELS[1].id] = HatcheryError("Out of memory.")
    found = new_round(THERE[:3], "x", SEEDED, chat=False, blind=False, random=Random(1))

    async def connect(where: str) -> FakeClient:
        return client

    asyncio.run(answer_all(found, found.answers, connect))  # type: ignore[arg-type]
    assert [answer.state for answer in found.answers] == ["failed", "failed", "done"]
    assert [ask.model for ask in client.requests] == [MODELS[1].id, MODELS[2].id]
    assert found.answers[1].text  # what it wrote before stays
    assert [a.candidate for a in found.eligible] == [THERE[2]]
    assert not found.votable


def test_stopping_ends_every_request_and_says_so() -> None:
    client = FakeClient()
    found = new_round(THERE[:2], "x", SEEDED, chat=False, blind=False, random=Random(1))

    async def connect(where: str) -> FakeClient:
        return client

    async def scene() -> None:
        client.hold = asyncio.Event()
        task = asyncio.create_task(answer_all(found, found.answers, connect))  # type: ignore[arg-type]
        while not all(answer.text.endswith("seed") for answer in found.answers):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
    assert client.open == 0
    assert [answer.state for answer in found.answers] == ["stopped", "stopped"]
    assert found.votable


@pytest.mark.parametrize("width", [34, 60, 116])
@pytest.mark.parametrize("count", [2, 4, 300])
def test_every_mark_of_a_ruler_is_where_a_click_finds_it(count: int, width: int) -> None:
    course = [Candidate(model(ONE, 10 * n, 3.0)) for n in range(1, count + 1)]
    for place in {0, count // 2, count - 1}:
        line = ruler(course, course[place], width).plain
        assert len(line) <= width
        assert ruler_step(count, place, width, line.index("◆")) == place
        assert f"step {course[place].model.step:,}" in line


def test_the_settings_line_says_what_differs_from_plain_sampling() -> None:
    line = sampling_line(replace(SEEDED, min_p=0.1), chat=True, short=False).plain
    assert line == (
        "t chat · temperature 0.8 · top-k 50 · top-p 0.95 · min-p 0.1 · seed 7 · 200 tokens"
    )
