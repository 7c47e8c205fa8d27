"""A text being written: ids become text, and stop strings end it."""

from collections.abc import Sequence

from model.generation.sampling import NewToken
from pipeline.tokenizer.tokenizer import StreamDecoder, Tokenizer


class Continuation:
    """What a row of a batch has written so far.

    `text` is certain: it never ends in what may become a stop string or half a character.
    `tokens` are those decided; `starts` says where in the decoded text each begins, which lies
    beyond the end of `text` for those that a stop string has `cut` off. `finish` is None until it
    ends.
    """

    def __init__(
        self, tokenizer: Tokenizer, after: Sequence[int], stop: Sequence[str] = ()
    ) -> None:
        self._decoder = StreamDecoder(tokenizer, after)
        self._stop = [text for text in stop if text]
        self._held = ""
        self._length = 0
        self.text = ""
        self.tokens: list[NewToken] = []
        self.starts: list[int] = []
        self.finish: str | None = None
        self.cut = False

    def push(self, token: NewToken) -> str:
        """Take the next token: the text that has become certain. Sets `finish` where it ends."""
        self.tokens.append(token)
        self.starts.append(self._length)
        new = self._decoder.push(token.id)
        self._length += len(new)
        said = self._said(new)
        return said if token.finish is None or self.finish else said + self.end(token.finish)

    def end(self, finish: str) -> str:
        """Nothing more comes: what was still held back."""
        said = self._said(self._decoder.flush())
        if self.finish is None:
            self.finish = finish
            said += self._held
            self.text += self._held
            self._held = ""
        return said

    def _said(self, new: str) -> str:
        """The part of `new`, and of what was held back, that no stop string can take back."""
        text = self._held + new
        found = [at for at in (text.find(stop) for stop in self._stop) if at >= 0]
        if found:
            self.finish, self._held, self.cut = "stop", "", True
            said = text[: min(found)]
        else:
            keep = max((_overlap(text, stop) for stop in self._stop), default=0)
            said, self._held = text[: len(text) - keep], text[len(text) - keep :]
        self.text += said
        return said


def starts_of(tokenizer: Tokenizer, ids: Sequence[int], after: Sequence[int]) -> list[int]:
    """Where each of `ids` begins in their text, which continues that of `after`, in characters."""
    decoder, length, starts = StreamDecoder(tokenizer, after), 0, []
    for i in ids:
        starts.append(length)
        length += len(decoder.push(i))
    return starts


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`, never all of it."""
    lengths = range(min(len(text), len(stop) - 1), 0, -1)
    return next((n for n in lengths if text.endswith(stop[:n])), 0)
