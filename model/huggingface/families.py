"""The families of Hugging Face models that hold models of ours, and which one holds which. Never
imports torch.

A further family is an adapter in a file of its own and a line in `FAMILIES`.
"""

from model.config import ModelConfig
from model.huggingface.apertus import Apertus
from model.huggingface.arcee import Arcee
from model.huggingface.family import Family
from model.huggingface.gpt2 import Gpt2
from model.huggingface.llama import Llama
from model.huggingface.qwen3 import Qwen3

FAMILIES: tuple[Family, ...] = (Llama(), Qwen3(), Arcee(), Apertus(), Gpt2())


def claimant(config: ModelConfig) -> Family:
    """The family to ask for a model like this; whether it holds it, `obstacles` says."""
    return next(family for family in FAMILIES if family.claims(config))


def obstacles(config: ModelConfig) -> list[str]:
    """The switches that no family holds, or not together, and where it is not plain, why."""
    found = claimant(config).obstacles(config)
    found[f"logit_scale {config.logit_scale:g}"] = config.logit_scale != 1
    return [switch for switch, is_there in found.items() if is_there]


def family_of(config: ModelConfig) -> Family | None:
    """The family that computes exactly this model, None where there is none.

    Missing gains and GPT-2's missing biases are no obstacle: they are saved as ones and zeros.
    """
    return None if obstacles(config) else claimant(config)


def architecture(config: ModelConfig) -> str | None:
    """The family's class in transformers, such as "LlamaForCausalLM"."""
    family = family_of(config)
    return None if family is None else family.architecture
