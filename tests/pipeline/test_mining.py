"""Conversations found in running text: what each rule takes, in several languages, and leaves."""

import sys
from collections import Counter
from collections.abc import Iterator
from random import Random
from types import FrameType

import pytest

from pipeline.conversations.conversation import Conversation
from pipeline.conversations.mining.blocks import LONGEST_LINE, parse
from pipeline.conversations.mining.mine import Mined, NotMined, mine
from pipeline.sources.documents import Document


def mined(text: str, title: str = "", name: str = "d") -> list[Mined]:
    return list(mine([Document(name, title, text)]))


def found(text: str, title: str = "") -> list[Conversation]:
    return [one for one in mined(text, title) if isinstance(one, Conversation)]


def pairs(text: str, title: str = "") -> list[tuple[str, ...]]:
    return [(one.rule, *(turn.content for turn in one.turns)) for one in found(text, title)]


def reasons(text: str, title: str = "") -> list[tuple[str, str]]:
    return [(one.rule, one.reason) for one in mined(text, title) if isinstance(one, NotMined)]


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        (
            "Q: What is a crumb?\nA: The inside of a loaf.",
            "What is a crumb?",
            "The inside of a loaf.",
        ),
        ("**Q:** Why salt?\n**A:** It slows the yeast.", "Why salt?", "It slows the yeast."),
        ("Frage 3: Wann?\n\nAntwort: Am\nMontag.", "Wann?", "Am\nMontag."),
        ("Question : Où ?\nRéponse : À Lyon.", "Où ?", "À Lyon."),
        ("Pregunta: ¿Cuándo?\nRespuesta: Mañana.", "¿Cuándo?", "Mañana."),
        ("Vraag: Hoe laat?\nAntwoord: Om vier uur.", "Hoe laat?", "Om vier uur."),
        ("Вопрос: Где соль?\nОтвет: В шкафу.", "Где соль?", "В шкафу."),
        ("问：什么时候加盐？\n答：揉好之后。", "什么时候加盐？", "揉好之后。"),
        ("質問：いつですか。\n回答：明日です。", "いつですか。", "明日です。"),
    ],
)
def test_labelled_questions_in_many_languages(text: str, question: str, answer: str) -> None:
    assert pairs(text) == [("labels", question, answer)]


def test_an_answer_goes_on_over_blank_lines_only_where_another_question_follows() -> None:
    text = "Q: One?\nA: First.\n\nSecond.\n\nQ: Two?\nA: Third.\n\nWritten by the baker."
    assert pairs(text) == [
        ("labels", "One?", "First.\n\nSecond."),
        ("labels", "Two?", "Third."),
    ]


def test_a_labelled_question_without_an_answer_is_given_up_as_such() -> None:
    assert reasons("Q: One?\n\nQ: Two?\nA: Yes, two.") == [("labels", "no_answer")]


def test_the_next_question_a_line_drawn_and_a_notice_end_an_answer() -> None:
    text = (
        "1. Was kostet ein Brot?\nEin Brot kostet bei uns vier Euro.\n\n"
        "**Nehmen Sie Karten?**\n\nJa, ab zehn Euro nehmen wir alle.\n\n---\n\n"
        "Copyright 2020. All rights reserved."
    )
    assert pairs(text) == [
        ("question_line", "Was kostet ein Brot?", "Ein Brot kostet bei uns vier Euro."),
        ("question_heading", "Nehmen Sie Karten?", "Ja, ab zehn Euro nehmen wir alle."),
    ]


def test_headings_that_ask_are_answered_by_what_stands_below_with_its_list() -> None:
    text = "# Library\n\n## 2. How many may I take?\n\nBoth of these:\n\n- ten books\n- two films\n"
    assert pairs(text) == [
        ("question_heading", "How many may I take?", "Both of these:\n\n- ten books\n- two films")
    ]


@pytest.mark.parametrize(
    ("text", "question"),
    [
        ("Why is bread sour?\n\nBecause bacteria in it make acid.", "Why is bread sour?"),
        ("Warum ist Brot sauer?\nWeil Bakterien darin Säure bilden.", "Warum ist Brot sauer?"),
        (
            "¿Por qué es ácido el pan?\n\nPorque hay bacterias en la masa.",
            "¿Por qué es ácido el pan?",
        ),
        ("Почему хлеб кислый?\n\nВ тесте живут молочные бактерии.", "Почему хлеб кислый?"),
        ("面包为什么会发酸？\n\n因为乳酸菌在面团里产生酸。", "面包为什么会发酸？"),
    ],
)
def test_a_question_on_a_line_of_its_own(text: str, question: str) -> None:
    [one] = pairs(text)
    assert one[:2] == ("question_line", question)


