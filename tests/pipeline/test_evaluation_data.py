"""The rows of tasks: what is read, in which form, and what is refused with line and reason."""

import gzip
import json
import os
import shutil
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from pipeline.evaluation.data import read_local, task_data
from pipeline.evaluation.files import Sources
from pipeline.evaluation.tasks import TASKS
from pipeline.evaluation.tasks.task import Item
from utils.errors import HatcheryError, RefusedError, UsageError

ROW = {"query": "Question: Is ice cold?", "choices": ["yes", "no"], "gold": 0}
LINE = json.dumps(ROW)


def lines(*rows: Any) -> bytes:
    """Rows as JSON lines; a text stands as it is."""
    return "".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in rows).encode()


def only_item(task: str, row: dict[str, Any]) -> Item:
    [item] = task_data(TASKS[task], [("line 1", row)], "local", "a file").items
    return item


# What every task asks, written out.

ANSWERS = [" yes", " no"]


@pytest.mark.parametrize(
    ("task", "row", "context", "continuations", "gold"),
    [
        ("arc_easy", ROW, "Question: Is ice cold?\nAnswer:", ANSWERS, 0),
        (
            "arc_easy",
            {
                "id": "Mercury_1",
                "question": "Is ice cold?",
                "choices": {"text": ["yes", "no"], "label": ["A", "B"]},
                "answerKey": "B",
            },
            "Question: Is ice cold?\nAnswer:",
            ANSWERS,
            1,
        ),
        (
            "arc_challenge",
            {
                "question": "Is ice cold?",
                "choices": {"text": ["yes", "no"], "label": ["1", "2"]},
                "answerKey": "1",
            },
            "Question: Is ice cold?\nAnswer:",
            ANSWERS,
            0,
        ),
        (
            "openbook_qa",
            {
                "id": "7-980",
                "question_stem": "Ice is",
                "choices": {"text": ["cold", "hot"], "label": ["A", "B"]},
                "answerKey": "A",
            },
            "Ice is",
            [" cold", " hot"],
            0,
        ),
        ("openbook_qa", ROW | {"query": "Ice is"}, "Ice is", ANSWERS, 0),
        (
            "piqa",
            {"goal": "Cool a drink", "sol1": "Add ice.", "sol2": "Boil it.", "label": 1},
            "Question: Cool a drink\nAnswer:",
            [" Add ice.", " Boil it."],
            1,
        ),
        ("piqa", ROW | {"query": "Cool it"}, "Question: Cool it\nAnswer:", ANSWERS, 0),
        (
            "copa",
            {
                "premise": "The man fell.",
                "choice1": "He slipped.",
                "choice2": "It rained.",
                "question": "cause",
                "idx": 0,
                "label": 0,
            },
            "The man fell because",
            [" he slipped.", " it rained."],
            0,
        ),
        (
            "copa",
            {
                "premise": "The man fell. ",
                "choice1": "He got up.",
                "choice2": "It rained.",
                "question": "effect",
                "label": 1,
            },
            "The man fell therefore",
            [" he got up.", " it rained."],
            1,
        ),
        (
            "hellaswag",
            {
                "ind": 24,
                "activity_label": "Roof shingle removal",
                "ctx_a": "A man is sitting on a roof.",
                "ctx_b": "he",
                "ctx": "A man is sitting on a roof. he",
                "endings": ["falls.", "is  happy."],
                "label": "1",
                "source_id": "activitynet~v_-JhWjGDPHMY",
                "split": "val",
            },
            "Roof shingle removal: A man is sitting on a roof. He",
            [" falls.", " is happy."],
            1,
        ),
        (
            "hellaswag",
            {
                "activity_label": "Computers",
                "ctx_a": "[header] How to save [title] Press a key. [step] Look at it [substeps] .",
                "ctx_b": "",
                "ctx": "unused",
                "endings": ["[title] Press it.", "Wait [step] a bit."],
                "label": 0,
            },
            "Computers: How to save. Press a key. Look at it .",
            ["  Press it.", " Wait a bit."],  # two blanks, as lm-evaluation-harness has them
            0,
        ),
        (
            "hellaswag",
            {"activity_label": "Baking", "ctx": "A cake. She", "endings": ["a", "b"], "label": 0},
            "Baking: A cake. She",
            [" a", " b"],
            0,
        ),
        ("hellaswag", ROW | {"query": "Baking: A cake."}, "Baking: A cake.", ANSWERS, 0),
    ],
)
def test_a_choice_is_asked_in_these_words(
    task: str, row: dict[str, Any], context: str, continuations: list[str], gold: int
) -> None:
    item = only_item(task, row)
    assert item.requests == tuple((context, continuation) for continuation in continuations)
    assert item.gold == gold
    assert item.answers == tuple(text[1:] for text in continuations)


