"""What a GGUF file says about its model and tokenizer beside the tensors.

Keys: github.com/ggml-org/ggml, docs/gguf.md.
"""

import json
import math

import gguf

from model.config import ModelConfig
from pipeline.export.gguf_tokenizer import Vocabulary
from pipeline.runs.text_bounds import TextBounds
from pipeline.tokenizer.tokenizer import Tokenizer

_ADD_ENDS = (
    gguf.GGUFWriter.add_eos_token_id,
    gguf.GGUFWriter.add_eot_token_id,
    gguf.GGUFWriter.add_eom_token_id,
)
_FILE_TYPES = {
    "f32": gguf.LlamaFileType.ALL_F32,
    "f16": gguf.LlamaFileType.MOSTLY_F16,
    "bf16": gguf.LlamaFileType.MOSTLY_BF16,
    "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
}


def describe_model(writer: gguf.GGUFWriter, config: ModelConfig, name: str, dtype: str) -> None:
    """Add the model's name, sizes and switches; `dtype` is a key of `gguf_model.FORMATS`."""
    writer.add_name(name)
    writer.add_type("model")
    writer.add_file_type(_FILE_TYPES[dtype])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(config.mlp_size)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_size)
    writer.add_value_length(config.head_size)
    if config.position == "learned":
        writer.add_layer_norm_eps(config.layer_norm_eps)
        return
    writer.add_layer_norm_rms_eps(config.layer_norm_eps)
    writer.add_rope_dimension_count(config.head_size)
    writer.add_rope_freq_base(config.rope_theta)
    if config.rope_scaling is not None and config.rope_scaling.kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_scaling.factor)


def describe_squared_relu(writer: gguf.GGUFWriter, layers: int) -> None:
    """Make each layer's xIELU (Huang & Schlag 2024) a squared ReLU.

    Above zero it is softplus(alpha_p) * x^2 + beta * x, below (e^x - 1 - x) * (beta +
    softplus(alpha_n)) + beta * x: so beta is 0, the first softplus 1 and the second 0.
    """
    writer.add_xielu_alpha_p([math.log(math.e - 1)] * layers)
    writer.add_xielu_alpha_n([-100.0] * layers)  # softplus: 4e-44, in float32 0
    writer.add_xielu_beta([0.0] * layers)
    writer.add_xielu_eps([-1e-6] * layers)  # where e^x begins to be computed: Apertus's own


def describe_tokenizer(
    writer: gguf.GGUFWriter,
    tokenizer: Tokenizer | None,
    words: Vocabulary | None,
    bounds: TextBounds | None,
) -> None:
    """Add the vocabulary and what tokens are for; without one the file is for a reader of ids."""
    if words is None or tokenizer is None or bounds is None:
        writer.add_tokenizer_model("no_vocab")
        return
    writer.add_tokenizer_model(words.model)
    writer.add_tokenizer_pre(words.pre)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.types)
    if words.scores is not None:
        writer.add_token_scores(words.scores)
        writer.add_remove_extra_whitespaces(False)
    if words.merges is not None:
        writer.add_token_merges(words.merges)
    start = [tokenizer.bos_id] if tokenizer.bos_id is not None else []
    for bos in bounds.before or start:
        writer.add_bos_token_id(bos)
    for end, add in zip(ends_in_gguf(tokenizer, bounds), _ADD_ENDS, strict=False):
        add(writer, end)
    if tokenizer.unk_id is not None:
        writer.add_unk_token_id(tokenizer.unk_id)
    if tokenizer.pad_id is not None:
        writer.add_pad_token_id(tokenizer.pad_id)
    writer.add_add_bos_token(bool(bounds.before))
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(words.space_prefix)
    writer.add_chat_template(template_in_gguf(tokenizer))


def template_in_gguf(tokenizer: Tokenizer) -> str:
    """The chat template with the names set that llama.cpp gives it no value for, or another: it
    knows BOS and EOS alone, and calls one of them BOS where a tokenizer has none."""
    template = tokenizer.chat_template
    named = {"pad_token": tokenizer.pad_id, "unk_token": tokenizer.unk_id}
    if tokenizer.bos_id is None:
        named["bos_token"] = None
    texts = {name: "" if i is None else tokenizer.piece(i) for name, i in named.items()}
    used = {name: text for name, text in texts.items() if name in template}
    lines = [f"{{% set {name} = {json.dumps(text)} %}}\n" for name, text in used.items()]
    return "".join(lines) + template


def ends_in_gguf(tokenizer: Tokenizer, bounds: TextBounds) -> list[int]:
    """The ids that a file names as ends of a text, the tokenizer's EOS first: llama.cpp stops at
    its EOS, its end of a turn and its end of a message."""
    own = [] if tokenizer.eos_id is None else [tokenizer.eos_id]
    return [*own, *(i for i in bounds.ends if i not in own)][: len(_ADD_ENDS)]


def metadata_bytes(words: Vocabulary) -> int:
    """About the size of everything in the file that is no tensor."""
    texts = [*words.tokens, *(words.merges or [])]
    return 65536 + sum(len(text.encode()) + 16 for text in texts)
