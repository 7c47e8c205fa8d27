"""The weights of our models as Hugging Face models and back, as the families lay them out.

They hold what we compute under other names: queries, keys and values apart, gate and up apart,
GPT-2's matrices transposed. A combination of switches that no family holds keeps our own names.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from model.config import ModelConfig
from model.gpt import GPT
from model.huggingface.families import family_of
from model.huggingface.family import Family, TensorMap
from model.lora import merged_state
from utils.errors import RefusedError


def state_to_hf(model: GPT) -> dict[str, Tensor]:
    """The weights under canonical Hugging Face names; a tied tensor once, adapters merged. Views of
    the model's own tensors, so that nothing else is held twice; where the layout differs they are
    not contiguous."""
    state = merged_state(model)
    family = family_of(model.config)
    if family is None:
        return state
    result: dict[str, Tensor] = {}
    for entry in _layout(family, model.config):
        if entry.neutral is not None:
            value, shape = entry.neutral
            result[entry.theirs[0]] = torch.full(shape, value, dtype=model.dtype)
            continue
        tensor = state[entry.ours].T if entry.transposed else state[entry.ours]
        parts = torch.split(tensor, list(entry.sizes)) if entry.sizes else (tensor,)
        result.update(zip(entry.theirs, parts, strict=True))
    return result


def state_from_hf(tensors: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Weights under Hugging Face names as a state dict for `GPT(config)`.

    Raises:
        RefusedError: a tensor is missing, unexpected, or holds what this config does without.
    """
    family = family_of(config)
    # Our own names are also in what was saved before a family was known to hold it.
    if family is None or "embedding.weight" in tensors:
        return dict(tensors)
    found = _canonical(tensors, family, config)
    result: dict[str, Tensor] = {}
    missing: list[str] = []
    for entry in _layout(family, config):
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


def _are_equal(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors hold the same; NaN is like NaN, which is no fault of the tie."""
    if first is second or torch.equal(first, second):
        return True
    if first.shape != second.shape or not first.isnan().any():
        return False
    return bool(((first == second) | (first.isnan() & second.isnan())).all())


def _canonical(
    tensors: Mapping[str, Tensor], family: Family, config: ModelConfig
) -> dict[str, Tensor]:
    """A copy without computed tables and without the second name of a tied head."""
    found = {name: t for name, t in tensors.items() if not name.endswith(family.computed)}
    found = family.canonical(found)
    if config.tie_word_embeddings and family.embedding in found:
        head = found.pop("lm_head.weight", found[family.embedding])
        if not _are_equal(head, found[family.embedding]):
            raise RefusedError(
                "The output head differs from the embedding, and the config says they are tied.",
                remedy="set tie_word_embeddings to false in config.json",
            )
    return found


def _layout(family: Family, config: ModelConfig) -> Iterator[TensorMap]:
    yield from family.layout(config)
    if not config.tie_word_embeddings:
        yield TensorMap("head.weight", ("lm_head.weight",))
