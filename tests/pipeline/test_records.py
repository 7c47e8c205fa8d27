"""Which text of a row is read: an article by structure, else the longest field of text."""

import json
from pathlib import Path
from threading import Event

import pyarrow as pa
import pytest
from pyarrow import parquet as pq

from pipeline.cleaner import stage
from pipeline.cleaner.rule_engine import clean
from pipeline.cleaner.rules import PLAIN, WIKI, WIKI_ANY_LANGUAGE
from pipeline.cleaner.steps import RawDocument, Rejection
from pipeline.cleaner.worker import read_document
from pipeline.options.config import CleanupOptions, Config
from pipeline.sources.documents import cleaned_files, read_cleaned
from pipeline.sources.items import Input, Item

LEAD = "A short lead of some words."
BODY = "The body of the text goes on for a good while. " * 9
TREE = [
    {"type": "section", "name": "Abstract", "has_parts": [{"type": "paragraph", "value": BODY}]}
]


def read(row: object, text_field: str = "") -> RawDocument | Rejection:
    source = Input(Path("rows.jsonl"), "rows.jsonl", "rows", 0, text_field)
    return read_document(Item(0, 1, json.dumps(row).encode(), True), source)


@pytest.mark.parametrize(
    ("row", "unread"),
    [
        ({"title": "T", "abstract": LEAD, "text": BODY}, len(LEAD)),
        ({"title": "T", "abstract": LEAD, "content": BODY}, len(LEAD)),
        ({"name": "T", "abstract": LEAD, "full_text": BODY}, len(LEAD)),
        ({"title": "T", "text": LEAD, "content": BODY}, len(LEAD)),
        ({"title": "T", "text": BODY, "content": LEAD}, len(LEAD)),
        ({"name": "T", "sections": [{"heading": "Use", "text": LEAD}], "text": BODY}, 0),
        ({"name": "T", "sections": ["one", "two"], "body": BODY}, 0),
        ({"name": "T", "article": BODY, "sections": None}, 0),
        ({"name": "T", "sections": [{"type": "paragraph", "value": LEAD}], "text": BODY}, 0),
        ({"title": "T", "abstract": BODY}, 0),
    ],
)
def test_the_longest_text_of_a_row_is_read_and_the_rest_counted(row: dict, unread: int) -> None:
    document = read(row)
    assert isinstance(document, RawDocument)
    assert (document.title, document.text, document.rules) == ("T", BODY, PLAIN)
    assert document.unread == unread


@pytest.mark.parametrize(
    "row",
    [
        {"name": "A", "sections": TREE},
        {"name": "A", "article_sections": json.dumps(TREE)},
        {"name": "A", "abstract": LEAD, "sections": TREE, "text": LEAD},
        {"name": "A", "abstract": LEAD, "infoboxes": []},
        {"name": "A", "abstract": LEAD, "is_part_of": {"identifier": "enwiki"}},
        {"abstract": BODY, "sections": TREE, "article_body": {"html": BODY * 3}},
    ],
)
def test_an_article_is_known_by_its_structure(row: dict) -> None:
    document = read(row)
    assert isinstance(document, RawDocument)
    assert document.rules in (WIKI, WIKI_ANY_LANGUAGE)
    assert document.record is not None


@pytest.mark.parametrize(
    ("row", "reason", "named"),
    [
        ({"name": "A", "abstract": LEAD, "article_body": {"html": BODY}}, "body_not_read", "html"),
        ({"title": "A", "abstract": LEAD, "paper": BODY}, "no_text_field", "paper (423"),
        ({"abstract": LEAD, "body_text": [{"text": BODY}]}, "no_text_field", "body_text (423"),
        ({"name": "A", "chapters": {"one": BODY}}, "no_text_field", "chapters (423"),
        ({"completion": BODY}, "no_text_field", "completion (423"),
        ({"messages": []}, "no_text_field", "--text-field"),
    ],
)
def test_what_is_not_read_is_a_reason_that_names_it(row: dict, reason: str, named: str) -> None:
    rejection = read(row)
    assert isinstance(rejection, Rejection)
    assert rejection.reason == reason
    assert named in rejection.detail.replace("characters of markup", "html")


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"paper": BODY, "text": LEAD}, "paper"),
        ({"paper": {"whole": BODY}, "abstract": LEAD}, "paper.whole"),
        ({"a.b": BODY}, "a.b"),
        ({"name": "A", "sections": TREE, "summary": BODY}, "summary"),
        ({"abstract": BODY, "text": BODY * 2}, "abstract"),
    ],
)
def test_a_field_that_was_named_is_read(row: dict, field: str) -> None:
    document = read(row, field)
    assert isinstance(document, RawDocument)
    assert document.text == BODY
    missing = read({"other": BODY}, field)
    assert isinstance(missing, Rejection)
    assert "other (423" in missing.detail


def test_columns_of_parquet_are_read_found_or_asked_for(workspace: Path) -> None:
    def kept(**options: object) -> list[str]:
        settings = {"source": "files", "input": [Path("rows.parquet")], "workers": 1, **options}
        list(stage.run(Config(), CleanupOptions(**settings), Event()))
        folder = Path("data/cleaned_articles/files")
        return [d.text for file in cleaned_files(folder) for d in read_cleaned(file)]

    rows = [{"title": "T", "abstract": LEAD, "paper": BODY, "notes": BODY[:40]}]
    pq.write_table(pa.Table.from_pylist(rows), "rows.parquet")
    with pytest.raises(Exception, match="No document survived") as error:
        kept()
    assert "--text-field" in str(error.value.remedy)
    rejected = Path("data/cleaned_articles/files/rejected_rows.jsonl").read_text()
    assert "paper (423 characters)" in rejected
    assert kept(text_field="paper") == [BODY.strip()]
    pq.write_table(pa.Table.from_pylist([rows[0] | {"body": BODY[:200]}]), "rows.parquet")
    assert kept() == [BODY[:200].strip()]


@pytest.mark.parametrize(
    ("says", "english"),
    [
        ({"in_language": {"identifier": "en"}}, True),
        ({"is_part_of": {"identifier": "enwiki"}}, True),
        ({"url": "https://en.wikipedia.org/wiki/A"}, True),
        ({"in_language": {"identifier": "nl"}, "is_part_of": {"identifier": "enwiki"}}, False),
        ({"is_part_of": {"identifier": "dewiki"}}, False),
        ({"url": "https://de.wikipedia.org/wiki/A"}, False),
        ({}, False),
    ],
)
def test_rules_of_english_are_for_articles_that_say_they_are_english(
    says: dict, english: bool
) -> None:
    document = read({"name": "A", "sections": TREE, **says})
    assert isinstance(document, RawDocument)
    assert document.rules is (WIKI if english else WIKI_ANY_LANGUAGE)


@pytest.mark.parametrize(
    "text",
    [
        "De winkel gaat 's morgens open en 's avonds dicht.",
        "Landbouwproductie en -handel groeien.",
        "Die Herstellung und -verarbeitung von Malz.",
        "Ein- und -ausgabe sowie -speicherung",
        "Hij woont in 's Gravenhage, of 's winters elders.",
        "Calling strlen() on char name[] counts; f(x)() and a[i][] too.",
        "!Kung people live near the |Xam.\n\n|Xam is a group.",
        "|x| is never negative.\n\n|-3| = 3",
        "!important wins in a style | sheet",
    ],
)
def test_hyphens_possessives_and_calls_of_other_languages_stay(text: str) -> None:
    assert clean(text, WIKI_ANY_LANGUAGE, {}) == text
