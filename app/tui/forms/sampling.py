"""The settings of sampling: the fields that chat and compare show, and what the client takes."""

from dataclasses import replace
from typing import TYPE_CHECKING

from app.client.client import Sampling
from app.tui.forms.field_spec import Field, fields_of

if TYPE_CHECKING:
    from pipeline.options.config import InferenceOptions

_NAMES = (
    *("temperature", "top_k", "top_p", "min_p", "repetition_penalty", "max_length", "seed", "stop"),
)


def sampling_fields() -> list[Field]:
    """Every setting of the section `inference` that decides how tokens are chosen."""
    known = {field.path.partition(".")[2]: field for field in fields_of("inference")}
    return [replace(known[name], common=True) for name in _NAMES]


def sampling_of(options: "InferenceOptions") -> Sampling:
    """The settings of the form as the client takes them."""
    return Sampling(
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
        max_tokens=options.max_length,
        seed=options.seed,
        stop=tuple(options.stop or ()),
    )
