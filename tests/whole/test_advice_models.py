"""Every command that an error about training or models advises, run as it was printed, in the
situation that the error is about."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.cli import main
from pipeline.runs.folders import step_folders
from pipeline.runs.record import read_record
from pipeline.train.trainer import NonFiniteError
from tests.support.advice import Situation, advises, made
from tests.support.servers.hub import Hub
from utils.files import DiskFullError

NAN = float("nan")
SITUATIONS: dict[str, Situation] = {}


def _run() -> Path:
    return next(Path("checkpoints").glob("run_*_first"))


def _raises(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(list(words))
    assert ended.value.code


def _fail(error: Exception) -> Callable[..., None]:
    def failing(*_: Any, **__: Any) -> None:
        raise error

    return failing


# Training.


@advises(SITUATIONS, "pipeline/tokens/token_set.py:TooShortError.advising")
def _a_window_longer_than_the_text() -> list[str]:
    return ["train", "--window", "100000", "--seed", "3"]


@advises(SITUATIONS, "pipeline/train/init_from.py:Initial.check")
def _a_window_longer_than_the_weights_context() -> list[str]:
    made("prepare", "--window", "2048")
    return ["train", "--init-from", "first", "--window", "2048"]


@advises(SITUATIONS, "pipeline/train/setup.py:_fit_model")
def _a_vocabulary_that_is_too_small() -> list[str]:
    return ["train", "--model.vocab-size", "10"]


@advises(SITUATIONS, "pipeline/train/setup.py:_fit_model#2")
def _a_context_that_is_too_short() -> list[str]:
    return ["train", "--model.max-position-embeddings", "8", "--window", "16"]


@advises(SITUATIONS, "pipeline/train/setup.py:open_data", FOLDER="notes")
def _no_tokens_of_that_corpus() -> list[str]:
    return ["train", "--source", "letters"]


@advises(SITUATIONS, "pipeline/train/course.py:_without_room")
def _a_full_disk() -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.train.session.save_checkpoint", _fail(DiskFullError("Full.")))
        _raises("train", "--resume", "first", "--max-steps", "4")
    return []


@advises(SITUATIONS, "pipeline/train/course.py:_after_breakdown")
def _not_a_number() -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "pipeline.train.trainer.Trainer.train_step", _fail(NonFiniteError(3, NAN, NAN))
        )
        _raises("train", "--resume", "first", "--max-steps", "4", "--precision", "bf16")
    return []


@advises(SITUATIONS, "pipeline/train/course.py:_out_of_memory")
def _no_memory_left() -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.train.trainer.Trainer.train_step", _fail(MemoryError()))
        _raises("train", "--name", "large", "--max-steps", "3", "--model.preset", "tiny")
    return []


@advises(SITUATIONS, "pipeline/train/init_from.py:Initial._check_tokenizer")
def _weights_of_another_tokenizer() -> list[str]:
    made("tokenize", "--train", "bpe")
    made("prepare", "--tokenizer", "bpe_tokenizer")
    return ["train", "--init-from", "first"]


@advises(
    SITUATIONS, "pipeline/train/init_from.py:Initial._check_tokenizer#2", PATH="tokenizers/chars"
)
def _more_ids_than_the_weights_know() -> list[str]:
    made("export", "--output", "bare")
    for file in Path("bare").glob("*token*"):
        file.unlink()
    made("tokenize", "--train", "bpe", "--vocab-size", "310", "--name", "large")
    made("prepare", "--tokenizer", "large")
    return ["train", "--init-from", "bare"]


@advises(SITUATIONS, "pipeline/train/init_from.py:_located")
def _a_model_of_the_hub_that_was_not_fetched() -> list[str]:
    return ["plan", "--init-from", "someone/small", "--no-probe"]


@advises(SITUATIONS, "pipeline/train/found_run.py:find_run_to_resume")
def _a_checkpoint_without_its_run() -> list[str]:
    shutil.copytree(step_folders(_run())[-1], "loose/checkpoint_best")
    return ["train", "--resume", "loose/checkpoint_best"]


@advises(SITUATIONS, "pipeline/runs/folders.py:newest_intact")
def _a_damaged_newest_checkpoint() -> list[str]:
    made("train", "--resume", "first", "--max-steps", "3")
    file = step_folders(_run())[-1] / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    return ["train", "--resume", "first", "--max-steps", "4"]


@advises(SITUATIONS, "pipeline/runs/folders.py:find_run", NAME="second")
def _a_run_that_is_not_there() -> list[str]:
    return ["train", "--resume", "second"]


@advises(SITUATIONS, "pipeline/runs/record.py:_unusable")
def _no_record_and_no_checkpoint() -> list[str]:
    Path("checkpoints/empty").mkdir()
    read_record(Path("checkpoints/empty"))
    return []


@advises(SITUATIONS, "pipeline/runs/record.py:_unusable#2")
def _a_damaged_record() -> list[str]:
    record = _run() / "run.json"
    record.write_bytes(record.read_bytes().replace(b"0.02", b"0.06"))
    return ["train", "--resume", "first"]


@advises(SITUATIONS, "pipeline/runs/record.py:recorded_options")
def _a_record_of_a_later_version() -> list[str]:
    found = json.loads((_run() / "run.json").read_bytes())
    found["options"]["telepathy"] = True
    (_run() / "run.json").write_text(json.dumps(found | {"checksum": ""}))
    return ["train", "--resume", "first"]


# Tuning.


def _chats(*answers: str) -> tuple[str, ...]:
    rows = [{"prompt": f"Note {n}", "completion": text} for n, text in enumerate(answers)]
    Path("chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ("lima", "--input", "chats.jsonl", "--tokenizer", "chars")


def several_chats() -> None:
    _chats("The hen.", "The fox.", "An egg.")


def a_set_of_chats() -> None:
    made(*_chats("The hen.", "The fox.", "An egg."))


@advises(SITUATIONS, "pipeline/sft/setup.py:_data_folder", then=several_chats, FILE="chats.jsonl")
def _no_conversations_yet() -> list[str]:
    return ["sft"]


@advises(SITUATIONS, "pipeline/sft/setup.py:_tokenizer")
def _conversations_of_another_tokenizer() -> list[str]:
    made("tokenize", "--train", "bpe", "--name", "other")
    made(*_chats("The hen.", "The fox.")[:-1], "other")
    return ["sft"]


@advises(SITUATIONS, "pipeline/sft/setup.py:_tokenizer#2")
def _conversations_of_another_template() -> list[str]:
    shutil.copytree("tokenizers/chars", "odd")
    Path("odd/manifest.json").unlink()
    Path("odd/chat_template.jinja").write_text(
        "{% for turn in messages %}{{ turn['role'] + turn['content'] + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant{% endif %}"
    )
    made(*_chats("The hen.", "The fox.")[:-1], "odd")
    return ["sft"]


@advises(SITUATIONS, "pipeline/sft/setup.py:_window")
def _a_conversation_longer_than_the_context() -> list[str]:
    made(*_chats("The hen. " * 500, "The fox.", "An egg."), "--max-length", "9000")
    return ["sft"]


@advises(SITUATIONS, "pipeline/sft/setup.py:_window#2")
def _rows_longer_than_the_context() -> list[str]:
    a_set_of_chats()
    return ["sft", "--window", "5000", "--max-steps", "1"]


@advises(SITUATIONS, "pipeline/sft/setup.py:_window#3")
def _rows_shorter_than_a_conversation() -> list[str]:
    a_set_of_chats()
    return ["sft", "--window", "8", "--max-steps", "1"]


@advises(SITUATIONS, "pipeline/sft/setup.py:_assembled", then=several_chats, FILE="chats.jsonl")
def _a_single_conversation() -> list[str]:
    made(*_chats("The hen."))
    return ["sft"]


@advises(SITUATIONS, "pipeline/sft/setup.py:_check_kind")
def _conversations_where_pairs_are_compared() -> list[str]:
    a_set_of_chats()
    return ["sft", "--method", "dpo", "--max-steps", "1"]


@advises(SITUATIONS, "pipeline/sft/setup.py:base_weights")
def _adapters_whose_base_is_gone() -> list[str]:
    a_set_of_chats()
    made("sft", "--lora", "--max-steps", "1", "--name", "thin")
    [run] = Path("checkpoints").glob("sft_*_thin")
    base = json.loads((run / "sft_config.json").read_text())["base"]["checkpoint"]
    shutil.rmtree(base)
    return ["sft", "--resume", str(run), "--max-steps", "2"]


@advises(SITUATIONS, "pipeline/train/found_run.py:require_trained_by")
def _a_tuned_run_that_train_shall_go_on_with() -> list[str]:
    a_set_of_chats()
    made("sft", "--max-steps", "1", "--name", "chat")
    return ["train", "--resume", "chat"]


# What uses a model.


@advises(SITUATIONS, "app/cli/runs.py:delete_some")
def _no_run_to_delete_named() -> list[str]:
    return ["runs", "delete"]


@advises(SITUATIONS, "app/cli/runs.py:_nothing_called")
def _no_such_run_to_delete() -> list[str]:
    return ["runs", "delete", "second", "--yes"]


@advises(SITUATIONS, "pipeline/runs/inventory.py:newest")
def _no_model_yet() -> list[str]:
    shutil.rmtree("checkpoints")
    return ["inference", "--prompt", "a"]


@advises(SITUATIONS, "pipeline/runs/inventory.py:_run_called")
def _no_run_at_all() -> list[str]:
    shutil.rmtree("checkpoints")
    return ["inference", "--prompt", "a", "--checkpoint", "first"]


@advises(SITUATIONS, "pipeline/export/gguf_model.py:refuse_unknown")
def _a_model_that_no_gguf_holds() -> list[str]:
    scaling = {"kind": "llama3", "factor": 8.0, "original_max_position_embeddings": 32}
    made("train", "--name", "odd", "--model.qk-norm", "--model.rope-scaling", json.dumps(scaling))
    made("train", "--name", "newer")
    return ["export", "--checkpoint", "odd", "--to", "gguf"]


@advises(SITUATIONS, "pipeline/export/gguf_tokenizer.py:_refused")
def _a_tokenizer_that_no_gguf_holds() -> list[str]:
    made("export", "--output", "mine")
    file = Path("mine/tokenizer.json")
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {"normalizer": {"type": "NFC"}}))
    Path("mine/manifest.json").unlink()
    return ["export", "--checkpoint", "mine", "--to", "gguf"]


@advises(SITUATIONS, "model/huggingface/folding.py:folded_config")
def _a_model_that_nobody_else_computes() -> list[str]:
    made("train", "--name", "odd", "--model.hidden-size", "24", "--model.num-heads", "5",
          "--model.num-kv-heads", "5", "--model.head-dim", "8")  # fmt: skip
    return ["export", "--checkpoint", "odd"]


@pytest.mark.slow
@pytest.mark.parametrize("place", sorted(SITUATIONS))
def test_what_is_advised_works(
    place: str, house: Path, hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    SITUATIONS[place].check(place, hub.url, capfd)
