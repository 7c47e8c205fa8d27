"""Export: what other programs open computes the same, and what they could not is refused."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from jinja2 import Environment
from safetensors.torch import load_file

from model.checkpoint import load_weights, save_checkpoint
from model.config import ModelConfig
from model.gpt import GPT
from model.huggingface.folding import fold_into_weights
from model.huggingface.weights import state_to_hf
from pipeline.events import Event, Metric, Warned
from pipeline.export import gguf_model
from pipeline.export.gguf_tokenizer import vocabulary
from pipeline.export.modelfile import modelfile
from pipeline.tokenizer import chat_template
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.tokenizer import Tokenizer
from tests.support.small_tokenizers import PROSE, train
from tests.support.stage_runner import finished, run_stage
from tests.support.tiny_checkpoints import lively_model
from utils.errors import RefusedError, UsageError
from utils.files import DiskFullError
from utils.verification import verify

CONTEXT, NEW_TOKENS = 96, 48
GPT2 = {"position": "learned", "norm": "layernorm", "mlp": "gelu", "bias": True, "num_kv_heads": 4}
# zero_init: a fresh model whose blocks add nothing would prove nothing.
SPRINT = {"preset": "sprint", "zero_init": False, "tie_word_embeddings": True}
# A switch of its own each: grouped queries, normalised ones, GPT-2; then what else layouts hold.
SHAPES: dict[str, dict[str, Any]] = {
    "llama": {"num_kv_heads": 2},
    "qwen3": {"num_kv_heads": 2, "qk_norm": True, "head_dim": 16},
    "gpt2": GPT2,
    "llama biased": {"bias": True, "num_kv_heads": 1, "tie_word_embeddings": True},
    "llama wide heads": {"head_dim": 16, "num_kv_heads": 2},
    "llama stretched": {"rope_scaling": {"kind": "linear", "factor": 2.0}},
    "llama 3.1": {
        "rope_theta": 500.0,
        "rope_scaling": {
            "kind": "llama3", "factor": 8.0, "original_max_position_embeddings": 32
        },
    },
    "no gains": {"norm_gain": False},
    "gpt2 plain": GPT2 | {"bias": False, "norm_gain": False},
    "arcee": {"mlp": "relu2", "num_kv_heads": 2, "tie_word_embeddings": True},
    "apertus": {"mlp": "relu2", "qk_norm": True, "head_dim": 16, "tie_word_embeddings": True},
    # Folded: norms and scales go into the weights.
    "sprint": SPRINT,
    "layernorm": {"norm": "layernorm", "embedding_norm": True, "num_kv_heads": 2},
    "gpt2 grouped": GPT2 | {"num_kv_heads": 2, "logit_scale": 0.5, "tie_word_embeddings": True},
}  # fmt: skip
HOSTILE = [
    " ", "  ", "\n", "\n\n  x", "a\u00a0b", "1234567 12,345.67", "'s 'S 'll 'LL don't DON'T",
    "ſ'ſ", "e\u0301 नमस्ते", "北京 🙂👩‍🚀", "</s> <s> <unk>", "<0x41>",
    "\t\tif x:\n        return\r\n", "x\x00\x01", "\u2028\u0085x", "   a   b   ",
    "…—“”", "\u200b\u202e", "ﬁ Ⅷ½²", "١٢٣",
    "a'b'c''", "\ufeff", "\x1b[2J",
]  # fmt: skip


MADE = "run_2026_01_01_10_00_tiny-step-5"  # what an export calls the model of `saved`


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    """A BPE and a character tokenizer as the stages make them."""
    folder = tmp_path_factory.mktemp("tokenizers")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("notes").mkdir()
        for number in range(12):
            words = Random(number).choices(" ".join(PROSE).split(), k=300)
            Path(f"notes/{number}.txt").write_text(
                f"{PROSE[number % 3]}\n{' '.join(words)}", "utf-8"
            )
        run_stage("cleanup", cleanup={"source": "files", "input": ["notes"], "workers": 1})
        for kind in ("bpe", "char"):
            asked = {"train": kind, "name": kind, "source": "files", "vocab_size": 500}
            run_stage("tokenize", tokenize=asked)
        return {kind: load_tokenizer(kind, Path("tokenizers")) for kind in ("bpe", "char")}


def saved(model: GPT, tokenizer: Tokenizer) -> Path:
    """A checkpoint of a run, as training leaves it."""
    folder = Path("checkpoints/run_2026_01_01_10_00_tiny/checkpoint_step_000005")
    save_checkpoint(
        folder,
        model,
        tokenizer_files=tokenizer.files(),
        bos_token_id=tokenizer.bos_id,
        eos_token_id=tokenizer.eos_id,
        pad_token_id=tokenizer.pad_id,
        optimizer_state={"moments": torch.zeros(8)},
        state={"step": 5},
        command="train",
        options={},
    )
    return folder


def model_of(tokenizer: Tokenizer, **changes: Any) -> GPT:
    sizes = {"vocab_size": tokenizer.vocab_size, "max_position_embeddings": CONTEXT}
    return lively_model(seed=3, **(sizes | changes))


def export(**options: Any) -> list[Event]:
    return run_stage("export", export=options)


def gguf_of(events: list[Event]) -> Path:
    end = finished(events)
    assert end.path is not None
    return Path(end.path) / end.summary["file"]


@pytest.mark.parametrize(
    ("options", "command"),
    [
        (
            {"to": "gguf"},
            f"ollama create {MADE} -f exports/{MADE}-gguf/Modelfile",
        ),
        ({"to": "gguf", "name": "Mine"}, "ollama create mine -f exports/Mine-gguf/Modelfile"),
        (
            {"to": "gguf", "output": Path("my model")},
            f"ollama create {MADE} -f 'my model/",
        ),
        (
            {"to": "gguf", "dtype": "q8_0"},
            f"-f exports/{MADE}-gguf-q8_0/Modelfile",
        ),
        ({"to": "hf"}, None),
    ],
)
def test_what_ollama_is_told_comes_with_the_export(
    workspace: Path, tokenizers: dict[str, Tokenizer], options: dict[str, Any], command: str | None
) -> None:
    saved(model_of(tokenizers["bpe"]), tokenizers["bpe"])
    for _ in range(2):  # also where it is there already
        told = finished(export(**options)).summary.get("then")
        if command is None:
            assert told is None
        else:
            assert command in told


@pytest.fixture
def llama() -> Iterator[Any]:
    """Opens GGUF files in llama.cpp with float32 caches, as we compute."""
    library = pytest.importorskip(
        "llama_cpp", reason="llama-cpp-python is not installed: pip install llama-cpp-python"
    )
    opened: list[Any] = []

    def load(path: Path, **options: Any) -> Any:
        exact = {"type_k": 0, "type_v": 0, "flash_attn": False, "n_threads": 1, "n_ctx": CONTEXT}
        opened.append(library.Llama(str(path), verbose=False, **(exact | options)))
        return opened[-1]

    yield load
    for one in opened:
        one.close()


def greedy(model: GPT, ids: Sequence[int], count: int = NEW_TOKENS) -> list[int]:
    out = list(ids)
    with torch.inference_mode():
        for _ in range(count):
            out.append(int(model(torch.tensor([out]))["logits"][0, -1].argmax()))
    return out[len(ids) :]


def start(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a prompt as our generation begins it."""
    first = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    assert first is not None
    return [first, *tokenizer.encode(text)]


