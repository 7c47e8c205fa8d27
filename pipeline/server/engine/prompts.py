"""What was asked for, measured: prompts as ids, and how many new tokens may follow them."""

from collections.abc import Sequence

from pipeline.inference.stop_strings import starts_of
from pipeline.options.config import ServeOptions
from pipeline.server.engine.model_cache import Loaded
from pipeline.server.engine.protocol import Chat, Completion
from pipeline.server.engine.work_queue import Prompt
from pipeline.server.errors import bad_request, from_hatchery
from utils.errors import HatcheryError


def new_tokens(asked: Completion | Chat, options: ServeOptions) -> int:
    """New tokens of each text at most, before the model and its context are known.

    Raises:
        ApiError: 400, more tokens or more texts than this server writes for one request.
    """
    name, wanted = "max_tokens", asked.max_tokens
    if isinstance(asked, Chat) and asked.max_completion_tokens is not None:
        name, wanted = "max_completion_tokens", asked.max_completion_tokens
    if wanted is not None and wanted > options.max_tokens:
        raise bad_request(f"{name} may be {options.max_tokens} at most.", name,
                          found=str(wanted)[:40])  # fmt: skip
    texts = asked.n * (len(asked.prompt) if isinstance(asked, Completion) else 1)
    if texts > options.max_n:
        raise bad_request(f"At most {options.max_n} texts are written for one request.", "n",
                          found=f"{texts}")  # fmt: skip
    return options.max_tokens if wanted is None else wanted


def encode(asked: Completion | Chat, loaded: Loaded) -> list[Prompt]:
    """Every prompt as ids; in a thread, for a prompt may be long.

    Ids are taken as they are. A text begins a document: the BOS before it is ours. So what an echo
    shows are the tokens of what was sent and nothing else, and the first of a text has a
    log-probability, that after BOS, where the first of some ids has none.

    Raises:
        ApiError: the tokenizer or its chat template cannot take it.
    """
    try:
        if isinstance(asked, Chat):
            return [Prompt(loaded.chat.encode(asked.messages))]
        return [_prompt(prompt, asked, loaded) for prompt in asked.prompt]
    except HatcheryError as error:
        raise from_hatchery(error, code="invalid_prompt") from error


def new_tokens_after(ids: Sequence[int], limit: int, context: int, asked: Completion | Chat) -> int:
    """New tokens that fit behind a prompt, `limit` at most.

    Raises:
        ApiError: 400, the prompt alone fills the context.
    """
    if len(ids) + min(limit, 1) > context:
        raise bad_request(
            f"The prompt has {len(ids)} tokens, and this model's context holds {context}, the "
            "answer included.",
            "messages" if isinstance(asked, Chat) else "prompt",
            code="context_length_exceeded",
            remedy="shorten it",
        )
    return min(limit, context - len(ids))


def _prompt(sent: str | list[int], asked: Completion, loaded: Loaded) -> Prompt:
    writer = loaded.desk.writer
    if isinstance(sent, str):
        prompt = Prompt(writer.prompt_ids(sent), added=int(writer.start is not None))
    else:
        _check(sent, writer.tokenizer.vocab_size)
        prompt = Prompt(sent)
    if asked.echo:
        prompt.text = sent if isinstance(sent, str) else writer.tokenizer.decode(sent)
    if asked.scored:
        before, own = prompt.ids[: prompt.added], prompt.ids[prompt.added :]
        prompt.starts = starts_of(writer.tokenizer, own, before)
    return prompt


def _check(prompt: list[int], size: int) -> None:
    if not 0 <= min(prompt) <= max(prompt) < size:
        raise bad_request(f"Token ids are from 0 to {size - 1}.", "prompt",
                          found=f"{min(prompt)} to {max(prompt)}"[:60])  # fmt: skip