@pytest.mark.parametrize(
    "text",
    [
        "I was late again. Why? The train.\n\nNobody knew it then, and nobody asked.",
        "Ready to bake?\n\nThen come in and have a look around our shop.",
        "What is the biggest tire?\n\nThe biggest day of all of this year!",
        "Who goes there?\n\nWho is it this time?\n\nAnd who will come after them?",
    ],
)
def test_rhetoric_is_no_question_to_be_answered(text: str) -> None:
    assert found(text) == []


PLAY = (
    "First Baker:\nIs the oven hot?\n\nSecond Baker:\nIt is,\nas ever: so be quick.\n\n"
    "[Enter a child.]\n\nFirst Baker:\nThen in it goes.\n\nSecond Baker:\nMind the door."
)


def test_a_play_gives_the_one_who_asks_less_the_answers() -> None:
    assert pairs(PLAY) == [
        (
            "dialogue",
            "Is the oven hot?",
            "It is,\nas ever: so be quick.",
            "Then in it goes.",
            "Mind the door.",
        )
    ]


def test_a_main_voice_answers_even_where_it_speaks_first() -> None:
    text = (
        "Ms. Jansen: Come in, the shop is open until the bells ring in the tower.\n"
        "Visitor: When did you begin?\nMs. Jansen: As a child, with my grandmother at her oven.\n"
        "Note: she was six.\nVisitor: Do you miss it?\nMs. Jansen: Every day of the year, I do."
    )
    assert pairs(text) == [
        (
            "dialogue",
            "When did you begin?",
            "As a child, with my grandmother at her oven.",
            "Do you miss it?",
            "Every day of the year, I do.",
        )
    ]


def test_without_a_main_voice_speakers_alternate_and_an_odd_last_speech_is_left_out() -> None:
    names = ("ANNA", "BEN", "CLEO", "DORA", "ANNA", "BEN", "CLEO")
    text = "\n\n".join(f"{name}. Speech number {n}, is it?" for n, name in enumerate(names))
    [one] = found(text)
    assert [turn.content for turn in one.turns] == [f"Speech number {n}, is it?" for n in range(6)]
    assert [turn.role for turn in one.turns] == ["user", "assistant"] * 3


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("Маша: Где зонт?\nПётр: У двери.\nМаша: Где?\nПётр: Там.", ("Где зонт?", "У двери.")),
        ("小明：吃了吗？\n小红：吃了。\n小明：好吃吗？\n小红：很好。", ("吃了吗？", "吃了。")),
        ("太郎「暑いですか？」\n花子「はい。」\n太郎「海は？」\n花子「青い。」",
         ("暑いですか？", "はい。")),
        ("[10:02] jan: kom je?\n[10:03] els: ja\n[10:04] jan: laat?\n[10:05] els: om vier",
         ("kom je?", "ja")),
        ("LISA, à part.\nOù est-il ?\n\nFRED.\nIl dort encore.\n\nLISA.\nEt toi ?\n\nFRED.\nNon.",
         ("Où est-il ?", "Il dort encore.")),
        ("[10:02] Jan: Kom je?\n[10:03] Els: Ja.\n[10:04] Jan: Hoe laat?\n[10:05] Els: Om vier.",
         ("Kom je?", "Ja.")),
    ],
)  # fmt: skip
def test_dialogue_in_other_scripts_and_forms(text: str, turns: tuple[str, ...]) -> None:
    [one] = pairs(text)
    assert (one[0], one[1:3]) == ("dialogue", turns)


def test_what_is_short_and_russian_is_no_name() -> None:
    assert found("Да. Он пришёл?\n\nНет. Ещё рано.\n\nДа. Жди.\n\nНет. Пора.") == []


