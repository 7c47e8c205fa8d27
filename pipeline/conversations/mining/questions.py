"""Questions with their answers: Q: and A:, questions as headings, questions as lines.

A line that ends with a question mark is only taken for a question to be answered where it is a
sentence of its own and begins as questions do in one of the languages below, or where the document
asks and answers three times or more.
"""

import re
from collections.abc import Iterator

from pipeline.conversations.mining.blocks import (
    LONGEST_LINE,
    Block,
    Line,
    Parsed,
    is_question,
    word_count,
)
from pipeline.conversations.mining.candidate import (
    NO_ANSWER,
    Candidate,
    Taken,
    answer_below,
)
from pipeline.conversations.mining.dialogue import label_of

_END = r"\s?\d{0,3}\s?[:.)：]\s?(?:\*\*|__)?\s*"
_OPEN = r"(?:[-*>]\s+)?(?:\*\*|__)?(?:\d{1,3}[.)]\s+)?"
_ASKS = re.compile(
    _OPEN
    + r"(?:Q(?:uestion)?|F(?:rage)?|P(?:regunta)?|V(?:raag)?|В(?:опрос)?|问题?|質問|問)"
    + _END
)
_ANSWERS = re.compile(
    _OPEN
    + r"(?:A(?:ns(?:wer)?|ntwort|ntwoord)?|R(?:éponse|espuesta)?|О(?:твет)?|答案?|回答|答え)"
    + _END
)
_NUMBERED = re.compile(r"^(?:\d{1,3}[.)]\s+|[-*•]\s+)")
_MARKS = re.compile(r"^(?:\*\*|__)|(?:\*\*|__)$")
_BEGINS = re.compile(
    r"[¿\"“„«(]*(?:who|whom|whose|what|when|where|why|how|which|can|could|do|does|did|is|are|was|"
    r"were|will|would|should|has|have|may|must|"
    r"wer|was|wann|wo|woher|wohin|warum|wieso|weshalb|wie|welche[rsmn]?|kann|können|darf|muss|ist|"
    r"sind|gibt|hat|haben|wird|soll|"
    r"qui|que|quoi|quel(?:le)?s?|quand|où|pourquoi|comment|combien|est-ce|qu['’]est|peut-on|"
    r"quién|quiénes|qué|cuándo|dónde|por qué|cómo|cuál(?:es)?|cuánto[s]?|puedo|puede|es|hay|"
    r"wat|wie|wanneer|waar|waarom|hoe|hoeveel|welke?|kan|kunnen|mag|moet|zijn|heeft|"
    r"кто|что|когда|где|куда|откуда|почему|зачем|как|какой|какая|какие|какое|сколько|можно|есть|"
    r"нужно|чем)\b",
    re.IGNORECASE,
)
_READER = re.compile(
    r"\b(?:you|your|du|dich|deine?|sie|ihre?|vous|votre|usted(?:es)?|tu|jij|je|jouw|uw?|ты|вы|ваш)\b",
    re.IGNORECASE,
)
_DENSE_ASKS = re.compile(
    r"什么|谁|怎么|怎样|为什么|如何|哪|多少|几|吗|何|誰|どう|なぜ|いつ|どこ|どの|ですか|ますか"
)
_INNER_END = re.compile(r"[.!?。！？…]\s+\S|[。！？]\S")
_LONGEST = 200  # characters of a question in a line
_SERIES = 3  # questions with answers make a document a list of them
_FEWEST_WORDS, _ANSWER_WORDS = 3, 5
_ENOUGH = 1  # character: the first whole paragraph answers a line, others speak of other things


def labelled(parsed: Parsed, taken: Taken) -> Iterator[Candidate]:
    """Pairs whose halves are labelled, as Q: and A: or Frage: and Antwort:.

    An answer goes on over blank lines where another question follows before the next heading.
    """
    question: list[Line] = []
    answer: list[Line] = []
    first = last = 0
    asks = answers = False
    for place, block in enumerate(parsed.blocks):
        if taken[place] or block.kind in ("heading", "code", "table"):
            if asks:
                yield _labelled(question, answer, range(first, last + 1))
            asks = answers = False
            continue
        goes_on = not answers or _asked_again(parsed, place)
        for line in block.lines:
            text = line.text.strip()
            short = text[:LONGEST_LINE]
            if found := _ASKS.match(short):
                if asks:
                    yield _labelled(question, answer, range(first, last + 1))
                question, answer = [Line(text[found.end() :], line.offset)], []
                asks, answers, first = True, False, place
            elif asks and (found := _ANSWERS.match(short)) and not answers:
                answer, answers, goes_on = [Line(text[found.end() :], line.offset)], True, True
            elif asks and not goes_on:
                yield _labelled(question, answer, range(first, last + 1))
                asks = answers = False
            elif asks:
                part = answer if answers else question
                blank = line is block.lines[0]
                part.append(Line("\n" * blank + text, line.offset))
            else:
                continue
            last = place
    if asks:
        yield _labelled(question, answer, range(first, last + 1))


