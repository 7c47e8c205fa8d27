"""Answers of the OpenAI protocol: what was written, as one body or as chunks of a stream."""

import secrets
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

from model.sampling import NewToken
from pipeline.server.job import Piece
from pipeline.server.protocol import Completion, Request
from pipeline.tokenizer import Tokenizer

Json: TypeAlias = dict[str, Any]
_IMPOSSIBLE = -9999.0  # stands for minus infinity, which JSON does not have


class Answer:
    """The answer to one request, in the form of completions."""

    name, chunk_name, prefix = "text_completion", "text_completion", "cmpl"

    def __init__(self, request: Request, model: str, tokenizer: Tokenizer) -> None:
        self._request, self._tokenizer = request, tokenizer
        self._head = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
        }
        self._echo: Sequence[str] = ()
        self._begun: set[int] = set()
        self._texts: dict[int, list[str]] = {}
        self._tokens: dict[int, list[tuple[NewToken, int]]] = {}
        self._finish: dict[int, str | None] = {}

    def echo(self, prompts: Sequence[str]) -> None:
        """Begin every text with its prompt."""
        self._echo = prompts

    def opening(self, texts: int) -> list[Json]:
        """Chunks before any text is written."""
        return []

    def chunk(self, piece: Piece) -> Json | None:
        """The next chunk of a stream; None where there is nothing to tell."""
        text = self._said(piece)
        if not (text or piece.tokens or piece.finish):
            return None
        return self._chunk(self._delta(piece, text))

    def take(self, piece: Piece) -> None:
        """Keep a piece for `whole`."""
        self._texts.setdefault(piece.index, []).append(self._said(piece))
        self._tokens.setdefault(piece.index, []).extend(piece.tokens)
        self._finish[piece.index] = piece.finish

    def whole(self, usage: Json, figures: Json) -> Json:
        """The body of an answer that is not streamed."""
        choices = [
            self._choice(index, "".join(self._texts[index]), self._tokens[index])
            | {"finish_reason": self._finish[index]}
            for index in sorted(self._texts)
        ]
        return self._head | {"object": self.name, "choices": choices, "usage": usage,
                             "hatchery": figures}  # fmt: skip

    def ending(self, usage: Json) -> Json:
        """The chunk of a stream that holds no text but what it cost."""
        return self._head | {"object": self.chunk_name, "choices": [], "usage": usage}

    def _chunk(self, choice: Json) -> Json:
        return self._head | {"object": self.chunk_name, "choices": [choice]}

    def _said(self, piece: Piece) -> str:
        """The text of a piece, of the first one with the prompt."""
        if piece.index in self._begun:
            return piece.text
        self._begun.add(piece.index)
        return self._prompt(piece.index) + piece.text

    def _prompt(self, index: int) -> str:
        return self._echo[index // self._request.n] if self._echo else ""

    def _choice(self, index: int, text: str, tokens: Sequence[tuple[NewToken, int]]) -> Json:
        return {"index": index, "text": text, "logprobs": self._logprobs(index, tokens)}

    def _delta(self, piece: Piece, text: str) -> Json:
        return self._choice(piece.index, text, piece.tokens) | {"finish_reason": piece.finish}

    def _logprobs(self, index: int, tokens: Sequence[tuple[NewToken, int]]) -> Json | None:
        if self._request.alternatives is None:
            return None
        before = len(self._prompt(index))
        return {
            "tokens": [self._tokenizer.piece(token.id) for token, _ in tokens],
            "token_logprobs": [_finite(token.logprob) for token, _ in tokens],
            "top_logprobs": [self._named(token.alternatives) for token, _ in tokens],
            "text_offset": [before + start for _, start in tokens],
        }

    def _named(self, alternatives: Sequence[tuple[int, float]]) -> dict[str, float]:
        """Likeliest first; of tokens that look the same, such as halves of characters, the
        likeliest."""
        named: dict[str, float] = {}
        for i, logprob in alternatives:
            named.setdefault(self._tokenizer.piece(i), _finite(logprob))
        return named


class ChatAnswer(Answer):
    """The answer to a conversation. White space before its first word belongs to the template."""

    name, chunk_name, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def opening(self, texts: int) -> list[Json]:
        delta = {"role": "assistant", "content": ""}
        return [
            self._chunk({"index": i, "delta": delta, "logprobs": None, "finish_reason": None})
            for i in range(texts)
        ]

    def _said(self, piece: Piece) -> str:
        text = piece.text if piece.index in self._begun else piece.text.lstrip()
        if text:
            self._begun.add(piece.index)
        return text

    def _choice(self, index: int, text: str, tokens: Sequence[tuple[NewToken, int]]) -> Json:
        message = {"role": "assistant", "content": text}
        return {"index": index, "message": message, "logprobs": self._logprobs(index, tokens)}

    def _delta(self, piece: Piece, text: str) -> Json:
        return {
            "index": piece.index,
            "delta": {"content": text} if text else {},
            "logprobs": self._logprobs(piece.index, piece.tokens),
            "finish_reason": piece.finish,
        }

    def _logprobs(self, index: int, tokens: Sequence[tuple[NewToken, int]]) -> Json | None:
        if self._request.alternatives is None:
            return None
        content = [
            self._token(token.id, token.logprob)
            | {"top_logprobs": [self._token(i, p) for i, p in token.alternatives]}
            for token, _ in tokens
        ]
        return {"content": content}

    def _token(self, i: int, logprob: float) -> Json:
        text, _ = self._tokenizer.text_bytes([i], fresh=False)
        return {
            "token": self._tokenizer.piece(i),
            "logprob": _finite(logprob),
            "bytes": list(text),
        }


def answer_for(request: Request, model: str, tokenizer: Tokenizer) -> Answer:
    """The form that suits the request."""
    kind = Answer if isinstance(request, Completion) else ChatAnswer
    return kind(request, model, tokenizer)


def _finite(logprob: float) -> float:
    return max(logprob, _IMPOSSIBLE)
