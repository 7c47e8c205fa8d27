"""Which characters a token wrote, how likely it was, and how that is shown. Knows no widgets."""

import math
from collections.abc import Iterable

Span = tuple[int, float | None]

# From this probability on, the class of a token; the last holds all the rest. Each differs from
# the others by more than its colour.
CLASSES: tuple[tuple[float, str, str], ...] = (
    (0.5, "likely", "50 % and more"),
    (0.1, "open", "10 to 50 %"),
    (0.01, "unlikely", "1 to 10 %"),
    (0.0, "surprising", "below 1 %"),
)


class Spans:
    """Puts tokens and the text they make side by side.

    A server may hold text back, for a stop string or half a character. Tokens that only together
    make text share one span with their joint probability.
    """

    def __init__(self) -> None:
        self._text = ""
        self._tokens: list[tuple[str, float]] = []

    def take(self, text: str, tokens: Iterable[tuple[str, float]]) -> list[Span]:
        """What is settled now that `text` and `tokens` have come."""
        self._text += text
        self._tokens += tokens
        found: list[Span] = []
        while self._text and self._tokens:
            token, logprob = self._tokens[0]
            if token and self._text.startswith(token):
                found.append((len(token), logprob))
                self._text = self._text[len(token) :]
                del self._tokens[0]
            elif token.startswith(self._text):
                break  # the rest of this token's text is still to come
            else:
                found.append(self._joint())
        if self._text and not self._tokens:
            found.append((len(self._text), None))
            self._text = ""
        return found

    def end(self) -> list[Span]:
        """What is left."""
        return [self._joint()] if self._text else []

    def _joint(self) -> Span:
        span = len(self._text), sum(logprob for _, logprob in self._tokens)
        self._text, self._tokens = "", []
        return span


def shade(logprob: float | None) -> str | None:
    """The name of a token's class; None where its probability is not known."""
    if logprob is None:
        return None
    return next(name for least, name, _ in CLASSES if math.exp(logprob) >= least)


def percent(logprob: float | None) -> str:
    """'31.2 %'; small ones with two digits that matter."""
    if logprob is None:
        return "not known"
    share = 100 * math.exp(min(0.0, logprob))
    return f"{share:.1f} %" if share >= 1 else f"{share:.2g} %"
