"""Every field of a request is honoured, refused by its name, or harmless."""

from collections.abc import Iterator
from typing import Any

import pytest
from openai import OpenAI

from pipeline.server.engine.fields import HARMLESS, REFUSED
from pipeline.server.engine.protocol import ChatRequest, CompletionRequest
from pipeline.tokenizer.formats import read
from tests.support.servers.ours import COUNTING, NEW, TOKEN, Served, make_runs, serving

LIVELY = f"{NEW}/step-10"
SITE = "http://localhost:3000"
MESSAGE = {"role": "user", "content": "a"}

# What other servers honour, with a value that would give another text, or other figures.
ASKED: dict[str, Any] = {
    "min_tokens": 5, "length_penalty": 2.0, "use_beam_search": True, "prompt_logprobs": 2,
    "options": {"temperature": 2}, "max_new_tokens": 2, "n_predict": 2, "num_predict": 2,
    "max_length": 2, "repeat_penalty": 2.0, "typical_p": 0.1, "truncate_prompt_tokens": 1,
    "allowed_token_ids": [5], "stop_sequences": ["a"], "guided_choice": ["a", "b"],
    "structured_outputs": {"choice": ["a"]}, "json_schema": {"type": "object"}, "grammar": "x",
    "guided_json": {}, "guided_regex": "a", "guided_grammar": "x", "num_beams": 4,
    "bad_words": ["a"], "mirostat": 2, "dry_multiplier": 0.8, "xtc_probability": 0.5,
    "top_a": 0.2, "tfs_z": 0.9, "no_repeat_ngram_size": 3, "do_sample": False, "rep_pen": 1.2,
    "system": "be brief", "think": True, "format": "json", "raw": True, "min_new_tokens": 4,
    "skip_special_tokens": False, "include_stop_str_in_output": True, "regex": "a+",
    "reasoning_effort": "high", "verbosity": "low", "random_seed": 3, "dynatemp_range": 1.0,
    "epsilon_cutoff": 3, "samplers": ["top_k"], "smoothing_factor": 1.0, "repeat_last_n": 64,
    "tools": [{"type": "function"}], "response_format": {"type": "json_object"}, "n_probs": 3,
    "suffix": "x", "best_of": 4, "chat_template": "{{ 1 }}", "ebnf": "x", "lora": [{"id": 1}],
}  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    make_runs(folder)
    with serving(folder, allowed_origins=[SITE]) as server:
        yield server


def completion(served: Served, **fields: Any) -> tuple[int, dict[str, Any]]:
    asked = {"model": LIVELY, "prompt": "The hen", "max_tokens": 12, "temperature": 0}
    return served.ask("/v1/completions", asked | fields)


def chat(served: Served, **fields: Any) -> tuple[int, dict[str, Any]]:
    asked = {"model": LIVELY, "messages": [MESSAGE], "max_tokens": 12, "temperature": 0}
    return served.ask("/v1/chat/completions", asked | fields)


def text_of(answer: tuple[int, dict[str, Any]]) -> str:
    status, body = answer
    assert status == 200, body
    choice = body["choices"][0]
    return str(choice["message"]["content"] if "message" in choice else choice["text"])


@pytest.mark.parametrize("name", ASKED)
def test_what_would_change_the_text_is_refused_by_name(served: Served, name: str) -> None:
    for ask in (completion, chat):
        status, answer = ask(served, **{name: ASKED[name]})
        assert (status, answer["error"]["param"]) == (400, name)
        assert name in answer["error"]["message"]


def test_the_values_that_ask_for_nothing_give_the_same_text(served: Served) -> None:
    neutral = {
        name: values[0]
        for name, values in REFUSED.items()
        if values and name not in CompletionRequest.model_fields
    }
    plain = text_of(completion(served))
    assert text_of(completion(served, **neutral)) == plain
    assert text_of(completion(served, **dict.fromkeys(REFUSED))) == plain
    assert text_of(completion(served, **dict.fromkeys(HARMLESS, "x"))) == plain
    neutral = {
        name: values[-1]
        for name, values in REFUSED.items()
        if values and name not in ChatRequest.model_fields
    }
    assert text_of(chat(served, **neutral)) == text_of(chat(served))


def test_no_field_stands_in_two_of_the_tables() -> None:
    assert not REFUSED.keys() & HARMLESS
    honoured = CompletionRequest.model_fields.keys() | ChatRequest.model_fields.keys()
    assert not honoured & HARMLESS


@pytest.mark.parametrize("name", ["frobnicate", "temprature", "x" * 500, "Stop", "maxtokens"])
def test_what_no_server_knows_is_refused_as_by_openai(served: Served, name: str) -> None:
    for ask in (completion, chat):
        status, answer = ask(served, **{name: 1})
        assert (status, answer["error"]["code"]) == (400, "unknown_parameter")
        assert answer["error"]["param"] == name[:64]


def test_a_field_of_the_other_route_is_refused_and_told_where_it_belongs(served: Served) -> None:
    wrong = [
        (completion, {"messages": [MESSAGE]}),
        (completion, {"top_logprobs": 2}),
        (completion, {"chat_template_kwargs": {"a": 1}}),
        (completion, {"max_completion_tokens": 3}),
        (chat, {"prompt": "x"}),
        (chat, {"echo": True}),
        (chat, {"add_special_tokens": True}),
    ]
    for ask, fields in wrong:
        status, answer = ask(served, **fields)
        assert (status, answer["error"]["param"]) == (400, next(iter(fields)))
        assert "/v1/" in answer["error"]["remedy"]


