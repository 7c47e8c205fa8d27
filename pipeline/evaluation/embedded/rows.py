"""What the sets from Python's library have in common: how many rows, in which order."""

import functools
import re
from collections.abc import Callable, Hashable, Iterable
from hashlib import blake2b
from typing import Any, TypeAlias, TypeVar

Row: TypeAlias = dict[str, Any]
_T = TypeVar("_T")

MOST = 300
"""Rows of a set at most."""


def unique(rows: Iterable[_T], key: Callable[[_T], Hashable]) -> list[_T]:
    """The first of those with equal keys."""
    found: dict[Hashable, _T] = {}
    for row in rows:
        found.setdefault(key(row), row)
    return list(found.values())


def by_hash(rows: Iterable[_T]) -> list[_T]:
    """Rows in the order of a hash of their content, so that the first are a fair sample."""
    return sorted(rows, key=lambda row: hash_of(repr(row)))


def hash_of(text: str) -> bytes:
    """Eight bytes, the same in every process."""
    return blake2b(text.encode(), digest_size=8).digest()


@functools.cache
def stems(text: str) -> frozenset[str]:
    """The words of a text, of a name each part, by their first five letters."""
    parts = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text).replace("_", " ").lower()
    return frozenset(word[:5] for word in re.findall(r"[a-z]{3,}", parts))
