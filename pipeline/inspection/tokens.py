"""A text in tokens, as each tokenizer on this machine sees it."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.errors import HatcheryError

SHOWN = 3000
"""Tokens of a text that are shown at most; all are counted."""


class Tokens(NamedTuple):
    """A text as one tokenizer sees it: the first pieces with their ids, and the sums over all of
    it; `fault` says why it could not."""

    tokenizer: str
    vocab_size: int
    pieces: list[tuple[str, int]]
    tokens: int
    text_bytes: int
    fault: str = ""

    @property
    def bytes_per_token(self) -> float:
        return self.text_bytes / self.tokens if self.tokens else 0.0


class TokenizerCache:
    """The tokenizers of a folder, each read once."""

    def __init__(self, tokenizers_dir: Path) -> None:
        self._folder = tokenizers_dir
        self._read: dict[str, Tokenizer] = {}

    def names(self) -> list[str]:
        """Those there are."""
        return sorted(path.name for path in self._folder.glob("[!.]*") if path.is_dir())

    def tokens(self, name: str, text: str) -> Tokens:
        """`text` as the tokenizer called `name` sees it."""
        size = len(text.encode(errors="surrogatepass"))
        try:
            if name not in self._read:
                self._read[name] = load_tokenizer(name, self._folder)
            tokenizer = self._read[name]
            ids = [int(i) for i in tokenizer.encode_batch([text])[0]]
        except (HatcheryError, OSError) as error:
            return Tokens(name, 0, [], 0, size, str(error))
        return Tokens(name, tokenizer.vocab_size, pieces(tokenizer, ids[:SHOWN]), len(ids), size)


def pieces(tokenizer: Tokenizer, ids: Sequence[int]) -> list[tuple[str, int]]:
    """Each id with its text; control tokens by name, bytes that are no whole character as
    `<e2 96>`."""
    found = []
    for i in ids:
        if i in tokenizer.controls:
            found.append((tokenizer.piece(i), i))
            continue
        data = tokenizer.text_bytes([i], fresh=False)[0]
        try:
            found.append((data.decode(), i))
        except UnicodeDecodeError:
            found.append((f"<{data.hex(' ')}>", i))
    return found
