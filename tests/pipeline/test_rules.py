"""Cleaning a text: debris goes, text stays, and clean text is never touched again."""

import re
import subprocess
import sys
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.cleaner.rule_engine import Removed, UnstableMarkupError, clean, nfc
from pipeline.cleaner.rules import CODE, PLAIN, WIKI
from tests.conftest import ROOT

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff\u00a0]")


@pytest.mark.parametrize(
    ("rule", "raw", "expected"),
    [
        ("citations", "It fell.[1][a] Then[note 2] rose[citation needed].", "It fell. Then rose."),
        ("citations", 'He said "[t]he king"[12] left.', 'He said "[t]he king" left.'),
        ("templates", "A {{cite web|url={{x}}}} b.", "A b."),
        ("links", "The [[Moon|lunar]] and [[Sun]].", "The lunar and Sun."),
        ("media_links", "Seen[[File:a.jpg|thumb|x]] here.", "Seen here."),
        ("web_links", "See [https://a.org/x the page] now.", "See the page now."),
        ("comments", "a<!-- no --> b", "a b"),
        ("tags", "H<sub>2</sub>O <br/>is <unk> wet", "H2O is <unk> wet"),
        ("references", 'Fact.<ref name="a">Book, p. 2</ref> More.', "Fact. More."),
        ("entities", "AT&amp;T &ndash; 5&nbsp;km", "AT&T – 5 km"),
        ("emphasis", "'''Bold''' and ''thin'' o'clock", "Bold and thin o'clock"),
        ("magic_words", "__NOTOC__Start snake__case", "Start snake__case"),
        ("tables", "Text\n{| class=x\n|-\n| a || b\n|}\nmore", "Text\n\nmore"),
        ("empty_parentheses", "Rome () is (; ) old", "Rome is old"),
        ("open_parentheses", "Rome (; Italian: Roma) is", "Rome (Italian: Roma) is"),
        ("close_parentheses", "Rome (Italian: Roma ; ) is", "Rome (Italian: Roma) is"),
        (
            "phonetics",
            "Montreal (CA: /ˌ m ʌ n t r i ˈ ɔː l / MUN -tree-AWL; French: Montréal) is",
            "Montreal (French: Montréal) is",
        ),
        ("coordinates", "The peak (46°51′N 121°45′W) is", "The peak is"),
        ("possessive_space", "Ernest Cormier 's house", "Ernest Cormier's house"),
        (
            "spaced_quotes",
            'the " Reagan Democrats " and "x" of',
            'the "Reagan Democrats" and "x" of',
        ),
        ("punctuation_space", "one , two .", "one, two."),
        ("glued_sentences", "class: Dfb).Summers are U.S. hot.The end", None),
        ("invisible", "a\u200bb\u202ec", "abc"),
        ("spaces", "5\u00a0km\u2009x", "5 km x"),
        ("controls", "a\x1b[31mb\x07", "a[31mb"),
        ("line_breaks", "a\u2028b\x0bc", "a\nb\nc"),
        ("nfc", "e\u0301", "é"),
    ],
)
def test_debris_goes_under_the_name_of_its_rule(rule: str, raw: str, expected: str | None) -> None:
    removed: Removed = {}
    text = clean(raw, WIKI, removed)
    assert text == (expected or "class: Dfb). Summers are U.S. hot. The end")
    assert removed[rule][0] >= 1


def test_removed_characters_add_up() -> None:
    removed: Removed = {}
    raw = "It fell.[1] Then () rose[2]  high."
    text = clean(raw, WIKI, removed)
    assert sum(characters for _, characters in removed.values()) == len(raw) - len(text)


@pytest.mark.parametrize(
    "text",
    [
        "U.S. Route 5 (also I-95) cost $3.50; 5 < 6 & 7 > 2. It's the '90s.",
        'He said: "No." and "Yes," then left (see above) at 5:30.',
        "Un titre : l’été — « oui » ; non !",
        "نمی‌خواهم 👩‍🚀 ok",
        "- item\n  - nested item\n- last",
        "array[i] and [sic] {x} a_b __init__ O'Brien",
    ],
)
def test_good_prose_is_left_alone(text: str) -> None:
    removed: Removed = {}
    assert clean(text, WIKI, removed) == text
    assert removed == {}


def test_code_keeps_everything_that_means_something() -> None:
    code = 'def f(x):\n\tif x[1]:  # "[1]" & <b>\n\t\treturn {{}}\n\n\nclass A:\n    pass'
    removed: Removed = {}
    assert clean(code, CODE, removed) == code
    assert clean(code.replace("\n", " \r\n") + "\x0c\r\n", CODE, removed) == code
    assert set(removed) == {"line_ends", "trailing_space", "controls"}


