"""Folders as models of others come: weights and tokenizer as transformers saves them."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)

CHATML = (
    "{%- for message in messages %}{{- '<|im_start|>' + message.role + '\\n' + message.content"
    " + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>' }}{%- endif %}"
)
LLAMA3 = (
    "{% for message in messages %}{% set content = '<|head|>' + message['role'] + '<|/head|>\n\n'"
    " + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|head|>assistant<|/head|>\n\n' }}{% endif %}"
)
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "initializer_range": 0.4,
}


def byte_level(specials: Sequence[str]) -> Tokenizer:
    """One id per byte, 0 to 255, and control tokens from 256 on."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    engine = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    engine.decoder = decoders.ByteLevel()
    engine.add_special_tokens([AddedToken(s, special=True, normalized=False) for s in specials])
    return engine


def beginning_with(engine: Tokenizer, token: str) -> processors.TemplateProcessing:
    """A post-processor that puts `token` before a text."""
    return processors.TemplateProcessing(
        single=f"{token} $A",
        pair=f"{token} $A {token}:1 $B:1",
        special_tokens=[(token, engine.token_to_id(token))],
    )


def save(
    folder: Path, engine: Tokenizer, model: Any, template: str | None, **roles: str | None
) -> Path:
    """A folder as transformers writes it; a role that is None is declared as none."""
    named = {role: token for role, token in roles.items() if token is not None}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=engine, **named)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    change(folder / "tokenizer_config.json", **{k: None for k, v in roles.items() if v is None})
    return folder


def change(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file."""
    value = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(value | changes))


def qwen(folder: Path) -> Path:
    """No BOS, two ends of which config.json names one."""
    engine = byte_level(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    torch.manual_seed(2)
    config = Qwen3Config(vocab_size=272, head_dim=16, tie_word_embeddings=True, bos_token_id=None,
                         eos_token_id=258, **_SIZES)  # fmt: skip
    save(folder, engine, Qwen3ForCausalLM(config).eval(), CHATML, bos_token=None,
         eos_token="<|im_end|>", pad_token="<|endoftext|>")  # fmt: skip
    change(folder / "tokenizer_config.json", add_bos_token=False)
    change(folder / "generation_config.json", eos_token_id=[258, 256], pad_token_id=256,
           do_sample=True, temperature=0.6, top_k=20, top_p=0.95)  # fmt: skip
    return folder


def llama3(folder: Path) -> Path:
    """BOS by the post-processor; the end of a turn stands in generation_config.json alone."""
    engine = byte_level(["<|begin_of_text|>", "<|end_of_text|>", "<|head|>", "<|/head|>",
                         "<|eot_id|>"])  # fmt: skip
    engine.post_processor = beginning_with(engine, "<|begin_of_text|>")
    save(folder, engine, _llama(261, 256, 257), LLAMA3, bos_token="<|begin_of_text|>",
         eos_token="<|end_of_text|>")  # fmt: skip
    change(folder / "generation_config.json", bos_token_id=256, eos_token_id=[257, 260])
    return folder


def llama32(folder: Path) -> Path:
    """The same with all ends in config.json, and a post-processor in several parts."""
    llama3(folder)
    (folder / "generation_config.json").unlink()
    change(folder / "config.json", eos_token_id=[257, 260])
    path = folder / "tokenizer.json"
    spec = json.loads(path.read_text())
    parts = [{"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False,
              "use_regex": True}, spec["post_processor"]]  # fmt: skip
    change(path, post_processor={"type": "Sequence", "processors": parts})
    return folder


def gpt2(folder: Path) -> Path:
    """BOS and EOS are the same token, and nothing stands before a text."""
    engine = byte_level(["<|endoftext|>"])
    torch.manual_seed(3)
    config = GPT2Config(vocab_size=257, n_embd=32, n_layer=2, n_head=4, n_positions=128,
                        bos_token_id=256, eos_token_id=256, initializer_range=0.4)  # fmt: skip
    return save(folder, engine, GPT2LMHeadModel(config).eval(), None,
                bos_token="<|endoftext|>", eos_token="<|endoftext|>")  # fmt: skip


def undeclared(folder: Path) -> Path:
    """A BOS by its usual name that nothing declares or adds."""
    engine = byte_level(["<s>", "</s>"])
    return save(folder, engine, _llama(258, None, 257), None, eos_token="</s>")


def declared_and_not_added(folder: Path) -> Path:
    """A BOS that is declared, and a rule that does not add it."""
    engine = byte_level(["<s>", "</s>"])
    save(folder, engine, _llama(258, 256, 257), None, bos_token="<s>", eos_token="</s>")
    change(folder / "tokenizer_config.json", add_bos_token=False)
    return folder


def _llama(vocabulary: int, bos: int | None, eos: int) -> Any:
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=vocabulary, bos_token_id=bos, eos_token_id=eos, pad_token_id=None, **_SIZES
    )
    return LlamaForCausalLM(config).eval()


MAKERS: dict[str, Callable[[Path], Path]] = {
    maker.__name__: maker
    for maker in (qwen, llama3, llama32, gpt2, undeclared, declared_and_not_added)
}
