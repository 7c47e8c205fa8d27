"""Rendered text is what a reader sees: what only looks like markup or debris in it stays."""

import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.cleaner.rule_engine import RuleSet, clean
from pipeline.cleaner.rules import CODE, PLAIN, WIKI, WIKI_ANY_LANGUAGE
from pipeline.cleaner.steps import RawDocument, Rejection, apply_steps
from pipeline.cleaner.worker import cleaning_steps
from pipeline.inspection.trace import traced
from pipeline.sources.records import Part, Record
from tests.support.corpora import PROGRAMS, PROSE

KINDS = {
    "subscripts": [
        "Calling strlen() on char name[] counts bytes; name[0] is the first. main() returns int.",
        "The programmer writes name[0] for the first letter.",
        "The value a[98] is read, then a[1] and a[2] are swapped.",
        "Then x[1] is read and y[2] written.",
        "Then argv[1] names the file, and the third user is users[3] in this list.",
        "The element a[i][j] is a sum of a[i][k] and b[k][j]; grid[3][4] and matrix[2][1].",
        'Also x[1:2], x[-1], d["a"][1], "abc"[1], f(x)[1], x.split(" ")[1], lst[[2]], arr.[1]',
    ],
    "numbers in brackets": [
        "Technetium has the standard atomic weight [98]. It has no stable isotope.",
        "The mass number is [98], [209] or [210]; CO2[1] and [Fe(CN)6]4- and [98Tc].",
        "The interval [0, 1] and the half-open (a, b] and ]0, 1[ and [0, 1) are subsets of R.",
        "The residue class [3] modulo 7 equals [10]. We write [5] for the first five numbers.",
        "Result [1] is printed by R.",
        "[1] is the first line of output.",
        "As shown in [1], this follows from [1]. See [1]; compare both [1] and Theorem [1].",
        "Hydrogen has the atomic weight [1].",
        "The ring Z[i], the field Q[a] and F[x]; the commutator [a, b] is zero.",
    ],
    "HTML named in prose": [
        "The <b> element is bold and <table> holds <tr> rows.",
        "A page begins with <html> and ends with </html>; write <br> or <br/> for a new line.",
        "Use <img src='x.png'>, or <p>Hello</p> and <b>bold</b>.",
        "<!-- a comment in HTML --> is written so.",
        "The entity &nbsp; is a no-break space, &lt; and &gt; are brackets, &amp; an ampersand.",
    ],
    "C++, Java, Rust": [
        "std::map<string, int> m; if (a < b && c > d) return; a list is vector<s>.",
        "vector<vector<int>> v{{1, 2}, {3, 4}}; int *p = &sum; int *q = &image;",
        "An attribute [[nodiscard]] warns, [[maybe_unused]] does not.",
        "for (;;) loops; for (; i < n; i++) too; for ( ; ; ) as well; int main () { return 0; }",
        "Ok(()) in Rust, Option<T>, fn f() -> () { }, Vec<[u8; 4]>, &str and &mut x",
        "obj.get().Name is read; Console.In reads; System.The end",
        "The macros __FILE__, __LINE__, __NOINLINE__, __END__ and the method __init__.",
    ],
    "Python, JavaScript, Lisp, Haskell": [
        "(1,) is a tuple; f(x, ) too; x = [] and y = () and z = {}; s = '''doc''' and t = ''",
        'print(" hello ") and split(", ") and join(" a ") and echo " x "',
        "The slot [[Prototype]] of an object; numpy [[1, 2], [3, 4]], [[0]] and df[['a', 'b']]",
        "'() and (a . b) and `(,x ,@y) and (lambda () x); f . g $ x, (,) and (:) and IO ()",
        "The function main () is called first. Then fork () makes a process. Call printf () again.",
        "The value () is the only one of unit type. The empty list [] and the set {} are false.",
    ],
    "shell": [
        "The test [[ -n $x ]] is true; grep -rin word; tar -xzf file.",
        "The command ls -help prints help, java -version tells the version.",
        "Type find . -name to search, or cp a.txt . and then cd .",
        "Then stage everything with git add .",
        "$ git add . && git commit -m 'x' ; [ -f x ] || exit 1",
        "The shell tests [[ -f x ]] first, POSIX has the class [[:alpha:]] of letters.",
    ],
    "regular expressions and templates": [
        r"^[a-z]+$ matches; [0-9]{3}-[0-9]{4}; (a|b)[12]; colou?r[1]; \d{1,3}[.]",
        "The regular expression a.[1] is short.",
        "Jinja: {{ user.name }}, {{name}}, {{name|upper}} and {% if x %}; {{#items}}{{/items}}",
        "Menu: [e]dit, [q]uit, [edit]. Press [a] to add, [Enter], then [Esc].",
        "A table in Markdown is | a | b | and so on.\n| a | b |\n|---|---|\n| 1 | 2 |",
    ],
    "mathematics": [
        "Let A = {1, 2, 3} and B = {x | x > 0}; the empty set is {} or ( ).",
        "f''(x) + g''(x) = 0 and f'''(x) > 0. He is 5' 11'' tall.",
        r"\frac{a}{b}, \sqrt[3]{x}, \cite[12]{knuth}, \left[ 0, 1 \right], $x_{[1]}$, {{a}_b}",
        "The notation {| a, b |} and <|> and |x| and ||x|| hold.\n|x| is never negative.\n|| y",
        "The composition f . g is a function. The dot . is a character, and so is , too.",
    ],
    "data": [
        '{"a": [], "b": [1, [2], 3], "c": {}} and [1,[2],3] and [[1],[2]]',
        "items: [] and urls: [https://a.org, https://b.org]",
        "SELECT * FROM t WHERE name = 'O''Brien' AND x = '';",
        "English suspends, too: army-organized and -stuffed trains, hand-made or -painted.",
        "!important and ! x\n! x\n|Xam\n!Kung people live near the |Xam.",
        'He said: "[W]e [had] to go [sic] home[s]". The pipe | and the marks :) ;) (: (;',
    ],
}
LINES = [(kind, text) for kind, texts in KINDS.items() for text in texts]


