"""Whatever is sent, the answer is a clear refusal, and the next honest request is answered."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from random import Random
from typing import Any

import pytest

from tests.support.hostile import strings
from tests.support.servers.ours import COUNTING, NEW, Served, make_runs, serving, until

MAX_BODY = 100_000
_OK = {"model": COUNTING, "max_tokens": 1}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    make_runs(folder)
    with serving(folder, max_body=MAX_BODY, receive_seconds=1.0) as server:
        yield server


def raw_bodies() -> list[bytes]:
    """Bodies that are not a JSON object."""
    nested = (b"[" * 20_000, b'{"a":' * 9_000, b"[" * 300 + b"]" * 300)
    return [
        b"", b" ", b"null", b"[]", b"1", b'"text"', b"{", b"}", b"{]", b"nonsense", b"\x00" * 50,
        b"\xff\xfe\x00", b'{"prompt": "\xff"}', b'{"prompt": "\xed\xa0\x80"}',
        b'{"prompt": "\\ud800"}', b'{"prompt": "\\udfff\\ud800"}', b'{"prompt": "a\x01"}',
        b'{"temperature": NaN}', b'{"temperature": Infinity}', b'{"temperature": -Infinity}',
        b'{"temperature": 1e999}', b'{"max_tokens": ' + b"9" * 5000 + b"}",
        b'{"seed": ' + b"9" * 400 + b"}", b'{"prompt": [' + b"9" * 60 + b"]}",
        b"{'prompt': 'a'}", b'{"prompt": "a",}', b'{"prompt": "a"} {}', b"a=1&b=2",
        b"x" * (MAX_BODY + 1), b'{"prompt": "' + b"x" * MAX_BODY + b'"}', *nested,
    ]  # fmt: skip


def field_bodies() -> list[dict[str, Any]]:
    """Bodies of completions with one thing wrong."""
    wrong: dict[str, list[Any]] = {
        "prompt": [1, 1.5, {}, [], [[]], [1, "a"], ["a", 1], [[1], "a"], [[1.5]], [True], [-1],
                   [10**9], [258], [[1], [258]], [None], {"text": "a"}, "x" * 300, ["a", "x" * 300],
                   ["a"] * 17, [["a"]], [[[1]]]],
        "model": [1, [], {}, "", "no", "x" * 2000, True, "\x00", "..", NEW + "/", "/" + NEW],
        "max_tokens": [-1, 1.5, "1", [], True, {}],
        "temperature": [-0.1, "1", [], 101, 1e300, {}, True],
        "top_p": [-1, 1.1, "1", [], 1e300],
        "top_k": [-2, 1.5, "1", [], {}],
        "min_p": [-0.1, 1.1, "0", []],
        "repetition_penalty": [0, -1, 10.1, "1", []],
        "n": [0, -1, 17, 1.5, "1", 10**12, [], True],
        "seed": ["1", 1.5, 2**63, -(2**63) - 1, [], {}],
        "stop": [1, {}, [1], ["a"] * 17, [[]], True],
        "stream": ["true", 1, [], {}],
        "stream_options": [1, [], "x", {"include_usage": "x"}],
        "logprobs": [-1, 21, "1", 1.5, [], True],
        "echo": ["x", 1, []],
        "suffix": ["x"],
        "best_of": [2, 0],
        "logit_bias": [{"1": 101}, {"1": -101}, {"1": "1"}, {"1": None}, {"1": True}, {"": 1},
                       {"-1": 1}, {"258": 1}, {"01": 1}, {"9" * 5000: 1}, {"\u0663": 1}, {" 1": 1},
                       {"a": 1}, [1], "x", 1, True, {str(i): 1 for i in range(301)}],
        "presence_penalty": [2.1, -2.1, "x", [], True, 1e300],
        "frequency_penalty": [2.1, -2.1, "x", {}, True],
        "tools": [[{"type": "function"}]],
        "response_format": [{"type": "json_object"}, "x"],
        "temprature": [0],
        "max_token": [3],
    }  # fmt: skip
    bodies = [{name: bad} for name, all_ in wrong.items() for bad in all_]
    scored = [body | {"echo": True, "logprobs": 2} for body in bodies if "prompt" in body]
    return [_OK | {"prompt": "a"} | body for body in [*bodies, *scored]]


def chat_bodies() -> list[dict[str, Any]]:
    """Bodies of conversations with one thing wrong."""
    message = {"role": "user", "content": "a"}
    image = {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}
    messages: list[Any] = [
        None, [], "a", {}, [1], [[]], [None], [{}], [{"role": "user"}], [{"content": "a"}],
        [message | {"role": "tool"}], [message | {"role": "x"}], [message | {"role": 1}],
        [message | {"content": 1}], [message | {"content": None}], [message | {"content": {}}],
        [message | {"content": [image]}], [message | {"content": ["a"]}],
        [message | {"content": [{"type": "text"}]}], [message] * 1001,
        [message | {"content": "x" * 500}],
        [message | {"content": [{"type": "text", "text": 1}]}],
    ]  # fmt: skip
    wrong: list[dict[str, Any]] = [{"messages": found} for found in messages]
    extra = [("top_logprobs", 21), ("logprobs", 3), ("max_completion_tokens", -1), ("n", 99)]
    return [_OK | body for body in [*wrong, *({"messages": [message], k: v} for k, v in extra)]]


@pytest.mark.slow
def test_two_hundred_hostile_bodies_get_clear_refusals(served: Served) -> None:
    bodies: list[tuple[str, Any]] = [("/v1/completions", body) for body in raw_bodies()]
    bodies += [("/v1/chat/completions", body) for body in raw_bodies()]
    bodies += [("/v1/completions", body) for body in field_bodies()]
    bodies += [("/v1/chat/completions", body) for body in chat_bodies()]
    assert len(bodies) >= 200
    for path, body in bodies:
        status, answer = served.ask(path, body)
        shown = str(body)[:200]
        assert 400 <= status < 500, (shown, answer)
        assert status in (400, 404, 413), (shown, answer)
        assert len(answer["error"]["message"]) > 10, shown
        assert answer["error"]["type"] == "invalid_request_error"
    assert served.complete("0", model=COUNTING)["choices"][0]["text"] == "123456789012"


@pytest.mark.slow
def test_whatever_somebody_writes_is_answered_or_refused(served: Served) -> None:
    for text in strings(60, seed=5):
        written = json.dumps({"role": "user", "content": text[:40]})
        body = f'{{"model": "{COUNTING}", "messages": [{written}], "max_tokens": 2}}'.encode()
        status, answer = served.ask("/v1/chat/completions", body)
        surrogate = any(0xD800 <= ord(c) < 0xE000 for c in text[:40])
        assert status == (400 if surrogate else 200), answer


def traversals() -> list[str]:
    steps = ["../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "..\\", "....//", "%252e%252e%252f"]
    goals = ["etc/passwd", "checkpoints", "config.json", "etc/passwd%00.json", f"{NEW}/step-20",
             "proc/self/environ", "~root", "tokenizers/bytes"]  # fmt: skip
    return [f"{step * 4}{goal}" for step in steps for goal in goals]


@pytest.mark.slow
def test_sixty_traversal_names_are_not_found(served: Served) -> None:
    names = traversals()
    assert len(names) >= 60
    for name in names:
        status, answer = served.ask(f"/v1/models/{name}")
        assert (status, answer["error"]["code"]) == (404, "model_not_found"), name
        for path in ("/v1/models/load", "/v1/completions"):
            status, answer = served.ask(path, {"model": name, "prompt": "a", "max_tokens": 1})
            assert (status, answer["error"]["code"]) == (404, "model_not_found"), name
    _, _, counted = served.raw("/metrics")
    assert b"/v1/models/{name:path}" in counted
    assert b"passwd" not in counted


def test_unknown_routes_and_methods_have_the_same_form(served: Served) -> None:
    for path in ("/v1", "/v1/embeddings", "/etc/passwd", "/docs", "/openapi.json", "/v1/chat/"):
        assert served.ask(path)[0] == 404, path
    for method, path in (("DELETE", "/v1/models"), ("PUT", "/v1/completions"), ("POST", "/"),
                         ("GET", "/v1/completions"), ("BREW", "/health")):  # fmt: skip
        status, answer = served.ask(path, method=method)
        assert (status, answer["error"]["code"]) == (405, "method_not_allowed"), path


@pytest.mark.parametrize(
    "bytes_sent",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"GET /" + b"x" * 100_000,
        b"GET / HTTP/1.1\r\nA: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused_in_the_same_form(served: Served, bytes_sent: bytes) -> None:
    with served.connect() as connection:
        connection.sendall(bytes_sent + b"\r\n\r\n")
        answer = _all(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 4"), answer
    assert json.loads(body)["error"]["type"] == "invalid_request_error"


def _all(connection: socket.socket) -> bytes:
    found = b""
    try:
        while part := connection.recv(65536):
            found += part
    except ConnectionResetError:
        pass
    return found


@pytest.mark.slow
def test_a_request_that_arrives_byte_by_byte_is_ended(served: Served) -> None:
    for begun in (b"", b"GET /v1/mod", served.request({"prompt": "a"})[:-3]):
        with served.connect() as connection:
            connection.sendall(begun)
            answer = _all(connection)
        assert b" 408 " in answer
        assert b"request_timeout" in answer


def test_slow_connections_make_room_and_do_not_stop_a_good_client(served: Served) -> None:
    random = Random(3)
    request = served.request(_OK | {"prompt": "a"})
    expected = served.complete("12", model=COUNTING)["choices"]
    with ExitStack() as stack:
        slow = [stack.enter_context(served.connect()) for _ in range(300)]
        for round_ in range(3):
            for connection in slow:
                at = random.randrange(len(request))
                try:
                    connection.sendall(request[at : at + 1])
                except OSError:
                    continue  # the server has had enough of it
            assert served.complete("12", model=COUNTING)["choices"] == expected, round_
    assert served.ask("/health")[0] == 200


def test_a_body_longer_than_allowed_is_refused_before_it_is_read(served: Served) -> None:
    head = b"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    key = served.request({}).partition(b"Authorization: ")[2].partition(b"\r\n")[0]
    with served.connect() as connection:
        connection.sendall(
            head + b"Authorization: " + key + b"\r\nContent-Length: 9999999999\r\n\r\n"
        )
        assert connection.recv(12) == b"HTTP/1.1 413"
    with served.connect() as connection:
        connection.sendall(
            head + b"Authorization: " + key + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(4):
            connection.sendall(b"8000\r\n" + b"x" * 0x8000 + b"\r\n")
        assert connection.recv(12) == b"HTTP/1.1 413"


def test_clients_that_hang_up_are_no_failures_of_the_server(served: Served) -> None:
    """Before their body is whole, while they wait, and in the middle of a stream."""
    body = {"model": COUNTING, "prompt": ["0"] * 4, "max_tokens": 240}
    for stream in (True, False):
        whole = served.request(body | {"stream": stream})
        for sent in (whole[:-20], whole[: whole.index(b"\r\n\r\n") + 4], whole):
            for wait in (False, True):
                with served.connect() as connection:
                    connection.sendall(sent)
                    if wait and sent == whole and stream:
                        connection.recv(64)
    until(lambda: served.metric("hatchery_rows") == 0)
    codes = _counted_codes(served)
    until(lambda: _counted_codes(served).get("499", 0) >= 8)
    assert "503" not in codes
    assert "500" not in codes


def _counted_codes(served: Served) -> dict[str, float]:
    """How many answers were counted, by their code."""
    found: dict[str, float] = {}
    for line in served.raw("/metrics")[2].decode().splitlines():
        if line.startswith("hatchery_requests_total{") and "completions" in line:
            code = line.split('code="')[1].split('"')[0]
            found[code] = found.get(code, 0) + float(line.rsplit(" ", 1)[1])
    return found
