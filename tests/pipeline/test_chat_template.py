"""The chat template: found once for all that use it; and conversations become ids by it, whose
control tokens come from the template and never from what is written."""

import gc
import json
import resource
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest

from pipeline.chat import renderer_process
from pipeline.chat.encoder import ChatEncoder, ChatTemplateError
from pipeline.chat.renderer import TemplateError, TemplateRenderer
from pipeline.options.config import ServeOptions
from pipeline.server.engine.catalogue import Catalogue
from pipeline.server.engine.protocol import Message
from pipeline.tokenizer.chat_template import DEFAULT
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.spec import byte_marks
from pipeline.tokenizer.tokenizer import Tokenizer
from tests.support.small_tokenizers import PROSE, train
from tests.support.stage_runner import finished, run_stage
from tests.support.tiny_checkpoints import byte_tokenizer, lively_model, save_step
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


@pytest.mark.slow
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
    with pytest.raises(ChatTemplateError) as refused:
        ChatEncoder(tokenizer(template)).encode(say("a"))
    assert (refused.value.param, refused.value.code) == ("messages", "chat_template")


def test_a_template_that_cannot_be_read_is_named(workspace: Path) -> None:
    with pytest.raises(UsageError, match="bytes"):
        ChatEncoder(tokenizer("{% for %}"))


INST = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + ' ' + "
    "eos_token }}{% else %}{{ bos_token + '[INST] ' + m['content'] | trim + ' [/INST]' }}"
    "{% endif %}{% endfor %}"
)
PLAIN = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + eos_token }}\n{% endfor %}"
MARK = "▁"
STEPS: dict[str, dict[str, Any]] = {
    "prepended by the normalizer": {"normalizer": {"type": "Sequence", "normalizers": [
        {"type": "Prepend", "prepend": MARK},
        {"type": "Replace", "pattern": {"String": " "}, "content": MARK}]}},
    "metaspace first": {"pre_tokenizer": {"type": "Metaspace", "replacement": MARK,
                                          "prepend_scheme": "first", "split": False}},
    "metaspace first, in a sequence": {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
        {"type": "Metaspace", "replacement": MARK, "prepend_scheme": "first", "split": True}]}},
    "metaspace always": {"pre_tokenizer": {"type": "Metaspace", "replacement": MARK,
                                           "prepend_scheme": "always", "split": False}},
    "metaspace never": {"pre_tokenizer": {"type": "Metaspace", "replacement": MARK,
                                          "prepend_scheme": "never", "split": True}},
    "byte-level": {},
    "byte-level with a space in front": {"pre_tokenizer": {
        "type": "ByteLevel", "add_prefix_space": True, "use_regex": True, "trim_offsets": True}},
    "byte-level, composed": {"normalizer": {"type": "NFC"}},
    "ends that take the space behind them": {"end": {"rstrip": True}},
    "ends that take the space around them": {"end": {"rstrip": True, "lstrip": True}},
}  # fmt: skip
CONVERSATIONS = [
    say("Hello there"),
    say("  two  spaces ", " and a reply ", "é e\u0301?"),
    say("x", "y", "z", system="Be short."),
    say("line\nbreak\n", "\tcode\n  more", "🙂 <think>no</think>"),
    say("a", "", "b"),
]


@pytest.mark.parametrize("template", [INST, PLAIN])
@pytest.mark.parametrize("steps", STEPS)
def test_ids_are_those_of_transformers(workspace: Path, steps: str, template: str) -> None:
    from tokenizers import Tokenizer as Engine
    from transformers import PreTrainedTokenizerFast

    spec = byte_level_spec() if "metaspace" not in steps and "normalizer" not in steps else marked()
    parts = dict(STEPS[steps])
    spec["added_tokens"][1] |= parts.pop("end", {})
    spec |= parts
    Path("tokenizer.json").write_text(json.dumps(spec))
    roles = {"bos_token": "<s>", "eos_token": "</s>"}
    Path("tokenizer_config.json").write_text(json.dumps(roles))
    Path("chat_template.jinja").write_text(template)
    theirs = PreTrainedTokenizerFast(
        tokenizer_object=Engine.from_file("tokenizer.json"), chat_template=template, **roles
    )
    ours = ChatEncoder(load_tokenizer(workspace, workspace))
    for messages in CONVERSATIONS:
        plain = [{"role": m.role, "content": m.content} for m in messages]
        wanted = theirs.apply_chat_template(plain, add_generation_prompt=True)["input_ids"]
        assert ours.encode(messages) == wanted, messages


def byte_level_spec() -> dict[str, Any]:
    """One piece per byte and a few words, with two control tokens and one that text can spell."""
    marks = sorted(byte_marks())
    words = ["He", "ll", "Hell", "Ġ", "re"]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys([*marks, *words]))}
    pairs = [["H", "e"], ["l", "l"], ["He", "ll"], ["r", "e"]]
    step = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True, "trim_offsets": True}
    model = {"type": "BPE", "vocab": vocab, "merges": pairs}
    return _spec(vocab, model) | {"normalizer": None, "pre_tokenizer": step, "decoder": step}


