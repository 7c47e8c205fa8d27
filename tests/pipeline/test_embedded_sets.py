"""That the embedded sets ask what they seem to ask, and nothing that quickstart has learned."""

import math
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.embedded import KINDS, EmbeddedSet, embedded_set, held_out
from pipeline.evaluation.embedded.held_out import Training
from pipeline.evaluation.embedded.prose import first_sentence, stretches
from pipeline.options.config import TrainOptions
from pipeline.quickstart import SOURCE, TRAINING
from pipeline.tokenizer.spec import byte_marks
from pipeline.tokens.token_set import open_tokens
from pipeline.tokens.windows import Windows
from tests.support.stage_runner import run_stage
from tests.support.token_sets import prepared as prepared_tokens
from tests.support.token_sets import save_tokenizer
from utils.errors import HatcheryError

ROOT = Path(__file__).parents[2]
FIELDS = {
    "document": {"text"},
    "last_word": {"context", "continuation"},
    "choice": {"query", "choices", "gold"},
    "pair": {"good", "bad", "paradigm", "phenomenon", "pair_id"},
    "completion": {"prompt", "reference"},
}
LEAST = {
    "embedded_python_text": 50,
    "embedded_last_word": 50,
    "embedded_docstrings": 100,
    "embedded_grammar": 400,
    "embedded_completions": 40,
}
OF_LIBRARY = sorted(KINDS.keys() - {"embedded_grammar"})


@pytest.fixture(scope="module")
def every() -> dict[str, EmbeddedSet]:
    return {name: embedded_set(name) for name in KINDS}


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def texts_of(row: dict[str, Any]) -> list[str]:
    """The texts of a row that are read as one."""
    if "choices" in row:
        return [f"{row['query']} {choice}" for choice in row["choices"]]
    return [" ".join(value for value in row.values() if isinstance(value, str))]


@pytest.mark.parametrize("name", KINDS)
def test_a_set_has_enough_rows_of_its_shape_and_no_row_twice(
    every: dict[str, EmbeddedSet], name: str
) -> None:
    found = every[name]
    assert (found.name, found.kind) == (name, KINDS[name])
    assert LEAST[name] <= len(found.rows) <= (300 if name in OF_LIBRARY else 1000)
    for row in found.rows:
        assert row.keys() == FIELDS[found.kind]
        texts = [value for value in row.values() if isinstance(value, str)]
        assert all(text.strip() for text in texts)
    assert len({tuple(texts_of(row)) for row in found.rows}) == len(found.rows)


def test_labels_say_where_a_set_is_from(every: dict[str, EmbeddedSet]) -> None:
    python = f"embedded: Python {sys.version_info.major}.{sys.version_info.minor} library"
    assert {every[name].label for name in OF_LIBRARY} == {python}
    assert every["embedded_grammar"].label == "embedded: hand-written grammar pairs"


def test_a_fingerprint_is_that_of_the_rows(every: dict[str, EmbeddedSet]) -> None:
    found = every["embedded_last_word"]
    assert len({every[name].fingerprint for name in KINDS}) == len(KINDS)
    assert found._replace(rows=found.rows[1:]).fingerprint != found.fingerprint
    assert found._replace(rows=[dict(row) for row in found.rows]).fingerprint == found.fingerprint


@pytest.mark.slow
def test_the_rows_do_not_hang_on_the_order_of_python_sets(every: dict[str, EmbeddedSet]) -> None:
    script = (
        "from pipeline.evaluation.embedded import KINDS, embedded_set\n"
        "print(*(embedded_set(name).fingerprint for name in KINDS))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "4711"},
    )
    assert done.stdout.split() == [found.fingerprint for found in every.values()]


def test_last_words_stand_in_their_context(every: dict[str, EmbeddedSet]) -> None:
    for row in every["embedded_last_word"].rows:
        assert re.fullmatch("[a-z]{4,}", row["continuation"])
        assert row["continuation"] in re.findall(r"\w+", row["context"])
        assert row["context"] == row["context"].strip()


def accuracy(rows: list[dict[str, Any]], score: Callable[[str, str], float]) -> float:
    """Of the choice with the highest score of (query, choice); ties count by their share."""
    right = 0.0
    for row in rows:
        scores = [score(row["query"], choice) for choice in row["choices"]]
        if scores[row["gold"]] == max(scores):
            right += 1 / scores.count(max(scores))
    return right / len(rows)


def shared(query: str, choice: str) -> int:
    return len({*words(query)} & {*words(choice)})


@pytest.mark.parametrize(
    "score",
    [
        pytest.param(lambda query, choice: len(choice), id="longest"),
        pytest.param(lambda query, choice: -len(choice), id="shortest"),
        pytest.param(lambda query, choice: len(choice.split()), id="most words"),
        pytest.param(shared, id="most words of the query"),
        pytest.param(lambda query, choice: -shared(query, choice), id="fewest words of the query"),
        pytest.param(
            lambda query, choice: shared(query, choice) / (1 + len({*words(choice)})),
            id="largest share of words of the query",
        ),
    ],
)
def test_no_trivial_rule_finds_the_right_choice(
    every: dict[str, EmbeddedSet], score: Callable[[str, str], float]
) -> None:
    assert accuracy(every["embedded_docstrings"].rows, score) <= 0.25 + 0.15


def test_every_place_is_right_equally_often(every: dict[str, EmbeddedSet]) -> None:
    for rows in (every["embedded_docstrings"].rows, every["embedded_docstrings"].rows[:50]):
        places = Counter(row["gold"] for row in rows)
        expected = len(rows) / 4
        assert sum((places[place] - expected) ** 2 / expected for place in range(4)) < 1


