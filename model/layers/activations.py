"""The non-linearities of the MLP."""

import torch.nn.functional as F
from torch import Tensor


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
