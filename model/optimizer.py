"""AdamW, and Muon for the matrices inside the blocks.

Learning rates are set from outside before each step: base x multiplier, and the multiplier is a
pure function of the step. The state is a flat dictionary of named tensors.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from model.device import fast_half
from model.gpt import GPT
from model.huggingface.weights import refuse_mismatch

# Quintic whose fifth iterate maps singular values from (0, 1] to about 0.7 ... 1.2
# (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks").
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ROUNDS = 5


def orthogonalise(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Replace the singular values of each matrix by about 1: (n, r, c) -> (n, r, c) in `dtype`.

    One batched Newton-Schulz iteration serves all n matrices.
    """
    x = matrices.to(dtype)
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    # In half precision the squares of small singular values would drown.
    long = dtype == torch.float32 and x.shape[-1] >= 2 * x.shape[-2]
    x = _iterate_gram(x) if long else _iterate(x)
    return x if wide else x.mT


def _iterate(x: Tensor) -> Tensor:
    a, b, c = _QUINTIC
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _iterate_gram(x: Tensor) -> Tensor:
    """The same iteration on x @ x.T alone, for matrices much longer than wide.

    Every round multiplies x from the left by a polynomial in gram, so the polynomials are
    collected and x is touched twice instead of twice a round: half the arithmetic at c = 5 r.
    """
    a, b, c = _QUINTIC
    gram = x @ x.mT
    total = None
    for _ in range(_ROUNDS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=-2, dim2=-1).add_(a)
        total = factor if total is None else factor @ total
        gram = factor @ gram @ factor
    assert total is not None
    return total @ x


class Muon(torch.optim.Optimizer):
    """Momentum, then orthogonalisation, of two-dimensional parameters.

    The arithmetic of `torch.optim.Muon` with Nesterov momentum and its "original" learning rate
    adjustment, with all matrices of one shape in one iteration and in the dtype that this machine
    multiplies fastest, where torch takes them singly and always in bfloat16.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        if closure is not None:
            raise ValueError("a closure is not supported")
        for group in self.param_groups:
            shapes: defaultdict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes[parameter.shape].append(parameter)
            for parameters in shapes.values():
                self._step_same_shape(parameters, group)

    def _step_same_shape(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [p.grad for p in parameters if p.grad is not None]
        buffers = [self._momentum(p) for p in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
        updates = torch.stack(torch._foreach_lerp(gradients, buffers, group["momentum"]))
        dtype = self._dtype
        if dtype is None:
            dtype = torch.bfloat16 if fast_half(updates.device) else torch.float32
        directions = orthogonalise(updates, dtype).to(parameters[0].dtype)
        rows, columns = parameters[0].shape
        step = group["lr"] * math.sqrt(max(1.0, rows / columns))
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, list(directions.unbind()), alpha=-step)

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        return buffer


class ModelOptimizer:
    """The optimizers of one model, stepped together; `parts` are torch optimizers, as a gradient
    scaler wants them."""

    def __init__(self, parts: list[torch.optim.Optimizer]) -> None:
        self.parts = parts
        for group in self.param_groups:
            group["initial_lr"] = group["lr"]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def set_multiplier(self, multiplier: float) -> None:
        """Set every learning rate to its base times `multiplier`."""
        for group in self.param_groups:
            group["lr"] = group["initial_lr"] * multiplier

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)


def build_optimizer(
    model: GPT,
    *,
    kind: Literal["adamw", "muon"],
    learning_rate: float,
    matrix_learning_rate: float = 0.02,
    weight_decay: float = 0.1,
    betas: tuple[float, float] = (0.9, 0.95),
    eps: float = 1e-8,
    momentum: float = 0.95,
) -> ModelOptimizer:
    """AdamW for everything, or Muon (`matrix_learning_rate`, `momentum`) for the matrices inside
    the blocks and AdamW (`learning_rate`, `betas`) for embeddings, head, gains and biases.

    Gains and biases are not decayed, and what is frozen stays out. Learning rates are peaks,
    reached at multiplier 1.
    """
    hidden, tables, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif name.startswith("blocks.") and kind == "muon":
            hidden.append(parameter)
        else:
            tables.append(parameter)
    groups = [
        {"params": tables, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    parts: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=learning_rate,
            betas=betas,
            eps=eps,
            fused=True,
        )
    ]
    if hidden:
        parts.append(Muon(hidden, matrix_learning_rate, momentum, weight_decay))
    return ModelOptimizer(parts)


def optimizer_state(optimizer: ModelOptimizer, model: GPT) -> dict[str, Tensor]:
    """The state as a flat dictionary "exp_avg:blocks.0.mlp.up.weight" -> tensor, not copied."""
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    return {
        f"{key}:{names[parameter]}": value
        for part in optimizer.parts
        for parameter, state in part.state.items()
        for key, value in state.items()
    }


def load_optimizer_state(
    optimizer: ModelOptimizer, model: GPT, tensors: Mapping[str, Tensor]
) -> None:
    """Put a state from `optimizer_state` back, bit for bit.

    Raises:
        RefusedError: it belongs to another model or optimizer; names the tensors.
    """
    names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}
    rest = dict(tensors)
    missing = []
    for part in optimizer.parts:
        keys = ("momentum_buffer",) if isinstance(part, Muon) else ("step", "exp_avg", "exp_avg_sq")
        described = part.state_dict()
        ordered = [p for group in part.param_groups for p in group["params"]]
        for index, parameter in enumerate(ordered if rest else []):
            expected = {key: f"{key}:{names[parameter]}" for key in keys}
            missing += [name for name in expected.values() if name not in rest]
            described["state"][index] = {
                key: rest.pop(name) for key, name in expected.items() if name in rest
            }
        if not missing:
            part.load_state_dict(described)
    refuse_mismatch(missing, list(rest))
