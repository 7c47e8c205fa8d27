"""The prompts of a request as token ids, and how many new tokens may follow them."""

from collections.abc import Sequence

from pipeline.inference.stop_strings import token_offsets
from pipeline.options.config import ServeOptions
from pipeline.server.engine.model_cache import LoadedModel
from pipeline.server.engine.protocol import ChatRequest, CompletionRequest
from pipeline.server.engine.work_queue import Prompt
from pipeline.server.errors import bad_request, from_hatchery
from utils.errors import HatcheryError


def new_tokens(request: CompletionRequest | ChatRequest, options: ServeOptions) -> int:
    """New tokens of each text at most, before the model and its context are known.

    Raises:
        ApiError: 400, more tokens or more texts than this server writes for one request.
    """
    name, requested = "max_tokens", request.max_tokens
    if isinstance(request, ChatRequest) and request.max_completion_tokens is not None:
        name, requested = "max_completion_tokens", request.max_completion_tokens
    if requested is not None and requested > options.max_tokens:
        raise bad_request(f"{name} may be {options.max_tokens} at most.", name,
                          found=str(requested)[:40])  # fmt: skip
    texts = request.n * (len(request.prompt) if isinstance(request, CompletionRequest) else 1)
    if texts > options.max_n:
        raise bad_request(f"At most {options.max_n} texts are written for one request.", "n",
                          found=f"{texts}")  # fmt: skip
    return options.max_tokens if requested is None else requested


def encode(request: CompletionRequest | ChatRequest, loaded: LoadedModel) -> list[Prompt]:
    """Every prompt as ids; in a thread, for a prompt may be long.

    Ids are taken as they are. A text begins a document: the BOS before it is ours. So what an echo
    shows are the tokens of what was sent and nothing else, and the first of a text has a
    log-probability, that after BOS, where the first of some ids has none.

    Raises:
        ApiError: the tokenizer or its chat template cannot take it.
    """
    try:
        if isinstance(request, ChatRequest):
            return [Prompt(loaded.chat.encode(request.messages))]
        return [_prompt(prompt, request, loaded) for prompt in request.prompt]
    except HatcheryError as error:
        raise from_hatchery(error, code="invalid_prompt") from error


def new_tokens_that_fit(
    ids: Sequence[int], limit: int, context: int, request: CompletionRequest | ChatRequest
) -> int:
    """New tokens that fit behind a prompt, `limit` at most.

    Raises:
        ApiError: 400, the prompt alone fills the context.
    """
    if len(ids) + min(limit, 1) > context:
        raise bad_request(
            f"The prompt has {len(ids)} tokens, and this model's context holds {context}, the "
            "answer included.",
            "messages" if isinstance(request, ChatRequest) else "prompt",
            code="context_length_exceeded",
            remedy="shorten it",
        )
    return min(limit, context - len(ids))


def _prompt(sent: str | list[int], request: CompletionRequest, loaded: LoadedModel) -> Prompt:
    writer = loaded.queue.writer
    if isinstance(sent, str):
        prompt = Prompt(writer.prompt_ids(sent), added=int(writer.start is not None))
    else:
        _check(sent, writer.tokenizer.vocab_size)
        prompt = Prompt(sent)
    if request.echo:
        prompt.text = sent if isinstance(sent, str) else writer.tokenizer.decode(sent)
    if request.scored:
        before, own = prompt.ids[: prompt.added], prompt.ids[prompt.added :]
        prompt.offsets = token_offsets(writer.tokenizer, own, before)
    return prompt


def _check(prompt: list[int], size: int) -> None:
    if not 0 <= min(prompt) <= max(prompt) < size:
        raise bad_request(f"Token ids are from 0 to {size - 1}.", "prompt",
                          found=f"{min(prompt)} to {max(prompt)}"[:60])  # fmt: skip
