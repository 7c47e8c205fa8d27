"""The data view shows every change that cleaning makes, under the name of what made it."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cleaner.rules import WIKI, WIKI_ANY_LANGUAGE
from pipeline.cleaner.steps import RawDocument, Rejection, apply_steps
from pipeline.cleaner.worker import cleaning_steps
from pipeline.inspection.documents import Corpus
from pipeline.inspection.trace_article import traced_article
from pipeline.sources.items import as_input
from pipeline.sources.records import convert

_TEXT = st.lists(
    st.sampled_from(
        [
            *("Hens", "lay", "eggs.", "Ernest 's", "[1]", "name[0]", "f()", "Paris () is", "<b>"),
            *("l'été", "东京", "a\u200bb", "5\u00a0km", "word.[2]", "one\ntwo", "  x", "(so)"),
        ]
    ),
    min_size=1,
    max_size=6,
).map(" ".join)
_PARAGRAPH = _TEXT.map(lambda text: {"type": "paragraph", "value": text})
_LIST = st.lists(_TEXT, min_size=1, max_size=3).map(
    lambda texts: {
        "type": "list",
        "has_parts": [{"type": "list_item", "value": text} for text in texts],
    }
)
_TABLE = st.just({"type": "table", "value": "1 2 3"})
_NAME = st.sampled_from(
    ["Abstract", "Use", "References", "Einzelnachweise", "Literatur", "See also"]
)
_PARTS = st.recursive(
    _PARAGRAPH | _LIST | _TABLE,
    lambda inner: st.builds(
        lambda name, parts: {"type": "section", "name": name, "has_parts": parts},
        _NAME,
        st.lists(inner, max_size=3),
    ),
    max_leaves=8,
)


def texts_in(parts: list) -> list[str]:
    """Every value of a tree, to any depth."""
    found: list[str] = []
    for part in parts:
        found += [part["value"]] if "value" in part else []
        found += texts_in(part.get("has_parts") or [])
    return found


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(st.lists(_PARTS, min_size=1, max_size=4), st.sampled_from(["en", "de", "xx", ""]))
def test_an_article_shows_all_its_text_and_why_any_of_it_goes(parts: list, code: str) -> None:
    row = {"name": "Hen", "sections": parts, "in_language": {"identifier": code}}
    record = convert(row)
    rules = WIKI if code == "en" else WIKI_ANY_LANGUAGE
    document = apply_steps(cleaning_steps(0, {}), RawDocument("", "", "", rules, record))
    if isinstance(document, Rejection):
        return
    trace = traced_article(record, row, rules)
    assert trace.text == document.text
    for text in texts_in(parts):
        for line in text.split("\n"):
            assert line.strip() in trace.raw
    marked = {place for mark in trace.marks for place in range(mark.start, mark.end)}
    came = {(int(at), trace.text[place]) for place, at in enumerate(trace.origin)}
    lost = [p for p, c in enumerate(trace.raw) if p not in marked and (p, c) not in came]
    assert not "".join(trace.raw[place] for place in lost).strip()


@pytest.mark.parametrize(
    ("row", "unread"),
    [
        ({"title": "T", "abstract": "A lead.", "text": "The body of it. " * 9}, 7),
        ({"text": "The body of it. " * 9, "content": "Short."}, 6),
        ({"text": "The body of it. " * 9}, 0),
        ({"name": "A", "sections": [{"type": "paragraph", "value": "Long. " * 9}], "text": "T"}, 1),
    ],
)
def test_text_of_other_fields_is_shown_as_not_read(workspace: Path, row: dict, unread: int) -> None:
    Path("a.jsonl").write_text(json.dumps(row))
    corpus = Corpus([as_input(Path("a.jsonl"), "a.jsonl")])
    position = corpus.at(0)
    assert position is not None
    looked = corpus.look(position, 0)
    noted = [looked.raw[m.start : m.end] for m in looked.marks if m.rule == "other_text_field"]
    assert noted == ([f"\n\n({unread} characters of text in other fields)"] if unread else [])
    assert not looked.rejected
