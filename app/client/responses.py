"""What servers answer in the OpenAI protocol: models, server-sent events, the text, tokens and
figures in their chunks, and refusals as sentences.

Both kinds of answer, completions and chat, are read, and what a server leaves out
(log-probabilities, usage, our own extras) is simply not there. The parsing is pure, bytes in and
pieces out; what reads aiohttp's responses stands at the end.
"""

import json
import math
import re
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.client.requests import Model
from utils.errors import HatcheryError, NetworkError

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_MAX_EVENT = 32 << 20  # bytes of one event; a server that sends more without an end is broken
_END = "[DONE]"
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")  # JSON can hold them, files cannot
_MAX_ANSWER = 16 << 20  # bytes of an answer that is not streamed
# Parameters that the protocol does not have: a server that does not know one is asked without it.
_EXTRAS = ("top_k", "min_p", "repetition_penalty", "seed", "logprobs", "stream_options")
_UNKNOWN = re.compile(
    "unrecogni[sz]ed|unknown|unexpected|unsupported|not supported|not permitted|extra|additional"
)
_FINAL = (400, 413, 414, 422)  # what is wrong is the request
_REMEDIES = {
    401: "give the key of the server",
    403: "give the key of the server",
    404: "check the address and the name of the model",
    429: "it has too much to do: send it again in a moment",
    503: "it has too much to do, or still starts: send it again in a moment",
}


class RequestRefusedError(HatcheryError):
    """The server will never answer this request, however often it is sent."""


class EventStreamParser:
    """Cuts a stream of bytes, split anywhere, into the data of its events (WHATWG HTML, 9.2).

    Bytes are pushed in as they come, an event holds a bounded number of them, and each is looked
    at once: an unfinished line is kept in the pieces that came.
    """

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._carriage_return = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, received: bytes) -> Iterator[str]:
        """The data of every event that is complete now.

        Raises:
            NetworkError: an event has no end.
        """
        self._size += len(received)
        if self._size > _MAX_EVENT:
            raise NetworkError(
                "The server's answer cannot be read.",
                found=f"an event of more than {_MAX_EVENT >> 20} MiB",
            )
        # A line ends with \n, \r\n or \r; a \r at the very end may be the first half of \r\n.
        text = self._carriage_return + received
        self._carriage_return = b"\r" if text.endswith(b"\r") else b""
        text = text.removesuffix(b"\r").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        end, *following = text.split(b"\n")
        self._line.append(end)
        for begin in following:
            line, self._line = b"".join(self._line), [begin]
            if line:
                self._take(line)
            elif self._data:
                self._size = len(following[-1]) + len(self._carriage_return)
                yield self._event()

    def end(self) -> Iterator[str]:
        """The last event, of a server that ends without an empty line."""
        if line := b"".join(self._line):
            self._take(line)
        self._line, self._carriage_return = [], b""
        if self._data:
            yield self._event()

    def _take(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))

    def _event(self) -> str:
        data = b"\n".join(self._data).decode("utf-8", "replace")
        self._data = []
        return data


@dataclass
class Chunk:
    """What one event adds to an answer; `tokens` are (text, log-probability in nats)."""

    text: str = ""
    tokens: tuple[tuple[str, float], ...] = ()
    finish: str | None = None
    figures: dict[str, float] = field(default_factory=dict)
    last: bool = False


def read_chunk(data: str) -> Chunk:
    """An event's data, or a whole answer that was not streamed.

    Raises:
        HatcheryError: the server says that it failed, in its own words.
        NetworkError: it is no answer.
    """
    if data.strip() == _END:
        return Chunk(last=True)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _unreadable(data) from error
    if not isinstance(value, dict):
        raise _unreadable(data)
    if value.get("error"):
        raise error_from(value["error"])
    choices = value.get("choices") or [{}]
    choice = choices[0] if isinstance(choices, list) and isinstance(choices[0], dict) else {}
    delta = choice.get("delta") or choice.get("message") or {}
    text = choice.get("text") or (delta.get("content") if isinstance(delta, dict) else "") or ""
    finish = choice.get("finish_reason")
    return Chunk(
        _LONE_SURROGATES.sub("\ufffd", str(text)),
        tuple(_tokens(choice.get("logprobs"))),
        str(finish) if finish else None,
        _figures(value),
    )


def _unreadable(data: str) -> NetworkError:
    return NetworkError(
        "The server's answer cannot be read.",
        found=data[:200] or "nothing",
        remedy="check that the address is that of a server that speaks the OpenAI protocol",
    )


def _tokens(logprobs: Any) -> Iterator[tuple[str, float]]:
    """The tokens of a chunk, in the form of completions or of chat."""
    if not isinstance(logprobs, dict):
        return
    pairs: list[tuple[Any, Any]] = []
    if isinstance(content := logprobs.get("content"), list):
        entries = [entry for entry in content if isinstance(entry, dict)]
        pairs = [(entry.get("token"), entry.get("logprob")) for entry in entries]
    elif isinstance(tokens := logprobs.get("tokens"), list):
        values = logprobs.get("token_logprobs")
        pairs = list(zip(tokens, values if isinstance(values, list) else [], strict=False))
    for token, value in pairs:
        if isinstance(token, str) and (logprob := finite(value)) is not None:
            yield _LONE_SURROGATES.sub("\ufffd", token), logprob


