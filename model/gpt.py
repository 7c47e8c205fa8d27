"""The transformer: read it from top to bottom.

Letters in the comments: B rows of a batch, T positions, C channels of the residual stream
(`hidden_size`), H query heads, K key and value heads, D channels per head, F width of the MLP,
V vocabulary. The model knows tensors only: no text, no file, and not how the next token is chosen
(`model.language_model`).
"""

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.config import GATED, ModelConfig
from model.layers.attention import (
    Kernel,
    attend,
    block_causal_mask,
    causal_mask,
    choose_kernel,
)
from model.layers.cache import KeyValueCache
from model.layers.loss import mean_loss, token_losses
from model.layers.norm import HeadNorm, Norm
from model.layers.rope import RotaryEmbedding, rotate
from utils.errors import UsageError


class Attention(nn.Module):
    """Grouped-query attention with rotary or no positions of its own."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config, self.layer = config, layer
        H, K, D = config.num_heads, config.kv_heads, config.head_size
        # One matrix for queries, keys and values: one large product is faster than three.
        self.qkv = nn.Linear(config.hidden_size, (H + 2 * K) * D, bias=config.bias)
        self.out = nn.Linear(H * D, config.hidden_size, bias=config.bias)
        self.q_norm = HeadNorm(config) if config.qk_norm else None
        self.k_norm = HeadNorm(config) if config.qk_norm else None

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor] | None,
        mask: Tensor | None,
        kernel: Kernel,
        cache: KeyValueCache | None,
        positions: Tensor | None,
    ) -> Tensor:
        B, T, _ = x.shape
        H, K, D = self.config.num_heads, self.config.kv_heads, self.config.head_size
        qkv = self.qkv(x).view(B, T, H + 2 * K, D)
        q, k, v = qkv.split((H, K, K), dim=2)  # (B, T, H or K, D)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = self.q_norm(q), self.k_norm(k)
        v = v.transpose(1, 2)  # (B, K, T, D)
        if angles is None:
            q, k = q.transpose(1, 2), k.transpose(1, 2)
        else:
            q, k = rotate(q, *angles), rotate(k, *angles)
        q, k = q.to(v.dtype), k.to(v.dtype)  # (B, H or K, T, D)
        if cache is not None:
            k, v = cache.update(self.layer, k, v, positions)  # (B, K, S, D)
            q = q.to(k.dtype)
        dropout = self.config.attention_dropout if self.training else 0.0
        mixed: Tensor = self.out(attend(q, k, v, mask, kernel, dropout).to(x.dtype))
        return mixed


def activate(kind: str, x: Tensor) -> Tensor:
    """Apply `kind` to x; a gated kind halves the last dimension, (..., 2F) -> (..., F).

    The first half is the gate (Shazeer 2020, "GLU Variants Improve Transformer"); geglu and gelu
    use the tanh form of GPT-2; relu2 is the squared ReLU (So et al. 2021, "Primer").

    Raises:
        ValueError: an unknown kind.
    """
    match kind:
        case "swiglu":
            gate, up = x.chunk(2, dim=-1)
            return F.silu(gate) * up
        case "geglu":
            gate, up = x.chunk(2, dim=-1)
            return F.gelu(gate, approximate="tanh") * up
        case "reglu":
            gate, up = x.chunk(2, dim=-1)
            return F.relu(gate) * up
        case "gelu":
            return F.gelu(x, approximate="tanh")
        case "relu2":
            return F.relu(x).square()
    raise ValueError(f"unknown activation {kind!r}")


class MLP(nn.Module):
    """Two projections around a non-linearity; a gated kind has gate and up in one matrix."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.kind = config.mlp
        wide = config.mlp_size * (2 if config.mlp in GATED else 1)
        self.up = nn.Linear(config.hidden_size, wide, bias=config.bias)
        self.down = nn.Linear(config.mlp_size, config.hidden_size, bias=config.bias)

    def forward(self, x: Tensor) -> Tensor:
        lowered: Tensor = self.down(activate(self.kind, self.up(x)))
        return lowered