def test_debris_nested_without_end_is_refused_and_quick() -> None:
    with pytest.raises(UnstableMarkupError):
        clean("{{" * 5000 + "}}" * 5000, WIKI, {})
    for attack in ("(" * 50_000, "[" * 50_000, "<" * 50_000, '" ' * 50_000, "/ə" * 50_000):
        assert clean(attack, WIKI, {})


# What each text took before its rule was linear: the last hours, the others minutes.
_HOSTILE = {
    "blanks": ("PLAIN", 12_000_000, "a \n", " \t"),
    "comments": ("WIKI", 6_000_000, "", "<!-- "),
    "web links": ("WIKI", 1_000_000, "", "[http://"),
    "marks": ("PLAIN", 2_000_000, "a", "\u0300\u0323"),
}


@pytest.mark.slow
@pytest.mark.parametrize("hostile", _HOSTILE)
def test_megabytes_made_to_be_slow_are_cleaned_in_seconds(hostile: str) -> None:
    rules, size, beginning, repeated = _HOSTILE[hostile]
    _clean_within_cpu_seconds(30, f"{beginning!r} + {repeated!r} * {size // len(repeated)}", rules)


_REPEATED = [
    *(
        " ",
        "\t",
        "\n ",
        "\r",
        "\n",
        "\n\n|",
        "\x00",
        "\u3000",
        "a",
        "0",
        ".",
        ",",
        ";,",
        " ,",
        " -",
        "-",
    ),
    *(
        "<",
        "</",
        "<s ",
        "<p>",
        "<ref",
        "<ref ",
        "<ref>",
        "<ref/",
        "<!--",
        "-->",
        "<!-- -",
        "&",
        "&#1",
    ),
    *(
        "{{",
        "}}",
        "{{a",
        "{{}}",
        "[[",
        "]]",
        "[[a|",
        "[[]]",
        "[[File:",
        "[",
        "]",
        "[]",
        "[1",
        "[a]",
    ),
    *(
        "[http://",
        "[https://a ",
        "[http://[",
        "[citation needed",
        "(",
        ")",
        "()",
        "( ",
        "(;",
        " )",
        "; ",
    ),
    *(
        "(\u02d0",
        "(/\u02d0",
        "(\u02d0/\u02d0)",
        "[\u02d0",
        "A B C: ",
        "A:(\u02c8/",
        "1°",
        " (1°1′1″ N ",
        "°",
    ),
    *(
        "'",
        "''",
        "''a",
        "'''",
        '"',
        '" ',
        '" a',
        "__",
        "__A",
        "|",
        "\n|",
        "\n{|",
        "\n!",
        " 's ",
        "A.B",
    ),
    *("e\u0301", "\u0300", "\u0323\u0301", "\u0f73", "(listen", "ⓘ", "{{{{}}}}\n", "a [1]\n"),
    *("rose[2]", "rose[1] ", "a[1] b[2] ", ".[1]", ")[1]", "(a)[1] ", '"[1]', "A[1] ", "words[a]"),
    *("x ()", "X () ", "The x", " ( ; )", "(; ab", "( ab", "ab ;)", "(ab cd ;) ", "Ab , ", "ab . "),
    *('" ab "', '(" ab "', "Ab 's ", "abc -ed ", "ab).Cd ", "ab.The ", "A B C: [\u02d0] "),
    *("{| class=", "{|\n|}\n", "{|\n", "|}\n", "{{cite ", "{{cite {{a}}", "{{a b|c=", "{{a|{{b}}"),
    *("A&amp;b", "A&amp;b\n", "&amp;", "[[a|b]] [[c]]", "[[c]]", "a<!--", "<!--a-->b", "a<br>b"),
    *("''a'' ", " '''a'''. ", "<sub>a", "a<sub>b</sub>", "<nowiki>", "[https://a]", "[http://a,"),
]


@pytest.mark.slow
def test_no_repetition_makes_cleaning_slow() -> None:
    texts = f"[unit * (50_000 // len(unit)) for unit in {_REPEATED!r}]"
    for rules in ("WIKI", "PLAIN", "CODE"):
        _clean_within_cpu_seconds(10, texts, rules)