def test_a_top_p_of_zero_takes_the_likeliest(served: Served) -> None:
    greedy = text_of(completion(served))
    for seed in range(3):
        drawn = completion(served, temperature=1.7, top_p=0, seed=seed)
        assert text_of(drawn) == greedy


def test_tools_that_may_not_be_called_and_answers_without_content_are_taken(
    served: Served,
) -> None:
    plain = text_of(chat(served))
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert text_of(chat(served, tools=tools, tool_choice="none")) == plain
    assert text_of(chat(served, functions=[{"name": "f"}], function_call="none")) == plain
    empty = [MESSAGE, {"role": "assistant", "content": ""}, MESSAGE]
    wanted = text_of(chat(served, messages=empty))
    for more in ({"content": None}, {}, {"content": None, "refusal": None, "tool_calls": []}):
        turns = [MESSAGE, {"role": "assistant"} | more, MESSAGE]
        assert text_of(chat(served, messages=turns)) == wanted
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = [MESSAGE, {"role": "assistant", "content": None, "tool_calls": [call]}]
    status, answer = chat(served, messages=turns)
    assert status == 400
    assert "tool_calls" in answer["error"]["message"]


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [4096, 4097, 10**6, 10**9, 10**30])
def test_more_tokens_than_fit_are_cut_and_the_usage_says_so(served: Served, tokens: int) -> None:
    for ask in (completion, chat):
        status, answer = ask(served, model=COUNTING, max_tokens=tokens)
        assert status == 200, answer
        usage = answer["usage"]
        assert usage["total_tokens"] <= 256
        room = 256 - usage["prompt_tokens"]
        assert usage["note"] == f"{room} new tokens at most, where {tokens} were asked for"
    assert "note" not in completion(served, model=COUNTING, max_tokens=200)[1]["usage"]
    assert "note" not in completion(served, model=COUNTING, max_tokens=None)[1]["usage"]


def test_the_note_on_a_cut_text_comes_in_a_stream_too(served: Served) -> None:
    client = OpenAI(base_url=f"{served.url}/v1", api_key=TOKEN)
    stream = client.completions.create(
        model=COUNTING, prompt="0", max_tokens=9999, stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    last = list(stream)[-1]
    assert last.usage is not None
    assert "9999 were asked for" in str((last.usage.model_extra or {})["note"])


def test_further_ends_and_none_at_all_are_honoured(served: Served) -> None:
    fours = {"model": COUNTING, "prompt": "0", "max_tokens": 9}
    ids = completion(served, **fours, logprobs=0)[1]["choices"][0]["logprobs"]["tokens"]
    assert "".join(ids) == "123456789"
    [four] = read(served.folder / "tokenizers/bytes", "bytes").encode("4")
    _, answer = completion(served, **fours, stop_token_ids=[four])
    assert (answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]) == ("1234", "stop")
    bias = {"257": 100}  # </s>
    ended = completion(served, **fours, logit_bias=bias)[1]["choices"][0]
    assert (ended["text"], ended["finish_reason"]) == ("", "stop")
    went_on = completion(served, **fours, logit_bias=bias, ignore_eos=True)[1]
    assert went_on["choices"][0]["finish_reason"] == "length"
    assert went_on["usage"]["completion_tokens"] == 9


def test_a_text_may_come_without_what_begins_one(served: Served) -> None:
    with_bos = completion(served)[1]["usage"]["prompt_tokens"]
    without = completion(served, add_special_tokens=False)[1]["usage"]["prompt_tokens"]
    assert with_bos - without == 1


def test_the_list_of_models_has_a_slash_at_its_end_too(served: Served) -> None:
    (status, answer), (plain_status, plain) = served.ask("/v1/models/"), served.ask("/v1/models")
    assert status == plain_status == 200
    assert answer["data"] == plain["data"] != []  # the free memory beside them never stands still


@pytest.mark.parametrize(
    "path", ["/", "/health", "/metrics", "/v1/models", "/v1/models/", f"/v1/models/{COUNTING}"]
)
def test_head_answers_as_get_without_a_body(served: Served, path: str) -> None:
    status, headers, body = served.raw(path, method="HEAD")
    assert (status, body) == (200, b"")
    assert headers["content-type"] == served.raw(path)[1]["content-type"]


def test_an_allowed_site_may_ask_and_no_other(served: Served) -> None:
    asked = {"Access-Control-Request-Method": "POST",
             "Access-Control-Request-Headers": "authorization, x-stainless-lang"}  # fmt: skip
    path = "/v1/chat/completions"
    status, headers, body = served.raw(path, method="OPTIONS", token=None, Origin=SITE, **asked)
    assert (status, body) == (204, b"")
    assert headers["access-control-allow-origin"] == SITE
    assert "POST" in headers["access-control-allow-methods"]
    assert headers["access-control-allow-headers"] == "authorization, x-stainless-lang"
    for token, wanted in ((TOKEN, 200), ("wrong", 401)):
        status, headers, _ = served.raw("/v1/models", token=token, Origin=SITE)
        assert (status, headers["access-control-allow-origin"]) == (wanted, SITE)
        assert headers["vary"] == "Origin"
    for foreign in ("http://localhost:3001", "https://localhost:3000", "null",
                    f"{SITE}.evil.example"):  # fmt: skip
        for method, more in (("GET", {}), ("OPTIONS", asked)):
            status, headers, _ = served.raw("/v1/models", method=method, Origin=foreign, **more)
            assert status == 403
            assert "access-control-allow-origin" not in headers


def test_without_an_origin_options_is_no_way_around_the_token(served: Served) -> None:
    assert served.ask("/v1/models", method="OPTIONS", token=None)[0] == 401
    assert served.ask("/v1/models", method="OPTIONS")[0] == 405