class Block(nn.Module):
    """Pre-norm residual block (Xiong et al. 2020)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.attention_norm = Norm(config.hidden_size, config)
        self.attention = Attention(config, layer)
        self.mlp_norm = Norm(config.hidden_size, config)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, *context: Any) -> Tensor:
        x = x + F.dropout(
            self.attention(self.attention_norm(x), *context), self.dropout, self.training
        )
        return x + F.dropout(self.mlp(self.mlp_norm(x)), self.dropout, self.training)


class GPT(nn.Module):
    """A decoder-only transformer, Llama-shaped or GPT-2-shaped by the switches of its config.

    `gradient_checkpointing` recomputes each block in the backward pass: a third more arithmetic,
    and only one block's activations in memory.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        learned, width = config.position == "learned", config.hidden_size
        self.positions = nn.Embedding(config.max_position_embeddings, width) if learned else None
        self.rotary = None if learned else RotaryEmbedding(config)
        self.embedding_norm = Norm(width, config) if config.embedding_norm else None
        self.blocks = nn.ModuleList(Block(config, layer) for layer in range(config.num_layers))
        self.norm = Norm(width, config)
        # Tied: the embedding is the head, and there is no second tensor that could drift away.
        tied = config.tie_word_embeddings
        self.head = None if tied else nn.Linear(width, config.vocab_size, bias=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw fresh weights.

        Projections that write to the residual stream are smaller by sqrt(2 * layers), so that its
        variance does not grow with depth (Radford et al. 2019, GPT-2), or zero (`zero_init`).
        """
        std = self.config.initializer_range
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=std)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for table in (self.embedding, self.positions):
            if table is not None:
                nn.init.normal_(table.weight, std=self.config.embedding_range or std)
        residual = 0.0 if self.config.zero_init else std / math.sqrt(2 * self.config.num_layers)
        for name, parameter in self.blocks.named_parameters():
            if name.endswith((".out.weight", ".down.weight")):
                nn.init.normal_(parameter, std=residual)
        if self.head is not None and self.config.zero_init:
            nn.init.zeros_(self.head.weight)

    @property
    def head_weight(self) -> Tensor:
        """The output matrix (V, C); the embedding itself when tied."""
        return self.embedding.weight if self.head is None else self.head.weight

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.weight.dtype

    def hidden(
        self,
        input_ids: Tensor,
        cache: KeyValueCache | None = None,
        positions: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """The residual stream before the head: input_ids (B, T) int64 -> (B, T, C).

        With a `cache` the ids continue what it holds. `positions` (B, T) int64 says where each row
        stands; without it all rows stand where the cache ends. `mask` (B, T, S), added to the
        scores of S positions, says what each sees where that is not all before it: rows that hold
        several texts.

        Raises:
            UsageError: more positions than `max_position_embeddings`.
        """
        T = input_ids.shape[1]
        start = 0 if cache is None else cache.length
        if positions is None and start + T > self.config.max_position_embeddings:
            raise UsageError(
                f"{start + T} positions do not fit: max_position_embeddings is "
                f"{self.config.max_position_embeddings}.",
                remedy="shorten the text, or train a model with a longer context",
            )
        x = self.embedding(input_ids)  # (B, T, C)
        if self.positions is not None:
            where = positions
            if where is None:
                where = torch.arange(start, start + T, device=x.device)
            x = x + self.positions(where)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        x = F.dropout(x, self.config.dropout, self.training)
        angles = None if self.rotary is None else self.rotary(start, T, positions)
        kernel = choose_kernel(
            self.config.attention, x.device, self._matmul_dtype, T, training=self.training
        )
        if mask is None:
            mask = self._mask(x, start, positions, kernel)
        if cache is not None:
            cache.begin(T)
        for block in self.blocks:
            if self.gradient_checkpointing and self.training:
                x = checkpoint(
                    block, x, angles, mask, kernel, cache, positions, use_reentrant=False
                )
            else:
                x = block(x, angles, mask, kernel, cache, positions)
        x = cast(Tensor, self.norm(x))
        return x if self.config.logit_scale == 1 else x * self.config.logit_scale

    def _mask(
        self, x: Tensor, start: int, positions: Tensor | None, kernel: Kernel
    ) -> Tensor | None:
        """Additive mask (T, S) or (B, T, S), None where the kernel needs none."""
        T = x.shape[1]
        if positions is not None:
            return causal_mask(positions, start + T, x.dtype)
        if T == 1 or (start == 0 and kernel != "math"):
            return None
        return causal_mask(torch.arange(start, start + T, device=x.device), start + T, x.dtype)

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor | None = None,
        cache: KeyValueCache | None = None,
        positions: Tensor | None = None,
    ) -> dict[str, Tensor | None]:
        """Logits (B, T, V) and, given `labels`, their mean cross-entropy in nats.

        input_ids and labels are (B, T) int64. As in Hugging Face, labels are shifted here: the
        label at position t is compared with the logits at t - 1, and -100 does not count.
        """
        hidden = self.hidden(input_ids, cache, positions)
        loss = None
        if labels is not None:
            loss = self._mean_loss(hidden[:, :-1], labels[:, 1:])
        return {"loss": loss, "logits": self.logits(hidden)}

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores of every token: (..., C) -> (..., V)."""
        return F.linear(hidden, self.head_weight)

    def loss(
        self,
        inputs: Tensor,
        targets: Tensor,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """Mean cross-entropy in nats for training, without ever holding all logits.

        inputs and targets (B, T) int64, aligned: targets[b, t] follows inputs[b, t]; -100 does not
        count. Rows that hold several texts say of each id which of its row's `documents` it belongs
        to and at which of that document's `positions` it stands, both (B, T) int64: no text sees
        another. Returns () float32.
        """
        return self._mean_loss(self._read(inputs, positions, documents), targets)

    def _mean_loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        return mean_loss(*self._for_head(hidden), targets.reshape(-1))

    def token_losses(
        self,
        inputs: Tensor,
        targets: Tensor,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """Cross-entropy of every target in nats, zero where it is -100: (B, T) float32.

        `positions` and `documents` are those of `loss`. Differentiable, at the cost of a second
        pass of the head.
        """
        hidden, weight = self._for_head(self._read(inputs, positions, documents))
        return token_losses(hidden, weight, targets.reshape(-1)).view(targets.shape)

    def _read(self, inputs: Tensor, positions: Tensor | None, documents: Tensor | None) -> Tensor:
        """The residual stream of whole rows, each one text, or several if `documents` says so."""
        if positions is None and documents is None:
            return self.hidden(inputs)
        if positions is None or documents is None:
            raise ValueError("positions and documents of packed rows belong together")
        mask = block_causal_mask(documents, self._matmul_dtype)  # one for all layers
        return self.hidden(inputs, positions=positions, mask=mask)

    @property
    def _matmul_dtype(self) -> torch.dtype:
        """What matrix products are computed in: that of autocast, or of the weights."""
        kind = self.device.type
        enabled = torch.is_autocast_enabled(kind)
        return torch.get_autocast_dtype(kind) if enabled else self.dtype

    def _for_head(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B * T, C) and head (V, C) in the precision that autocast asks for."""
        dtype = self._matmul_dtype
        return hidden.reshape(-1, hidden.shape[-1]).to(dtype), self.head_weight.to(dtype)
