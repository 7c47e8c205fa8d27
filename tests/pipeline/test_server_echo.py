"""What tools that evaluate models ask for: the log-probabilities of a prompt's own tokens."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from threading import Event
from typing import Any

import pytest
import torch
from openai import BadRequestError, OpenAI, UnprocessableEntityError
from openai.types.completion_choice import CompletionChoice, Logprobs

from model.checkpoint import load_weights
from model.generation import runner, scoring
from model.generation.batch import BatchScheduler
from pipeline.server.engine import work_queue
from pipeline.server.engine.work_queue import Prompt
from pipeline.server.engine.worker import Worker
from pipeline.tokenizer.formats import read
from tests.support.servers.ours import COUNTING, NEW, TOKEN, Served, make_runs, serving, until
from tests.support.tiny_checkpoints import following_model, lively_model, save_step

LIVELY, BROKEN = f"{NEW}/step-20", "broken/step-1"
BOS, EOS = 256, 257
TEXT = "The hén ate 3 €."


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    make_runs(folder)
    model = lively_model(4, max_position_embeddings=256)
    with torch.no_grad():
        model.blocks[0].mlp.down.weight.fill_(float("nan"))
    tokenizer = read(folder / "tokenizers/bytes", "bytes")
    save_step(folder / "checkpoints/broken", 1, model, tokenizer)
    save_step(folder / "checkpoints/ends", 1, following_model({}, EOS), tokenizer)
    [half, _] = tokenizer.encode("é")
    save_step(folder / "checkpoints/halves", 1, following_model({}, half), tokenizer)
    with serving(folder) as server:
        yield server


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{served.url}/v1", api_key=TOKEN, max_retries=0) as client:
        yield client


def encode(served: Served, text: str) -> list[int]:
    return read(served.folder / "tokenizers/bytes", "bytes").encode(text)


def ask(client: OpenAI, prompt: Any, **options: Any) -> list[CompletionChoice]:
    asked = {"model": LIVELY, "echo": True, "logprobs": 2, "max_tokens": 0, "temperature": 0}
    return client.completions.create(prompt=prompt, **(asked | options)).choices


def probabilities(choice: CompletionChoice) -> Logprobs:
    assert choice.logprobs is not None
    return choice.logprobs


def own(served: Served, ids: Sequence[int]) -> torch.Tensor:
    """The model's log-probabilities of what follows each id but the last: (T - 1, V)."""
    model = load_weights(served.folder / "checkpoints" / NEW / "checkpoint_step_000020")
    with torch.no_grad():
        return model(torch.tensor([ids]))["logits"][0, :-1].log_softmax(-1)


def check(served: Served, found: Logprobs, ids: Sequence[int], sent: int) -> None:
    """The last `sent` of `ids` are as likely as the model says, which read all of them."""
    expected = own(served, ids)[-sent:]
    chosen = expected.gather(1, torch.tensor(ids[-sent:])[:, None])[:, 0].tolist()
    likeliest = expected.topk(2).values.tolist()
    assert found.token_logprobs is not None
    assert found.token_logprobs[-sent:] == pytest.approx(chosen, abs=1e-4)
    assert found.tokens is not None
    assert found.top_logprobs is not None
    named = zip(found.tokens[-sent:], found.top_logprobs[-sent:], strict=True)
    for (token, top), best, logprob in zip(named, likeliest, chosen, strict=True):
        assert max(top.values()) == pytest.approx(best[0], abs=1e-4)
        if token.isascii():  # halves of characters look the same: the likeliest has the name
            assert top[token] == pytest.approx(logprob, abs=1e-4)


def test_every_token_of_a_text_has_the_models_probability_after_bos(
    client: OpenAI, served: Served
) -> None:
    (choice,) = ask(client, TEXT)
    found = probabilities(choice)
    ids = encode(served, TEXT)
    assert (choice.text, choice.finish_reason) == (TEXT, "length")
    assert len(found.tokens or ()) == len(ids) == len(TEXT.encode())
    check(served, found, [BOS, *ids], len(ids))


def test_places_are_those_of_the_characters(client: OpenAI) -> None:
    (choice,) = ask(client, TEXT)
    found = probabilities(choice)
    lengths = [len(character.encode()) for character in TEXT]
    assert found.text_offset == [at for at, n in enumerate(lengths) for _ in range(n)]
    ascii_ones = [(token, at) for token, at in zip(found.tokens or (), found.text_offset or (),
                                                   strict=True) if token.isascii()]  # fmt: skip
    assert all(TEXT[at] == token for token, at in ascii_ones)
    assert len(ascii_ones) == len(TEXT) - 2


