"""The server answers the official client of the OpenAI protocol."""

import socket
from collections.abc import Iterator
from threading import Event

import pytest
from openai import APIStatusError, BadRequestError, OpenAI

from pipeline.events import Sample
from pipeline.inference.loading import load_writer
from pipeline.options.config import InferenceOptions, LoadOptions
from pipeline.server.http.deadlines import Connection
from pipeline.tokenizer.formats import read
from tests.support.servers.ours import COUNTING, NEW, OLD, TOKEN, Served, make_runs, serving, until

LIVELY = f"{NEW}/step-20"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    make_runs(folder)
    with serving(folder) as server:
        yield server


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{served.url}/v1", api_key=TOKEN, max_retries=0) as client:
        yield client


def greedy(served: Served, prompt: str, tokens: int) -> str:
    """What the stage `inference` writes with the same checkpoint."""
    path = served.folder / "checkpoints" / NEW / "checkpoint_step_000020"
    writer = load_writer(path, "it", LoadOptions(device="cpu"), served.folder / "tokenizers")
    options = InferenceOptions(max_length=tokens, temperature=0)
    events = list(writer.write(prompt, options, seed=0, stop=Event()))
    [sample] = [event for event in events if isinstance(event, Sample)]
    return sample.text


def test_every_checkpoint_is_listed_with_what_is_known_of_it(client: OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert list(models) == [f"{NEW}/step-20", f"{NEW}/step-10", COUNTING]
    facts = models[f"{NEW}/step-10"].model_extra["hatchery"]
    assert facts["run"] == NEW
    assert facts["step"] == 10
    assert facts["val_loss"] == 3.1
    assert (facts["best"], facts["latest"]) == (True, False)
    assert facts["context"] == 256
    assert facts["bytes"] == 4 * facts["parameters"] > 0


@pytest.mark.parametrize(
    ("alias", "step"), [(NEW, 10), (f"{NEW}/best", 10), (f"{NEW}/latest", 20), (OLD, 5)]
)
def test_a_run_goes_by_its_name_its_best_and_its_latest(
    client: OpenAI, alias: str, step: int
) -> None:
    assert client.models.retrieve(alias).model_extra["hatchery"]["step"] == step
    assert client.completions.create(model=alias, prompt="a", max_tokens=1).model.endswith(
        f"/step-{step}"
    )


def test_greedy_text_is_the_same_streamed_or_not_and_that_of_the_inference_stage(
    client: OpenAI, served: Served
) -> None:
    asked = {"model": LIVELY, "prompt": "The hen", "max_tokens": 40, "temperature": 0}
    whole = client.completions.create(**asked)
    with client.completions.create(**asked, stream=True) as chunks:
        streamed = "".join(chunk.choices[0].text for chunk in chunks)
    assert whole.choices[0].text == streamed == greedy(served, "The hen", 40)
    assert len(streamed) > 20


def test_usage_counts_tokens_once_and_comes_last_in_a_stream(client: OpenAI) -> None:
    asked = {"model": COUNTING, "prompt": "abc", "max_tokens": 7, "n": 2}
    usage = client.completions.create(**asked).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (4, 14, 18)
    with client.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    ) as stream:
        chunks = list(stream)
    assert chunks[-1].usage == usage
    assert chunks[-1].choices == []
    assert set(chunks[-1].model_extra["hatchery"]) == {
        "seconds", "first_token_ms", "tokens_per_second",
    }  # fmt: skip


def test_a_stop_string_ends_a_text_and_is_not_in_it(client: OpenAI) -> None:
    asked = {"model": COUNTING, "prompt": "0", "max_tokens": 30, "temperature": 0}
    for stop in ("56", ["never", "78", "56"]):
        choice = client.completions.create(**asked, stop=stop).choices[0]
        assert (choice.text, choice.finish_reason) == ("1234", "stop")
    with client.completions.create(**asked, stop="56", stream=True) as chunks:
        assert "".join(chunk.choices[0].text for chunk in chunks) == "1234"


def test_a_seed_repeats_a_text_and_n_texts_differ(client: OpenAI) -> None:
    asked = {"model": LIVELY, "prompt": "x", "max_tokens": 20, "temperature": 1.5, "n": 3}
    texts = [choice.text for choice in client.completions.create(**asked, seed=7).choices]
    again = [choice.text for choice in client.completions.create(**asked, seed=7).choices]
    other = [choice.text for choice in client.completions.create(**asked, seed=8).choices]
    assert texts == again != other
    assert len(set(texts)) == 3


def test_prompts_may_be_texts_or_ids_and_many_at_once(client: OpenAI, served: Served) -> None:
    three, five, seven = read(served.folder / "tokenizers/bytes", "bytes").encode("357")
    asked = {"model": COUNTING, "max_tokens": 3, "temperature": 0}
    texts = client.completions.create(**asked, prompt=["3", "7"], n=2, echo=True).choices
    assert [choice.text for choice in texts] == ["3456", "3456", "7890", "7890"]
    assert [choice.index for choice in texts] == [0, 1, 2, 3]
    ids = client.completions.create(**asked, prompt=[[256, three], [256, seven]]).choices
    assert [choice.text for choice in ids] == ["456", "890"]
    assert client.completions.create(**asked, prompt=[256, five]).choices[0].text == "678"


