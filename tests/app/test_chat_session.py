"""Conversations without a screen: branches, rows, tokens, what is kept and what is asked."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from app.client.client import Model, Piece, Sampling
from app.tui.chat.connection import choose, default_mode
from app.tui.chat.conversation import (
    FAILED,
    STOPPED,
    WITHDRAWN,
    Conversation,
    StreamedAnswer,
    Turn,
    request_for,
)
from app.tui.chat.layout import ConversationLayout, WrappedText
from app.tui.chat.session import ChatSession
from app.tui.chat.storage import ChatStore, as_markdown
from app.tui.chat.wording import SHADES, figures_line, sampling_line
from app.tui.widgets.token_colours import CLASSES, Spans, percent, shade
from pipeline.runs.folders import short_name
from utils.errors import HatcheryError, UsageError

SAMPLING = Sampling(seed=7)


def session_in(folder: Path) -> ChatSession:
    return ChatSession(ChatStore(folder), _fail)


def _fail(error: HatcheryError) -> None:
    raise AssertionError(error)


def answer(
    session: ChatSession, current: StreamedAnswer, text: str, finish: str = "length"
) -> None:
    """Let an answer come to its end."""
    current.take(Piece(text, ((text, -1.0),)))
    current.take(Piece("", finish=finish, figures={"new_tokens": 1.0}))
    session.end(current, STOPPED)


def texts(session: ChatSession) -> list[str]:
    return [turn.text for turn in session.conversation.path]


# What is asked.


def test_a_document_is_continued_from_its_own_beginning_only(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    answer(session, session.send("Once", "m", SAMPLING), " upon")
    answer(session, session.send("A hen", "m", SAMPLING), " lays")
    more = session.more("m", SAMPLING)
    assert (more.request.prompt, more.request.messages) == ("A hen lays", None)
    answer(session, more, " eggs")
    assert [block.text for block in session.conversation.blocks] == ["Once upon", "A hen lays eggs"]
    assert [block.given for block in session.conversation.blocks] == [4, 10]


def test_a_chat_sends_every_message_of_the_shown_path(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    answer(session, session.send("not part of it", "m", SAMPLING), " ...")
    session.mode = "chat"
    answer(session, session.send("Hello", "m", SAMPLING), "Hi")
    asked = session.send("How are you?", "m", SAMPLING).request
    assert asked.messages == (
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": "How are you?"},
    )


def test_nothing_begins_a_document_and_is_no_message(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    assert session.send("", "m", SAMPLING).request.prompt == ""
    session = session_in(tmp_path)
    session.mode = "chat"
    with pytest.raises(UsageError, match="message"):
        session.send(" \n", "m", SAMPLING)
    with pytest.raises(UsageError, match="text"):
        session.more("m", SAMPLING)
    assert session.conversation.turns == {}


def test_a_seed_is_kept_unless_another_answer_is_wanted(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    answer(session, session.send("a", "m", SAMPLING), "1")
    assert session.conversation.path[-1].sampling["seed"] == 7
    again = session.again(session.conversation.blocks[-1], "m", SAMPLING)
    assert again.request.sampling.seed is not None
    assert again.request.sampling == replace(SAMPLING, seed=again.request.sampling.seed)


# Branches.


def test_another_answer_keeps_the_one_before_and_both_can_be_shown(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    answer(session, session.send("a", "m", SAMPLING), "1")
    answer(session, session.again(session.conversation.blocks[-1], "m", SAMPLING), "2")
    (block,) = session.conversation.blocks
    assert (block.text, block.variant, block.variants) == ("a2", 2, 2)
    session.switch(block, -1)
    assert texts(session) == ["a", "1"]
    session.switch(session.conversation.blocks[-1], -1)
    assert texts(session) == ["a", "2"]


def test_an_edited_message_begins_a_branch_and_the_old_one_keeps_what_followed(
    tmp_path: Path,
) -> None:
    session = session_in(tmp_path)
    session.mode = "chat"
    answer(session, session.send("Hello", "m", SAMPLING), "Hi")
    answer(session, session.send("Bye", "m", SAMPLING), "So long")
    assert session.edit(session.conversation.blocks[1]) == "Hello"  # of an answer, the question
    answer(session, session.send("Good day", "m", SAMPLING), "And to you")
    assert texts(session) == ["Good day", "And to you"]
    first = session.conversation.blocks[0]
    assert (first.variant, first.variants) == (2, 2)
    session.switch(first, -1)
    assert texts(session) == ["Hello", "Hi", "Bye", "So long"]


def test_an_answer_that_is_stopped_keeps_what_had_come(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    current = session.send("a", "m", SAMPLING)
    current.take(Piece("half", (("half", -1.0),)))
    session.end(current, STOPPED)
    turn = session.conversation.path[-1]
    assert (turn.text, turn.finish, turn.figures) == ("half", STOPPED, {"new_tokens": 1.0})


def test_an_answer_that_never_began_leaves_only_the_question(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    session.end(session.send("a", "m", SAMPLING), FAILED)
    assert texts(session) == ["a"]
    answer(session, session.again(session.conversation.blocks[-1], "m", SAMPLING), "1")
    assert texts(session) == ["a", "1"]


# What is kept.


def test_a_conversation_comes_back_from_the_disk_with_all_its_branches(tmp_path: Path) -> None:
    session = session_in(tmp_path)
    answer(session, session.send("Once upon\na time \u202e", "first", SAMPLING), "1")
    answer(session, session.again(session.conversation.blocks[-1], "first", SAMPLING), "2")
    session.store.append(
        session.name, session.conversation.path[-1]
    ).result()  # all before it are written too
    (kept,) = session.store.recent()
    assert (kept.name, kept.title, kept.model) == (session.name, "Once upon a time \u202e", "first")
    back = session.store.load(session.name)
    assert back.turns == session.conversation.turns
    assert back.path == session.conversation.path


def test_torn_and_foreign_lines_of_a_conversation_are_left_out(tmp_path: Path) -> None:
    store = ChatStore(tmp_path)
    name = store.new_name()
    store.append(name, Turn(1, None, "user", "a", "chat")).result()
    store.append(name, Turn(3, 2, "user", "its parent is lost", "chat")).result()
    path = tmp_path / "chats" / f"{name}.jsonl"
    lines = [b"[" * 10_000, b'{"id": "x"}', b"\xff", *path.read_bytes().splitlines(), b'{"id": 9,']
    path.write_bytes(b"\n".join(lines))
    conversation = store.load(name)
    assert [turn.id for turn in conversation.turns.values()] == [1, 3]
    assert [turn.id for turn in conversation.path] == [3]
    assert store.load("2026_01_01_00_00_00-aaaa").path == []


def test_a_conversation_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    (tmp_path / "chats").write_text("a file where the folder should be")
    told: list[HatcheryError] = []
    session = ChatSession(ChatStore(tmp_path), told.append)
    answer(session, session.send("a", "m", SAMPLING), "1")
    kept = session.store.append(session.name, session.conversation.path[0])
    assert isinstance(kept.exception(), HatcheryError)
    assert len(told) == 2
    with pytest.raises(HatcheryError, match="not kept"):
        session.store.save(session.name, session.conversation)


def _kept(folder: Path, *texts: str) -> tuple[ChatStore, list[str]]:
    """A store with a conversation for each of the texts, oldest first."""
    store, names = ChatStore(folder), []
    for number, text in enumerate(texts):
        name = f"2026_11_21_11_00_{number:02}-ab{number:02}"
        store.append(name, Turn(1, None, "user", text, "chat")).result()
        store.append(name, Turn(2, 1, "assistant", f"answer {number}", "chat")).result()
        os.utime(folder / "chats" / f"{name}.jsonl", (1000 + number, 1000 + number))
        names.append(name)
    return store, names


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("eggs", [0]),
        ("EGGS lay", [0]),
        ("answer", [0, 1, 2, 3]),
        ("answer 2", [2]),
        ('say "hi"', [1]),
        ("größe", [2]),
        ("[/foo]", [3]),
        ("eggs fox", []),
        ("nowhere", []),
    ],
)
def test_a_search_finds_words_wherever_they_stand(
    tmp_path: Path, wanted: str, expected: list[int]
) -> None:
    texts = ["Hens lay Eggs", 'They say "hi"\n\tand go', "Die GRÖSSE und Größe", "a [/foo] b"]
    store, names = _kept(tmp_path, *texts)
    assert store.search(store.recent(), wanted) == {names[number] for number in expected}


@pytest.mark.parametrize("title", ["My hens", "größer", "[bold]x", "a\nb", "x" * 900])
def test_a_conversation_keeps_the_name_that_it_is_given(tmp_path: Path, title: str) -> None:
    store, (first, second) = _kept(tmp_path, "one", "two")
    store.rename(first, title)
    again = ChatStore(tmp_path)
    shown = " ".join(title[:200].split())
    assert [one.title for one in again.recent()] == ["two", shown]
    assert again.load(first).title == shown
    assert again.load(second).title == "two"
    again.rename(first, "")
    assert [one.title for one in ChatStore(tmp_path).recent()] == ["two", "one"]


def test_a_deleted_conversation_leaves_nothing_but_what_was_saved(tmp_path: Path) -> None:
    store, (first, second) = _kept(tmp_path, "one", "two")
    store.rename(first, "name")
    saved = store.save(first, store.load(first))
    store.append(first, Turn(3, 2, "user", "still to be written", "chat"))
    store.remove(first)
    assert [one.name for one in store.recent()] == [second]
    assert {path.name for path in (tmp_path / "chats").iterdir()} == {saved.name, f"{second}.jsonl"}
    store.remove(first)  # is gone already
    assert store.load(first).turns == {}


def test_a_withdrawn_question_is_gone_when_the_conversation_comes_back(tmp_path: Path) -> None:
    store, (name,) = _kept(tmp_path, "one")
    store.append(name, Turn(3, 2, "user", "too long", "chat")).result()
    store.append(name, Turn(3, 2, "user", "", "chat", finish=WITHDRAWN)).result()
    assert [turn.text for turn in store.load(name).path] == ["one", "answer 0"]
    store.append(name, Turn(3, 2, "user", "shorter", "chat")).result()
    assert store.load(name).path[-1].text == "shorter"
    empty = "2026_11_21_11_00_59-ab59"
    store.append(empty, Turn(1, None, "user", "too long", "chat")).result()
    store.append(empty, Turn(1, None, "user", "", "chat", finish=WITHDRAWN)).result()
    assert [one.name for one in store.recent()] == [name]


def test_a_transcript_quotes_texts_that_hold_fences_themselves(tmp_path: Path) -> None:
    conversation = Conversation([Turn(1, None, "user", "a ```` b", "chat")])
    conversation.add(Turn(2, 1, "assistant", "c", "chat", model="first/step-4", finish="stop"))
    text = as_markdown(conversation, "2026-11-21 12:00")
    assert "`````text\na ```` b\n`````" in text
    assert "## Answer of first/step-4" in text
    path = ChatStore(tmp_path).save("x", conversation)
    assert path.suffix == ".md"
    assert "a ```` b" in path.read_text("utf-8")


# Rows.

_WRITTEN = st.text(st.sampled_from("ab \n漢\tö\u0301🐣-"), max_size=60)


@given(st.lists(_WRITTEN, max_size=8), st.integers(2, 20))
@settings(max_examples=200, deadline=None)
def test_a_growing_text_has_the_rows_of_the_whole_text(pieces: list[str], width: int) -> None:
    grown = WrappedText(width)
    for piece in pieces:
        grown.extend(piece)
    whole = WrappedText(width, "".join(pieces))
    assert grown.rows == whole.rows
    covered = "".join(whole.text[a:b] for a, b in whole.rows)
    assert covered == whole.text.replace("\n", "")
    for begin, end in whole.rows:
        row = whole.text[begin:end].replace("\t", "    ").rstrip(" ")
        assert cell_len(row) <= max(width, 4)


def test_lines_break_between_words_and_long_words_anywhere() -> None:
    wrapped = WrappedText(10, "the small hen lays\n    aneggthatislong")
    rows = [wrapped.text[a:b] for a, b in wrapped.rows]
    assert rows == ["the small ", "hen lays", "    aneggt", "hatislong"]


def test_every_character_is_found_again_at_its_cell() -> None:
    wrapped = WrappedText(6, "a漢b\tc d")
    for row, (begin, end) in enumerate(wrapped.rows):
        for place in range(begin, end):
            before = wrapped.text[begin:place].replace("\t", "    ")
            assert wrapped.place_at(row, cell_len(before)) == place
            assert wrapped.row_at(place) == row
    assert wrapped.place_at(0, 99) is None


@pytest.mark.slow
def test_a_long_answer_is_laid_out_only_where_it_is_new() -> None:
    wrapped = WrappedText(80)
    looked = 0
    cut = wrapped._cut

    def counting(begin: int, stop: int) -> int:
        nonlocal looked
        looked += 1
        return cut(begin, stop)

    wrapped._cut = counting  # type: ignore[method-assign]
    for _ in range(50_000):
        wrapped.extend(" token")
    assert len(wrapped.rows) == math.ceil(300_000 / 78)
    assert looked < 3 * 50_000


def test_blocks_stand_below_each_other() -> None:
    conversation = Conversation([Turn(1, None, "user", "a\nb", "chat")])
    figures = {"new_tokens": 1.0}
    conversation.add(Turn(2, 1, "assistant", "c", "chat", figures=figures))
    layout = ConversationLayout()
    layout.set(conversation.blocks, 20)
    lines = [layout.line(y) for y in range(layout.height + 1)]
    parts = [(line.number, line.part) for line in lines if line is not None]
    assert parts == [
        (0, "header"), (0, "text"), (0, "text"), (0, "gap"),
        (1, "header"), (1, "text"), (1, "figures"), (1, "gap"),
    ]  # fmt: skip
    assert lines[-1] is None
    layout.extend("\nd", [(2, -1.0)])
    assert layout.height == 9


# Tokens.


def test_tokens_stand_beside_the_text_they_made() -> None:
    spans = Spans()
    assert spans.take("Once upon", [("Once", -1.0), (" upon", -2.0)]) == [(4, -1.0), (5, -2.0)]
    # half characters: three tokens make one
    assert spans.take("", [("\ufffd", -1.0)]) == []
    assert spans.take("🐣", [("\ufffd", -0.5)]) == [(1, -1.5)]
    # a stop string holds text back
    assert spans.take(" a", [(" a time", -3.0)]) == []
    assert spans.take(" time", []) == [(7, -3.0)]
    # a server without tokens
    assert spans.take("plain", []) == [(5, None)]


@pytest.mark.slow
@given(st.lists(st.tuples(st.text(max_size=4), st.booleans()), max_size=20))
@settings(max_examples=150, deadline=None)
def test_no_character_is_lost_whatever_tokens_say(pieces: list[tuple[str, bool]]) -> None:
    spans = Spans()
    found = [s for text, told in pieces for s in spans.take(text, [(text, -1.0)] if told else [])]
    found += spans.end()
    assert sum(length for length, _ in found) == sum(len(text) for text, _ in pieces)


def test_classes_of_probability_differ_by_more_than_colour() -> None:
    attributes = ["bold", "italic", "underline"]
    looks = {tuple(word in style for word in attributes) for style in SHADES.values()}
    assert len(looks) == len(CLASSES)
    assert [shade(math.log(p)) for p in (0.9, 0.2, 0.05, 0.001)] == [name for _, name, _ in CLASSES]
    assert shade(float("-inf")) == "surprising"
    assert (shade(None), percent(None)) == (None, "not known")
    assert (percent(math.log(0.312)), percent(math.log(0.00123))) == ("31.2 %", "0.12 %")


# Words.


def test_an_answer_says_how_fast_it_was_and_why_it_ended() -> None:
    facts = {"tokens_per_second": 83.4, "first_token_ms": 41.2, "new_tokens": 62.0}
    drawn = {"seed": 7, "temperature": 0.8}
    turn = Turn(1, None, "assistant", "x", "chat", finish="length", figures=facts, sampling=drawn)
    assert figures_line(turn) == "83 tokens/s · first 41 ms · 62 tokens · full length · seed 7"
    assert figures_line(Turn(1, None, "user", "x", "chat")) == ""
    greedy = replace(SAMPLING, temperature=0.0, max_tokens=10)
    assert sampling_line(greedy) == "temperature 0 · 10 tokens"


def test_the_best_of_the_newest_run_answers_unless_another_is_named() -> None:
    models = [
        Model("new/step-2", "new", 2, latest=True),
        Model("new/step-1", "new", 1, best=True),
        Model("old/step-9", "old", 9, best=True),
    ]
    assert choose(models, None) == models[1]
    assert choose(models, "old") == models[2]
    assert choose(models, "new/step-2") == models[0]
    assert choose([], None) is None
    assert default_mode(Model("run/step-1", chat=True)) == "chat"
    assert default_mode(Model("sft_lima_1/step-1", "sft_lima_1")) == "complete"  # no name decides
    assert short_name("run_2026_11_21_10_00_first/step-4") == "first/step-4"
    assert short_name("run_2026_11_21_10_00/step-4") == "run_2026_11_21_10_00/step-4"


def test_a_question_is_json_that_asks_for_probabilities() -> None:
    path = [Turn(1, None, "user", "a\nb", "complete")]
    body = request_for(path, "m", SAMPLING).body()
    assert json.loads(json.dumps(body)) == body
    assert (body["prompt"], body["seed"], body["logprobs"]) == ("a\nb", 7, 1)