@pytest.mark.parametrize("rules", [WIKI, WIKI_ANY_LANGUAGE, PLAIN], ids=["en", "any", "plain"])
@pytest.mark.parametrize(("kind", "text"), LINES)
def test_what_only_looks_like_markup_stays(kind: str, text: str, rules: object) -> None:
    removed: dict[str, list[int]] = {}
    assert clean(text, rules, removed) == text, kind  # type: ignore[arg-type]
    assert removed == {}


def test_it_stays_together_and_as_an_article() -> None:
    paragraphs = [line for _, text in LINES for line in text.split("\n")]
    record = Record(name="C strings", sections=[Part("paragraph", value=p) for p in paragraphs])
    for rules in (WIKI, WIKI_ANY_LANGUAGE):
        removed: dict[str, list[int]] = {}
        raw = RawDocument("", "", "", rules, record)
        document = apply_steps(cleaning_steps(0, removed), raw)
        assert not isinstance(document, Rejection)
        assert document.text == "\n\n".join(["C strings", *paragraphs])
        assert removed == {}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("It fell.[1] Then[2] it rose[3] again.", "It fell. Then it rose again."),
        ("Paris[12] is the capital[13] of France.[14][15]", "Paris is the capital of France."),
        ("In 1990,[4] he left (see above)[5] home.", "In 1990, he left (see above) home."),
        ("It has 5,000[3] people (2010).[4]", "It has 5,000 people (2010)."),
        ("日本の首都である[1]。東京[2]は", "日本の首都である。東京は"),
        ("“Quote”[3] and it ends daily [1].", "“Quote” and it ends daily."),
        ("It ended. [3] Then it began. [4]", "It ended. Then it began."),
        ("It is old [citation needed] and[who?] new.[a][note 2]", "It is old and new."),
        ("Das ist alt.[Anm. 1] Es ist so.[Beleg fehlt]", "Das ist alt. Es ist so."),
        ("C'est vieux[note 3] et grand [réf. nécessaire].", "C'est vieux et grand."),
        ("Es antiguo[cita requerida] y grande[nota 2].", "Es antiguo y grande."),
        (
            "古い建物である[要出典]。大きい[注 1]。很大[來源請求]。",
            "古い建物である。大きい。很大。",
        ),
        ("Дом стар[источник не указан 123 дня], но велик[прим. 2].", "Дом стар, но велик."),
        ("Het is oud[bron?] en groot.[noot 4]", "Het is oud en groot."),
        (
            "The call strlen() counts letters.[1] It is C.[2]",
            "The call strlen() counts letters. It is C.",
        ),
        ("x = f(y) returns 0.[3][4] So a < b.[citation needed]", "x = f(y) returns 0. So a < b."),
        ("It fell.[1]–[3] Then it rose.[4],[5] Yes[6][a].", "It fell. Then it rose. Yes."),
        ("Paris () is the capital.", "Paris is the capital."),
        ("The giant panda () is a bear.", "The giant panda is a bear."),
        ("Paris ( ; ) is, and Rome ( ) was", "Paris is, and Rome was"),
        ("Rome (; Latin: Roma; Greek: Rome) is", "Rome (Latin: Roma; Greek: Rome) is"),
        ("Rome ( Italian: Roma) or (Italian: Roma )", "Rome (Italian: Roma) or (Italian: Roma)"),
        ("Rome (/ˈroʊm/ Italian: Roma) is", "Rome (Italian: Roma) is"),
        ("See <ref>Smith 2000</ref> here<ref name='a' />.", "See here."),
        ('{| class="wikitable"\n|-\n| a || b\n{| \n| x\n|}\n|}\nmore', "more"),
        ('Text {| class="wikitable" |- | a || b |} more', "Text more"),
        ("Text<br>more <br/>and H<sub>2</sub>O", "Text more and H2O"),
        ("A {{citation needed}} b {{lang|fr|x}} c", "A b c"),
        ("The [[Moon|lunar]] and [[Sun]] AT&amp;T", "The lunar and Sun AT&T"),
        ("the Academy Award -winning film 's end", "the Academy Award-winning film's end"),
    ],
)
def test_debris_still_goes(raw: str, expected: str) -> None:
    assert clean(raw, WIKI, {}) == expected