def test_log_probabilities_add_up_to_the_text(client: OpenAI) -> None:
    asked = {"model": LIVELY, "prompt": "y", "max_tokens": 9, "temperature": 0, "logprobs": 3}
    choice = client.completions.create(**asked).choices[0]
    found = choice.logprobs
    assert found is not None
    assert len(found.tokens) == len(found.token_logprobs) == len(found.top_logprobs) == 9
    assert all(max(top.values()) == p for top, p in zip(found.top_logprobs, found.token_logprobs,
                                                        strict=True))  # fmt: skip
    with client.completions.create(**asked, stream=True) as chunks:
        streamed = [chunk.choices[0].logprobs for chunk in chunks]
    assert [t for part in streamed if part for t in part.tokens] == found.tokens
    assert [t for part in streamed if part for t in part.text_offset] == found.text_offset


def test_a_chat_is_answered_whole_and_streamed(client: OpenAI) -> None:
    asked = {
        "model": COUNTING,
        "messages": [
            {"role": "system", "content": "Count."},
            {"role": "user", "content": [{"type": "text", "text": "Go"}]},
        ],
        "max_tokens": 5,
        "temperature": 0,
    }
    whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    assert whole.choices[0].message.content == "01234"
    assert whole.choices[0].finish_reason == "length"
    assert whole.choices[0].logprobs is not None
    assert [len(t.top_logprobs) for t in whole.choices[0].logprobs.content or ()] == [2] * 5
    assert [t.bytes for t in whole.choices[0].logprobs.content or ()] == [[c] for c in b"01234"]
    with client.chat.completions.create(**asked, stream=True) as stream:
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "01234"
    assert chunks[-1].choices[0].finish_reason == "length"


def test_without_max_tokens_a_text_fills_the_context(client: OpenAI) -> None:
    choice = client.completions.create(model=COUNTING, prompt="ab", temperature=0)
    assert choice.usage is not None
    assert choice.usage.total_tokens == 256
    assert choice.choices[0].finish_reason == "length"


@pytest.mark.parametrize("tokens", [256, 5000])
def test_a_prompt_longer_than_the_context_says_both_numbers(client: OpenAI, tokens: int) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.completions.create(model=COUNTING, prompt="x" * (tokens - 1))
    assert refused.value.code == "context_length_exceeded"
    assert f" {tokens:,} tokens" in refused.value.message
    assert " 256" in refused.value.message


def test_a_client_that_leaves_frees_its_row(served: Served) -> None:
    before = served.metric("hatchery_new_tokens_total")
    body = {"model": COUNTING, "prompt": ["0"] * 16, "max_tokens": 250, "stream": True}
    with served.connect() as connection:
        connection.sendall(served.request(body))
        assert connection.recv(12) == b"HTTP/1.1 200"
    until(lambda: served.metric("hatchery_rows") == 0)
    assert served.metric("hatchery_requests_waiting") == 0
    assert served.metric("hatchery_new_tokens_total") - before < 16 * 200


def test_a_client_that_leaves_before_its_whole_answer_frees_its_row_too(served: Served) -> None:
    before = served.metric("hatchery_new_tokens_total")
    with served.connect() as connection:
        connection.sendall(served.request({"model": COUNTING, "prompt": ["0"] * 16}))
        until(lambda: served.metric("hatchery_rows") == 16)
    until(lambda: served.metric("hatchery_rows") == 0)
    assert served.metric("hatchery_new_tokens_total") - before < 16 * 200


def test_the_token_is_asked_of_everything_but_the_page_and_the_health(served: Served) -> None:
    for token in (None, "wrong", TOKEN + "x", ""):
        for path, body in (("/v1/models", None), ("/v1/completions", {}), ("/metrics", None)):
            status, answer = served.ask(path, body, token=token)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
    assert served.ask("/health", token=None) == (200, {"status": "ok"})


def test_a_foreign_name_or_page_gets_nothing(served: Served) -> None:
    for headers in (
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Host": f"127.0.0.1:{served.port}", "Origin": "null"},
    ):
        status, answer = served.ask("/v1/models", **headers)
        assert status == 403, answer
    own = {"Host": f"localhost:{served.port}", "Origin": f"http://localhost:{served.port}"}
    assert served.ask("/v1/models", **own)[0] == 200


def test_errors_of_the_client_library_carry_our_words(client: OpenAI) -> None:
    with pytest.raises(APIStatusError) as refused:
        client.completions.create(model="no such", prompt="a")
    assert refused.value.status_code == 404
    assert refused.value.code == "model_not_found"
    assert NEW in str(refused.value.body)


def test_the_page_runs_nothing_but_its_own_script(served: Served) -> None:
    status, headers, _ = served.raw("/", token=None)
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "'unsafe-" not in headers["content-security-policy"]


def test_an_answer_is_sent_at_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TCP_NODELAY each request on a connection that stays open costs 44 ms."""
    found: list[int] = []
    whole = Connection.on_response_complete

    def look(self: Connection) -> None:
        connected = self.transport.get_extra_info("socket")
        found.append(connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        whole(self)

    monkeypatch.setattr(Connection, "on_response_complete", look)
    assert served.ask("/health")[0] == 200
    until(lambda: bool(found))
    assert found[0] != 0