def test_choices_are_four_that_differ_from_their_first_words_on(
    every: dict[str, EmbeddedSet],
) -> None:
    for row in every["embedded_docstrings"].rows:
        choices = row["choices"]
        assert len(choices) == len({*choices}) == 4
        assert not any(a.startswith(b) for a in choices for b in choices if a is not b)
        assert min(map(len, choices)) >= 0.3 * max(map(len, choices))


def test_no_answer_is_wrong_in_most_rows(every: dict[str, EmbeddedSet]) -> None:
    rows = every["embedded_docstrings"].rows
    wrong = Counter(
        choice for row in rows for i, choice in enumerate(row["choices"]) if i != row["gold"]
    )
    assert wrong.most_common(1)[0][1] <= 5


def test_grammar_has_many_phenomena_of_several_pairs(every: dict[str, EmbeddedSet]) -> None:
    rows = every["embedded_grammar"].rows
    assert len({row["phenomenon"] for row in rows}) >= 12
    assert min(Counter(row["paradigm"] for row in rows).values()) >= 10
    assert len({(row["paradigm"], row["pair_id"]) for row in rows}) == len(rows)
    good, bad = {row["good"] for row in rows}, {row["bad"] for row in rows}
    assert len(good) == len(bad) == len(rows)
    assert not good & bad


def test_sentences_are_whole_and_differ_by_little(every: dict[str, EmbeddedSet]) -> None:
    for row in every["embedded_grammar"].rows:
        for sentence in (row["good"], row["bad"]):
            assert re.fullmatch(r"[A-Z][A-Za-z ,]+[.?]", sentence), sentence
            assert "  " not in sentence
        good, bad = Counter(words(row["good"])), Counter(words(row["bad"]))
        assert max((good - bad).total(), (bad - good).total()) <= 2
        assert abs(len(row["good"]) - len(row["bad"])) <= 6


def test_neither_words_nor_length_tell_which_sentence_is_good(
    every: dict[str, EmbeddedSet],
) -> None:
    by_paradigm = defaultdict(list)
    for row in every["embedded_grammar"].rows:
        by_paradigm[row["paradigm"]].append(row)
    for rows in by_paradigm.values():
        good = Counter(word for row in rows for word in words(row["good"]))
        bad = Counter(word for row in rows for word in words(row["bad"]))
        assert good == bad
        longer = [math.copysign(1, d) if d else 0 for d in
                  (len(row["good"]) - len(row["bad"]) for row in rows)]  # fmt: skip
        assert sum(longer) == 0


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("one two three four five six seven eight nine ten eleven twelve", True),
        ("One (two) three, four-five 'six' SEVEN eight\nnine ten eleven twelve. New", True),
        ("one two three four five six seven eight nine ten eleven new twelve", False),
        ("two three four five", True),
        ("two three five four", False),
        ("thirteen alpha beta gamma", False),
        ("two three", True),
        ("", True),
    ],
)
def test_what_was_seen_is_twelve_words_in_a_row_or_a_whole_short_text(
    text: str, seen: bool
) -> None:
    learned = b"One two three four five six seven eight nine ten eleven twelve thirteen"
    vocabulary = sorted({word.encode() for word in words(f"{text} {learned.decode()} alpha beta")})
    assert Training([learned, b"alpha beta gamma"], vocabulary).has_seen(text) == seen


def test_prose_is_read_up_to_what_is_none() -> None:
    text = (
        "Parse a line.  Blanks are\nignored, e.g. Tabs.\n\nIt ends here.\n\n    >>> parse()\n\n"
        "More follows.\n\n- a list\n\nno sentence"
    )
    assert list(stretches(text)) == [
        ["Parse a line.", "Blanks are ignored, e.g. Tabs.", "It ends here."],
        ["More follows."],
    ]
    assert first_sentence(text) == "Parse a line"
    assert first_sentence("") == ""


def test_a_python_without_its_library_still_has_the_grammar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda name: "/nowhere")
    held_out.held_out_library.cache_clear()
    assert embedded_set("embedded_grammar").rows
    with pytest.raises(HatcheryError, match="library"):
        embedded_set("embedded_last_word")


def text_in(windows: Windows) -> str:
    """The text that a side of a token set holds, whose ids are the bytes and two control tokens."""
    alphabet = np.array([*byte_marks().values(), 0x20, 0x20], dtype=np.uint8)
    return " ".join(
        alphabet[windows.shards[s.shard][s.begin : s.end]].tobytes().decode("utf-8", "replace")
        for s in windows.stretches
    )


@pytest.mark.slow
def test_rows_are_of_documents_that_quickstart_holds_out(
    every: dict[str, EmbeddedSet], workspace: Path
) -> None:
    run_stage("cleanup", cleanup={"source": SOURCE, "workers": 2})
    save_tokenizer("bytes")
    window = TRAINING["window"]
    folder = prepared_tokens(source=SOURCE, tokenizer="bytes", window=window, workers=2).path
    assert folder is not None
    data = open_tokens(Path(folder), window=window, val_split=TrainOptions().val_split)
    held, learned = words(text_in(data.val)), words(text_in(data.train))
    assert len(held) > 10_000
    held_text = f" {' '.join(held)} "
    sequences = defaultdict(set)
    for name in OF_LIBRARY:
        for number, row in enumerate(every[name].rows):
            for text in row.get("choices") or texts_of(row):
                assert f" {' '.join(words(text))} " in held_text, text
            for text in texts_of(row):
                of_row = words(text)
                for start in range(len(of_row) - 11):
                    sequences[tuple(of_row[start : start + 12])].add((name, number))
    seen = set[tuple[str, int]]()
    for start in range(len(learned) - 11):
        seen |= sequences.get(tuple(learned[start : start + 12]), set())
    assert not seen
