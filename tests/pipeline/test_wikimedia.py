"""A record of structured contents of any kind becomes an article, or is refused by name."""

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.cleaner.rules import WIKI
from pipeline.cleaner.steps import RawDocument, Rejection, apply_steps
from pipeline.cleaner.worker import cleaning_steps
from pipeline.sources.documents import Document
from pipeline.sources.records import Part, Record, RejectedError, convert, decode


def cleaned(record: Record) -> Document:
    """The article of a record after all steps; raises the rejection."""
    document = apply_steps(cleaning_steps(0, {}), RawDocument("", "", "", WIKI, record))
    if isinstance(document, Rejection):
        raise RejectedError(document.reason, document.detail)
    return document


def text_of(row: object) -> str:
    return cleaned(decode(json.dumps(row).encode())).text


@pytest.mark.parametrize("key", ["sections", "article_sections"])
@pytest.mark.parametrize("encoded", [False, True])
def test_every_kind_of_release_gives_the_same_article(key: str, encoded: bool) -> None:
    item = {
        "type": "list_item",
        "value": "point",
        "has_parts": [
            {"type": "list", "has_parts": [{"type": "list_item", "value": "finer point"}]}
        ],
    }
    lists = {"type": "list", "has_parts": [item]}
    body = {
        "type": "section",
        "name": "Body",
        "value": None,
        "links": None,
        "has_parts": [
            {"type": "paragraph", "value": [{"value": "runs"}, "of", {"text": "text"}]},
            lists,
            {"type": "table", "value": "1 2 3"},
            {"type": "image"},
        ],
    }
    if encoded:
        body["has_parts"] = json.dumps(body["has_parts"])
    empty = {"type": "section", "name": "Empty", "has_parts": []}
    gone = {"type": "section", "name": "References", "has_parts": [dict(lists)]}
    twice = {
        "type": "section",
        "name": "Abstract",
        "has_parts": [{"type": "paragraph", "value": "The lead."}],
    }
    sections: object = [twice, body, empty, gone, twice]
    row = {"name": "T", "abstract": "The lead.", key: json.dumps(sections) if encoded else sections}
    expected = "T\n\nThe lead.\n\nBody\n\nruns of text\n\n- point\n  - finer point"
    assert text_of(row) == expected
    assert cleaned(convert(row)).text == expected


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"name": "A", "abstract": "REDIRECT B#C"}, "redirect"),
        ({"name": "A (disambiguation)", "abstract": "A may be many things."}, "disambiguation"),
        ({"name": "A", "abstract": "A may refer to:"}, "disambiguation"),
        ({"name": "A"}, "no_text"),
        ({"name": "A", "abstract": None, "sections": [None, 3, {"type": 7}]}, "no_text"),
        ({"name": "A", "sections": "[{]"}, "not_json"),
        ({"name": "A", "sections": "0:"}, "not_json"),
    ],
)
def test_what_is_no_article_is_named(row: dict, reason: str) -> None:
    with pytest.raises(RejectedError) as error:
        text_of(row)
    assert error.value.reason == reason


def section(name: str, text: str) -> dict:
    return {"type": "section", "name": name, "has_parts": [{"type": "paragraph", "value": text}]}


LONG = "The hen is a bird that lays eggs, which people have eaten for many thousand years."


@pytest.mark.parametrize(
    ("lead", "sections", "text"),
    [
        (LONG, [section("Abstract", LONG)], LONG),
        (LONG[:50], [section("Abstract", LONG)], LONG),
        (LONG, [section("Abstract", f"A note. {LONG}")], f"A note. {LONG}"),
        (LONG, [section("Use", "Eggs."), section("Abstract", LONG)], f"{LONG}\n\nUse\n\nEggs."),
        # A lead or a section of that name which says something else is no repetition.
        (LONG, [section("Abstract", "Quite short.")], f"{LONG}\n\nQuite short."),
        (
            LONG,
            [section("Use", "Eggs."), section("Abstract", "Patents begin with a summary of it.")],
            f"{LONG}\n\nUse\n\nEggs.\n\nAbstract\n\nPatents begin with a summary of it.",
        ),
        ("", [section("Abstract", LONG), section("Abstract", "")], LONG),
    ],
)
def test_a_lead_is_left_out_only_where_it_is_repeated(
    lead: str, sections: list[dict], text: str
) -> None:
    assert text_of({"name": "T", "abstract": lead, "sections": sections}) == f"T\n\n{text}"


def test_nesting_of_any_depth_is_read_or_refused_never_a_crash() -> None:
    part: dict = {"type": "paragraph", "value": "deep"}
    for _ in range(300):
        part = {"type": "section", "name": "", "has_parts": [part]}
    assert text_of({"name": "", "sections": [part]}) == "deep"
    deep = b'{"name":"A","sections":' + b'[{"has_parts":' * 100_000
    for line in (deep, b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"):
        with pytest.raises(RejectedError):
            decode(line)


_KEYS = st.sampled_from(
    [
        "name",
        "abstract",
        "sections",
        "article_sections",
        "has_parts",
        "type",
        "value",
        "text",
        "identifier",
        "title",
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=5),
    max_leaves=15,
)


def test_lists_in_lists_do_not_swell_an_article() -> None:
    inner = [Part("list_item", value=f"item {i}") for i in range(500)]
    for _ in range(2000):
        inner = [Part("list", has_parts=inner)]
    record = Record(name="A", sections=[Part("paragraph", value="b"), *inner])
    text = cleaned(record).text
    assert text.count("- item ") == 500
    assert len(text) < 500 * 120


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@example(b'"\x80"')
@given(
    st.binary(max_size=200) | st.dictionaries(_KEYS, _JSON).map(lambda v: json.dumps(v).encode())
)
def test_no_line_crashes(line: bytes) -> None:
    try:
        document = cleaned(decode(line))
    except RejectedError:
        return
    assert document.text
    assert "\n" not in document.title
