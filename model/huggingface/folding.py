"""A model of ours as an equal one that others compute: what they lack goes into the weights.

- `embedding_norm`: with rotary positions a token's embedding enters alone, so each row of the table
  is normalised once and for all, and the head keeps a table of its own.
- `logit_scale`: the head's weights are multiplied by it.
- LayerNorm with rotary positions: where the mean is zero it is RMSNorm, and the mean of the
  residual stream is zero once all that is added to it has none (Ashkboos et al. 2024, "SliceGPT").
- Keys and values that several heads share, with learned positions: each head gets its own copy.

Equal in exact arithmetic; in float32 logits differ in their last bits. Everything is computed in
float32, so that an export rounds once, to the number format asked for.
"""

from copy import deepcopy

import torch
from torch import Tensor

from model.config import ModelConfig
from model.gpt import GPT
from model.huggingface.families import claimant, obstacles
from utils.errors import RefusedError

_IN_THE_TABLE = ("logit_scale", "embedding_norm", "norm")  # folded into embedding or head alone


def folded_config(config: ModelConfig) -> ModelConfig:
    """The description of what `fold_into_weights` makes of a model; `config` itself where nothing
    is to do.

    Raises:
        RefusedError: no architecture holds the model even so; names the switches.
    """
    if not obstacles(config):
        return config
    changes = claimant(config).foldable(config)
    if config.logit_scale != 1:
        changes["logit_scale"] = 1.0
    if not changes.keys().isdisjoint(_IN_THE_TABLE):
        changes["tie_word_embeddings"] = False
    target = config.model_copy(update=changes | {"preset": None})
    if rest := obstacles(target):
        raise RefusedError(
            "No other program computes this model: it cannot be exported.",
            found=f"{'; '.join(rest)}, in its model section",
            remedy="generate with it here; every preset makes a model that can be exported: {}",
            commands=[("train", "--model.preset", "mini")],
        )
    return target


@torch.no_grad()
def fold_into_weights(model: GPT) -> GPT:
    """An equal model that an architecture of others holds, in float32 and eval mode; `model` itself
    where nothing is to do. Tensors that stay as they are belong to both.

    Raises:
        RefusedError: as `folded_config`.
    """
    config, target = model.config, folded_config(model.config)
    if target is config:
        return model
    state = {name: tensor.float() for name, tensor in model.state_dict().items()}
    if not target.tie_word_embeddings:
        state["head.weight"] = model.head_weight.float() * config.logit_scale
    if model.embedding_norm is not None:
        normalise = deepcopy(model.embedding_norm).float()
        state["embedding.weight"] = normalise(state["embedding.weight"])
        state = {n: tensor for n, tensor in state.items() if not n.startswith("embedding_norm.")}
    if target.norm != config.norm:
        _centre(state)
    if target.kv_heads != config.kv_heads:
        _repeat_shared_heads(state, config)
    with torch.device("meta"):
        twin = GPT(target)
    twin.to_empty(device=model.device)
    twin.load_state_dict(state, assign=True)
    return twin.eval()


def _centre(state: dict[str, Tensor]) -> None:
    """Take the mean over channels from all that is added to the residual stream."""
    for name, tensor in state.items():
        if name == "embedding.weight":
            state[name] = tensor - tensor.mean(dim=1, keepdim=True)
        elif name.endswith((".out.weight", ".down.weight")):
            state[name] = tensor - tensor.mean(dim=0, keepdim=True)


def _repeat_shared_heads(state: dict[str, Tensor], config: ModelConfig) -> None:
    """Give each query head a key and a value head of its own."""
    H, K, D = config.num_heads, config.kv_heads, config.head_size
    kv_head = torch.arange(H) // (H // K)  # the key head that a query head reads
    for name, tensor in state.items():
        if ".qkv." in name:
            heads = tensor.view(H + 2 * K, D, *tensor.shape[1:])
            q, k, v = torch.split(heads, [H, K, K])
            state[name] = torch.cat((q, k[kv_head], v[kv_head])).flatten(0, 1)
