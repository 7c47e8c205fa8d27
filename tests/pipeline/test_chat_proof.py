"""The proof of an export: conversations are the same tokens in training, terminal, server and the
program that the export is for, and a difference refuses the export and names the token."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import save_checkpoint
from pipeline.chat import renderer_process
from pipeline.chat.encoder import ChatEncoder
from pipeline.events import Event
from pipeline.export import chat_peers, chat_proof, peer_process
from pipeline.export.chat_peers import Encoded, Ids, LlamaCpp, Request, Transformers
from pipeline.export.chat_proof import prove
from pipeline.export.gguf_reading import GgufTokenizer
from pipeline.export.proof_conversations import conversations
from pipeline.runs.lineage import PROOF, proofs_of
from pipeline.tokenizer import chat_template
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.tokenizer import Tokenizer
from tests.support.small_tokenizers import PROSE, train
from tests.support.stage_runner import finished, run_stage
from tests.support.tiny_checkpoints import lively_model
from utils.errors import HatcheryError, RefusedError, UsageError

INST = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] + ' ' + "
    "eos_token }}{% else %}{{ bos_token + '[INST] ' + m['content'] | trim + ' [/INST]' }}"
    "{% endif %}{% endfor %}"
)
LINES = (
    "\n{% for m in messages %}{{ m['role'] + '\n' + m['content'] + eos_token + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant\n' }}{% endif %}"
)
PADDED = "{{ pad_token }}{{ unk_token }}{% for m in messages %}{{ m['content'] }}|{% endfor %}"
PICKY = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}"
    "{% for m in messages %}{{ m['content'] | trim + eos_token }}{% endfor %}"
)
TEMPLATES = {"ours": chat_template.DEFAULT, "inst": INST, "lines": LINES, "padded": PADDED}
ROLES = {
    "separate": {"bos": "<s>", "eos": "</s>"},
    "the same": {"bos": "</s>", "eos": "</s>"},
    "no beginning": {"eos": "</s>"},
}
ALL = len(conversations([]))


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    folder = tmp_path_factory.mktemp("tokenizers")
    return {kind: train(kind, PROSE, folder) for kind in ("bpe", "char")}


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets other programs answer without a process of their own; only those named are there."""

    def here(*installed: str) -> None:
        def by(program: str, path: Path, requests: Sequence[Request]) -> Encoded | None:
            if program not in installed:
                return None
            version, encode = peer_process._PROGRAMS[program](str(path))
            ids = [peer_process.ids_or_reason(encode, r.messages, r.answer) for r in requests]
            return Encoded(f"{program} {version}", ids)

        monkeypatch.setattr(chat_peers, "_by_program", by)

    return here


def with_roles(
    tokenizer: Tokenizer, roles: dict[str, str], template: str = chat_template.DEFAULT
) -> Tokenizer:
    return Tokenizer(tokenizer.spec, "it", roles, template, controls=["<s>", "</s>"])


def tuned(tokenizer: Tokenizer, command: str = "sft") -> Path:
    """A checkpoint that `command` has made."""
    folder = Path("checkpoints/sft_lima_2026_01_01_10_00/checkpoint_step_000005")
    sizes = {"hidden_size": 8, "num_layers": 1, "num_heads": 1}
    save_checkpoint(
        folder,
        lively_model(vocab_size=tokenizer.vocab_size, **sizes),
        tokenizer_files=tokenizer.files(),
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
        optimizer_state=None,
        state={"step": 5},
        command=command,
        options={},
    )
    return folder


def export(checkpoint: Path, to: str, **options: Any) -> list[Event]:
    return run_stage("export", export={"checkpoint": str(checkpoint), "to": to} | options)


def equal_in(program: str, count: int = ALL) -> str:
    return (
        f"{count} of {ALL} conversations have equal ids in training, terminal, server and {program}"
    )


def refusal_of(tokenizer: Tokenizer, peer: Any, **options: Any) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        prove(tokenizer, peer, remedy="do that", **options)
    return refused.value