def _clean_within_cpu_seconds(seconds: int, texts: str, rules: str) -> None:
    """Cleans texts in a process that the system ends when one of them takes that much work."""
    script = f"""
import math, resource, time
from pipeline.cleaner import rule_engine, rules
texts = {texts}
for text in [texts] if isinstance(texts, str) else texts:
    last = math.ceil(time.process_time()) + {seconds}
    resource.setrlimit(resource.RLIMIT_CPU, (last, resource.RLIM_INFINITY))
    for hostile in (text, "a(\\n \\n" + text + "b"):
        try:
            rule_engine.clean(hostile, rules.{rules}, {{}})
        except rule_engine.UnstableMarkupError:
            pass
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert done.returncode == 0


_SCANS = {
    "comments": (r"<!--[^>\n]{0,5000}-->", ""),
    "web_links": (r"\[https?://[^\s\]]{1,1000} ?([^\]\n]{0,500})\]", r"\1"),
}
_PIECES = [
    *(
        "<!--",
        "<!-",
        "-->",
        "--",
        ">",
        "-",
        "\n",
        "[http://",
        "[https://",
        "]",
        "[",
        " ",
        "\t",
        "a",
    ),
    *("b" * 497, "c" * 999, "d" * 4990, "\u2003"),
]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_PIECES), max_size=25).map("".join), st.sampled_from([*_SCANS]))
@example("<!-->--><!--->", "comments")
@example("<!--" + "d" * 4998 + "<!---->", "comments")
@example("[http:// a][http://a\n[http://b c]", "web_links")
@example("[http://a " + "b" * 501 + "[http://c]", "web_links")
def test_a_scan_finds_what_its_regular_expression_would(text: str, name: str) -> None:
    [rule] = [rule for rule in WIKI.rules if rule.name == name]
    removed: Removed = {}
    pattern, replacement = _SCANS[name]
    expected, spans = re.subn(pattern, replacement, text)
    assert rule.apply(text, removed) == expected
    assert removed.get(name, [0])[0] == spans


_MARKS = [
    "a",
    "é",
    "か",
    "…",
    *"\u0301\u0323\u0327\u0344\u0345\u0f71\u0f72\u0f73\u3099\u1100\u1161",
]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(_MARKS), max_size=40), st.lists(st.sampled_from(_MARKS[4:])))
def test_long_runs_of_marks_are_composed_as_unicode_says(around: list[str], run: list[str]) -> None:
    text = "".join([*around, *run * 60, *around])
    assert nfc(text) == unicodedata.normalize("NFC", text)


def test_marks_are_no_word_characters_so_that_long_runs_of_them_are_found() -> None:
    for character in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.combining(unicodedata.normalize("NFD", character)[0]):
            assert re.fullmatch(r"[^\w\x00-\u02ff]", character)


_DEBRIS = st.text(
    st.sampled_from("ab Z.,;:'\"()[]{}<>|/-_=&#\n\t\r\x0b\x00\x85\u00a0\u200b\u0301\u2028é°əˈ1"),
    max_size=60,
)
_SNIPPETS = st.lists(
    st.sampled_from(
        [
            *("[1]", "[[a|b]]", "{{x}}", "<ref>", "</ref>", "&amp;", "&nbsp;", "()", "( ; ", " "),
            *("/ə/", "The", ".", "\n", "word", '" ', ' "', " 's ", "<!--", "-->", "[a]", "''"),
            *("e", "(", ")", "\u0301", "{|", "|", " -abc", "&#x0301;"),
            *(
                " (x ;)",
                " ( ab cd)",
                "{| class=x |- | a |}",
                "\n{| a\n| b\n|}\n",
                "A&amp;B",
                "''x'' ",
            ),
            *(" , ", " . ", "<br>", "H<sub>2</sub>O", "a<!--c-->b", " -based", "The.In ", " x[0]"),
            *(" f(x)", "Paris", " ()", "[note 1]", ".[2]", "{{cn}}", "[[c]]"),
        ]
    ),
    max_size=25,
).map("".join)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(st.one_of(_DEBRIS, _SNIPPETS, st.text(max_size=60)), st.sampled_from([WIKI, PLAIN, CODE]))
@example("&amp;amp;amp;", WIKI)
@example("0\r&nbsp0;", WIKI)
@example("e[1]\u0301", WIKI)
@example("a\n [1] x\n( ( ) )", WIKI)
@example(" .[1]{{cn}}\u200b", WIKI)
@example(" (x ;)\n{| a\n| b\n|}\n{| class=x |- | a |} -based.", WIKI)
@example(" [note 1]{|\n|}   ()a<!--c-->b The ()The.In  ( ab cd)", WIKI)
@example("a<!--c-->b{| class=x |- | a |} .\n{| a\n| b\n|}\n The , \n x[0] , <br>", WIKI)
def test_cleaning_twice_is_cleaning_once(text: str, rules: tuple) -> None:
    try:
        once = clean(text, rules, {})
    except UnstableMarkupError:
        return
    removed: Removed = {}
    assert clean(once, rules, removed) == once
    assert removed == {}
    assert unicodedata.is_normalized("NFC", once)
    if rules is not CODE:
        assert not _CONTROL.search(once)