def test_paragraphs_that_begin_with_a_word_and_a_colon_are_no_dialogue() -> None:
    line = "the farm has rooms for forty people, a yard, and a view over all of the valley; "
    text = "\n".join(f"{name}: {line * 3}" for name in ("Stay", "Walks", "Stay", "Walks"))
    assert found(text) == []


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        (
            "»Wann kommt das Boot?«, fragte er.\n\n»Morgen«, sagte sie. »Wenn der Wind hält.«",
            ("Wann kommt das Boot?", "Morgen. Wenn der Wind hält."),
        ),
        (
            "„Wann kommt das Boot?“, fragte er.\n\n„Morgen“, sagte sie, „wenn der Wind hält.“",
            ("Wann kommt das Boot?", "Morgen, wenn der Wind hält."),
        ),
        (
            "“Have you the lamp?” he asked.\n\n“It is,” she said, “where you left it.”",
            ("Have you the lamp?", "It is, where you left it."),
        ),
        (
            "‘Isn’t it late?’ he asked.\n\n‘It’s not,’ she said.",
            ("Isn’t it late?", "It’s not."),
        ),
        ("— Где ты был? — спросила она. — Мы ждали.\n\n— В лесу, — ответил он. — Там хорошо.",
         ("Где ты был? Мы ждали.", "В лесу. Там хорошо.")),
        ("—¿Vienes? —preguntó Juan.\n\n—Sí —dijo ella—. Mañana.", ("¿Vienes?", "Sí. Mañana.")),
        ("« Tu viens ? » demanda-t-il.\n\n« Bientôt. »", ("Tu viens ?", "Bientôt.")),
        ("“你去哪儿？”他问。\n\n“去学校。”她说，“有考试。”", ("你去哪儿？", "去学校。有考试。")),
        ("「どこへ行くの？」と聞いた。\n\n「学校です。」", ("どこへ行くの？", "学校です。")),
    ],
)  # fmt: skip
def test_speech_of_stories_in_all_usual_marks(text: str, turns: tuple[str, ...]) -> None:
    assert pairs(f"{text}\n\n{text}") == [("speech", *turns, *turns)]


def test_two_quotations_in_an_article_are_no_talk() -> None:
    text = '"It was a good year," he said.\n\n"We baked more than ever," she said.'
    assert found(text) == []


def test_a_letter_and_its_reply_and_one_that_nobody_answers() -> None:
    text = (
        "Weimar, den 3. Mai\n\nLiebe Anna,\n\nhast du die Samen bekommen?\n\nHerzliche Grüße\n"
        "Dein Karl\n\nJena, den 9. Mai\n\nLieber Karl,\n\nja, die Erbsen sind schon aufgegangen."
        "\n\nDeine Anna\n\nDear Sir,\n\nI herewith end my contract.\n\nYours sincerely,\nKarl Weber"
    )
    assert pairs(text) == [
        (
            "letter",
            "Liebe Anna,\n\nhast du die Samen bekommen?\n\nHerzliche Grüße\nDein Karl",
            "Lieber Karl,\n\nja, die Erbsen sind schon aufgegangen.\n\nDeine Anna",
        )
    ]
    assert reasons(text) == [("letter", "no_answer")]


def test_letters_of_one_hand_do_not_answer_each_other() -> None:
    letter = "Dear Wilhelm,\n\nthe spring is here, and I walk.\n\nYours,\nWerther\n\n"
    assert found(letter + letter.replace("spring", "summer")) == []


@pytest.mark.parametrize(
    "text",
    [
        "- **Crumb** – the inside of a loaf\n- **Proof** – the last rest of dough\n"
        "- **Score** – to cut the dough deep",
        "Crumb: the inside of a loaf\nProof: the last rest of dough\nScore: to cut the dough deep",
        "Crumb\n: the inside of a loaf\nProof\n: the last rest of dough\n"
        "Score\n: to cut the dough deep",
        "| term | what it is |\n|---|---|\n| Crumb | the inside of a loaf |\n"
        "| Proof | the last rest of dough |\n| Score | to cut the dough deep |",
        "Crumb - the inside of a loaf\n\nProof - the last rest of dough\n\n"
        "Score - to cut the dough deep",
    ],
)
def test_glossaries_in_five_forms(text: str) -> None:
    assert pairs(text) == [
        ("glossary", "Crumb", "the inside of a loaf"),
        ("glossary", "Proof", "the last rest of dough"),
        ("glossary", "Score", "to cut the dough deep"),
    ]


def test_a_glossary_without_blanks_between_words() -> None:
    text = "小麦：用来做面包的主要谷物。\n酵母：使面团发酵的微生物。\n面筋：面团里的蛋白质网络。"
    assert [one[:2] for one in pairs(text)] == [
        ("glossary", "小麦"),
        ("glossary", "酵母"),
        ("glossary", "面筋"),
    ]


def test_half_of_a_bracket_is_no_term() -> None:
    text = "![A: picture of the old mill](a.svg)\n![B: picture of the new mill](b.svg)\n"
    assert found(text + "![C: picture of the river at night](c.svg)") == []