class Imitation:
    """Another program that does what we do, but for what a test changes."""

    def __init__(self, tokenizer: Tokenizer, change: Callable[[Request, Ids], Ids | str]) -> None:
        self._encoder, self._change = ChatEncoder(tokenizer), change

    def encode(self, requests: Sequence[Request]) -> Encoded:
        return Encoded("another 1.0", [self._one(request) for request in requests])

    def _one(self, request: Request) -> Ids | str:
        return self._change(request, self._encoder.encode(request.turns, answer=request.answer))


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("roles", ROLES)
@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_a_gguf_file_holds_the_conversations_by_its_own_fields(
    kind: str,
    roles: str,
    template: str,
    workspace: Path,
    learned: dict[str, Tokenizer],
    in_this_process: Callable[..., None],
) -> None:
    in_this_process()
    tokenizer = with_roles(learned[kind], ROLES[roles], TEMPLATES[template])
    assert finished(export(tuned(tokenizer), "gguf")).summary[PROOF] == equal_in("the GGUF file")


@pytest.mark.parametrize(
    "name",
    ["tokenizer-gpt2/encoder.json", "tokenizer-llama2/tokenizer.model", "tokenizer-codellama"],
)
@pytest.mark.slow
def test_so_it_is_with_tokenizers_of_others(
    name: str, workspace: Path, shared_data: Path, in_this_process: Callable[..., None]
) -> None:
    in_this_process("transformers")
    checkpoint = tuned(load_tokenizer(shared_data / name, Path("tokenizers")))
    assert PROOF in finished(export(checkpoint, "hf")).summary
    assert finished(export(checkpoint, "gguf")).summary[PROOF] == equal_in("the GGUF file")


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("roles", ROLES)
def test_a_folder_holds_them_for_transformers(
    roles: str,
    template: str,
    workspace: Path,
    learned: dict[str, Tokenizer],
    in_this_process: Callable[..., None],
) -> None:
    in_this_process("transformers")
    for kind in ("bpe", "char"):
        tokenizer = with_roles(learned[kind], ROLES[roles], TEMPLATES[template])
        folder = Path(kind)
        folder.mkdir()
        for name, data in tokenizer.files().items():
            (folder / name).write_bytes(data)
        if roles == "no beginning" and template == "inst":  # undefined there, and added to a text
            found = refusal_of(tokenizer, Transformers(folder)).found
            assert "'bos_token' is undefined" in found
            continue
        proof = prove(tokenizer, Transformers(folder), remedy="")
        assert proof.sentence.startswith(equal_in("transformers"))


@pytest.mark.slow
def test_the_proof_lies_in_the_export_and_the_run_shows_it(
    workspace: Path, learned: dict[str, Tokenizer]
) -> None:
    """With transformers as a process of its own, as outside of tests."""
    tokenizer = learned["bpe"]
    checkpoint = tuned(tokenizer)
    end = finished(export(checkpoint, "hf", output="exports/mine"))
    sentence = end.summary[PROOF]
    assert sentence.startswith(equal_in("transformers"))
    told = json.loads(Path("exports/mine", chat_proof.FILE).read_text())
    assert told["says"] == sentence
    encoder = ChatEncoder(tokenizer)
    known = conversations([tokenizer.piece(i) for i in sorted(tokenizer.controls)])
    apart = []
    for row, turns in zip(told["conversations"], known.values(), strict=True):
        assert row["messages"] == [turn._asdict() for turn in turns]
        assert row["ids"] == encoder.encode_example(turns)[0]
        assert row["ids_before_the_answer"] == encoder.encode(turns[:-1])
        apart += [row["name"]] if "compared_among_ours_only" in row else []
    assert apart == ["control tokens spelled out"]
    assert proofs_of(checkpoint) == proofs_of(checkpoint.parent) == (("mine", sentence),)
    assert proofs_of(checkpoint.with_name("checkpoint_step_000006")) == ()
    again = finished(export(checkpoint, "hf", output="exports/mine"))
    assert again.skipped
    assert again.summary[PROOF] == sentence
    checkpoint.rename("elsewhere")
    tuned(with_roles(tokenizer, ROLES["the same"]))  # another one by now, at the same place
    assert proofs_of(checkpoint) == ()


