"""What a family of Hugging Face models is to us; an adapter says it, one file a family.

A family's config.json is read and written, its tensors have other names and layouts, and it
computes some of our models and not others. `families.py` has the table of adapters. Never imports
torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from model.config import ModelConfig
from utils.errors import UsageError

_T = TypeVar("_T")


@dataclass(frozen=True)
class TensorMap:
    """One tensor of ours and where it lives in theirs: `sizes` rows in each of `theirs`.

    `neutral` is (value, shape) of a tensor that they have and this model does without.
    """

    ours: str
    theirs: tuple[str, ...]
    sizes: tuple[int, ...] = ()
    transposed: bool = False
    neutral: tuple[float, tuple[int, ...]] | None = None


class Family(ABC):
    """An adapter. `computed` are endings of tables that older versions of transformers saved
    although they can be computed; `embedding` is their name of the token table."""

    architecture: ClassVar[str]
    model_type: ClassVar[str]
    embedding: ClassVar[str]
    computed: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def claims(self, config: ModelConfig) -> bool:
        """Whether this is the family to ask for such a model, if any: the first that says so is."""

    @abstractmethod
    def obstacles(self, config: ModelConfig) -> dict[str, bool]:
        """Of a model that it claims, the switches that it does not hold, and whether they are on;
        where it is not plain, with the reason."""

    @abstractmethod
    def foldable(self, config: ModelConfig) -> dict[str, object]:
        """Switches whose effect `folding.py` can put into the weights, with their new values."""

    @abstractmethod
    def read(self, found: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Settings of `ModelConfig` from a config.json at `where`.

        Raises:
            UsageError: a setting that changes the arithmetic and that we do not compute.
        """

    @abstractmethod
    def write(self, config: ModelConfig) -> dict[str, Any]:
        """The keys of config.json that not every family has."""

    @abstractmethod
    def layout(self, config: ModelConfig) -> Iterator[TensorMap]:
        """Where each tensor lives, but for an untied head."""

    def canonical(self, tensors: dict[str, _T]) -> dict[str, _T]:
        """The tensors under the names of `layout`, where files exist that name them otherwise."""
        return tensors


def unsupported(where: str, key: str, value: object, supported: str) -> UsageError:
    """The error for a setting that we do not compute."""
    return UsageError(
        f"{where}: {key} is not supported.", found=repr(value), remedy=f"supported: {supported}"
    )


def require(found: Mapping[str, Any], where: str, **allowed: Any) -> None:
    """Refuse a key whose value changes the arithmetic; an absent one has the allowed value.

    Raises:
        UsageError: names the key.
    """
    for key, value in allowed.items():
        if found.get(key, value) != value:
            raise unsupported(where, key, found[key], repr(value))
