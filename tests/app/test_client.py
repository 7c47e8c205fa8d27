"""The client: any split of bytes, servers that refuse, break off or lack what ours has."""

import asyncio
import json
import math
from itertools import pairwise
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from app.client.client import Client, Endpoint, Model, Piece, Request, Sampling
from app.client.responses import Chunk, EventStreamParser, read_chunk
from pipeline.options.config import InferenceOptions
from tests.support.servers.openai_api import OURS, Imitation, event, serving, stream
from utils.errors import HatcheryError

MODEL = "first/step-400"


async def pieces(client: Client, request: Request) -> list[Piece]:
    return [piece async for piece in client.stream(request)]


def text_of(answer: list[Piece]) -> str:
    return "".join(piece.text for piece in answer)


def refused(status: int, **error: Any) -> web.Response:
    return web.json_response({"error": error}, status=status)


def test_a_text_is_streamed_with_its_tokens_and_figures() -> None:
    async def scene() -> None:
        async with serving() as (server, url), Client(Endpoint(url, "key")) as client:
            answer = await pieces(client, Request(MODEL, prompt="Tell", logprobs=True))
            assert text_of(answer) == "Once upon a time"
            assert [piece.tokens for piece in answer][:1] == [(("Once upon", -0.6931),)]
            assert answer[-1].finish == "length"
            figures = answer[-1].figures
            assert figures is not None
            assert figures["new_tokens"] == 2
            assert figures["first_token_ms"] >= 0
            (body,) = server.bodies
            assert (body["path"], body["prompt"], body["stream"]) == (
                "/v1/completions",
                "Tell",
                True,
            )

    asyncio.run(scene())


def test_messages_go_to_the_chat_route_and_its_form_of_answers_is_read() -> None:
    async def scene() -> None:
        async with serving() as (server, url), Client(Endpoint(f"{url}/v1/")) as client:
            logprobs = {"content": [{"token": "Hi", "logprob": -0.1}]}
            server.chunks = [
                event({"choices": [{"delta": {"role": "assistant"}}]}),
                event({"choices": [{"delta": {"content": "Hi"}, "logprobs": logprobs}]}),
                event({"choices": [{"delta": {}, "finish_reason": "stop"}]}),
                b"data: [DONE]\n\n",
            ]
            messages = ({"role": "user", "content": "Hello"},)
            answer = await pieces(client, Request(MODEL, messages=messages))
            assert (text_of(answer), answer[0].tokens) == ("Hi", (("Hi", -0.1),))
            assert answer[-1].finish == "stop"
            assert server.bodies[0]["path"] == "/v1/chat/completions"
            assert server.bodies[0]["messages"] == list(messages)

    asyncio.run(scene())


@given(st.lists(st.integers(0, 300), max_size=40), st.sampled_from(["\n", "\r\n", "\r"]))
@settings(max_examples=150, deadline=None)
def test_events_are_the_same_however_their_bytes_are_split(cuts: list[int], end: str) -> None:
    text = ": a comment\n\ndata: {'a': 'ü漢'}\n\nevent: x\ndata:two\ndata: lines\n\ndata: last"
    whole = text.replace("\n", end).encode()
    places = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    lines = EventStreamParser()
    found = [data for a, b in pairwise(places) for data in lines.feed(whole[a:b])]
    found += lines.end()
    assert found == ["{'a': 'ü漢'}", "two\nlines", "last"]


class _Copied(bytes):
    """Bytes that count what stands before them when they are joined to something."""

    count = 0

    def __radd__(self, before: bytes) -> bytes:
        type(self).count += len(before)
        return before + bytes(self)


def test_a_long_event_is_not_copied_again_with_every_piece_of_it() -> None:
    lines = EventStreamParser()
    assert list(lines.feed(b"data: ")) == []
    for _ in range(1000):
        assert list(lines.feed(_Copied(b"x" * 100))) == []
    assert list(lines.feed(b"\n\n")) == ["x" * 100_000]
    assert _Copied.count <= 1000


def test_an_answer_whose_bytes_come_in_odd_pieces_is_whole() -> None:
    async def scene() -> None:
        async with serving() as (server, url), Client(Endpoint(url)) as client:
            sent = b"".join(stream("für 漢字", " 🐣"))
            server.chunks = [sent[n : n + 7] for n in range(0, len(sent), 7)]
            assert text_of(await pieces(client, Request(MODEL, prompt=""))) == "für 漢字 🐣"

    asyncio.run(scene())


def test_models_carry_what_our_server_tells_and_a_foreign_one_leaves_out() -> None:
    async def scene() -> None:
        async with (
            serving(extras=False) as (server, url),
            Client(Endpoint(url, "secret")) as client,
        ):
            (model,) = await client.models()
            assert model == Model(MODEL, **OURS)
            assert server.keys == ["Bearer secret"]
            huge = {"id": "x", "max_model_len": 10**400, "hatchery": {"val_loss": "no", "step": 0}}
            server.models = {"data": [{"id": "gpt", "object": "model"}, huge, {"no": "id"}, 7]}
            assert await client.models() == [Model("gpt"), Model("x", step=0)]
            await client.load("gpt")  # a server that cannot load ahead does it when asked

    asyncio.run(scene())


def test_the_key_is_in_no_text_of_an_endpoint() -> None:
    assert "secret" not in repr(Endpoint("http://x", "secret"))


def test_the_defaults_are_those_of_the_inference_stage() -> None:
    ours, theirs = Sampling(), InferenceOptions()
    assert (ours.temperature, ours.top_k, ours.top_p) == (
        theirs.temperature,
        theirs.top_k,
        theirs.top_p,
    )
    assert (ours.max_tokens, ours.seed) == (theirs.max_length, theirs.seed)