def test_a_line_with_a_colon_is_no_glossary_and_figures_are_given_up() -> None:
    assert found("One thing: it rained all of that long day.") == []
    text = "Texas: 3.48 % (214,256 votes)\nKansas: 5.14 % (59,517 votes)\nOhio: 9.02 % (7 votes)"
    assert Counter(reasons(text)) == {("glossary", "mostly_symbols"): 3}


CODE = '''"""Bake bread."""

LIMIT = 3

class Oven:
    """Something that keeps its heat."""

    def heat(self, degrees: int = 230) -> None:
        """Heat it up to so many degrees."""
        self.degrees = degrees
        # What is this?
        return None
'''


def test_a_module_of_python_is_asked_about_by_its_docstrings() -> None:
    kept = list(mine([Document("bread/oven.py", "oven.py", CODE)]))
    assert {(one.rule, one.where) for one in kept if isinstance(one, Conversation)} == {
        ("class", "bread/oven.py"),
        ("purpose", "bread/oven.py"),
        ("call", "bread/oven.py"),
    }
    assert "Heat it up to so many degrees." in {
        one.turns[1].content for one in kept if isinstance(one, Conversation)
    }


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("main.c", "int main(void) {\n    return 0;\n}\n"),
        ("piece#00002", CODE.partition("LIMIT")[2] + "x = [\n" + CODE.partition("LIMIT")[2]),
        ("oven.py", 'x = "' + "[" * 200_000),
        ("oven.py", "x = 1\0"),
    ],
)
def test_other_code_is_left_out_as_such(name: str, text: str) -> None:
    [one] = mine([Document(name, "", text)])
    assert isinstance(one, NotMined)
    assert (one.reason, one.where) == ("source_code", f"{name}:0")


def test_a_fence_that_never_closes_is_text_with_its_paragraphs() -> None:
    assert pairs(f"```\n\n# Cap\n\n{PARAGRAPH}\n\n") == [("title", "Cap", PARAGRAPH)]


def test_names_without_speech_are_no_dialogue() -> None:
    assert found("ANNA:\n\nBEN:\n\nANNA:\n\nBEN:\n\n# Next\n\nANNA:\n\n") == []


PARAGRAPH = "The cap is light brown and turns darker with age, as the whole of the plant does."


def test_sections_are_asked_for_by_title_and_heading_in_the_words_of_the_text() -> None:
    text = (
        f"= Mycena =\n\nMycena is a fungus of old woods in the north.\n\n= = Cap = =\n\n{PARAGRAPH}"
    )
    assert pairs(text) == [
        ("title", "Mycena", "Mycena is a fungus of old woods in the north."),
        ("heading", "Mycena: Cap", PARAGRAPH),
    ]


@pytest.mark.parametrize(
    "heading", ["## Cap", "Cap\n---", "**Cap**", "= = Cap = =", "1.2. Cap", "Cap"]
)
def test_headings_in_every_form(heading: str) -> None:
    assert pairs(f"{heading}\n\n{PARAGRAPH}", "Mycena") == [("heading", "Mycena: Cap", PARAGRAPH)]


@pytest.mark.parametrize(
    ("heading", "reason"),
    [
        ("Chapter II", "only_a_number"),
        ("Kapitel 4", "only_a_number"),
        ("第三章", "only_a_number"),
        ("References", "boilerplate"),
        ("Siehe auch", "boilerplate"),
        ("Содержание", "boilerplate"),
    ],
)
def test_headings_that_say_nothing_of_what_follows(heading: str, reason: str) -> None:
    assert reasons(f"# {heading}\n\n{PARAGRAPH}") == [("heading", reason)]


def test_the_title_of_a_file_is_no_title_and_a_flattened_text_ends_before_its_next_heading() -> (
    None
):
    text = "Abstract. The Lobster is a crustacean of the cold sea. Life. It lives long."
    assert pairs(text, "lobster.txt") == []
    assert pairs(text, "Lobster") == [
        ("title", "Lobster", "The Lobster is a crustacean of the cold sea.")
    ]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("word " * 1000, "too_long"),
        ("Please click here for all of it.", "boilerplate"),
        ("==> <== ++ -- // ~~ 7 || ++", "mostly_symbols"),
        ("", "no_answer"),
    ],
)
def test_what_is_no_answer_is_given_up_with_a_reason(answer: str, reason: str) -> None:
    assert reasons(f"Q: What is it?\nA: {answer}") == [("labels", reason)]


def test_the_same_pair_is_found_once_whatever_its_blanks_and_case() -> None:
    documents = [
        Document("a", "", "Q: Why salt?\nA: It slows the yeast."),
        Document("b", "", "Q: Why  Salt?\nA: It slows the yeast."),
    ]
    first, second = mine(documents)
    assert isinstance(first, Conversation)
    assert isinstance(second, NotMined)
    assert (second.reason, second.where) == ("duplicate", "b:0")


