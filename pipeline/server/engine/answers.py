"""Answers of the OpenAI protocol: what was written, as one body or as chunks of a stream."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from model.generation.sampling import NewToken
from model.generation.scoring import Scored
from pipeline.server.engine.protocol import ApiRequest, CompletionRequest
from pipeline.server.engine.work_queue import Piece, PlacedToken, Prompt
from pipeline.tokenizer.tokenizer import Tokenizer

Json: TypeAlias = dict[str, Any]
_LOWEST_LOGPROB = -9999.0  # stands for minus infinity, which JSON does not have


class ResponseBuilder:
    """The answer to one request, in the form of completions.

    Places of tokens are those in the text of the answer, which an echo begins with its prompt.
    """

    name, chunk_name, prefix = "text_completion", "text_completion", "cmpl"

    def __init__(self, request: ApiRequest, model: str, tokenizer: Tokenizer) -> None:
        self._request, self._tokenizer = request, tokenizer
        self._head = {
            "id": f"{self.prefix}-{secrets.token_hex(12)}",
            "created": int(time.time()),
            "model": model,
        }
        self._echo: Sequence[Prompt] = ()
        self._begun: set[int] = set()
        self._pieces: list[Piece] = []

    def echo(self, prompts: Sequence[Prompt]) -> None:
        """Begin every text with its prompt, and its tokens where they were scored."""
        self._echo = prompts

    def opening(self, texts: int) -> list[Json]:
        """Chunks before any text is written."""
        return []

    def chunk(self, piece: Piece) -> Json | None:
        """The next chunk of a stream; None where there is nothing to tell."""
        piece = self._with_prompt(piece)
        if not (piece.text or piece.tokens or piece.finish):
            return None
        return self._chunk(self._delta(piece))

    def take(self, piece: Piece) -> None:
        """Keep a piece for `whole`."""
        self._pieces.append(piece)

    def whole(self, usage: Json, figures: Json) -> Json:
        """The body of an answer that is not streamed."""
        texts: dict[int, list[Piece]] = {}
        for piece in self._pieces:
            texts.setdefault(piece.index, []).append(self._with_prompt(piece))
        choices = [self._joined(texts[index]) for index in sorted(texts)]
        return self._head | {"object": self.name, "choices": choices, "usage": usage,
                             "hatchery": figures}  # fmt: skip

    def ending(self, usage: Json) -> Json:
        """The chunk of a stream that holds no text but what it cost."""
        return self._head | {"object": self.chunk_name, "choices": [], "usage": usage}

    def _joined(self, pieces: Sequence[Piece]) -> Json:
        text = "".join(piece.text for piece in pieces)
        choice = self._choice(pieces[0].index, text, [t for piece in pieces for t in piece.tokens])
        return choice | {"finish_reason": pieces[-1].finish}

    def _chunk(self, choice: Json) -> Json:
        return self._head | {"object": self.chunk_name, "choices": [choice]}

    def _with_prompt(self, piece: Piece) -> Piece:
        """A piece as it is sent: the first of a text after its prompt."""
        if not self._echo:
            return piece
        prompt = self._echo[piece.index // self._request.n]
        text, tokens = piece.text, [(token, len(prompt.text) + at) for token, at in piece.tokens]
        if piece.index not in self._begun:
            self._begun.add(piece.index)
            text, tokens = prompt.text + text, [*prompt.tokens, *tokens]
        return replace(piece, text=text, tokens=tuple(tokens))

    def _choice(self, index: int, text: str, tokens: Sequence[PlacedToken]) -> Json:
        return {"index": index, "text": text, "logprobs": self._logprobs(tokens)}

    def _delta(self, piece: Piece) -> Json:
        choice = self._choice(piece.index, piece.text, piece.tokens)
        return choice | {"finish_reason": piece.finish}

    def _logprobs(self, tokens: Sequence[PlacedToken]) -> Json | None:
        if self._request.alternatives is None:
            return None
        return {
            "tokens": [self._tokenizer.piece(token.id) for token, _ in tokens],
            "token_logprobs": [_finite(token.logprob) for token, _ in tokens],
            "top_logprobs": [
                None if token.logprob is None else self._named(token) for token, _ in tokens
            ],
            "text_offset": [start for _, start in tokens],
        }

    def _named(self, token: NewToken | Scored) -> dict[str, float | None]:
        """The likeliest in falling order, then the token itself where it is none of them, as the
        protocol has it; of those that look the same, such as halves of characters, the likeliest.
        """
        named: dict[str, float | None] = {}
        for i, logprob in (*token.alternatives, (token.id, token.logprob)):
            named.setdefault(self._tokenizer.piece(i), _finite(logprob))
        return named


class ChatResponseBuilder(ResponseBuilder):
    """The answer to a conversation. White space before its first word belongs to the template."""

    name, chunk_name, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl"

    def opening(self, texts: int) -> list[Json]:
        delta = {"role": "assistant", "content": ""}
        return [
            self._chunk({"index": i, "delta": delta, "logprobs": None, "finish_reason": None})
            for i in range(texts)
        ]

    def _with_prompt(self, piece: Piece) -> Piece:
        if piece.index in self._begun:
            return piece
        piece = replace(piece, text=piece.text.lstrip())
        if piece.text:
            self._begun.add(piece.index)
        return piece

    def _choice(self, index: int, text: str, tokens: Sequence[PlacedToken]) -> Json:
        message = {"role": "assistant", "content": text}
        return {"index": index, "message": message, "logprobs": self._logprobs(tokens)}

    def _delta(self, piece: Piece) -> Json:
        return {
            "index": piece.index,
            "delta": {"content": piece.text} if piece.text else {},
            "logprobs": self._logprobs(piece.tokens),
            "finish_reason": piece.finish,
        }

    def _logprobs(self, tokens: Sequence[PlacedToken]) -> Json | None:
        if self._request.alternatives is None:
            return None
        content = [
            self._token(token.id, token.logprob)
            | {"top_logprobs": [self._token(i, p) for i, p in token.alternatives]}
            for token, _ in tokens
        ]
        return {"content": content}

    def _token(self, i: int, logprob: float | None) -> Json:
        text, _ = self._tokenizer.text_bytes([i], fresh=False)
        return {
            "token": self._tokenizer.piece(i),
            "logprob": _finite(logprob),
            "bytes": list(text),
        }


def response_builder(request: ApiRequest, model: str, tokenizer: Tokenizer) -> ResponseBuilder:
    """The form that suits the request."""
    kind = ResponseBuilder if isinstance(request, CompletionRequest) else ChatResponseBuilder
    return kind(request, model, tokenizer)


def _finite(logprob: float | None) -> float | None:
    return None if logprob is None else max(logprob, _LOWEST_LOGPROB)