def test_an_export_of_before_there_were_proofs_is_made_again(
    workspace: Path, learned: dict[str, Tokenizer], in_this_process: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    in_this_process()
    checkpoint = tuned(learned["bpe"])
    with monkeypatch.context() as before:
        before.setattr("pipeline.export.stage._prove", lambda *_: iter(()))
        assert PROOF not in finished(export(checkpoint, "gguf")).summary
    assert not (end := finished(export(checkpoint, "gguf"))).skipped
    assert PROOF in end.summary


def test_a_base_model_needs_no_proof(
    workspace: Path, learned: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_peers, "_by_program", lambda *_: pytest.fail("asked"))
    for to in ("hf", "gguf"):
        end = finished(export(tuned(learned["bpe"], "train"), to))
        assert PROOF not in end.summary
        assert end.path is not None
        assert not Path(end.path, chat_proof.FILE).exists()


def test_a_template_that_was_changed_in_the_folder_is_refused_and_the_token_named(
    workspace: Path, learned: dict[str, Tokenizer], in_this_process: Callable[..., None]
) -> None:
    in_this_process("transformers")
    tokenizer = learned["bpe"]
    for name, data in tokenizer.files().items():
        Path(name).write_bytes(data)
    changed = chat_template.DEFAULT.replace("'Assistant: ' +", "'Assistant:  ' +")
    Path(chat_template.FILE).write_text(changed)
    refused = refusal_of(tokenizer, Transformers(workspace))
    turns = conversations([])["a question"]
    ours = ChatEncoder(tokenizer).encode(turns, answer=False)
    place = len(ChatEncoder(tokenizer).encode(turns[:-1]))  # the second space changes what follows
    piece = tokenizer.piece(ours[place])
    assert "transformers" in refused.problem
    assert "“a question”" in refused.found
    assert f"token {place + 1} is {ours[place]} {piece!r} in training" in refused.found
    assert "and 223 ' ' in transformers" in refused.found
    assert refused.remedy == "do that"


def test_a_gguf_file_with_another_template_is_not_left_there(
    workspace: Path, learned: dict[str, Tokenizer], in_this_process: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    in_this_process()
    monkeypatch.setattr("pipeline.export.gguf_metadata.template_in_gguf", lambda _: LINES)
    with pytest.raises(RefusedError, match="the GGUF file") as refused:
        export(tuned(learned["bpe"]), "gguf")
    assert "--to hf" in refused.value.remedy
    assert not list(Path("exports").rglob("*.gguf"))


def test_the_first_token_that_differs_is_named_on_both_sides(learned: dict[str, Tokenizer]) -> None:
    tokenizer = learned["bpe"]
    turns = conversations([])["emoji"]
    ours = ChatEncoder(tokenizer).encode(turns[:-1])

    def found_for(other: Ids) -> str:
        def change(request: Request, ids: Ids) -> Ids | str:
            return other if request.answer and request.turns == turns[:-1] else ids

        return refusal_of(tokenizer, Imitation(tokenizer, change)).found

    third, last, count = tokenizer.piece(ours[2]), ours[-1], len(ours)
    beginning = "in the conversation “emoji” token"
    assert f"{beginning} 3 is {ours[2]} {third!r} in training and 70000, which is no token in" in (
        found_for([*ours[:2], 70000, *ours[3:]])
    )
    assert f"{beginning} {count} is {last} ':' in training and none, since it ends in another" in (
        found_for(ours[:-1])
    )
    assert f"{beginning} {count + 1} is none, since it ends in training and 1 '<s>' in an" in (
        found_for([*ours, 1])
    )


def test_what_is_taken_in_one_program_alone_is_refused(learned: dict[str, Tokenizer]) -> None:
    def picky(request: Request, ids: Ids) -> Ids | str:
        return "no system turn" if request.turns[0].role == "system" else ids

    refused = refusal_of(learned["bpe"], Imitation(learned["bpe"], picky))
    assert "in training, and not in another 1.0" in refused.problem
    assert "no system turn" in refused.found
    tokenizer = with_roles(learned["bpe"], ROLES["separate"], PICKY)
    systems = sum(turns[0].role == "system" for turns in conversations([]).values())

    class Same(Imitation):
        def _one(self, request: Request) -> Ids | str:
            try:
                return super()._one(request)
            except HatcheryError as error:
                return error.found

    proof = prove(tokenizer, Same(tokenizer, lambda _, ids: ids), remedy="")
    assert proof.sentence.startswith(equal_in("another 1.0", ALL - systems))
    assert f"takes {systems} in none" in proof.sentence
    assert json.loads(proof.to_json())["says"] == proof.sentence


def test_a_template_that_asks_otherwise_than_it_teaches_is_refused_where_the_model_is_ours(
    learned: dict[str, Tokenizer],
) -> None:
    template = LINES.replace("'assistant\n' }}{% endif", "'model\n' }}{% endif")
    tokenizer = with_roles(learned["char"], ROLES["separate"], template)
    peer = Imitation(tokenizer, lambda _, ids: ids)
    assert "in the terminal than in training" in refusal_of(tokenizer, peer).problem
    assert prove(tokenizer, peer, remedy="", strict=False).sentence == equal_in("another 1.0")


@pytest.mark.slow
def test_a_template_without_end_is_refused_at_once_and_one_that_is_none_by_name(
    workspace: Path, learned: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Path(renderer_process.__file__).read_text().replace("SECONDS = 5.0", "SECONDS = 0.5")
    Path("impatient.py").write_text(limits)
    monkeypatch.setattr(renderer_process, "__file__", str(workspace / "impatient.py"))
    endless = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    tokenizer = with_roles(learned["bpe"], ROLES["separate"], endless)
    refused = refusal_of(tokenizer, Transformers(Path("none")))
    assert "seconds" in refused.found
    with pytest.raises(UsageError, match="cannot be read"):
        prove(with_roles(learned["bpe"], {}, "{% for %}"), Transformers(Path("none")), remedy="")


def test_letters_taken_apart_are_left_to_programs_that_compose_them(
    learned: dict[str, Tokenizer],
) -> None:
    spec = learned["bpe"].spec | {"normalizer": {"type": "NFC"}}
    tokenizer = Tokenizer(spec, "it", ROLES["separate"], controls=["<s>", "</s>"])
    peer = Imitation(tokenizer, lambda _, ids: ids)
    told = json.loads(prove(tokenizer, peer, remedy="", composes=False).to_json())
    apart = {row["name"] for row in told["conversations"] if "compared_among_ours_only" in row}
    assert apart == {"letters taken apart", "control tokens spelled out"}


def test_a_program_that_is_missing_fails_or_hangs_is_told_apart(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = workspace / "program.py"
    monkeypatch.setattr(peer_process, "__file__", str(program))
    ask = Transformers(workspace).encode
    program.write_text("""print('{"missing": "No module"}')""")
    assert ask([]) is None
    program.write_text("raise OSError('it cannot be opened')")
    with pytest.raises(HatcheryError, match="transformers") as refused:
        ask([])
    assert "it cannot be opened" in refused.value.found
    program.write_text("import os; os.abort()")
    with pytest.raises(HatcheryError) as refused:
        ask([])
    assert "-6" in refused.value.found
    program.write_text("input()\nwhile True: input")
    monkeypatch.setattr(chat_peers, "SECONDS", 0.2)
    with pytest.raises(HatcheryError, match="transformers") as refused:
        ask([])
    assert "0.2 seconds" in refused.value.found


def test_where_no_other_program_is_there_ours_are_compared(learned: dict[str, Tokenizer]) -> None:
    class Missing:
        def encode(self, requests: Sequence[Request]) -> None: ...

    sentence = prove(learned["bpe"], Missing(), remedy="").sentence
    assert (
        sentence == f"{ALL} of {ALL} conversations have equal ids in training, terminal and server"
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_llama_cpp_and_the_fields_of_a_file_agree(
    kind: str, workspace: Path, learned: dict[str, Tokenizer]
) -> None:
    pytest.importorskip("llama_cpp", reason="the extra cpu-fast is not installed")
    end = finished(export(tuned(learned[kind]), "gguf"))
    assert end.path is not None
    assert end.summary[PROOF].startswith(equal_in("llama.cpp"))
    file = Path(end.path) / end.summary["file"]
    requests = [Request(turns, answer=False) for turns in conversations(["<s>", "</s>"]).values()]
    theirs, fields = LlamaCpp(file).encode(requests), LlamaCpp(file)._by_fields(requests)
    assert theirs is not None
    assert theirs.ids == fields.ids
    spelled = requests[-1].turns
    assert fields.ids[-1] != ChatEncoder(learned[kind]).encode(spelled, answer=False)
    assert GgufTokenizer(file).encode("<s>a</s>")[::2] == [1, 2]