# Named rules of blanks, which code in an article is not safe from.
BLANKS = {"double_spaces", "leading_space", "trailing_space", "blank_lines"}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_stay_but_for_named_blanks_in_articles_and_whole_as_code(name: str) -> None:
    program = PROGRAMS[name].strip("\n")
    removed: dict[str, list[int]] = {}
    assert clean(program, CODE, removed) == program
    assert removed == {}
    for rules in (WIKI, WIKI_ANY_LANGUAGE, PLAIN):
        assert clean(program, rules, removed).split() == program.split()
        lines = [line.strip() for line in program.split("\n")]
        assert [" ".join(clean(line, rules, removed).split()) for line in lines] == [
            " ".join(line.split()) for line in lines
        ]
    assert removed.keys() <= BLANKS


@pytest.mark.parametrize("name", PROSE)
def test_prose_of_many_languages_stays(name: str) -> None:
    for rules in (WIKI, WIKI_ANY_LANGUAGE, PLAIN, CODE):
        removed: dict[str, list[int]] = {}
        assert clean(PROSE[name], rules, removed) == PROSE[name]
        assert removed == {}


def test_a_paragraph_keeps_its_lines() -> None:
    program = PROGRAMS["C++"].strip()
    record = Record(name="A", sections=[Part("paragraph", value=program)])
    raw = RawDocument("", "", "", WIKI, record)
    document = apply_steps(cleaning_steps(0, {}), raw)
    assert not isinstance(document, Rejection)
    assert document.text == f"A\n\n{program}"


_WORDS = st.one_of(
    st.sampled_from(
        ["The", "a", "in", "Paris", "l'été", "-handel", "'s", "3.5%", "(c.", "1850)", "U.S."]
    ),
    st.text(st.characters(categories=["Lu", "Ll", "Lo"]), min_size=1, max_size=9).filter(
        lambda word: unicodedata.is_normalized("NFC", word)
    ),
)
_SENTENCES = st.tuples(
    st.lists(_WORDS, min_size=1, max_size=12), st.sampled_from([".", "!", "?", ":", ";", "…", "."])
).map(lambda sentence: " ".join(sentence[0]) + sentence[1])


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(st.lists(_SENTENCES, min_size=1, max_size=5), st.sampled_from([" ", "\n", "\n\n"]))
def test_text_without_markup_is_left_alone_in_any_language(texts: list[str], gap: str) -> None:
    text = gap.join(texts)
    assume(not set(text) & set("ⓘ·") and not text.startswith(" "))
    removed: dict[str, list[int]] = {}
    assert clean(text, WIKI_ANY_LANGUAGE, removed) == text
    assert removed == {}


_MARKLESS = st.text(
    st.sampled_from("abc XYZ éß漢字 ,.;:!?()\"'-–/ 0123 \n")
    | st.characters(exclude_categories=["Cs"]),
    max_size=80,
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(_MARKLESS, st.sampled_from([WIKI, WIKI_ANY_LANGUAGE, PLAIN, CODE]))
def test_every_change_is_counted_and_shown_under_the_name_of_a_rule(
    text: str, rules: RuleSet
) -> None:
    removed: dict[str, list[int]] = {}
    cleaned = clean(text, rules, removed)
    trace = traced(text, rules)
    assert trace.text == cleaned
    names = {rule.name for rule in rules.rules} | {"nfc", "outer_blank"}
    assert {mark.rule for mark in trace.marks} <= names
    assert removed.keys() <= names
    stripped = text.strip("\n").rstrip()
    if cleaned != stripped:
        assert removed or not trace.text
    marked = {place for mark in trace.marks for place in range(mark.start, mark.end)}
    kept = [place for place in range(len(text)) if place not in marked]
    came = {int(place): cleaned[i] for i, place in reversed(list(enumerate(trace.origin)))}
    assert all(came.get(place) == text[place] for place in kept)


def test_an_open_table_is_no_table() -> None:
    for text in ("{| class=x\n| a", "| a\n|}", "{|\nText of two lines\n|}", "|}\n| a\n{|"):
        assert clean(text, WIKI, {}) == text