def _figures(value: dict[str, Any]) -> dict[str, float]:
    """Counts and speeds that the server measured; our own tells more than the protocol does."""
    found: dict[str, Any] = {}
    if isinstance(usage := value.get("usage"), dict):
        found["new_tokens"] = usage.get("completion_tokens")
        found["prompt_tokens"] = usage.get("prompt_tokens")
    if isinstance(ours := value.get("hatchery"), dict):
        found |= ours
    measured = {name: finite(number) for name, number in found.items()}
    return {name: number for name, number in measured.items() if number is not None}


def read_model(item: dict[str, Any]) -> Model:
    """A row of /v1/models that has an id; what our server adds stands under `hatchery`."""
    ours = item.get("hatchery")
    facts: dict[str, Any] = ours if isinstance(ours, dict) else {}

    def whole(*names: str) -> int | None:
        found = (finite(facts.get(name, item.get(name))) for name in names)
        return next((int(number) for number in found if number is not None), None)

    return Model(
        id=str(item["id"]),
        run=str(facts.get("run") or ""),
        step=whole("step"),
        val_loss=finite(facts.get("val_loss")),
        best=bool(facts.get("best")),
        latest=bool(facts.get("latest")),
        parameters=whole("parameters"),
        context=whole("context", "max_model_len", "context_length"),
        bytes=whole("bytes"),
        chat=bool(facts.get("chat")),
        loaded=bool(facts.get("loaded")),
    )


def finite(value: Any) -> float | None:
    """A number of JSON, which may hold any; None where it is none that can be reckoned with."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def error_from(error: Any, fallback: str = "The server has failed.") -> HatcheryError:
    """An error of the OpenAI protocol, with our server's own cause and remedy where it has them."""
    if not isinstance(error, dict):
        return HatcheryError(str(error or fallback))
    words = {name: str(error.get(name) or "") for name in ("message", "found", "remedy")}
    return HatcheryError(words["message"] or fallback, found=words["found"], remedy=words["remedy"])


async def events(response: "ClientResponse") -> AsyncGenerator[Chunk, None]:
    """The chunks of a streamed answer, up to its end."""
    lines = EventStreamParser()
    async for received in response.content.iter_any():
        for data in lines.feed(received):
            chunk = read_chunk(data)
            yield chunk
            if chunk.last:
                return
    for data in lines.end():
        yield read_chunk(data)


async def read_json(response: "ClientResponse") -> dict[str, Any]:
    """The whole answer as an object."""
    found = bytearray()
    async for part in response.content.iter_chunked(1 << 16):
        found += part
        if len(found) > _MAX_ANSWER:
            raise not_openai(response)
    try:
        value = json.loads(found)
    except (ValueError, RecursionError) as error:
        raise not_openai(response) from error
    if not isinstance(value, dict):
        raise not_openai(response)
    return value


async def refuse_errors(response: "ClientResponse") -> None:
    """Raise what the server says where it does not answer."""
    if response.status != 200:
        raise await refusal(response)


async def refusal(response: "ClientResponse") -> HatcheryError:
    """Why a request was refused, in the server's words or by its status."""
    body = await _error(response)
    status = f"The server answers {response.status} {response.reason or ''}".rstrip() + "."
    error = error_from(body.get("error") or body.get("detail") or body.get("message"), status)
    error.remedy = error.remedy or _REMEDIES.get(response.status, "")
    if response.status in _FINAL:
        return RequestRefusedError(error.problem, found=error.found, remedy=error.remedy)
    return error


async def refuse_model(response: "ClientResponse") -> None:
    """Raise what the server says about a model; that it knows no such route is no refusal."""
    if response.status not in (404, 405, 501):
        await refuse_errors(response)
        return
    error = (await _error(response)).get("error")
    if isinstance(error, dict) and error.get("code") == "model_not_found":
        raise error_from(error)


async def _error(response: "ClientResponse") -> dict[str, Any]:
    try:
        return await read_json(response)
    except HatcheryError:
        return {}


def not_openai(response: "ClientResponse") -> HatcheryError:
    return HatcheryError(
        f"What answers at {response.url.origin()} does not speak the OpenAI protocol.",
        found=f"{response.status} {response.content_type}",
        remedy="check the address; a server of ours starts with: {}",
        commands=[("serve",)],
    )


def unknown_parameters(error: HatcheryError, body: dict[str, Any]) -> frozenset[str]:
    """The extra parameters that a refusal says it does not know."""
    words = f"{error.problem} {error.found}"
    if not _UNKNOWN.search(words.lower()):
        return frozenset()
    return frozenset(name for name in _EXTRAS if name in body and re.search(rf"\b{name}\b", words))
