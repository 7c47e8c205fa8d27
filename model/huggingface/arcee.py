"""Arcee: Llama with an MLP that has no gate, squared ReLU by default."""

from model.huggingface.llama import PLAIN_ACTIVATIONS, Llama


class Arcee(Llama):
    """See `Llama`."""

    architecture = "ArceeForCausalLM"
    model_type = "arcee"
    activations = PLAIN_ACTIVATIONS
    defaults = Llama.defaults | {
        "hidden_size": 2560,
        "intermediate_size": 18432,
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5,
        "hidden_act": "relu2",
    }
