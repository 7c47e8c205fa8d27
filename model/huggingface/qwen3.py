"""Qwen3: Llama with normalised queries and keys, and no biases."""

from model.huggingface.llama import Llama


class Qwen3(Llama):
    """See `Llama`."""

    architecture = "Qwen3ForCausalLM"
    model_type = "qwen3"
    qk_norm = True
    defaults = Llama.defaults | {
        "vocab_size": 151936,
        "intermediate_size": 22016,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "max_position_embeddings": 32768,
    }