@pytest.mark.parametrize(
    "row",
    [
        {"sentence": "The cup fits the box as _ is big.", "option1": "it", "option2": "the box",
         "answer": "2"},
        {"context_options": ["The cup fits the box as it", "The cup fits the box as the box"],
         "continuation": "is big.", "gold": 1},
    ],
)  # fmt: skip
def test_winogrande_asks_what_follows_either_filled_blank(row: dict[str, Any]) -> None:
    item = only_item("winogrande", row)
    assert item.requests == (
        ("The cup fits the box as it", " is big."),
        ("The cup fits the box as the box", " is big."),
    )
    assert item.gold == 1


@pytest.mark.parametrize(
    "row",
    [
        {"sentence_good": "She sings.", "sentence_bad": "She sing.", "field": "syntax",
         "linguistics_term": "agreement", "UID": "agreement_1", "pair_id": 0},
        {"good": "She sings.", "bad": "She sing.", "paradigm": "agreement_1",
         "phenomenon": "agreement", "pair_id": 0},
    ],
)  # fmt: skip
def test_blimp_asks_both_sentences_whole(row: dict[str, Any]) -> None:
    item = only_item("blimp", row)
    assert item.requests == (("", "She sings."), ("", "She sing."))
    assert (item.gold, item.group) == (0, "agreement")


@pytest.mark.parametrize("task", ["lambada_openai", "lambada_standard"])
@pytest.mark.parametrize(
    "row",
    [
        {"text": 'He said:\n"I care about signs"', "domain": None},
        {"context": 'He said:\n"I care about', "continuation": 'signs"'},
    ],
)
def test_lambada_asks_the_last_word(task: str, row: dict[str, Any]) -> None:
    assert only_item(task, row).requests == (('He said:\n"I care about', ' signs"'),)


PAGES = [
    " \n = Homarus gammarus = \n \n It is @-@ as said , big . \n \n = = Name = = \n \n None . \n",
    " = X = \n \n Two . \n",
]


def test_a_page_is_read_without_the_blanks_of_its_publication() -> None:
    item = only_item("wikitext", {"page": PAGES[0]})
    readable = "\n= Homarus gammarus =\n\nIt is-as said, big.\n\n== Name ==\n\nNone.\n"
    assert item.text == PAGES[0]
    [(context, text)] = item.requests
    assert context == ""
    assert text == readable


def test_rows_of_paragraphs_and_the_published_file_are_the_same_pages(tmp_path: Path) -> None:
    task = TASKS["wikitext"]
    file = tmp_path / "wiki.test.raw"
    file.write_text("".join(PAGES))
    crlf = tmp_path / "wiki.valid.raw"
    crlf.write_bytes("".join(PAGES).replace("\n", "\r\n").encode())
    rows = [
        {"text": "" if line.isspace() else line}
        for line in "".join(PAGES).splitlines(keepends=True)
    ]
    by_rows = task_data(task, [(f"row {n}", row) for n, row in enumerate(rows)], "hub", "hub")
    found = [item.text for item in read_local(task, file).items]
    # A page begins with its title and ends before the last line end, as those of
    # EleutherAI/wikitext_document_level do.
    assert found == [PAGES[0].removeprefix(" \n").removesuffix("\n"), PAGES[1]]
    assert [item.text for item in read_local(task, crlf).items] == found
    assert [item.text for item in by_rows.items] == [found[0], found[1].removesuffix("\n")]


def test_a_title_does_not_end_at_every_mark_that_ends_a_line_elsewhere(tmp_path: Path) -> None:
    file = tmp_path / "wiki.test.raw"
    file.write_text(" = A title = \n One\u2028 = No title = \u0085 two \x0b . \n", newline="")
    [item] = read_local(TASKS["wikitext"], file).items
    assert "No title" in item.text


