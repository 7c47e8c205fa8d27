"""Apertus: Llama with normalised queries and keys and an MLP without a gate.

Its own activation, xIELU, is not computed here; with squared ReLU or GELU it holds models of ours.
"""

from model.huggingface.llama import PLAIN_ACTIVATIONS, Llama


class Apertus(Llama):
    """See `Llama`."""

    architecture = "ApertusForCausalLM"
    model_type = "apertus"
    qk_norm = True
    norms = ("attention", "feedforward")
    activations = PLAIN_ACTIVATIONS
    defaults = Llama.defaults | {
        "vocab_size": 131072,
        "intermediate_size": 14336,
        "max_position_embeddings": 65536,
        "rms_norm_eps": 1e-5,
        "hidden_act": "xielu",
        "rope_theta": 12e6,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "original_max_position_embeddings": 8192,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
        },
    }
