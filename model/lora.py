"""Low-rank adapters: what is learned is a product of two thin matrices beside each frozen one.

W x + (alpha / rank) B A x with A (rank, inputs) and B (outputs, rank), Hu et al. 2021, "LoRA". All
linear layers of the blocks have one. Where this model joins what other programs keep apart
(queries, keys and values; gate and up), the parts share A and have their own rows of B.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.gpt import GPT


@dataclass(frozen=True)
class LoraSettings:
    """Adapters: `rank` columns of B, `alpha` / rank the factor of the product, `dropout` the share
    of a layer's inputs that the adapter does without in training. `base` is the path of the
    checkpoint whose weights are frozen, None where it is not known."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    base: str | None = None

    @property
    def factor(self) -> float:
        """What the product of the two matrices is multiplied by."""
        return self.alpha / self.rank


class AdaptedLinear(nn.Linear):
    """A linear layer of which only the adapter learns; `weight` and `bias` are those it had.

    B begins as zeros, so that an adapted model begins as the model it was.
    """

    def __init__(
        self, plain: nn.Linear, settings: LoraSettings, generator: torch.Generator
    ) -> None:
        super().__init__(plain.in_features, plain.out_features, bias=False, device="meta")
        self.weight, self.bias = plain.weight, plain.bias
        self.settings = settings
        self.train(plain.training)
        limit = 1 / math.sqrt(plain.in_features)  # Kaiming's uniform with a = sqrt(5)
        drawn = torch.empty(settings.rank, plain.in_features)
        drawn.uniform_(-limit, limit, generator=generator)
        self.lora_a = nn.Parameter(drawn.to(plain.weight))
        self.lora_b = nn.Parameter(plain.weight.new_zeros(plain.out_features, settings.rank))

    def forward(self, input: Tensor) -> Tensor:
        thin = F.linear(F.dropout(input, self.settings.dropout, self.training), self.lora_a)
        adapted = F.linear(thin * self.settings.factor, self.lora_b)
        return F.linear(input, self.weight, self.bias) + adapted

    @torch.no_grad()
    def merged(self) -> Tensor:
        """The one matrix that computes the same, in the dtype of `weight`."""
        product = self.lora_b.float() @ self.lora_a.float()
        return torch.add(self.weight, product, alpha=self.settings.factor).to(self.weight.dtype)


def add_adapters(model: GPT, settings: LoraSettings, *, seed: int) -> None:
    """Freeze `model` in place and give every linear layer of its blocks an adapter.

    The same seed draws the same matrices A, on any device.
    """
    generator = torch.Generator().manual_seed(seed)
    model.requires_grad_(False)
    for block in model.blocks:
        for part in block.children():
            for name, layer in list(part.named_children()):
                if isinstance(layer, nn.Linear):
                    setattr(part, name, AdaptedLinear(layer, settings, generator))


def adapters(model: GPT) -> dict[str, AdaptedLinear]:
    """The adapted layers by name, such as "blocks.0.attention.qkv"; none of a plain model."""
    found = model.named_modules()
    return {name: module for name, module in found if isinstance(module, AdaptedLinear)}


def merged_state(model: GPT) -> dict[str, Tensor]:
    """The weights of the plain model that computes what `model` does, by name. What is not adapted
    is a view of the model's own tensors."""
    adapted = adapters(model)
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if layer not in adapted or kind == "bias":
            state[name] = tensor.detach()
        elif kind == "weight":
            state[name] = adapted[layer].merged()
    return state
