"""Texts to ids as they are scored: where a context ends, what stands before it, and windows.

As lm-evaluation-harness does it, except where that is a known fault; its rules are said in the
docstrings, so that a recipe can name them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from model.generation.batch_scoring import ScoredText
from pipeline.tokenizer.tokenizer import Tokenizer


@dataclass
class TextEncoder:
    """How a model reads what it is asked about.

    `before` are the ids that stand before every context, `prefix` is the one before a text that
    nothing precedes, None where the tokenizer has neither BOS nor EOS: then its first id is not
    scored. `context` is the most positions of the model. `joined` counts continuations whose first
    characters lie in one token with the end of their context, `cut` those whose context was longer
    than the model reads.
    """

    tokenizer: Tokenizer
    before: tuple[int, ...]
    prefix: int | None
    context: int
    joined: int = 0
    cut: int = 0
    _last: tuple[str, list[int]] = ("", [])  # the choices of an item share their context

    def continuation(self, context: str, continuation: str) -> ScoredText:
        """The ids of both, of which those of the continuation are scored.

        White space at the end of the context belongs to the continuation. The whole is encoded, and
        cut at as many ids as the context alone has; where that leaves none, since a token lies over
        the join, the cut comes before that token. What is longer than the model's context loses its
        beginning.

        Raises:
            UsageError: a lone surrogate.
            ValueError: there is nothing to score, or more than the context holds.
        """
        if not context:
            return self._alone(continuation)
        bare = context.rstrip()
        whole = self.tokenizer.encode(context + continuation)
        if bare != self._last[0]:
            self._last = bare, self.tokenizer.encode(bare)
        alone = self._last[1]
        cut = len(alone)
        self.joined += whole[:cut] != alone
        if cut >= len(whole):
            cut = _common(alone, whole[:-1])
        ids = [*self.before, *whole]
        cut += len(self.before)
        if not cut:  # nothing before it: a model has to read something
            return self._alone(context + continuation)
        return self._fitting(ids, len(ids) - cut)

    def prompt(self, text: str) -> list[int]:
        """The ids of a text that is to be gone on with."""
        ids = [*self.before, *self.tokenizer.encode(text)]
        return ids or ([] if self.prefix is None else [self.prefix])

    def _alone(self, text: str) -> ScoredText:
        ids = self.tokenizer.encode(text)
        if self.prefix is not None:
            return self._fitting([self.prefix, *ids], len(ids))
        return self._fitting(ids, len(ids) - 1)

    def _fitting(self, ids: list[int], scored: int) -> ScoredText:
        """As much of the end as the model reads; its last id is not read."""
        if scored < 1:
            raise ValueError("there is nothing to score: the text has too few tokens")
        if scored > self.context:
            raise ValueError(f"more tokens to score than the {self.context:,} that the model reads")
        kept = ids[-(self.context + 1) :]
        self.cut += len(kept) < len(ids)
        return ScoredText(tuple(kept), scored)

    def windows(self, text: str) -> list[ScoredText]:
        """The ids of a document in windows of the context, each id scored exactly once.

        The first window begins with `prefix`; later ones score as many ids as the context has,
        after the one id before them, and the last one fills its context with ids from before.
        """
        ids = self.tokenizer.encode(text)
        if self.prefix is not None:
            ids = [self.prefix, *ids]
        windows = []
        for begin in range(0, len(ids) - 1, self.context):
            end = min(begin + self.context, len(ids) - 1)
            first = max(0, end - self.context) if begin else 0
            windows.append(ScoredText(tuple(ids[first : end + 1]), end - begin))
        return windows


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many ids both begin with."""
    return next(
        (at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )
