"""Questions with four answers from Python's library: which text goes on where this one ends.

A signature goes on with its docstring, a comment with the line of code below it, a sentence of
prose with the next one. The wrong answers are right ones of other questions of that kind, so that
no answer is in itself less likely.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pipeline.evaluation.embedded.held_out import Library
from pipeline.evaluation.embedded.prose import commented_lines, definitions, passages
from pipeline.evaluation.embedded.rows import MOST, Row, by_hash, hash_of, stems, unique

CHOICES = 4

_ANSWER_WORDS = range(3, 36)
_QUERY_CHARACTERS = range(1, 600)
_NEARLY_AS_LONG = 0.6  # the shorter of two choices by the longer, characters
_ALIKE = 0.6  # words that two choices may share, by all words of both
_MOST_TOLD = 0.15  # rows whose answer is the choice that shares most words with the query
_MOST_USED = 5  # times an answer may be a wrong choice
_WAITING = 3  # told rows that may come before others


class Question(NamedTuple):
    """What is asked, the right answer, and among which others it hides."""

    kind: str
    query: str
    answer: str

    def shared_with(self, choice: str) -> int:
        """How many words a choice has in common with the query."""
        return len(stems(self.query) & stems(choice))


def choice_rows(library: Library) -> list[Row]:
    """Rows `{"query": ..., "choices": ..., "gold": ...}`; a choice goes on behind the query and a
    blank.

    No place and no length is right more often than others, and seldom is the choice that shares
    most words with the query.
    """
    questions = [question for question in _questions(library) if not _was_seen(question, library)]
    questions = by_hash(unique(questions, lambda question: question.answer.lower()))
    questions = unique(questions, lambda question: question.query)
    rows: list[Row] = []
    used: Counter[str] = Counter()
    told = 0
    for question in questions:
        gold, shorter = len(rows) % CHOICES, len(rows) // CHOICES % CHOICES
        others = _others(question, questions, shorter, used)
        if len(others) < CHOICES - 1:
            continue
        if question.shared_with(question.answer) > max(map(question.shared_with, others)):
            if told > _MOST_TOLD * len(rows) + _WAITING:
                continue
            told += 1
        used.update(others)
        choices = [*others[:gold], question.answer, *others[gold:]]
        rows.append({"query": question.query, "choices": choices, "gold": gold})
    return rows[:MOST]


def _questions(library: Library) -> Iterator[Question]:
    for document in library.documents:
        for definition in definitions(document):
            indent = "        #" if definition.in_class else "    #"
            if not definition.sentence.startswith(f"{definition.name}(") and (
                not definition.sentence.endswith(":")
            ):
                query = f"{definition.signature}\n{indent}"
                yield Question("docstring", query, definition.sentence)
        for comment, line in commented_lines(document):
            yield Question("comment", f"{comment}\n   ", line)
        for passage in passages(document):
            for end in range(1, len(passage)):
                yield Question("prose", " ".join(passage[:end]), passage[end])


def _was_seen(question: Question, library: Library) -> bool:
    """Whether it is unfit: too short, too long, or there in what was learned from."""
    return (
        len(question.answer.split()) not in _ANSWER_WORDS
        or len(question.query) not in _QUERY_CHARACTERS
        or library.training.has_seen(question.answer)
        or library.training.has_seen(f"{question.query} {question.answer}")
    )


def _others(
    question: Question, questions: Iterable[Question], shorter: int, used: Counter[str]
) -> list[str]:
    """Three wrong choices, `shorter` of them shorter than the answer where there are so many: of
    similar length, sharing as many words with the query as there are such, and of equal ones those
    seldom `used`.
    """
    length = len(question.answer)
    near = [
        other.answer
        for other in questions
        if other.kind == question.kind
        and used[other.answer] < _MOST_USED
        and len(other.answer) != length
        and min(len(other.answer), length) >= _NEARLY_AS_LONG * max(len(other.answer), length)
        and other.answer not in question.query
        and other.query not in question.query  # a sentence of the same passage
        and question.query not in other.query
    ]
    near.sort(key=lambda answer: (used[answer], hash_of(f"{question.query} {answer}")))
    near.sort(key=question.shared_with, reverse=True)
    chosen: list[str] = []
    sides = {True: shorter, False: CHOICES - 1 - shorter}
    for answer in near:
        side = len(answer) < length
        if sides[side] and _can_stand_beside(answer, [question.answer, *chosen]):
            sides[side] -= 1
            chosen.append(answer)
    return sorted(chosen, key=hash_of)


def _can_stand_beside(answer: str, others: Sequence[str]) -> bool:
    """Whether an answer says something else than all others, and none begins with another."""
    words = stems(answer)
    for other in others:
        if answer.startswith(other) or other.startswith(answer):
            return False
        both = stems(other)
        if len(words & both) > _ALIKE * len(words | both):
            return False
    return True