def _asked_again(parsed: Parsed, place: int) -> bool:
    """Whether a labelled question follows before the next heading, among the next few blocks."""
    for block in parsed.blocks[place : place + 6]:
        if block.kind == "heading":
            return False
        if any(_ASKS.match(line.text.strip()[:LONGEST_LINE]) for line in block.lines[:50]):
            return True
    return False


def _labelled(question: list[Line], answer: list[Line], blocks: range) -> Candidate:
    texts = tuple("\n".join(line.text for line in part).strip() for part in (question, answer))
    texts = tuple(_MARKS.sub("", text).strip() for text in texts)
    return Candidate("labels", texts, question[0].offset, blocks, least=1)


def headings(parsed: Parsed, taken: Taken) -> Iterator[Candidate]:
    """Headings that ask, with the text below them."""
    for place, block in enumerate(parsed.blocks):
        if block.kind == "heading" and not taken[place] and is_question(block.text):
            answer, blocks = answer_below(parsed, place + 1, taken)
            question = _NUMBERED.sub("", block.text, count=1)
            yield Candidate(
                "question_heading", (question, answer), block.offset, range(place, blocks.stop)
            )


def lines(parsed: Parsed, taken: Taken) -> Iterator[Candidate]:
    """Questions that are a line or paragraph of their own, with what follows them."""
    found = [
        candidate
        for place, block in enumerate(parsed.blocks)
        if not taken[place] and block.kind in ("paragraph", "list")
        for candidate in _line(parsed, place, block, taken)
    ]
    answered = [one for one in found if one.texts[-1] and not one.reason]
    series = len(answered) >= _SERIES
    for candidate in found:
        if series or (_begins_as_question(candidate.texts[0]) and not _asks_reader(candidate)):
            yield candidate


def _line(parsed: Parsed, place: int, block: Block, taken: Taken) -> Iterator[Candidate]:
    first = block.lines[0].text.strip()
    if not (is_question(first) or is_question(block.text)) or label_of(block.lines[0]) is not None:
        return
    if _asks(block.text) and len(block.lines) <= 3:  # all of the block is the question
        answer, blocks = answer_below(parsed, place + 1, taken, _ENOUGH)
        follows = parsed.blocks[place + 1] if place + 1 < len(parsed.blocks) else None
        if follows is not None and follows.kind == "paragraph" and is_question(follows.text):
            answer = ""  # one question after the other is a list of them, or rhetoric
        reason = "" if answer and not answer.endswith(("!", "！")) else NO_ANSWER
        question = _bare(" ".join(block.text.split("\n")))
        yield Candidate(
            "question_line",
            (question, answer),
            block.offset,
            range(place, blocks.stop),
            reason,
            least=_ANSWER_WORDS,
        )
    elif len(block.lines) > 1 and _asks(first) and not is_question(block.text):
        answer = "\n".join(line.text.strip() for line in block.lines[1:])
        yield Candidate(
            "question_line",
            (_bare(first), answer),
            block.offset,
            range(place, place + 1),
            least=_ANSWER_WORDS,
        )


def _asks(text: str) -> bool:
    """Whether a text is one sentence, and a question."""
    if len(text) > _LONGEST or not is_question(text):
        return False
    text = _bare(text)
    return _INNER_END.search(text) is None and word_count(text) >= _FEWEST_WORDS


def _bare(text: str) -> str:
    return _MARKS.sub("", _NUMBERED.sub("", text.strip(), count=1)).strip()


def _asks_reader(candidate: Candidate) -> bool:
    """Whether a question is put to the reader and not answered by the text, as in advertising."""
    return _READER.search(candidate.texts[0]) is not None


def _begins_as_question(text: str) -> bool:
    return _BEGINS.match(text) is not None or _DENSE_ASKS.search(text) is not None
