"""Texts, last words and completions from the library of the running Python.

All come from documents that quickstart does not learn from, and none shares twelve words in a row
with one that it does. They differ from one version of Python to the next.
"""

import re
from collections.abc import Iterator, Sequence

from pipeline.evaluation.embedded.held_out import Library
from pipeline.evaluation.embedded.prose import passages
from pipeline.evaluation.embedded.rows import MOST, Row, by_hash, unique

_PIECE = 600  # characters from which a piece of a document is long enough
_SHORTEST_PIECE = 200  # characters
_FEW_WORDS = 12  # of a beginning of a piece that is not looked up yet
_WORD = re.compile(r"\b[a-z]{4,}\b")
_BEFORE = range(8, 121)  # words before a last word
_FUNCTION_WORDS = re.compile(
    r"about|also|another|because|been|before|being|between|both|cannot|could|does|each|from|have"
    r"|here|into|itself|just|like|made|make|many|more|most|much|must|none|only|other|over|same"
    r"|should|some|such|than|that|their|them|then|there|these|they|this|those|through|very|well"
    r"|were|what|when|where|whether|which|while|will|with|within|without|would|your"
)
_PROMPT, _REFERENCE = range(6, 61), range(6, 61)  # words


def text_rows(library: Library) -> list[Row]:
    """Pieces of documents, of some 600 characters or more, as `{"text": ...}`."""
    pieces = [
        {"text": piece}
        for document in library.documents
        for piece in _unseen_pieces(document.text, library)
    ]
    return by_hash(unique(pieces, lambda row: row["text"]))[:MOST]


def _unseen_pieces(text: str, library: Library) -> Iterator[str]:
    """Neighbouring paragraphs that were not seen, neither each nor together."""
    piece = ""
    for paragraph in text.strip("\n").split("\n\n"):
        longer = f"{piece}\n\n{paragraph}".strip("\n")
        if len(longer.split()) >= _FEW_WORDS and library.training.has_seen(longer):
            if len(piece) >= _SHORTEST_PIECE:
                yield piece
            piece = ""
        elif len(longer) >= _PIECE:
            yield longer
            piece = ""
        else:
            piece = longer
    if len(piece) >= _SHORTEST_PIECE:
        yield piece


def last_word_rows(library: Library) -> list[Row]:
    """Passages up to a word that they hold before, as `{"context": ..., "continuation": ...}`: in
    each sentence the last such word, function words left aside."""
    rows = [
        row
        for document in library.documents
        for passage in passages(document)
        for row in _last_words(passage)
        if not library.training.has_seen(f"{row['context']} {row['continuation']}")
    ]
    return by_hash(unique(rows, lambda row: row["context"]))[:MOST]


def _last_words(passage: Sequence[str]) -> Iterator[Row]:
    for number, sentence in enumerate(passage):
        before = "".join(f"{earlier} " for earlier in passage[:number])
        for match in reversed(list(_WORD.finditer(sentence))):
            context = before + sentence[: match.start()]
            if context.endswith(" ") and not _FUNCTION_WORDS.fullmatch(match[0]):
                words = re.findall(r"\w+", context)
                if len(words) in _BEFORE and match[0] in words:
                    yield {"context": context[:-1], "continuation": match[0]}
                    break


def completion_rows(library: Library) -> list[Row]:
    """Sentences of docstrings, comments and reference, and those that follow, as `{"prompt": ...,
    "reference": ...}`; none is in two rows."""
    rows = [
        row
        for document in library.documents
        for passage in passages(document)
        for row in _completions(passage)
        if not library.training.has_seen(f"{row['prompt']} {row['reference']}")
    ]
    return by_hash(unique(rows, lambda row: row["reference"]))[:MOST]


def _completions(passage: Sequence[str]) -> Iterator[Row]:
    begin = 0
    while begin < len(passage):
        middle = _enough(passage, begin, _PROMPT)
        end = _enough(passage, middle, _REFERENCE)
        prompt, reference = " ".join(passage[begin:middle]), " ".join(passage[middle:end])
        if len(prompt.split()) in _PROMPT and len(reference.split()) in _REFERENCE:
            yield {"prompt": prompt, "reference": reference}
        begin = end


def _enough(passage: Sequence[str], begin: int, words: range) -> int:
    """Behind the first sentence with which there are enough words."""
    count = 0
    for number in range(begin, len(passage)):
        count += len(passage[number].split())
        if count >= words.start:
            return number + 1
    return len(passage)