def strings() -> list[str]:
    """Hostile texts, and 120 more made of their pieces."""
    random = Random(0)
    pieces = [*HOSTILE, *" \n\tabcé北1,.'", "The", " hen", "    ", "12", "```"]
    made = ["".join(random.choices(pieces, k=random.randint(1, 12))) for _ in range(120)]
    return HOSTILE + made


def differing(llama_model: Any, tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    return [
        text
        for text in texts
        if llama_model.tokenize(text.encode(), add_bos=True, special=False)
        != start(tokenizer, text)
    ]


@pytest.mark.parametrize("shape", SHAPES)
def test_llama_cpp_writes_the_same_greedy_text(
    shape: str, workspace: Path, tokenizers: dict[str, Tokenizer], llama: Any
) -> None:
    tokenizer = tokenizers["char" if shape == "llama wide heads" else "bpe"]
    model = model_of(tokenizer, **SHAPES[shape])
    file = gguf_of(export(checkpoint=str(saved(model, tokenizer)), to="gguf", dtype="f32"))
    theirs = llama(file)
    ids = start(tokenizer, "It's a fine day; the")
    expected = greedy(model, ids)
    assert len(set(expected)) > 4
    assert theirs.tokenize(b"It's a fine day; the", add_bos=True) == ids
    written: list[int] = []
    for i in theirs.generate(ids, temp=0.0, top_k=1, repeat_penalty=1.0):
        written.append(i)
        if len(written) == NEW_TOKENS:
            break
    assert written == expected


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_llama_cpp_reads_our_tokenizers_id_by_id(
    kind: str, workspace: Path, tokenizers: dict[str, Tokenizer], llama: Any
) -> None:
    tokenizer = tokenizers[kind]
    file = gguf_of(export(checkpoint=str(saved(model_of(tokenizer), tokenizer)), to="gguf"))
    assert differing(llama(file, vocab_only=True), tokenizer, strings()) == []


@pytest.mark.parametrize(
    "name",
    # Code Llama's is Llama 2's vocabulary with more control tokens.
    ["tokenizer-gpt2/encoder.json", "tokenizer-codellama/tokenizer.json"],
)
def test_llama_cpp_reads_tokenizers_of_others_id_by_id(
    name: str, workspace: Path, shared_data: Path, llama: Any
) -> None:
    tokenizer = load_tokenizer(shared_data / name, Path("tokenizers"))
    model = model_of(tokenizer, hidden_size=8, num_layers=1, num_heads=1, num_kv_heads=1)
    file = gguf_of(export(checkpoint=str(saved(model, tokenizer)), to="gguf", dtype="q8_0"))
    rows = (shared_data / "web-text" / "c4_demo_300.jsonl").read_bytes().split(b"\n")[:100]
    texts = [json.loads(row)["text"] for row in rows if row]
    assert differing(llama(file, vocab_only=True), tokenizer, texts + strings()) == []


@pytest.mark.parametrize("dtype", ["f16", "bf16", "q8_0"])
def test_narrow_formats_are_near(
    dtype: str, workspace: Path, tokenizers: dict[str, Tokenizer], llama: Any
) -> None:
    tokenizer = tokenizers["bpe"]
    model = model_of(tokenizer, num_kv_heads=2, initializer_range=0.2)
    file = gguf_of(export(checkpoint=str(saved(model, tokenizer)), to="gguf", dtype=dtype))
    theirs = llama(file, logits_all=True)
    ids = start(tokenizer, "To be, or not to be")
    theirs.eval(ids)
    found = torch.tensor(theirs.scores[: len(ids)].copy())
    wanted = model(torch.tensor([ids]))["logits"][0].detach()
    assert (found - wanted).abs().max() < 0.05 * wanted.abs().max()
    wide = model_of(tokenizer, hidden_size=24, num_heads=2, num_kv_heads=1)
    if dtype == "q8_0":
        events = export(checkpoint=str(saved(wide, tokenizer)), to="gguf", dtype=dtype)
        assert any(isinstance(e, Warned) and "stay float32" in e.message for e in events)


@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_opens_the_folder_with_equal_logits_and_text(
    shape: str, workspace: Path, tokenizers: dict[str, Tokenizer]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = tokenizers["bpe"]
    model = model_of(tokenizer, **SHAPES[shape])
    end = finished(export(checkpoint=str(saved(model, tokenizer)), to="hf", output="out"))
    assert end.path == "out"
    files = {path.name for path in Path("out").iterdir() if not path.name.startswith(".")}
    assert files == {
        "config.json", "generation_config.json", "manifest.json", "model.safetensors",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    theirs = AutoModelForCausalLM.from_pretrained("out", trust_remote_code=False)
    words = AutoTokenizer.from_pretrained("out", trust_remote_code=False)
    ids = words("It's a fine day")["input_ids"]
    assert ids == start(tokenizer, "It's a fine day")
    batch = torch.tensor([ids])
    torch.testing.assert_close(theirs(batch).logits, model(batch)["logits"], atol=1e-4, rtol=1e-4)
    written = theirs.generate(
        batch, attention_mask=torch.ones_like(batch), do_sample=False, eos_token_id=-1,
        max_new_tokens=NEW_TOKENS,
    )  # fmt: skip
    expected = greedy(model, ids)
    assert len(set(expected)) > 4
    assert written[0, len(ids) :].tolist() == expected
    again = load_weights(Path("out"))
    torch.testing.assert_close(again(batch)["logits"], model(batch)["logits"], atol=1e-4, rtol=1e-4)
    chat = [{"role": "user", "content": "Hello"}]
    rendered = words.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert rendered == "<s>User: Hello\nAssistant:"
    assert theirs.generation_config.eos_token_id == tokenizer.eos_id


def test_a_narrower_folder_holds_the_rounded_weights(
    workspace: Path, tokenizers: dict[str, Tokenizer]
) -> None:
    checkpoint = saved(model_of(tokenizers["bpe"], **GPT2), tokenizers["bpe"])
    export(checkpoint=str(checkpoint), to="hf", dtype="bf16", output="out")
    before, after = (load_file(f / "model.safetensors") for f in (checkpoint, Path("out")))
    assert before.keys() == after.keys()
    assert all(torch.equal(after[n], t.to(torch.bfloat16)) for n, t in before.items())
    assert json.loads(Path("out/config.json").read_bytes())["dtype"] == "bfloat16"
    with pytest.raises(UsageError, match="q8_0"):
        export(checkpoint=str(checkpoint), to="hf", dtype="q8_0")


@pytest.mark.parametrize("dtype", ["auto", "f16", "f32"])
def test_folded_weights_are_rounded_once_to_the_format_asked_for(
    dtype: str, workspace: Path, tokenizers: dict[str, Tokenizer]
) -> None:
    model = model_of(tokenizers["bpe"], **SPRINT | {"logit_scale": 0.3}).to(torch.bfloat16)
    end = finished(
        export(checkpoint=str(saved(model, tokenizers["bpe"])), to="hf", dtype=dtype, output="out")
    )
    assert end.summary["architecture"] == "ApertusForCausalLM"
    assert end.summary["folded"] == "embedding_norm, logit_scale"
    kind = {"auto": torch.bfloat16, "f16": torch.float16, "f32": torch.float32}[dtype]
    exact = state_to_hf(fold_into_weights(model))
    written = load_file(Path("out/model.safetensors"))
    assert written.keys() == exact.keys()
    assert all(torch.equal(written[name], exact[name].to(kind)) for name in exact)


@pytest.mark.slow
def test_an_exported_model_is_trained_on(prepared: Path) -> None:
    tokenizer = load_tokenizer("chars", Path("tokenizers"))
    checkpoint = saved(model_of(tokenizer, **SPRINT), tokenizer)
    export(checkpoint=str(checkpoint), to="hf", output="out")
    first = []
    for weights in (checkpoint, "out"):
        events = run_stage(
            "train",
            train={
                "init_from": str(weights), "max_steps": 1, "batch_size": 2, "window": 16,
                "log_every": 1, "warmup_steps": 0, "tensorboard": False, "device": "cpu",
                "precision": "fp32",
            },
        )  # fmt: skip
        losses = [e.values["loss"] for e in events if isinstance(e, Metric) and "loss" in e.values]
        assert not [e for e in events if isinstance(e, Warned) and "export" in e.message]
        first.append(losses[0])
    assert first[0] == pytest.approx(first[1], abs=1e-4)


def test_a_rerun_skips_until_something_changed(
    workspace: Path, tokenizers: dict[str, Tokenizer]
) -> None:
    tokenizer = tokenizers["bpe"]
    checkpoint = saved(model_of(tokenizer), tokenizer)
    first = finished(export(to="gguf"))
    assert first.path == "exports/run_2026_01_01_10_00_tiny-step-5-gguf"
    verify(Path(first.path))
    again = finished(export(to="gguf"))
    assert again.skipped
    assert again.summary == first.summary
    assert not finished(export(to="gguf", force=True)).skipped
    shutil.rmtree(checkpoint)
    saved(model_of(tokenizer, norm_gain=False), tokenizer)
    assert not finished(export(to="gguf")).skipped


def test_a_stop_leaves_nothing_behind(workspace: Path, tokenizers: dict[str, Tokenizer]) -> None:
    saved(model_of(tokenizers["bpe"]), tokenizers["bpe"])
    for to in ("gguf", "hf"):
        events = run_stage(
            "export",
            stop_when=lambda event: getattr(event, "unit", "") == "bytes",
            export={"to": to, "output": "out"},
        )
        assert finished(events).stopped
        assert not Path("out").exists()


def test_a_full_disk_is_told_before_the_first_byte(
    workspace: Path, tokenizers: dict[str, Tokenizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(model_of(tokenizers["bpe"]), tokenizers["bpe"])
    usage = shutil.disk_usage(workspace)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    for to in ("gguf", "hf"):
        with pytest.raises(DiskFullError, match="Not enough room"):
            export(to=to, output="out")
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("to", "changes", "named"),
    [
        ("hf", {"norm": "layernorm", "bias": True}, "norm layernorm with position rope and bias"),
        ("gguf", GPT2 | {"embedding_norm": True}, "embedding_norm with position learned"),
        ("gguf", {"mlp": "relu2", "bias": True}, "bias with mlp relu2"),
        ("gguf", {"mlp": "gelu", "qk_norm": True}, "mlp gelu: llama.cpp computes APERTUS"),
        ("gguf", GPT2 | {"mlp": "relu2"}, "mlp relu2: llama.cpp computes GPT2"),
        ("gguf", {"mlp": "geglu"}, "mlp geglu"),
        (
            "gguf",
            {"qk_norm": True} | SHAPES["llama 3.1"],
            "qk_norm with rope_scaling llama3",
        ),
    ],
)
def test_what_others_cannot_compute_is_refused_by_name(
    to: str,
    changes: dict[str, Any],
    named: str,
    workspace: Path,
    tokenizers: dict[str, Tokenizer],
) -> None:
    saved(model_of(tokenizers["bpe"], **changes), tokenizers["bpe"])
    with pytest.raises(RefusedError) as error:
        export(to=to, output="out")
    assert named in error.value.found
    assert error.value.remedy
    assert not Path("out").exists()


def test_a_family_that_no_gguf_file_holds_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gguf_model, "architecture", lambda config: "AnotherForCausalLM")
    with pytest.raises(RefusedError) as error:
        gguf_model.refuse_unknown(ModelConfig())
    assert "AnotherForCausalLM" in error.value.found


def test_a_weight_too_large_for_float16_is_refused(
    workspace: Path, tokenizers: dict[str, Tokenizer]
) -> None:
    model = model_of(tokenizers["bpe"])
    with torch.no_grad():
        model.embedding.weight[7, 3] = 1e5
    saved(model, tokenizers["bpe"])
    with pytest.raises(RefusedError, match="float16 cannot hold token_embd"):
        export(to="gguf", dtype="f16", output="out")
    assert not Path("out").exists()


def changed(tokenizer: Tokenizer, **parts: Any) -> Tokenizer:
    roles = {"unk": "<unk>", "bos": "<s>", "eos": "</s>"}
    return Tokenizer(tokenizer.spec | parts, "odd", roles)


def test_tokenizers_that_llama_cpp_would_read_differently_are_refused(
    tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    bpe, char = tokenizers["bpe"], tokenizers["char"]
    step = {"type": "Split", "behavior": "Isolated", "invert": False}
    step |= {"pattern": {"Regex": r"\w+|\W"}}
    added = {"id": bpe.vocab_size, "content": "ZZ", "special": False, "normalized": False}
    added |= {"single_word": False, "lstrip": True, "rstrip": False}
    swapped = char.spec["model"] | {"vocab": char.spec["model"]["vocab"] | {"To": char.vocab_size}}
    cases = {
        r"\w+": changed(bpe, pre_tokenizer={"type": "Sequence", "pretokenizers": [step]}),
        "changes text": changed(bpe, normalizer={"type": "NFKC"}),
        "it changes text": changed(
            bpe,
            normalizer={
                "type": "Sequence",
                "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}],
            },
        ),
        "space around": changed(bpe, added_tokens=[*bpe.spec["added_tokens"], added]),
        "ends a text": Tokenizer(bpe.spec | {"added_tokens": []}, "odd", {}),
        "U+2581": train("char", ["a\u2581b"], tmp_path / "marks"),
        "prepares text": changed(char, pre_tokenizer={"type": "Whitespace"}),
        "'To'": changed(char, model=swapped),
    }
    for reason, tokenizer in cases.items():
        with pytest.raises(RefusedError, match="No GGUF file can hold the tokenizer") as error:
            vocabulary(tokenizer, 1000)
        assert reason in error.value.found
    with pytest.raises(RefusedError, match="do not belong together"):
        vocabulary(bpe, bpe.vocab_size - 1)


@pytest.mark.parametrize(
    "normalizer",
    [{"type": "NFC"}, {"type": "Sequence", "normalizers": [{"type": "NFC"}]}],
    ids=["alone", "in a sequence"],
)
def test_a_tokenizer_that_composes_letters_goes_into_a_gguf_with_a_note(
    normalizer: dict[str, Any], tokenizers: dict[str, Tokenizer], workspace: Path
) -> None:
    """As those of Qwen do: only decomposed text gets other ids in llama.cpp."""
    plain = tokenizers["bpe"]
    composing = changed(plain, normalizer=normalizer)
    decomposed, composed = "e\u0301te\u0301", "\u00e9t\u00e9"
    assert composing.encode(decomposed) == plain.encode(composed) != plain.encode(decomposed)
    assert vocabulary(composing, 1000) == vocabulary(plain, 1000)
    for tokenizer, said in ((plain, False), (composing, True)):
        saved(model_of(tokenizer), tokenizer)
        warned = [e.message for e in export(to="gguf", output=f"out_{said}")
                  if isinstance(e, Warned)]  # fmt: skip
        assert any("NFC" in message for message in warned) is said


def test_unused_rows_get_names_of_their_own(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["bpe"]
    words = vocabulary(tokenizer, tokenizer.vocab_size + 7)
    assert len(words.tokens) == len(set(words.tokens)) == len(words.types)
    assert words.types[-7:] == [5] * 7


CHATS = [
    [("user", "Hello")],
    [("system", "Be brief."), ("user", "Hello")],
    [("user", "Hello"), ("assistant", "Hi."), ("user", "Why?")],
    [("system", "S"), ("user", "a\n{b}"), ("assistant", ""), ("user", "c"), ("assistant", "d")],
]


@pytest.mark.parametrize("chat", CHATS)
def test_the_modelfile_renders_our_chat_format(
    chat: list[tuple[str, str]], tokenizers: dict[str, Tokenizer]
) -> None:
    text = modelfile("x.gguf", tokenizers["bpe"], 256)
    go = text.split('"""')[1]
    # Go's template with Jinja's words: the same trimming, loops and conditions.
    for theirs, ours in {
        "{{- range $i, $message := .Messages }}": "{%- for m in messages %}",
        "{{- $last := eq (len (slice $.Messages $i)) 1 }}": "{%- set last = loop.last %}",
        '{{- if eq .Role "assistant" }}': "{%- if m.role == 'assistant' %}",
        '{{- else if eq .Role "system" }}': "{%- elif m.role == 'system' %}",
        '{{- if and $last (ne .Role "assistant") }}':
            "{%- if last and m.role != 'assistant' %}",
        "{{ .Content }}": "{{ m.content }}",
        "{{ if not $last }}": "{% if not last %}",
        "{{ else }}": "{% else %}",
        "{{ end }}": "{% endif %}",
    }.items():  # fmt: skip
        assert theirs in go
        go = go.replace(theirs, ours)
    go = go.replace("{{- end }}", "{%- endfor %}")
    messages = [{"role": role, "content": content} for role, content in chat]
    asked = chat[-1][0] != "assistant"
    wanted = Environment().from_string(chat_template.DEFAULT).render(
        messages=messages, bos_token="<s>", eos_token="</s>", add_generation_prompt=asked
    )  # fmt: skip
    # llama.cpp puts the first BOS in front of every prompt.
    rendered = Environment(keep_trailing_newline=True).from_string(go).render(messages=messages)
    assert wanted.replace("<s>", "", 1).strip("\n") == rendered.strip("\n")


def test_the_modelfile_says_where_to_stop_and_how_to_sample(
    tokenizers: dict[str, Tokenizer],
) -> None:
    lines = modelfile("x.gguf", tokenizers["bpe"], 256).split("\n")
    assert lines[0] == "FROM ./x.gguf"
    assert {'PARAMETER stop "</s>"', 'PARAMETER stop "User:"'} <= {*lines}
    assert {"PARAMETER num_ctx 256", "PARAMETER temperature 0.8"} <= {*lines}
    own = tokenizers["bpe"]
    foreign = Tokenizer(own.spec, "foreign", {"eos": "</s>"}, "{{ messages }}")
    assert "TEMPLATE" not in modelfile("x.gguf", foreign, 256)
