"""The form and the row of conversations: what is read, what is made, what there is."""

from pathlib import Path

import pytest

from app.tui.forms.field_spec import fields_of
from app.tui.forms.suggestions import namer
from app.tui.stage import stage_flow
from app.tui.stage.stage_form import StageForm
from pipeline.options.config import Config
from pipeline.stages import MISSING, Product, find
from pipeline.survey import survey
from tests.support.stage_runner import run_stage
from tests.support.tiny_checkpoints import byte_tokenizer

FIELDS = {field.path: field for field in fields_of("lima")}


@pytest.fixture
def chats(workspace: Path) -> str:
    byte_tokenizer().save(Path("tokenizers/bytes"))
    Path("chats.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    return "chats.jsonl"


def test_a_file_of_conversations_is_read_beside_the_tokenizer(chats: str) -> None:
    form = StageForm(find("lima"), ("--input", chats))
    products = form.survey(form.draft.config)
    given, tokenizer = stage_flow.inputs(find("lima"), products, form.draft.config)
    assert (given.given, given.product.state, given.product.title) == (True, "fresh", chats)
    assert tokenizer.product.title == "bytes"
    assert form.line == "python main.py lima --input chats.jsonl"
    made = stage_flow.output(find("lima"), form.draft.config)
    assert made is not None
    assert (made.where, made.there) == ("data/post-training/chats", "not there yet")


def test_conversations_of_ones_own_documents_are_proposed(chats: str) -> None:
    Path("notes").mkdir()
    Path("notes/a.txt").write_text("Who lays the eggs?\n\nThe small hen lays them all.\n" * 9)
    assert _proposed() == "python main.py lima"
    run_stage("cleanup", cleanup={"input": ["notes"]})
    assert _proposed() == "python main.py lima --from-corpus notes"
    assert _proposed("--input", chats) == f"python main.py lima --input {chats}"


def _proposed(*words: str) -> str:
    return StageForm(find("lima"), words, products=survey(Config())).line


def test_without_a_tokenizer_the_steps_that_make_one_come_first(workspace: Path) -> None:
    products = dict.fromkeys(("download", "cleanup"), Product("fresh", "notes", made=1.0))
    config = Config.model_validate({"lima": {"input": ["chats.jsonl"]}})
    steps = stage_flow.chain(find("lima"), {"lima.input": ["chats.jsonl"]}, config, products)
    assert [step.stage.command for step in steps] == ["tokenize", "lima"]
    assert steps[-1].arguments == ["--input", "chats.jsonl"]


def test_the_board_tells_the_newest_set(chats: str) -> None:
    assert survey(Config())["lima"] == MISSING
    run_stage("lima", lima={"input": [chats], "tokenizer": "bytes"})
    found = survey(Config())["lima"]
    assert (found.state, found.title) == ("fresh", "chats")
    assert found.figure == "1 conversation, 3 tokens to learn"
    Path("data/post-training/chats/manifest.json").write_text("broken")
    assert survey(Config())["lima"] == MISSING


def test_a_corpus_is_picked_by_its_name(workspace: Path) -> None:
    Path("notes").mkdir()
    Path("notes/a.txt").write_text("The small hen lays an egg under the green bush. " * 9)
    run_stage("cleanup", cleanup={"input": ["notes"]})
    names = namer(FIELDS["lima.from_corpus"])
    assert names is not None
    assert names(Config()) == ["notes"]