def test_ids_are_taken_as_they_are_and_nothing_stands_before_the_first(
    client: OpenAI, served: Served
) -> None:
    ids = [*encode(served, "hen"), BOS, *encode(served, "ate")]
    (choice,) = ask(client, ids)
    found = probabilities(choice)
    assert choice.text == "henate"
    assert found.tokens == ["h", "e", "n", "<s>", "a", "t", "e"]
    assert (found.token_logprobs or ())[0] is None
    assert (found.top_logprobs or ())[0] is None
    assert found.text_offset == [0, 1, 2, 3, 3, 4, 5]
    check(served, found, ids, len(ids) - 1)


@pytest.mark.parametrize("as_ids", [False, True])
def test_new_tokens_come_after_those_of_the_prompt(
    client: OpenAI, served: Served, as_ids: bool
) -> None:
    prompt = encode(served, "x") if as_ids else "x"
    (alone,) = ask(client, prompt, max_tokens=7, echo=False)
    (whole,) = ask(client, prompt, max_tokens=7)
    assert whole.text == "x" + alone.text
    ours, theirs = probabilities(whole), probabilities(alone)
    assert (ours.tokens or ())[1:] == theirs.tokens
    assert (ours.token_logprobs or ())[1:] == pytest.approx(theirs.token_logprobs, abs=1e-4)
    assert (ours.text_offset or ())[1:] == [1 + at for at in theirs.text_offset or ()]


@pytest.mark.parametrize(("model", "text"), [("ends", "hen"), ("halves", "hen\ufffd")])
def test_a_new_token_without_text_has_its_place_too(client: OpenAI, model: str, text: str) -> None:
    for stream in (False, True):  # lm-evaluation-harness takes the last place off, unseen
        answer: Any = client.completions.create(
            model=model, prompt="hen", echo=True, logprobs=1, max_tokens=1, stream=stream
        )
        choices = [one.choices[0] for one in (answer if stream else [answer])]
        found = [one.logprobs.token_logprobs for one in choices]
        assert "".join(one.text for one in choices) == text
        assert sum(map(len, found)) == 4
        assert choices[-1].finish_reason == ("stop" if model == "ends" else "length")
    (without,) = ask(client, "hen", model=model, echo=False, max_tokens=1)
    assert len(probabilities(without).tokens or ()) == len(text) - 3


def test_a_stop_string_cuts_its_tokens_off_after_an_echo_too(client: OpenAI) -> None:
    (choice,) = ask(client, "0", model=COUNTING, max_tokens=9, stop="34")
    assert choice.text == "012"
    assert probabilities(choice).tokens == ["0", "1", "2"]


def test_many_prompts_in_many_texts_are_the_same_streamed(client: OpenAI) -> None:
    asked = {"prompt": ["hen", "", "ate €"], "n": 2, "max_tokens": 4}
    whole = ask(client, **asked)
    assert [choice.index for choice in whole] == [0, 1, 2, 3, 4, 5]
    assert [choice.text[:3] for choice in whole[:2]] == ["hen", "hen"]
    assert [len(probabilities(choice).tokens or ()) for choice in whole] == [7, 7, 4, 4, 11, 11]
    streamed: dict[int, Any] = {choice.index: ["", [], [], [], []] for choice in whole}
    with client.completions.create(
        model=LIVELY, echo=True, logprobs=2, temperature=0, stream=True, **asked
    ) as chunks:
        for chunk in chunks:
            for choice in chunk.choices:
                parts, new = streamed[choice.index], choice.logprobs
                parts[0] += choice.text
                assert new is not None
                parts[1] += new.tokens or []
                parts[2] += new.token_logprobs or []
                parts[3] += new.top_logprobs or []
                parts[4] += new.text_offset or []
    for choice in whole:
        found = probabilities(choice)
        assert streamed[choice.index] == [choice.text, found.tokens, found.token_logprobs,
                                          found.top_logprobs, found.text_offset]  # fmt: skip


def test_nothing_is_written_where_no_new_token_is_asked_for(served: Served) -> None:
    before = served.metric("hatchery_new_tokens_total")
    body = {"model": LIVELY, "prompt": ["hen", "€"], "echo": True, "logprobs": 0, "max_tokens": 0}
    status, answer = served.ask("/v1/completions", body)
    assert status == 200
    assert answer["usage"] == {"prompt_tokens": 8, "completion_tokens": 0, "total_tokens": 8}
    assert [choice["text"] for choice in answer["choices"]] == ["hen", "€"]
    top = answer["choices"][0]["logprobs"]["top_logprobs"]
    assert [list(named) for named in top] == [["h"], ["e"], ["n"]]
    assert served.metric("hatchery_new_tokens_total") == before


def test_an_echo_without_logprobs_has_none(client: OpenAI) -> None:
    (choice,) = ask(client, "hen", logprobs=None, max_tokens=1)
    assert choice.text.startswith("hen")
    assert choice.logprobs is None