def marked() -> dict[str, Any]:
    """The same for SentencePiece's way to write spaces."""
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    own = [*map(chr, range(33, 127)), MARK, "He", "ll", f"{MARK}He", f"{MARK}[", "re"]
    vocab = {piece: i for i, piece in enumerate(["<unk>", *bytes_, *own])}
    pairs = [["H", "e"], ["l", "l"], [MARK, "He"], [MARK, "["], ["r", "e"]]
    model = {"type": "BPE", "vocab": vocab, "merges": pairs, "byte_fallback": True,
             "unk_token": "<unk>", "fuse_unk": True}  # fmt: skip
    decoders = [
        {"type": "Replace", "pattern": {"String": MARK}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0},
    ]
    decoder = {"type": "Sequence", "decoders": decoders}
    return _spec(vocab, model) | {"normalizer": None, "pre_tokenizer": None, "decoder": decoder}


def _spec(vocab: dict[str, int], model: dict[str, Any]) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": len(vocab) + i, "content": text, "special": text != "<think>"} | flags
        for i, text in enumerate(["<s>", "</s>", "<think>"])
    ]
    return {"version": "1.0", "added_tokens": added, "post_processor": None, "model": model,
            "truncation": None, "padding": None}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "sec"),
        ("{% for i in range(99999) %}{{ 'a' * 99999 }}{% endfor %}", "mem"),
        ("{{ messages[0]['content'] * 3000000000 }}", "mem"),
        ("{{ 'a' * 3000000000 }}", "mem"),
        ("{% macro f(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}", "recursion"),
        ("{{ 10 ** 999999999 }}", "sec"),
        ("{{ messages[0]['content'] * 20000000 }}", "characters"),
    ],
)
def test_a_template_without_end_or_measure_costs_only_itself(
    workspace: Path, template: str, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Path(renderer_process.__file__).read_text().replace("SECONDS = 5.0", "SECONDS = 0.5")
    Path("impatient.py").write_text(limits)
    monkeypatch.setattr(renderer_process, "__file__", str(workspace / "impatient.py"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):  # and a second request finds the same
        with pytest.raises(UsageError) as refused:
            ChatEncoder(tokenizer(template)).encode(say("a"))
        told = str(getattr(refused.value, "found", "")) + str(refused.value)
        assert why in told or "seconds" in told
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.mark.slow
def test_a_template_goes_on_after_one_rendering_that_was_ended(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Path(renderer_process.__file__).read_text().replace("SECONDS = 5.0", "SECONDS = 0.5")
    Path("impatient.py").write_text(limits)
    monkeypatch.setattr(renderer_process, "__file__", str(workspace / "impatient.py"))
    source = (
        "{% if messages[0]['content'] == 'slow' %}{% for i in range(99999) %}"
        "{% for j in range(99999) %}{% endfor %}{% endfor %}{% endif %}done"
    )
    renderer = TemplateRenderer(source)
    for _ in range(2):
        with pytest.raises(TemplateError, match="seconds"):
            renderer.render({"messages": [{"content": "slow"}]})
        assert renderer.render({"messages": [{"content": "x"}]}) == "done"


def test_a_template_finds_no_key_of_ours_and_ends_with_its_encoder(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HATCHERY_TOKEN", "a key of ours")
    renderer = TemplateRenderer("x")
    process = renderer._process
    assert process is not None
    environ = Path(f"/proc/{process.pid}/environ")
    if environ.exists():
        assert b"a key of ours" not in environ.read_bytes()
    del renderer
    gc.collect()
    assert process.wait(10) != 0


ARGUED = "{{ thinking | default('unset') }}{{ messages[0]['content'] }}{{ more | default('') }}"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "unseta"),
        ({"thinking": False}, "Falsea"),
        ({"thinking": "on", "more": ["x", {"y": 1}]}, "ona['x', {'y': 1}]"),
        ({"unheard": 1}, "unseta"),
        ({"thinking": None}, "Nonea"),
    ],
)
def test_arguments_reach_the_template(
    workspace: Path, arguments: dict[str, Any], text: str
) -> None:
    by = tokenizer(ARGUED)
    assert by.decode(ChatEncoder(by).encode(say("a"), arguments)) == text


@pytest.mark.parametrize(
    "arguments",
    [
        {"messages": []},
        {"bos_token": "x"},
        {"add_generation_prompt": False},
        {"thinking": "</s>"},
        {"more": [{"deep": ["a<s>b"]}]},
        {"<s>": 1},
    ],
)
def test_arguments_are_no_way_to_control_tokens(workspace: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(ChatTemplateError, match="chat_template_kwargs"):
        ChatEncoder(tokenizer(ARGUED)).encode(say("a"), arguments)


def test_a_conversation_may_end_without_the_beginning_of_an_answer(workspace: Path) -> None:
    by = tokenizer(CHATML)
    assert shown(ChatEncoder(by).encode(say("a"), answer=False), by) == "⟨user\na⟩\n"


def test_templates_may_ask_for_the_date_and_for_tools_that_are_none(workspace: Path) -> None:
    source = "{{ strftime_now('%Y') | length }}{{ tools is none }}{{ {'b': 1, 'a': 2} | tojson }}"
    by = tokenizer(source)
    assert by.decode(ChatEncoder(by).encode(say("a"))) == '4True{"b": 1, "a": 2}'