def test_a_server_that_knows_no_extras_is_asked_again_without_them() -> None:
    async def scene() -> None:
        def strict(body: dict[str, Any]) -> web.Response | None:
            odd = [name for name in ("min_p", "top_k", "repetition_penalty") if name in body]
            words = f"Unrecognized request arguments supplied: {', '.join(odd)}"
            return refused(400, message=words) if odd else None

        async with serving() as (server, url), Client(Endpoint(url)) as client:
            server.refuse = strict
            assert text_of(await pieces(client, Request("gpt", prompt="a"))) == "Once upon a time"
            assert client.ignored == {"min_p", "top_k", "repetition_penalty"}
            await pieces(client, Request("gpt", prompt="b"))
            assert len(server.bodies) == 3
            assert server.bodies[-1]["temperature"] == Sampling().temperature

    asyncio.run(scene())


def test_what_a_server_refuses_is_told_in_its_own_words() -> None:
    async def scene() -> None:
        async with serving() as (server, url), Client(Endpoint(url)) as client:
            server.refuse = lambda body: refused(
                422, message="The context is 256 tokens.", found="300 tokens", remedy="cut it"
            )
            with pytest.raises(HatcheryError) as told:
                await pieces(client, Request(MODEL, prompt="a"))
            error = told.value
            assert (error.problem, error.found, error.remedy) == (
                "The context is 256 tokens.",
                "300 tokens",
                "cut it",
            )
            server.refuse = lambda body: web.Response(status=429, text="<html>busy</html>")
            with pytest.raises(HatcheryError, match="429") as told:
                await pieces(client, Request(MODEL, prompt="a"))
            assert "in a moment" in told.value.remedy

    asyncio.run(scene())


def test_an_error_in_the_middle_of_a_stream_is_told_after_what_came_before() -> None:
    async def scene() -> None:
        async with serving() as (server, url), Client(Endpoint(url)) as client:
            server.chunks = [*stream("Once")[:1], event({"error": {"message": "out of memory"}})]
            answer = client.stream(Request(MODEL, prompt="a"))
            assert (await anext(answer)).text == "Once"
            with pytest.raises(HatcheryError, match="out of memory"):
                await anext(answer)

    asyncio.run(scene())


@pytest.mark.parametrize("breaks", [True, False], ids=["reset", "ended without an end"])
def test_an_answer_that_is_not_whole_is_an_error(breaks: bool) -> None:
    async def scene() -> None:
        async with serving() as (server, url), Client(Endpoint(url)) as client:
            server.chunks, server.breaks = stream("Once")[:1], breaks
            with pytest.raises(HatcheryError, match="broke off"):
                await pieces(client, Request(MODEL, prompt="a"))

    asyncio.run(scene())


def test_nobody_there_is_said_with_the_address() -> None:
    async def scene() -> None:
        async with serving() as (_, url):
            pass
        async with Client(Endpoint(url)) as client:
            with pytest.raises(HatcheryError, match="No server answers") as told:
                await client.models()
            assert url in told.value.problem
        async with Client(Endpoint("not an address")) as client:
            with pytest.raises(HatcheryError, match="not the address"):
                await client.models()

    asyncio.run(scene())


@pytest.mark.parametrize("listed", [[], {"data": 7}, "<html>", {"object": "list"}])
def test_something_else_that_answers_is_not_taken_for_a_model_server(listed: Any) -> None:
    async def scene() -> None:
        async with serving() as (server, url), Client(Endpoint(url)) as client:
            server.models = listed
            with pytest.raises(HatcheryError, match="OpenAI"):
                await client.models()

    asyncio.run(scene())


def test_closing_an_answer_ends_it_at_the_server() -> None:
    async def scene() -> None:
        async with serving() as (server, url), Client(Endpoint(url)) as client:
            server.chunks, server.hold = stream("Once")[:1], asyncio.Event()
            answer = client.stream(Request(MODEL, prompt="a"))
            assert (await anext(answer)).text == "Once"
            await answer.aclose()
            await _until(server)

    async def _until(server: Imitation) -> None:
        async with asyncio.timeout(90):
            while not server.left:
                await asyncio.sleep(0.01)

    asyncio.run(scene())


def test_an_answer_that_is_not_streamed_is_read_too() -> None:
    async def scene() -> None:
        async with serving() as (server, url), Client(Endpoint(url)) as client:
            whole = {"choices": [{"message": {"content": "All at once"}, "finish_reason": "stop"}]}
            server.refuse = lambda body: web.json_response(whole)
            messages = ({"role": "user", "content": "a"},)
            answer = await pieces(client, Request("gpt", messages=messages))
            assert (text_of(answer), answer[-1].finish) == ("All at once", "stop")

    asyncio.run(scene())


@pytest.mark.parametrize("data", ["{", "[1]", "7", "", "[" * 100_000])
def test_an_event_that_is_no_answer_is_refused(data: str) -> None:
    with pytest.raises(HatcheryError, match="cannot be read"):
        read_chunk(data)


@pytest.mark.parametrize("data", ['{"choices": 7}', '{"choices": [7]}', '{"usage": 3}', "{}"])
def test_an_event_without_text_adds_none(data: str) -> None:
    assert read_chunk(data) == Chunk()


def test_numbers_that_are_none_and_half_characters_reach_nobody() -> None:
    body = (
        '{"choices": [{"text": "a\\ud800", "logprobs": {"tokens": ["a", "b", "c"],'
        ' "token_logprobs": [NaN, -Infinity, -1]}}], "usage": {"completion_tokens": 1e999}}'
    )
    chunk = read_chunk(body)
    assert chunk.text == "a\ufffd"
    assert chunk.tokens == (("c", -1.0),)
    assert all(math.isfinite(number) for number in chunk.figures.values())
    json.dumps(chunk.figures, allow_nan=False)
