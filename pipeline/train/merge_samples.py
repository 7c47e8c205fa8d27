"""What the model writes while it learns."""

from model.generation.sampler import generate
from model.generation.sampling import SamplingSettings
from model.gpt import GPT
from pipeline.events import Sample
from pipeline.tokenizer.tokenizer import StreamDecoder, Tokenizer

_TOKENS = 60


def write_sample(model: GPT, tokenizer: Tokenizer, prompt: str, step: int) -> Sample:
    """Let `model` continue `prompt`, or begin a document where it is empty.

    The step is the seed, and the training's random numbers are not touched: a resumed run writes
    the same samples as an undisturbed one.
    """
    start = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    ids = [] if start is None else [start]
    ids += tokenizer.encode(prompt) if prompt or not ids else []
    ends = frozenset(() if tokenizer.eos_id in (None, start) else (tokenizer.eos_id,))
    settings = SamplingSettings(
        max_new_tokens=_TOKENS, seed=step, stop_ids=ends, vocabulary=tokenizer.vocab_size
    )
    model.eval()
    new = generate(model, [ids], settings)[0][len(ids) :]
    model.train()
    decoder = StreamDecoder(tokenizer, after=ids)
    text = "".join(map(decoder.push, new)) + decoder.flush()
    return Sample(text, prompt=prompt, step=step, token_ids=new)