# Forms of files.


def written(folder: Path, form: str, rows: Sequence[dict[str, Any]] = (ROW, ROW)) -> Path:
    path = folder / f"piqa.{form}"
    data = lines(*rows)
    if form == "json":
        data = json.dumps(list(rows), indent=1).encode()
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
        return path
    path.write_bytes(gzip.compress(data) if form.endswith("gz") else data)
    return path


@pytest.mark.parametrize("form", ["jsonl", "json", "parquet", "jsonl.gz"])
def test_a_set_is_the_same_in_every_form(tmp_path: Path, form: str) -> None:
    path = written(tmp_path, form)
    assert Sources.of([tmp_path], TASKS).find(TASKS["piqa"]) == path
    found = read_local(TASKS["piqa"], path)
    assert found.items == (only_item("piqa", ROW),) * 2
    assert found.keys == (found.items[0].key, f"{found.items[0].key}.2")
    assert found.repeated == 1


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + lines(ROW),
        lines(ROW).replace(b"\n", b"\r\n"),
        b"\n\n" + lines(ROW) + b"  \n\r\n",
        lines(ROW).rstrip(b"\n"),
        lines(ROW | {"more": float("nan")}),
        lines(ROW | {"gold": 0.0}),
        lines(ROW | {"gold": "0"}),
        lines(ROW | {"query": "Question: Is ice cold?", "choices": ["yes", "no"]}),
    ],
)
def test_what_means_the_same_reads_the_same(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "piqa.jsonl"
    path.write_bytes(data)
    assert read_local(TASKS["piqa"], path).items == (only_item("piqa", ROW),)


def test_a_mark_within_a_row_ends_no_line(tmp_path: Path) -> None:
    path = tmp_path / "piqa.jsonl"
    query = "a\u2028b\u0085c\x0bd\re"
    path.write_text(json.dumps(ROW | {"query": query}, ensure_ascii=False) + "\n", newline="")
    [item] = read_local(TASKS["piqa"], path).items
    assert query in item.requests[0][0]


def test_a_folder_given_by_name_is_read_file_by_file(tmp_path: Path) -> None:
    for name in ("b", "a"):
        pair = {"good": f"{name} sings.", "bad": f"{name} sing.", "phenomenon": name}
        (tmp_path / f"{name}.jsonl").write_bytes(lines(pair))
    (tmp_path / "README.md").write_text("no rows")
    found = read_local(TASKS["blimp"], tmp_path)
    assert [item.group for item in found.items] == ["a", "b"]
    (tmp_path / "b.jsonl").write_bytes(b"{")
    with pytest.raises(RefusedError) as refused:
        read_local(TASKS["blimp"], tmp_path)
    assert "b.jsonl, line 1: no JSON" in refused.value.found


# What is refused.


@pytest.mark.parametrize(
    ("task", "data", "found"),
    [
        ("piqa", lines(ROW, LINE[:20])[:-1], "line 2: no JSON; the file ends here, cut short"),
        ("piqa", lines(LINE[:20], ROW), "line 1: no JSON"),
        ("piqa", b"", "nothing"),
        ("piqa", b" \n\n", "nothing"),
        ("piqa", lines("[" * 100_000), "no JSON"),
        ("piqa", lines('"text"', "7", "null"), "line 1: no JSON object; line 2: no JSON object"),
        ("piqa", lines(ROW | {"gold": 2}), "line 1: the right answer is number 2, of 0 to 1"),
        ("piqa", lines(ROW, ROW | {"gold": -1}), "line 2: the right answer is number -1"),
        ("piqa", lines(ROW | {"gold": float("nan")}), "line 1: gold is nan, not a whole number"),
        ("piqa", lines(ROW | {"gold": 0.5}), "gold is 0.5, not a whole number"),
        ("piqa", lines(ROW | {"gold": True}), "gold is True, not a whole number"),
        ("piqa", lines(ROW | {"gold": ""}), "gold is '', not a whole number"),
        ("piqa", lines(ROW | {"gold": None}), "there is no gold, only query, choices, gold"),
        ("piqa", lines(ROW | {"choices": "yes"}), "choices is 'yes', not a list of texts"),
        ("piqa", lines(ROW | {"choices": ["yes", 1]}), "not a list of texts"),
        ("piqa", lines(ROW | {"choices": ["yes", ""]}), "fewer than two answers, or an empty one"),
        ("piqa", lines(ROW | {"choices": ["yes"]}), "fewer than two answers"),
        ("piqa", lines(ROW | {"query": "  "}), "query is empty"),
        ("piqa", lines(ROW | {"query": 5}), "query is 5, not a text"),
        ("piqa", lines(ROW | {"query": "\ud800"}), "line 1: \\ud800 is half of a character"),
        ("piqa", lines({"goal": "G", "sol1": "a", "sol2": "b", "label": -1}), "number -1"),
        ("blimp", lines(ROW), "there is no good, only query, choices, gold"),
        ("lambada_openai", lines({"text": "word"}), "line 1: the text has no last word"),
        ("lambada_openai", lines({"text": "a word "}), "line 1: the text has no last word"),
        ("winogrande", lines({"sentence": "No blank.", "option1": "a"}), "has no blank"),
        (
            "winogrande",
            lines({"sentence": "A _ b.", "option1": "a", "option2": "b", "answer": "3"}),
            "number 3, of 0 to 2",
        ),
        ("winogrande", lines({"sentence": "A _", "option1": "a", "option2": "b", "answer": "1"}),
         "nothing follows the blank"),
        ("arc_easy", lines({"question": "Q", "choices": {"text": ["a", "b"], "label": ["A", "B"]},
                            "answerKey": "C"}), "the right answer is C, of A, B"),
        ("arc_easy", lines({"question": "Q", "choices": ["a", "b"], "answerKey": "A"}),
         "choices is neither a list of texts nor text and label"),
        ("copa", lines({"premise": "P.", "question": "why"}), "neither cause nor effect"),
        ("wikitext", lines({"page": ""}), "line 1: page is empty"),
    ],
)  # fmt: skip
def test_a_row_that_is_none_is_named_with_line_and_reason(
    tmp_path: Path, task: str, data: bytes, found: str
) -> None:
    path = tmp_path / f"{task}.jsonl"
    path.write_bytes(data)
    with pytest.raises(RefusedError) as refused:
        read_local(TASKS[task], path)
    assert str(path) in refused.value.problem
    assert found in refused.value.found


def test_of_many_bad_rows_the_first_are_named_and_all_counted(tmp_path: Path) -> None:
    path = tmp_path / "piqa.jsonl"
    path.write_bytes(lines(*[{"text": "other"}] * 100))
    with pytest.raises(RefusedError) as refused:
        read_local(TASKS["piqa"], path)
    assert refused.value.found.startswith("line 1: there is no choices, only text; line 2: ")
    assert refused.value.found.endswith("and 96 more")


@pytest.mark.parametrize(
    ("name", "data", "problem", "found"),
    [
        ("piqa.jsonl", b'{"query": "\xff"}\n', "no UTF-8", "byte 11 is 0xff"),
        ("piqa.jsonl", lines(ROW).decode().encode("utf-16"), "no UTF-8", "byte 0 is 0xff"),
        ("piqa.jsonl.gz", gzip.compress(lines(ROW) * 99)[:-20], "to its end", "gzip"),
        ("piqa.json", json.dumps([ROW, ROW])[:-9].encode(), "to its end", "no JSON array"),
        ("piqa.parquet", b"PAR1 and no more", "to its end", "after row 0"),
        ("piqa.csv", b"goal,sol1\n", "table of text", ".csv"),
    ],
)
def test_a_file_that_is_not_whole_or_of_another_kind_is_refused(
    tmp_path: Path, name: str, data: bytes, problem: str, found: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(RefusedError) as refused:
        read_local(TASKS["piqa"], path)
    assert problem in refused.value.problem
    assert found in refused.value.found


def test_a_pipe_is_read_and_what_cannot_be_opened_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as pipe:
        pipe.write(gzip.compress(lines(ROW)))
    assert len(read_local(TASKS["piqa"], Path(f"/dev/fd/{reading}")).items) == 1
    os.close(reading)

    def closed(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = written(tmp_path, "jsonl")
    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(RefusedError) as refused:
        read_local(TASKS["piqa"], path)
    assert refused.value.found == "Permission denied"


# Which file holds a task.


def found_in(*typed: Path | str, task: str = "piqa") -> Path | None:
    return Sources.of([Path(each) for each in typed], TASKS).find(TASKS[task])


def test_a_file_is_found_by_its_name_here_and_one_folder_down(tmp_path: Path) -> None:
    sub = tmp_path / "sub"
    sub.mkdir()
    file = written(sub, "jsonl")
    assert found_in(tmp_path) == file
    assert found_in(sub) == file
    assert found_in(file) == file
    assert found_in(tmp_path, task="copa") is None
    assert found_in(file, file, sub) == file
    nearer = written(tmp_path, "jsonl")
    assert found_in(tmp_path) == nearer


def test_a_file_of_any_name_is_given_by_task(tmp_path: Path) -> None:
    file = shutil.move(written(tmp_path, "jsonl"), tmp_path / "questions=1.txt")
    assert found_in(f"piqa={file}") == file
    assert found_in(file, f"piqa={file}") == file  # it is there, so it is no TASK=FILE
    with pytest.raises(UsageError, match="names no task"):
        found_in(f"pica={file}")
    with pytest.raises(UsageError, match="two files for piqa"):
        found_in(f"piqa={file}", f"piqa={tmp_path}")
    for nothing in (tmp_path / "none", f"piqa={tmp_path}/none"):
        with pytest.raises(UsageError, match="There is no"):
            found_in(nothing)


def test_of_several_files_the_advice_chooses_one(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"piqa_{number}.jsonl").write_bytes(lines(ROW))
    with pytest.raises(UsageError, match="several files") as refused:
        found_in(tmp_path)
    advised = refused.value.remedy.partition("--data ")[2]
    assert found_in(tmp_path, advised) == tmp_path / "piqa_1.jsonl"


@pytest.mark.parametrize("name", ["notes.jsonl", "piqa.csv", "piqa.md"])
def test_what_holds_no_task_is_not_passed_over(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_bytes(lines(ROW))
    for given in (file, tmp_path):
        with pytest.raises(HatcheryError) as refused:
            Sources.of([given], TASKS).refuse_unknown(TASKS.values())
        assert name in refused.value.found
        assert "--data TASK=" in refused.value.remedy


VALUES: list[Any] = [
    None, True, -1, 0, 7, 1e300, float("nan"), "", " ", "a", "_", "a b", "\ud800", "1", [], [""],
    ["a", "b"], ["a", 1], [[]], {}, {"text": ["a", "b"], "label": ["A", "B"]}, {"text": "a"},
    {"text": ["a"], "label": ["A", "B"]},
]  # fmt: skip
SHAPES: list[dict[str, Any]] = [
    ROW,
    {"question": "Q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"},
    {"question_stem": "Q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "A"},
    {"goal": "G", "sol1": "a", "sol2": "b", "label": 0},
    {"premise": "P.", "choice1": "a", "choice2": "b", "question": "cause", "label": 0},
    {"activity_label": "A", "ctx_a": "x", "ctx_b": "y", "endings": ["a", "b"], "label": "0"},
    {"activity_label": "A", "ctx": "x", "endings": ["a", "b"], "label": 0},
    {"sentence": "A _ b.", "option1": "x", "option2": "y", "answer": "1"},
    {"context_options": ["x", "y"], "continuation": "b.", "gold": 0},
    {"text": "the last word"},
    {"context": "the last", "continuation": "word"},
    {"page": " = T = \n"},
    {"good": "a", "bad": "b", "phenomenon": "p"},
    {"prompt": "x", "reference": "y"},
    {"text": "own", "name": "it", "group": ""},
]


@pytest.mark.parametrize("task", TASKS)
def test_a_row_of_any_values_is_an_item_or_refused(task: str) -> None:
    """Every shape with any one field of any other value."""
    reasons = []
    for shape in SHAPES:
        for field, value in [("", None), *product([*shape, "more"], VALUES)]:
            rows = [("line 1", shape | {field: value})]
            try:
                [item] = task_data(TASKS[task], rows, "local", "a file").items
            except RefusedError as refused:
                reasons.append(refused.found)
            else:
                assert all((context + end).strip() for context, end in item.requests)
    assert all(reason.startswith("line 1: ") for reason in reasons)