def test_of_a_document_with_many_the_kept_ones_lie_evenly_over_it() -> None:
    text = "".join(f"Q: What is {n}?\nA: The number {n}, of course.\n\n" for n in range(40))
    results = list(mine([Document("a", "", text)], limit=10))
    kept = [one for one in results if isinstance(one, Conversation)]
    assert [int(one.turns[0].content[8:-1]) for one in kept] == list(range(3, 40, 4))
    given_up = [one for one in results if isinstance(one, NotMined)]
    assert {one.reason for one in given_up} == {"over_limit_of_document"}


def test_where_is_the_document_and_the_offset_of_the_first_turn() -> None:
    text = "Some words first.\n\nQ: Why salt?\nA: It slows the yeast."
    [one] = found(text)
    assert one.where == f"d:{text.index('Q:')}"


def test_documents_are_read_one_at_a_time_and_the_result_never_differs() -> None:
    asked: list[int] = []

    def documents() -> Iterator[Document]:
        for number in range(3):
            asked.append(number)
            yield Document(str(number), "", f"Q: What is {number}?\nA: A number, no more.")

    results = mine(documents())
    next(results)
    assert asked == [0]
    assert list(mine(documents())) == list(mine(documents()))


def _lines_run(text: str) -> int:
    """How many lines of Python are run to mine a text."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> object:
        nonlocal count
        if "/mining/" not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for _ in mine([Document("d", "", text)]):
            pass
    finally:
        sys.settrace(before)
    return count


PIECES = (
    "Q: a b?", "A: c d e", "Dear Anna,", "Yours,", "Karl", "# H", "## What is it?", "Cap", "---",
    "===", "- a: b c d e", "- item", "1. x y", '"Yes," he said.', "“No.”", "— Да, — сказал он.",
    "term: some meaning here now", "Long prose that goes on and on, and ends here. " * 3, "", "",
    "A B:", "ANNA. Hello there?", "BEN: hi", "[12:01] x: y", "```", "| a | b c d e |", "|---|---|",
    "= = X = =", "**Bold**", "    code()", "\t\tx", "「はい」", "问：什么？", "答：好的。",
    "Chapter I", "Is it so?", "Because it is, and was.", "\u2028", "\x00", "\ufeff", "...",
    "*", "[", "(", "=", "-", "#", ": definition of it", "\ud800",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_any_mixture_of_marks_gives_whole_conversations_or_reasons(seed: int) -> None:
    random = Random(seed)
    for _ in range(60):
        between = random.choice(["\n", "\n\n", " "])
        text = between.join(random.choice(PIECES) for _ in range(random.randint(1, 60)))
        for one in mined(text, random.choice(["", "Cap", "x.txt"])):
            assert 0 <= int(one.where.removeprefix("d:")) <= len(text)
            if isinstance(one, NotMined):
                assert one.reason
            else:
                roles = [turn.role for turn in one.turns]
                assert roles == ["user", "assistant"] * (len(roles) // 2) != []
                assert all(turn.content == turn.content.strip() != "" for turn in one.turns)


HOSTILE = (
    '"', "“", "«»", ":", "\n", "a:\n", "A: b\n", "Q: a?\n", "?\n", "# a\n", "# a?\n\n", "=\n",
    "a\n===\n", "- a: b c d e\n", "```\n", "| a | b |\n", "Dear Anna,\nYours\n", "— a\n\n",
    "a?\n\nb\n\n", "A. b\n\n", "「", "(", "**", " — , ", ". ", "a ", ": a\n", "Q: a\n\n",
    "A (b): c\n",
)  # fmt: skip


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_text_costs_time_in_proportion_to_its_length(unit: str) -> None:
    small, large = (_lines_run((unit * size)[:size]) for size in (1_000, 4_000))
    assert large <= 5 * small + 1_000


@pytest.mark.parametrize("unit", ['"', "“", ":", "\n", "a ", "A b. ", "=", "*", "(", "「"])
def test_a_text_of_one_mark_is_read_to_its_end(unit: str) -> None:
    assert found(unit * (300_000 // len(unit))) == []


def test_patterns_of_headings_and_labels_see_no_line_of_a_megabyte() -> None:
    parsed = parse(Document("d", "", "# " + "a" * LONGEST_LINE + "\n\n" + PARAGRAPH))
    assert [block.kind for block in parsed.blocks] == ["paragraph", "paragraph"]
