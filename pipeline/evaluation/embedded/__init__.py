"""Evaluation sets of our own, which need no download: grammar pairs, and Python's library.

Each has a name, a label that says where it is from, and rows in the shape of a public set.
"""

import sys
from typing import Any, Literal, NamedTuple, TypeAlias

from pipeline.evaluation.embedded import choices, python_library
from pipeline.evaluation.embedded.grammar import grammar_pairs
from pipeline.evaluation.embedded.held_out import held_out_library
from utils.artefacts import digest

Kind: TypeAlias = Literal["document", "last_word", "choice", "pair", "completion"]

KINDS: dict[str, Kind] = {
    "embedded_python_text": "document",
    "embedded_last_word": "last_word",
    "embedded_docstrings": "choice",
    "embedded_grammar": "pair",
    "embedded_completions": "completion",
}
"""The names of the sets, and what a row of each is."""

_GRAMMAR_LABEL = "embedded: hand-written grammar pairs"
_LIBRARY_LABEL = f"embedded: Python {sys.version_info.major}.{sys.version_info.minor} library"
_OF_LIBRARY = {
    "embedded_python_text": python_library.text_rows,
    "embedded_last_word": python_library.last_word_rows,
    "embedded_docstrings": choices.choice_rows,
    "embedded_completions": python_library.completion_rows,
}


class EmbeddedSet(NamedTuple):
    """A set of our own. Its rows have the fields of the public sets of their kind: `text`;
    `context` and `continuation`; `query`, `choices` and `gold`; `good`, `bad`, `paradigm`,
    `phenomenon` and `pair_id`; `prompt` and `reference`."""

    name: str
    label: str
    kind: Kind
    rows: list[dict[str, Any]]

    @property
    def fingerprint(self) -> str:
        """What identifies the rows and their order."""
        return digest(self.rows)


def embedded_set(name: str) -> EmbeddedSet:
    """The set of that name, which is one of `KINDS`.

    Raises:
        HatcheryError: the set is of Python's library, and this Python has none as files.
    """
    if name in _OF_LIBRARY:
        rows = _OF_LIBRARY[name](held_out_library())
        return EmbeddedSet(name, _LIBRARY_LABEL, KINDS[name], rows)
    return EmbeddedSet(name, _GRAMMAR_LABEL, KINDS[name], [dict(p) for p in grammar_pairs()])
