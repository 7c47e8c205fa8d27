"""A text being generated: token ids become text, and stop strings end it."""

from collections.abc import Sequence

from model.generation.sampling import NewToken
from pipeline.tokenizer.tokenizer import StreamDecoder, Tokenizer


class Continuation:
    """What a row of a batch has generated so far.

    `text` is final: it never ends in a possible beginning of a stop string or in half a character.
    `tokens` are those decided; `offsets` says where in the decoded text each begins, in characters,
    which lies beyond the end of `text` for those that a stop string has `cut` off. `finish` is None
    until it ends.
    """

    def __init__(
        self, tokenizer: Tokenizer, after: Sequence[int], stop: Sequence[str] = ()
    ) -> None:
        self._decoder = StreamDecoder(tokenizer, after)
        self._stop = [text for text in stop if text]
        self._pending = ""
        self._length = 0
        self.text = ""
        self.tokens: list[NewToken] = []
        self.offsets: list[int] = []
        self.finish: str | None = None
        self.cut = False

    def push(self, token: NewToken) -> str:
        """Add the next token: the text that has become final. Sets `finish` where the text ends."""
        self.tokens.append(token)
        self.offsets.append(self._length)
        new = self._decoder.push(token.id)
        self._length += len(new)
        released = self._release(new)
        if token.finish is not None and self.finish is None:
            released += self.end(token.finish)
        return released

    def end(self, finish: str) -> str:
        """End the text: what was still pending."""
        released = self._release(self._decoder.flush())
        if self.finish is None:
            self.finish = finish
            released += self._pending
            self.text += self._pending
            self._pending = ""
        return released

    def _release(self, new: str) -> str:
        """The part of the pending text and `new` that cannot belong to a stop string."""
        text = self._pending + new
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.finish, self._pending, self.cut = "stop", "", True
            released = text[: min(found)]
        else:
            keep = max((_overlap(text, stop) for stop in self._stop), default=0)
            released, self._pending = text[: len(text) - keep], text[len(text) - keep :]
        self.text += released
        return released


def token_offsets(tokenizer: Tokenizer, ids: Sequence[int], after: Sequence[int]) -> list[int]:
    """Where each of `ids` begins in their text, which continues that of `after`, in characters."""
    decoder, length, offsets = StreamDecoder(tokenizer, after), 0, []
    for i in ids:
        offsets.append(length)
        length += len(decoder.push(i))
    return offsets


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`, never all of it."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((n for n in lengths if text.endswith(stop[:n])), 0)
