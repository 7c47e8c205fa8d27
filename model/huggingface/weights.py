"""The weights of our models as Hugging Face models and back: names and layouts.

Their architectures hold what we compute under other names: queries, keys and values apart, gate and
up apart, GPT-2's matrices transposed. A combination of switches that none of them holds keeps our
own names.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import GATED, ModelConfig
from model.gpt import GPT
from model.huggingface.architecture import architecture
from utils.errors import RefusedError

# Tables that older versions of transformers saved although they can be computed.
_COMPUTED = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")


@dataclass(frozen=True)
class _Entry:
    """One tensor of ours and where it lives in theirs: `sizes` rows in each of `theirs`.

    `neutral` is (value, shape) of a tensor that they have and this model does without.
    """

    ours: str
    theirs: tuple[str, ...]
    sizes: tuple[int, ...] = ()
    transposed: bool = False
    neutral: tuple[float, tuple[int, ...]] | None = None


def state_to_hf(model: GPT) -> dict[str, Tensor]:
    """The weights under canonical Hugging Face names; a tied tensor once. Views of the model's own
    tensors, so that nothing is held twice; where the layout differs they are not contiguous."""
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    if architecture(model.config) is None:
        return state
    result: dict[str, Tensor] = {}
    for entry in _layout(model.config):
        if entry.neutral is not None:
            value, shape = entry.neutral
            result[entry.theirs[0]] = torch.full(shape, value, dtype=model.dtype)
            continue
        tensor = state[entry.ours].T if entry.transposed else state[entry.ours]
        parts = tensor.split(entry.sizes) if entry.sizes else (tensor,)
        result.update(zip(entry.theirs, parts, strict=True))
    return result


def state_from_hf(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Weights under Hugging Face names as a state dict for `GPT(config)`.

    Raises:
        RefusedError: a tensor is missing, unexpected, or holds what this config does without.
    """
    found = _canonical(tensors, config)
    # Our own names are also in what was saved before an architecture was known to hold it.
    if architecture(config) is None or "embedding.weight" in found:
        return found
    result: dict[str, Tensor] = {}
    missing: list[str] = []
    for entry in _layout(config):
        absent = [name for name in entry.theirs if name not in found]
        missing += absent if entry.neutral is None else []
        if absent:
            continue
        parts = [found.pop(name) for name in entry.theirs]
        if entry.neutral is not None:
            if not torch.all(parts[0] == entry.neutral[0]):
                raise RefusedError(
                    f"{entry.theirs[0]} holds values, and this configuration does without it.",
                    remedy="set norm_gain or bias in the model section to match the weights",
                )
            continue
        joined = torch.cat(parts) if len(parts) > 1 else parts[0]
        result[entry.ours] = joined.T.contiguous() if entry.transposed else joined
    refuse_mismatch(missing, list(found))
    return result


def refuse_mismatch(missing: list[str], unexpected: list[str]) -> None:
    """Raise a RefusedError that names the tensors, if there are any."""
    if not missing and not unexpected:
        return
    parts = []
    for title, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            parts.append(f"{title}: {', '.join(names[:5])}{more}")
    raise RefusedError("The weights do not fit the model's description.", found="; ".join(parts))


