"""What is asked of a model server, and what it offers and says, as plain data."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from model.generation.settings import DEFAULT_LENGTH, SamplingSettings

if TYPE_CHECKING:
    from pipeline.options.config import InferenceOptions


@dataclass(frozen=True)
class Model:
    """A model that a server offers; what the server does not say is None or empty.

    `val_loss` is nats per token, `context` tokens, `bytes` the memory of its weights; `chat` says
    that it was taught to answer, `loaded` that it is in memory already.
    """

    id: str
    run: str = ""
    step: int | None = None
    val_loss: float | None = None
    best: bool = False
    latest: bool = False
    parameters: int | None = None
    context: int | None = None
    bytes: int | None = None
    chat: bool = False
    loaded: bool = False


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; fields and defaults are those of the inference stage."""

    temperature: float = SamplingSettings.temperature
    top_k: int = SamplingSettings.top_k or 0
    top_p: float = SamplingSettings.top_p or 1.0
    min_p: float = SamplingSettings.min_p or 0.0
    repetition_penalty: float = SamplingSettings.repetition_penalty
    max_tokens: int = DEFAULT_LENGTH
    seed: int | None = SamplingSettings.seed
    stop: tuple[str, ...] = ()

    @classmethod
    def from_options(cls, options: "InferenceOptions") -> "Sampling":
        """The settings of the inference stage as a server takes them."""
        return cls(
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            min_p=options.min_p,
            repetition_penalty=options.repetition_penalty,
            max_tokens=options.max_length,
            seed=options.seed,
            stop=tuple(options.stop or ()),
        )


@dataclass(frozen=True)
class Request:
    """One question: a text to continue, or a conversation as messages of `role` and `content`."""

    model: str
    prompt: str | None = None
    messages: tuple[dict[str, str], ...] | None = None
    sampling: Sampling = field(default_factory=Sampling)
    logprobs: bool = False

    @property
    def path(self) -> str:
        """The route that answers it."""
        return "/v1/completions" if self.messages is None else "/v1/chat/completions"

    def body(self) -> dict[str, Any]:
        """The request as the protocol has it."""
        chosen = self.sampling
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": chosen.max_tokens,
            "temperature": chosen.temperature,
            "top_p": chosen.top_p,
            "top_k": chosen.top_k,
            "min_p": chosen.min_p,
            "repetition_penalty": chosen.repetition_penalty,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.messages is None:
            body["prompt"] = self.prompt or ""
        else:
            body["messages"] = list(self.messages)
        if chosen.seed is not None:
            body["seed"] = chosen.seed
        if chosen.stop:
            body["stop"] = list(chosen.stop)
        if self.logprobs:
            body["logprobs"] = 1 if self.messages is None else True
        return body


@dataclass(frozen=True)
class Piece:
    """A piece of an answer. `tokens` are (text, log-probability in nats), where the server gives
    them. The last piece has `finish` and `figures`: new_tokens, seconds, first_token_ms and
    tokens_per_second, measured here where the server does not say."""

    text: str
    tokens: tuple[tuple[str, float], ...] = ()
    finish: str | None = None
    figures: dict[str, float] | None = None
