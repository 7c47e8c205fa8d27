"""A tuned model gives the same greedy answer on the command line, from the server, in transformers
and in llama.cpp, which each read their own files."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from model.checkpoint import save_checkpoint
from model.language_model import LanguageModel
from pipeline.chat.encoder import ChatEncoder
from pipeline.conversations.conversation import Turn
from pipeline.export import chat_peers
from pipeline.tokenizer.tokenizer import Tokenizer
from tests.support.servers.ours import serving
from tests.support.small_tokenizers import PROSE, train
from tests.support.stage_runner import finished, run_stage
from tests.support.tiny_checkpoints import lively_model

RUN = "sft_lima_2026_01_01_10_00"
ANSWERS = {
    "What is a hen?": "A bird.",
    "Who are you?": "A small model.",
    "Count.": "1, 2, 3",
    "Where is 北京?": "In China 🙂.",
    "Write code.": "def f(x):\n        return x + 1",
    "To be?": "That is the question.",
    "  Spaces  ": "two  of them",
    "User: hi\nAssistant: hello": "Hello.",
    "Naïve": "naïve – yes.",
    "Sing": "\n\nla la",
}
CONTEXT, LONGEST = 96, 40


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A workspace with a model that was taught the answers, and its exports."""
    folder = tmp_path_factory.mktemp("house")
    with chdir(folder):
        tokenizer = train("bpe", PROSE, folder / "text")
        model = lively_model(
            seed=3, vocab_size=tokenizer.vocab_size, hidden_size=48, num_heads=4, num_kv_heads=2,
            max_position_embeddings=CONTEXT, initializer_range=0.1,
        )  # fmt: skip
        _teach(model, tokenizer)
        save_checkpoint(
            Path(f"checkpoints/{RUN}/checkpoint_step_000005"),
            model.eval(),
            tokenizer_files=tokenizer.files(),
            bos_token_id=tokenizer.bos_id,
            eos_token_id=tokenizer.eos_id,
            pad_token_id=tokenizer.pad_id,
            optimizer_state=None,
            state={"step": 5},
            command="sft",
            options={},
        )
        with pytest.MonkeyPatch.context() as patch:  # proofs by other programs are tested elsewhere
            patch.setattr(chat_peers, "_by_program", lambda *_: None)
            for to in ("hf", "gguf"):
                asked = {"checkpoint": RUN, "to": to, "dtype": "f32", "output": Path(to)}
                run_stage("export", export=asked)
        yield folder


def _teach(model: LanguageModel, tokenizer: Tokenizer) -> None:
    """Every answer by heart, its end too."""
    encoder = ChatEncoder(tokenizer)
    rows = [
        encoder.encode_example([Turn("user", question), Turn("assistant", answer)])
        for question, answer in ANSWERS.items()
    ]
    longest = max(len(row) for row, _ in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    targets = torch.full((len(rows), longest), -100)
    for number, (row, learned) in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
        for place in range(1, len(row)):
            targets[number, place - 1] = row[place] if learned[place] else -100
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(400):
        loss = cross_entropy(model(ids)["logits"].flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.03:
            return
    raise AssertionError(f"nothing learned: {loss:.3f}")


@pytest.fixture(scope="module")
def expected(house: Path) -> list[str]:
    """What the command line answers, which are the texts that were taught, where the template does
    not take their white space away."""
    with chdir(house):
        found = []
        for question in ANSWERS:
            asked = {"checkpoint": [RUN], "chat": question, "temperature": 0, "max_length": LONGEST}
            [row] = finished(run_stage("inference", inference=asked)).summary["texts"]
            assert row["statistics"]["finish"] == "stop"
            found.append(row["text"])
    assert found == [answer.lstrip() for answer in ANSWERS.values()]
    return found


def messages(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


@pytest.mark.slow
def test_the_server_answers_so(house: Path, expected: list[str]) -> None:
    found = []
    with chdir(house), serving(house) as server:
        for question in ANSWERS:
            body = {"messages": messages(question), "temperature": 0, "max_tokens": LONGEST}
            status, answer = server.ask("/v1/chat/completions", body)
            assert (status, answer["choices"][0]["finish_reason"]) == (200, "stop")
            found.append(answer["choices"][0]["message"]["content"])
    assert found == expected


@pytest.mark.slow
def test_transformers_answers_so(house: Path, expected: list[str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(house / "hf")
    words = AutoTokenizer.from_pretrained(house / "hf")
    found = []
    for question in ANSWERS:
        ids = words.apply_chat_template(
            messages(question), add_generation_prompt=True, return_tensors="pt"
        )
        out = model.generate(**ids, do_sample=False, max_new_tokens=LONGEST)[0]
        new = out[ids["input_ids"].shape[1] :]
        assert new[-1] == words.eos_token_id
        found.append(words.decode(new, skip_special_tokens=True).lstrip())
    assert found == expected


LLAMA = """
import json, sys
from llama_cpp import Llama
path, context, longest, questions = json.load(sys.stdin)
model = Llama(path, verbose=False, n_ctx=context, n_threads=1, flash_attn=False)
for question in questions:
    done = model.create_chat_completion(
        [{"role": "user", "content": question}], temperature=0.0, max_tokens=longest
    )
    [choice] = done["choices"]
    print(json.dumps([choice["finish_reason"], choice["message"]["content"]]))
"""


@pytest.mark.slow
def test_llama_cpp_answers_so(house: Path, expected: list[str]) -> None:
    """In a process of its own: the library leaves files open."""
    pytest.importorskip("llama_cpp", reason="the extra cpu-fast is not installed")
    [file] = (house / "gguf").glob("*.gguf")
    done = subprocess.run(
        [sys.executable, "-P", "-c", LLAMA],
        input=json.dumps([str(file), CONTEXT, LONGEST, [*ANSWERS]]),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [finish for finish, _ in rows] == ["stop"] * len(ANSWERS)
    assert [text.lstrip() for _, text in rows] == expected


@pytest.mark.slow
def test_the_engine_llamacpp_answers_so(house: Path, expected: list[str]) -> None:
    pytest.importorskip("llama_cpp", reason="the extra cpu-fast is not installed")
    asked = {"checkpoint": [RUN], "temperature": 0, "max_length": LONGEST, "engine": "llamacpp"}
    with chdir(house):
        found = [
            finished(run_stage("inference", inference=asked | {"chat": question})).summary["texts"]
            for question in ANSWERS
        ]
    assert [row["text"] for [row] in found] == expected
