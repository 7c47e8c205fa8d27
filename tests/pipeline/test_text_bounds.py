"""Where texts begin and end: what a model of others declares holds wherever it goes."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from model.huggingface.generation_config import read_generation_config
from pipeline.inference.loading import load_writer
from pipeline.options.inference import InferenceOptions
from pipeline.runs.text_bounds import text_bounds
from pipeline.tokenizer.formats import read
from tests.support.models_of_others import MAKERS, change
from tests.support.servers.ours import serving
from tests.support.stage_runner import finished, run_stage
from tests.support.tiny_checkpoints import byte_tokenizer, lively_model, save_step

TEXT = "The value of é"
ENDS = {
    "qwen": (258, 256),
    "llama3": (257, 260),
    "llama32": (257, 260),
    "gpt2": (256,),
    "undeclared": (257,),
    "declared_and_not_added": (257,),
}


@pytest.fixture(params=MAKERS)
def foreign(request: pytest.FixtureRequest, workspace: Path) -> Path:
    return MAKERS[request.param](workspace / request.param)


def theirs(folder: Path, text: str, **options: Any) -> list[int]:
    """New ids by transformers."""
    tokenizer, model = (
        AutoTokenizer.from_pretrained(folder),
        AutoModelForCausalLM.from_pretrained(folder),
    )
    ids = torch.tensor([tokenizer(text).input_ids])
    settings = {
        "do_sample": False,
        "max_new_tokens": 8,
        "temperature": None,
        "top_k": None,
    } | options
    out = model.generate(ids, attention_mask=torch.ones_like(ids), top_p=None, **settings)
    return [int(i) for i in out[0, ids.shape[1] :]]


def ours(folder: Path | str, text: str) -> list[int]:
    options = {"checkpoint": [str(folder)], "prompt": text, "temperature": 0.0, "max_length": 8}
    end = finished(run_stage("inference", inference=options))
    return list(end.summary["texts"][0]["token_ids"])


def test_a_prompt_begins_as_in_transformers_and_so_the_greedy_text_is_the_same(
    foreign: Path,
) -> None:
    writer = load_writer(foreign, "m", InferenceOptions(device="cpu"), Path("tokenizers"))
    assert writer.prompt_ids(TEXT) == AutoTokenizer.from_pretrained(foreign)(TEXT).input_ids
    assert ours(foreign, TEXT) == theirs(foreign, TEXT)


def test_every_declared_end_ends_a_text(foreign: Path) -> None:
    tokenizer = read(foreign, "foreign")
    assert text_bounds(foreign, tokenizer).ends == ENDS[foreign.name]
    for end in ENDS[foreign.name]:
        forced = theirs(foreign, TEXT, sequence_bias={(end,): 100.0})
        assert forced == [end]  # the reference agrees that it is one


def test_an_empty_prompt_begins_with_a_token_that_a_model_can_read(foreign: Path) -> None:
    writer = load_writer(foreign, "m", InferenceOptions(device="cpu"), Path("tokenizers"))
    assert len(writer.prompt_ids("")) == 1


def test_an_exported_folder_says_what_its_source_says(foreign: Path) -> None:
    end = finished(run_stage("export", export={"checkpoint": str(foreign), "output": "out"}))
    out = Path(str(end.path))
    before, after = (json.loads((f / "config.json").read_text()) for f in (foreign, out))
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert after.get(name) == before.get(name)
    declared = read_generation_config(foreign).content
    written = json.loads((out / "generation_config.json").read_text())
    assert written == declared if declared else "max_new_tokens" not in written
    first, second = (AutoTokenizer.from_pretrained(f) for f in (foreign, out))
    assert second(TEXT).input_ids == first(TEXT).input_ids
    if foreign.name != "undeclared":
        assert (second.bos_token, second.eos_token) == (first.bos_token, first.eos_token)
    # And once more through our own hands: an export is still a model of others.
    assert ours(out, TEXT) == theirs(foreign, TEXT)
    assert text_bounds(out, read(out, "out")).ends == ENDS[foreign.name]


def test_a_gguf_file_says_the_same(foreign: Path) -> None:
    end = finished(
        run_stage("export", export={"checkpoint": str(foreign), "to": "gguf", "output": "out"})
    )
    folder = Path(str(end.path))
    fields = gguf.GGUFReader(folder / end.summary["file"]).fields

    def field(name: str) -> Any:
        found = fields.get(f"tokenizer.ggml.{name}")
        return None if found is None else found.contents()

    before = text_bounds(foreign, read(foreign, "foreign")).before
    assert field("add_bos_token") == bool(before)
    if before:
        assert [field("bos_token_id")] == [*before]
    if foreign.name == "qwen":
        assert field("bos_token_id") is None
    named = {field("eos_token_id"), field("eot_token_id"), field("eom_token_id")} - {None}
    assert named == {*ENDS[foreign.name]}
    lines = (folder / "Modelfile").read_text().split("\n")
    stops = [json.loads(line.removeprefix("PARAMETER stop ")) for line in lines if " stop " in line]
    pieces = AutoTokenizer.from_pretrained(foreign).convert_ids_to_tokens([*ENDS[foreign.name]])
    assert {*pieces} <= {*stops}
    assert not any("num_predict" in line for line in lines)
    assert ("PARAMETER temperature 0.6" in lines) == (foreign.name == "qwen")


@pytest.mark.slow
def test_a_training_that_began_with_it_keeps_its_ends_and_defaults(foreign: Path) -> None:
    words = " ".join(f"word{i} " for i in range(900))
    Path("notes").mkdir()
    for number in range(30):
        Path(f"notes/{number}.txt").write_text(f"{number} {words[number * 97 :]}")
    run_stage("cleanup", cleanup={"source": "files", "input": ["notes"], "workers": 1})
    prepare = {"tokenizer": str(foreign), "source": "files", "workers": 1, "window": 32}
    run_stage("prepare", prepare=prepare)
    training = {"init_from": str(foreign), "batch_size": 2, "window": 32, "max_steps": 1,
                "name": "on", "device": "cpu",
                "val_split": 0.2}  # fmt: skip
    run_stage("train", train=training, dataset={"source": "files"})
    [run] = Path("checkpoints").glob("run_*_on")
    for steps in (1, 2):
        if steps == 2:
            run_stage("train", train={"resume": str(run), "max_steps": 2, "device": "cpu"})
        folder = run / f"checkpoint_step_{steps:06d}"
        found = read_generation_config(folder)
        assert found.ends == ENDS[foreign.name]
        content = read_generation_config(foreign).content
        assert (found.content or {}).get("temperature") == (content or {}).get("temperature")
        assert AutoModelForCausalLM.from_pretrained(folder).generation_config.eos_token_id in (
            [*ENDS[foreign.name]], ENDS[foreign.name][0]
        )  # fmt: skip


def test_a_run_of_ours_begins_its_texts_with_bos_whatever_its_tokenizer_does(
    workspace: Path,
) -> None:
    tokenizer = byte_tokenizer()
    folder = save_step(
        workspace / "checkpoints/run_2026_01_01_10_00_a", 5, lively_model(), tokenizer
    )
    assert text_bounds(folder, tokenizer).before == (tokenizer.bos_id,)
    change(folder / "tokenizer_config.json", add_bos_token=False)
    assert text_bounds(folder, tokenizer).before == (tokenizer.bos_id,)


@pytest.mark.parametrize(
    ("settings", "bos"),
    [
        ({}, "<s>"),
        ({"bos_token": None}, None),
        ({"bos_token": "</s>"}, "</s>"),
        ({"bos_token": {"content": "<s>"}}, "<s>"),
        ({"bos_token": None, "add_bos_token": True}, None),
    ],
)
def test_not_declared_is_not_declared_as_none(
    workspace: Path, settings: dict[str, Any], bos: str | None
) -> None:
    folder = MAKERS["undeclared"](workspace / "m")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"} | settings))
    found = read(folder, "m")
    assert (None if found.bos_id is None else found.piece(found.bos_id)) == bos
    # And it stays so when it is written and read again.
    for name, data in found.files().items():
        (folder / name).write_bytes(data)
    assert read(folder, "m").bos_id == found.bos_id


@pytest.mark.parametrize(
    ("settings", "before"),
    [({}, ()), ({"add_bos_token": False}, ()), ({"add_bos_token": True}, (256,))],
)
def test_without_a_rule_of_its_own_add_bos_token_is_the_rule(
    workspace: Path, settings: dict[str, Any], before: tuple[int, ...]
) -> None:
    folder = MAKERS["declared_and_not_added"](workspace / "m")
    spec = json.loads((folder / "tokenizer.json").read_text())
    vocab = spec["model"]["vocab"] | {"<|endoftext|>": 256}
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer.json").unlink()
    roles = {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(roles | settings))
    assert text_bounds(folder, read(folder, "m")).before == before


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKERS)
def test_log_probabilities_of_a_served_text_are_those_of_transformers(
    workspace: Path, name: str
) -> None:
    folder = MAKERS[name](workspace / "checkpoints" / name)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer(TEXT).input_ids
    with torch.no_grad():
        logprobs = torch.log_softmax(model(torch.tensor([ids])).logits[0].float(), -1)
    wanted = [float(logprobs[place, token]) for place, token in enumerate(ids[1:])]
    with serving(workspace) as served:
        answer = served.complete(
            TEXT, model=name, max_tokens=0, echo=True, logprobs=0, temperature=0
        )
        found = answer["choices"][0]["logprobs"]["token_logprobs"]
        own = len(tokenizer(TEXT, add_special_tokens=False).input_ids)
        assert answer["usage"]["prompt_tokens"] == len(ids)
        assert len(found) == own
        if own == len(ids):  # nothing stands before it, so its first token has none
            assert found[0] is None
            found = found[1:]
        assert found == pytest.approx(wanted, abs=1e-4)
        if tokenizer.chat_template:
            chat = [{"role": "user", "content": "Hi there"}]
            prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
            body = {"model": name, "messages": chat, "max_tokens": 8, "temperature": 0}
            status, answer = served.ask("/v1/chat/completions", body)
            assert (status, answer["usage"]["prompt_tokens"]) == (200, len(prompt))
        for end in ENDS[name]:
            body = {"model": name, "prompt": TEXT, "max_tokens": 6, "logit_bias": {str(end): 100}}
            status, answer = served.ask("/v1/completions", body)
            assert answer["choices"][0]["finish_reason"] == "stop", answer
            assert answer["usage"]["completion_tokens"] == 1
