"""Source code in rows is cleaned as code, by what the row says of its file and language."""

import json
from pathlib import Path
from threading import Event

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from pipeline.cleaner import stage
from pipeline.cleaner.rule_engine import clean
from pipeline.cleaner.rules import CODE, PLAIN, WIKI, WIKI_ANY_LANGUAGE
from pipeline.cleaner.steps import RawDocument
from pipeline.cleaner.worker import read_document
from pipeline.options.config import CleanupOptions, Config
from pipeline.sources.documents import cleaned_files, read_cleaned
from pipeline.sources.items import Input, Item

SOURCE = (
    "import os\n\n\ndef f(b):\n    return b.replace('\u00a0', ' ').replace('\u200b', '')\n\n\n" * 6
)


def rules_of(row: dict, text_field: str = "") -> object:
    source = Input(Path("rows.jsonl"), "rows.jsonl", "rows", 0, text_field)
    document = read_document(Item(0, 1, json.dumps(row).encode(), True), source)
    assert isinstance(document, RawDocument)
    return document.rules


@pytest.mark.parametrize(
    "says",
    [
        {"path": "a.py", "lang": "Python"},  # as in F10
        {"lang": "Python", "ext": "py", "max_stars_repo_path": "src/a.py"},  # The Stack
        {"language": "C++", "path": "src/main.cc", "extension": "cc"},  # The Stack v2
        {"language": "Go", "filename": "main"},
        {"path": "lib\\Makefile"},
        {"file_path": "tests/test.RS"},
        {"sample_path": "a/b.hs", "lang": "en"},
        {"ext": ".kt"},
        {"language": "Emacs Lisp"},
        {"path": "index.html", "lang": "HTML", "ext": "html"},
        {"path": "data/a.json", "language": "JSON"},
        {"programming_language": "c#"},
        {"lang": "Lua"},
        {"language": "R", "path": "noextension"},
        {"path": 7, "ext": None, "lang": ["x"], "language": "rust"},
    ],
)
def test_a_row_that_names_a_file_or_language_of_code_is_code(says: dict) -> None:
    assert rules_of({"content": SOURCE, **says}) is CODE
    assert rules_of({"text": "x", "body": SOURCE, **says}, "body") is CODE


@pytest.mark.parametrize(
    "says",
    [
        {},
        {"lang": "en"},
        {"language": "English"},
        {"language": "eng_Latn"},
        {"lang": "lua"},  # Luba-Lulua in ISO 639-3
        {"lang": "sh", "language": "ts"},
        {"path": "README.md", "lang": "Markdown"},
        {"path": "docs/guide.rst", "language": "Python"},
        {"ext": "txt", "lang": "Text"},
        {"path": "https://example.org/page"},
        {"path": "https://example.org/index.php"},
        {"path": "a/b.unknown", "lang": "de"},
        {"language": {"code": "en"}, "path": ["a.py"], "ext": 3},
        {"code": "US"},
        {"path": "pages/article.html"},
        {"file": "book.xml", "language": "fr"},
        {"filename": "part_1.json"},
        {"file": "Report on the U.S"},
        {"path": "texts/build"},
    ],
)
def test_a_natural_language_or_a_text_file_is_no_code(says: dict) -> None:
    assert rules_of({"content": SOURCE, **says}) is PLAIN


def test_a_field_named_code_is_code_and_read() -> None:
    row = {"repo_name": "a/b", "code": SOURCE, "size": 3}
    assert rules_of(row) is CODE
    assert rules_of({"text": "Short.", **row}) is CODE
    assert rules_of({"text": SOURCE * 2, "code": "B-52"}) is PLAIN


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_code_in_rows_comes_out_as_from_a_file(workspace: Path, form: str) -> None:
    Path("in").mkdir()
    Path("in/a.py").write_text(SOURCE)
    row = {"content": f"{SOURCE}# row", "path": "b.py"}
    if form == "jsonl":
        Path("in/rows.jsonl").write_text(json.dumps(row))
    else:
        pq.write_table(pa.Table.from_pylist([row]), "in/rows.parquet")
    options = CleanupOptions(source="files", input=[Path("in")], workers=1, min_words=1)
    list(stage.run(Config(), options, Event()))
    folder = Path("data/cleaned_articles/files")
    texts = {d.text for file in cleaned_files(folder) for d in read_cleaned(file)}
    assert texts == {SOURCE.strip("\n"), f"{SOURCE}# row"}


@pytest.mark.parametrize(
    "text",
    [
        "ᠡᠨ\u180eᠡ ᠮᠣᠩᠭᠣᠯ",  # the vowel separator of Mongolian
        "ᠮᠣᠩᠭᠣᠯ\u202fᠤᠨ",  # the narrow space before a suffix
        "ᠪᠢᠴᠢᠭ\u180b ᠠ\u180d",  # variation selectors of Mongolian
        "ភាសា\u200bខ្មែរ និង\u200bអក្សរ",  # words of Khmer
        "ภาษา\u200bไทย ພາສາ\u200bລາວ မြန်မာ\u200bစာ",
        "ᚋᚐᚊᚔ\u1680ᚋᚒᚉᚑᚔ",  # the space of Ogham is a stroke
        "نمی\u200cخواهم क्\u200dष র\u200d্য",
        "❤\ufe0f 👩\u200d🚀 🏴\U000e0067\U000e0062\U000e007f 葛\U000e0100",
        "日本語\u3000の文。全角\u3000空白",
    ],
)
def test_invisible_characters_that_spell_a_script_stay(text: str) -> None:
    for rules in (PLAIN, CODE, WIKI, WIKI_ANY_LANGUAGE):
        assert clean(text, rules, {}) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\u180eb \u180e", "ab"),
        ("ᠡ\u180e", "ᠡ"),
        ("a\u200bb ก\u200bb", "ab กb"),
        ("5\u202fkm a\u1680b", "5 km a b"),
        ("so\u00adft \ufeffx\u2060y", "soft xy"),
    ],
)
def test_elsewhere_they_go(text: str, expected: str) -> None:
    removed: dict[str, list[int]] = {}
    assert clean(text, PLAIN, removed) == expected
    assert {*removed} <= {"invisible", "spaces", "trailing_space"}


def test_columns_of_parquet_say_the_language_of_an_article(workspace: Path) -> None:
    parts = [{"type": "paragraph", "value": "Ernest Cormier 's house stood there, in words."}]
    notes = [{"type": "paragraph", "value": "Smith."}]
    sections = json.dumps(
        [
            {"type": "section", "name": "Abstract", "has_parts": parts},
            {"type": "section", "name": "Note", "has_parts": notes},
        ]
    )
    rows = [
        {"name": code, "sections": sections, "in_language": {"identifier": code}}
        for code in ("en", "it")
    ]
    pq.write_table(pa.Table.from_pylist(rows), "rows.parquet")
    options = CleanupOptions(source="files", input=[Path("rows.parquet")], workers=1, min_words=1)
    list(stage.run(Config(), options, Event()))
    folder = Path("data/cleaned_articles/files")
    texts = [d.text for file in cleaned_files(folder) for d in read_cleaned(file)]
    english = "en\n\nErnest Cormier's house stood there, in words.\n\nNote\n\nSmith."
    assert texts == [english, "it\n\nErnest Cormier 's house stood there, in words."]
