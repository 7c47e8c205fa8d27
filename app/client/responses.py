"""What servers answer, read from aiohttp's responses: events, JSON, and refusals as sentences."""

import json
import re
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

from app.client.sse import Chunk, EventStreamParser, error_from, read_chunk
from utils.errors import HatcheryError

if TYPE_CHECKING:
    from aiohttp import ClientResponse

_MAX_BYTES = 16 << 20  # bytes of an answer that is not streamed
# Parameters that the protocol does not have: a server that does not know one is asked without it.
_EXTRAS = ("top_k", "min_p", "repetition_penalty", "seed", "logprobs", "stream_options")
_UNKNOWN = re.compile(
    "unrecogni[sz]ed|unknown|unexpected|unsupported|not supported|not permitted|extra|additional"
)
_REMEDIES = {
    401: "give the key of the server",
    403: "give the key of the server",
    404: "check the address and the name of the model",
    429: "it has too much to do: send it again in a moment",
    503: "it has too much to do, or still starts: send it again in a moment",
}


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
        if len(found) > _MAX_BYTES:
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