def test_a_prompt_may_fill_the_context_where_nothing_follows(client: OpenAI) -> None:
    (choice,) = ask(client, "x" * 255)
    assert len(probabilities(choice).tokens or ()) == 255
    for prompt, new in (("x" * 255, 1), ("x" * 256, 0)):
        with pytest.raises(BadRequestError, match="context"):
            ask(client, prompt, max_tokens=new)


def test_a_model_that_computes_nan_is_told_as_when_it_writes(client: OpenAI) -> None:
    with pytest.raises(UnprocessableEntityError, match="NaN") as refused:
        ask(client, "hen", model=BROKEN)
    assert refused.value.code == "model_unusable"
    assert len(ask(client, "hen")) == 1


def test_a_long_prompt_lets_the_others_write_between_its_pieces(
    served: Served, client: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_PIECE", 2)
    done: list[str] = []
    writing_on, arrived = Event(), Event()
    step, score, submit = BatchScheduler.step, scoring.score, Worker.submit

    def stepping(batch: BatchScheduler) -> Any:
        done.append("step")
        if len(done) == 5:
            writing_on.set()
            arrived.wait()
        return step(batch)

    def noting(*arguments: Any) -> Any:
        for piece in score(*arguments):
            done.append("piece")
            yield piece

    def submitting(worker: Worker, new: work_queue.GenerationRequest) -> None:
        if new.prompts:
            writing_on.wait()
        submit(worker, new)
        if new.prompts:
            arrived.set()

    monkeypatch.setattr(BatchScheduler, "step", stepping)
    monkeypatch.setattr(work_queue, "score", noting)
    monkeypatch.setattr(Worker, "submit", submitting)
    body = {"model": LIVELY, "prompt": "0", "max_tokens": 250, "stream": True, "temperature": 0}
    with served.connect() as writing:
        writing.sendall(served.request(body))
        assert writing.recv(12) == b"HTTP/1.1 200"
        ask(client, "x" * 100)
    assert done.count("piece") == 50
    assert done.index("piece") == 5
    assert ("piece", "piece") not in pairwise(done)


def test_a_client_that_leaves_ends_the_scoring_of_its_prompts(
    served: Served, client: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_PIECE", 1)
    pieces, score = [0], scoring.score

    def counting(*arguments: Any) -> Any:
        for piece in score(*arguments):
            pieces[0] += 1
            yield piece

    monkeypatch.setattr(work_queue, "score", counting)
    body = {"model": LIVELY, "prompt": ["x" * 250] * 16, "echo": True, "logprobs": 1,
            "max_tokens": 0}  # fmt: skip
    with served.connect() as leaving:
        leaving.sendall(served.request(body))
        until(lambda: pieces[0] > 5)
    assert len(ask(client, "hen")) == 1
    assert pieces[0] < 16 * 250
    until(lambda: served.metric("hatchery_requests_waiting") == 0)


def test_a_failure_while_scoring_ends_that_request_and_the_model_is_loaded_anew(
    served: Served, client: OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = {"model": LIVELY, "prompt": "hen", "echo": True, "logprobs": 1, "max_tokens": 0}
    with monkeypatch.context() as patch:
        patch.setattr(work_queue, "score", lambda *_: 1 / 0)
        status, answer = served.ask("/v1/completions", body)
    assert (status, answer["error"]["code"]) == (503, "model_failed")
    assert len(ask(client, "hen")) == 1
    assert served.complete("0", model=COUNTING)["choices"][0]["text"] == "123456789012"


def test_a_text_that_no_token_begins_has_a_first_token_without_a_probability() -> None:
    prompt = Prompt([5, 6], added=0, text="ab", offsets=[0, 1])
    empty = torch.empty(1, 0)
    prompt.scored.append(scoring.Scores([6], torch.tensor([-0.5]), empty, empty))
    assert [(one.id, one.logprob, at) for one, at in prompt.tokens] == [(5, None, 0), (6, -0.5, 1)]


def test_penalties_and_biases_reach_the_sampler(client: OpenAI, served: Served) -> None:
    [five] = map(str, encode(served, "5"))
    asked = {"model": COUNTING, "prompt": "0", "max_tokens": 12, "temperature": 0}
    biased = client.completions.create(**asked, logit_bias={five: 100}).choices[0].text
    assert biased == "5" * 12
    without = client.completions.create(**asked, logit_bias={five: -100}).choices[0].text
    assert without.startswith("1234")
    assert "5" not in without
    wished = {five: 62}  # the counting model gives its choice 10 x sqrt(32), all others nothing
    free = client.completions.create(**asked, logit_bias=wished, frequency_penalty=2).choices[0]
    assert 1 < free.text.count("5") < 12
    message = {"role": "user", "content": "Go"}
    chat = client.chat.completions.create(
        model=COUNTING, messages=[message], max_tokens=3, temperature=0, logit_bias={five: 100},
        presence_penalty=-2, frequency_penalty=0.5,
    )  # fmt: skip
    assert chat.choices[0].message.content == "555"
