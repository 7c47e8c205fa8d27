"""The chat template: found once for all that use it; and conversations become ids by it, whose
control tokens come from the template and never from what is written."""

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest

from pipeline.options.config import ServeOptions
from pipeline.server.engine.catalogue import Catalogue
from pipeline.server.engine.chat_encoder import ChatEncoder
from pipeline.server.engine.protocol import Message
from pipeline.server.errors import ApiError
from pipeline.tokenizer.chat_template import DEFAULT
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.tokenizer import Tokenizer
from tests.support.stage_runner import finished, run_stage
from tests.support.tiny_checkpoints import byte_tokenizer, lively_model, save_step
from tests.support.tokenizer_makers import PROSE, train
from utils.errors import UsageError

BOS, EOS = 256, 257
CHATML = (
    "{% for message in messages %}\n"
    "{{ bos_token + message['role'] + '\n' + message['content'] | trim + eos_token }}\n"
    "{% endfor %}\n"
    "{% if add_generation_prompt %}{{ bos_token + 'assistant\n' }}{% endif %}\n"
)
OWN, OTHER = "{{ messages[0]['content'] }}!", "{{ messages[0]['content'] }}?"
# What chat_template.jinja holds, what tokenizer_config.json says, and the template that is meant.
DECLARED: dict[str, tuple[str | None, Any, str]] = {
    "nowhere": (None, None, DEFAULT),
    "in the settings": (None, OWN, OWN),
    "the default, in the settings": (None, DEFAULT, DEFAULT),
    "in a file": (OWN, None, OWN),
    "in both": (OWN, OTHER, OWN),
    "by name": (None, [{"name": "tools", "template": OTHER}, {"name": "default", "template": OWN}],
                OWN),
    "by other names only": (None, [{"name": "tools", "template": OTHER}], DEFAULT),
    "an empty text": (None, "", DEFAULT),
    "an empty file": ("", OWN, OWN),
    "nothing but an empty file": ("", None, DEFAULT),
}  # fmt: skip


@pytest.mark.parametrize("declared", DECLARED)
def test_all_that_chat_with_a_model_or_export_it_find_the_same_template(
    workspace: Path, declared: str
) -> None:
    from transformers import AutoTokenizer

    file, settings, meant = DECLARED[declared]
    folder = foreign_model(workspace)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    del config["chat_template"]
    config |= {} if settings is None else {"chat_template": settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if file is not None:
        (folder / "chat_template.jinja").write_text(file)
    ours = load_tokenizer(folder, workspace)
    assert ours.chat_template == meant
    reference = tokenizer(meant, of=load_tokenizer(folder, workspace))
    assert ChatEncoder(ours).encode(say("Hi")) == ChatEncoder(reference).encode(say("Hi"))
    [served] = Catalogue(workspace / "checkpoints", ServeOptions(), []).served_models()
    assert served.chat == (meant != DEFAULT)
    run_stage("export", export={"checkpoint": str(folder), "to": "hf", "output": "hf"})
    assert json.loads(Path("hf/tokenizer_config.json").read_text())["chat_template"] == meant
    assert AutoTokenizer.from_pretrained("hf").chat_template == meant
    events = run_stage("export", export={"checkpoint": str(folder), "to": "gguf", "output": "gguf"})
    field = gguf.GGUFReader(Path("gguf") / finished(events).summary["file"]).fields
    assert field["tokenizer.chat_template"].contents() == meant
    assert ("TEMPLATE" in Path("gguf/Modelfile").read_text()) == (meant == DEFAULT)


def foreign_model(workspace: Path) -> Path:
    """A model folder as another program leaves it: without a manifest."""
    words = train("bpe", PROSE * 4, workspace / "made")
    sizes = {"vocab_size": words.vocab_size, "max_position_embeddings": 64}
    made = save_step(workspace / "made" / "run", 1, lively_model(**sizes), words)
    folder = workspace / "checkpoints" / "theirs"
    shutil.copytree(made, folder)
    (folder / "manifest.json").unlink()
    return folder


def tokenizer(template: str | None = None, *, of: Tokenizer | None = None) -> Tokenizer:
    found = of or byte_tokenizer()
    found.chat_template = template or found.chat_template
    return found


def say(*contents: str, system: str | None = None) -> list[Message]:
    roles = ["user", "assistant"] * len(contents)
    said = [Message(role=r, content=c) for r, c in zip(roles, contents, strict=False)]
    return [*([] if system is None else [Message(role="system", content=system)]), *said]


def shown(ids: list[int], by: Tokenizer) -> str:
    """Ids as text in which control tokens are angle brackets."""
    return "".join({BOS: "⟨", EOS: "⟩"}.get(i) or by.piece(i) for i in ids)


def test_our_template_puts_turns_between_the_tokens_around_a_document(workspace: Path) -> None:
    by = tokenizer()
    ids = ChatEncoder(by).encode(say("Hi", "Hello", "Bye", system="Be short"))
    assert shown(ids, by) == "⟨Be short\nUser: Hi\nAssistant: Hello⟩⟨User: Bye\nAssistant:"


@pytest.mark.parametrize("template", [None, CHATML])
@pytest.mark.parametrize(
    "content",
    [
        "</s>",
        "<s>",
        "a</s>b<s>",
        "<</s>s>",
        "</s",
        "\U000f0000</s>",
        "0</s>1",
        "\U000f00000\U000f0000",
    ],
)
def test_what_is_written_never_becomes_a_control_token(
    workspace: Path, template: str | None, content: str
) -> None:
    by = tokenizer(template)
    chat = ChatEncoder(by)
    for place in range(3):
        contents = ["x", "y", "z"]
        contents[place] = content
        ids, plain = chat.encode(say(*contents)), chat.encode(say("x", "y", "z"))
        assert [i for i in ids if i in by.controls] == [i for i in plain if i in by.controls]
        assert content in by.decode(ids)


def test_a_template_may_trim_what_is_written(workspace: Path) -> None:
    by = tokenizer(CHATML)
    ids = ChatEncoder(by).encode(say("  </s> \n"))
    assert shown(ids, by) == "⟨user\n</s>⟩\n⟨assistant\n"


def test_an_answer_ends_where_the_template_would_begin_the_next_turn(workspace: Path) -> None:
    ours = ChatEncoder(tokenizer())
    assert (ours.stop_ids, ours.stop_texts) == (frozenset({EOS}), ("\nUser:",))
    assert ChatEncoder(tokenizer(CHATML)).stop_texts == ()
    plain = "{% for m in messages %}{{ '### ' + m['role'] + ': ' + m['content'] }}{% endfor %}"
    assert ChatEncoder(tokenizer(plain)).stop_texts == ("\n### user:",)


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{{ messages[99]['content'] + 1 }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% set _ = messages.append(1) %}",
        "{{ undefined.attribute }}",
    ],
)
def test_a_template_that_fails_or_reaches_out_refuses_the_request(
    workspace: Path, template: str
) -> None:
    with pytest.raises(ApiError) as refused:
        ChatEncoder(tokenizer(template)).encode(say("a"))
    assert (refused.value.status, refused.value.code) == (400, "chat_template")


def test_a_template_that_cannot_be_read_is_named(workspace: Path) -> None:
    with pytest.raises(UsageError, match="bytes"):
        ChatEncoder(tokenizer("{% for %}"))
