"""A pretended Apple GPU: tensors say that they are on "mps", are computed on the CPU, and are never
float64, which Metal does not have."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

APPLE = torch.device("mps:0")
Model = TypeVar("Model", bound=torch.nn.Module)


class AppleTensor(torch.Tensor):
    """Says that it is on `APPLE`; `held` is on the CPU."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "AppleTensor":
        if held.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        made = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), dtype=held.dtype, device=APPLE
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
        return _computed(function, args, kwargs or {})


class _Apple(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
        if function == torch.Tensor.device.__get__:  # type: ignore[attr-defined]
            return APPLE if isinstance(args[0], AppleTensor) else function(*args)
        return _computed(function, args, kwargs or {})


def _computed(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """`function` on the CPU; its result is on the device that is asked for, else where its tensors
    are. What a function changes in place stays the same tensor."""
    mine: dict[int, AppleTensor] = {}
    asked: list[torch.device] = []

    def to_cpu(value: Any) -> Any:
        if isinstance(value, AppleTensor):
            mine[id(value.held)] = value
            return value.held
        if isinstance(value, torch.device):
            asked.append(value)
            return torch.device("cpu")
        return value

    def back(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or isinstance(value, AppleTensor) or not there:
            return value
        return mine[id(value)] if id(value) in mine else AppleTensor(value)

    inner_args, inner_kwargs = tree_map(to_cpu, (args, kwargs))
    there = asked[0].type == "mps" if asked else bool(mine)
    there &= function != torch.Tensor.cpu
    return tree_map(back, function(*inner_args, **inner_kwargs))


@contextmanager
def apple_gpu() -> Iterator[torch.device]:
    """The device, for as long as the block lasts."""
    with _Apple():
        yield APPLE


def moved(model: Model) -> Model:
    """`model` itself, with its weights and tables on `APPLE`, without gradients."""
    for module in model.modules():
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None:
                    held[name] = AppleTensor(tensor.detach())  # type: ignore[assignment]
    return model