def _canonical(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """A copy without computed tables and without the second name of a tied head."""
    found = {name: t for name, t in tensors.items() if not name.endswith(_COMPUTED)}
    kind = architecture(config)
    if kind == "GPT2LMHeadModel" and "wte.weight" in found:  # OpenAI's own files have no prefix
        found = {
            name if name.startswith("lm_head.") else f"transformer.{name}": t
            for name, t in found.items()
        }
    table = "transformer.wte.weight" if kind == "GPT2LMHeadModel" else "model.embed_tokens.weight"
    if config.tie_word_embeddings and table in found:
        head = found.pop("lm_head.weight", found[table])
        if not torch.equal(head, found[table]):
            raise RefusedError(
                "The output head differs from the embedding, and the config says they are tied.",
                remedy="set tie_word_embeddings to false in config.json",
            )
    return found


def _layout(config: ModelConfig) -> Iterator[_Entry]:
    layout = _gpt2_layout if architecture(config) == "GPT2LMHeadModel" else _llama_layout
    yield from layout(config)
    if not config.tie_word_embeddings:
        yield _Entry("head.weight", ("lm_head.weight",))


def _llama_layout(config: ModelConfig) -> Iterator[_Entry]:
    width, head = config.hidden_size, config.head_size
    rows = (config.num_heads * head, config.kv_heads * head, config.kv_heads * head)
    kinds = ("weight", "bias") if config.bias else ("weight",)
    up_names = ("gate_proj", "up_proj") if config.mlp in GATED else ("up_proj",)
    apertus = architecture(config) == "ApertusForCausalLM"
    norms = ("attention", "feedforward") if apertus else ("input", "post_attention")

    def gain(ours: str, theirs: str, size: int) -> _Entry:
        return _Entry(ours, (theirs,), neutral=None if config.norm_gain else (1.0, (size,)))

    yield _Entry("embedding.weight", ("model.embed_tokens.weight",))
    for layer in range(config.num_layers):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        attention = f"{theirs}.self_attn"
        for kind in kinds:
            qkv = tuple(f"{attention}.{letter}_proj.{kind}" for letter in "qkv")
            yield _Entry(f"{ours}.attention.qkv.{kind}", qkv, rows)
            yield _Entry(f"{ours}.attention.out.{kind}", (f"{attention}.o_proj.{kind}",))
            up = tuple(f"{theirs}.mlp.{name}.{kind}" for name in up_names)
            yield _Entry(f"{ours}.mlp.up.{kind}", up, (config.mlp_size,) * len(up))
            yield _Entry(f"{ours}.mlp.down.{kind}", (f"{theirs}.mlp.down_proj.{kind}",))
        for letter in "qk" if config.qk_norm else "":
            name = f"{letter}_norm.weight"
            yield gain(f"{ours}.attention.{name}", f"{attention}.{name}", head)
        for norm, name in zip(("attention_norm", "mlp_norm"), norms, strict=True):
            yield gain(f"{ours}.{norm}.weight", f"{theirs}.{name}_layernorm.weight", width)
    yield gain("norm.weight", "model.norm.weight", width)


def _gpt2_layout(config: ModelConfig) -> Iterator[_Entry]:
    width, wide = config.hidden_size, config.mlp_size

    def linear(ours: str, theirs: str, size: int) -> Iterator[_Entry]:
        yield _Entry(f"{ours}.weight", (f"{theirs}.weight",), transposed=True)
        none = None if config.bias else (0.0, (size,))
        yield _Entry(f"{ours}.bias", (f"{theirs}.bias",), neutral=none)

    def norm(ours: str, theirs: str) -> Iterator[_Entry]:
        gain = None if config.norm_gain else (1.0, (width,))
        shift = None if config.bias else (0.0, (width,))
        yield _Entry(f"{ours}.weight", (f"{theirs}.weight",), neutral=gain)
        yield _Entry(f"{ours}.bias", (f"{theirs}.bias",), neutral=shift)

    yield _Entry("embedding.weight", ("transformer.wte.weight",))
    yield _Entry("positions.weight", ("transformer.wpe.weight",))
    for layer in range(config.num_layers):
        ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        yield from norm(f"{ours}.attention_norm", f"{theirs}.ln_1")
        yield from linear(f"{ours}.attention.qkv", f"{theirs}.attn.c_attn", 3 * width)
        yield from linear(f"{ours}.attention.out", f"{theirs}.attn.c_proj", width)
        yield from norm(f"{ours}.mlp_norm", f"{theirs}.ln_2")
        yield from linear(f"{ours}.mlp.up", f"{theirs}.mlp.c_fc", wide)
        yield from linear(f"{ours}.mlp.down", f"{theirs}.mlp.c_proj", width)
    yield from norm("norm", "transformer.ln_f")
