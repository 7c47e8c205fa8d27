"""Requests of the OpenAI protocol: which fields there are and what they mean.

No field is passed over that would change the text: `fields` has those that are refused by name and
those that are harmless.
"""

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import from_json

from model.generation.sampling import SamplingSettings
from pipeline.server.engine.fields import refuse_other_fields
from pipeline.server.errors import bad_request

_SEED_RANGE = 2**63
_MOST_STOPS, _MOST_MESSAGES, _MOST_BIASES = 16, 1000, 300
_ID = re.compile("0|[1-9][0-9]{0,8}")


class StreamOptions(BaseModel):
    """What a stream ends with."""

    model_config = ConfigDict(strict=True)
    include_usage: bool = False


class ApiRequest(BaseModel):
    """What both kinds of request have; defaults are those of the protocol."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)
    model: str | None = Field(None, max_length=1000)
    max_tokens: int | None = Field(None, ge=0)
    temperature: float = Field(1.0, ge=0, le=100)
    top_p: float = Field(1.0, ge=0, le=1)
    top_k: int = Field(0, ge=-1)
    min_p: float = Field(0.0, ge=0, le=1)
    repetition_penalty: float = Field(1.0, gt=0, le=10)
    presence_penalty: float = Field(0.0, ge=-2, le=2)
    frequency_penalty: float = Field(0.0, ge=-2, le=2)
    logit_bias: dict[int, Annotated[float, Field(ge=-100, le=100)]] = Field(
        {}, max_length=_MOST_BIASES
    )
    stop: list[str] = Field([], max_length=_MOST_STOPS)
    stop_token_ids: list[Annotated[int, Field(ge=0)]] = Field([], max_length=_MOST_BIASES)
    ignore_eos: bool = False
    seed: int | None = Field(None, ge=-_SEED_RANGE, lt=_SEED_RANGE)
    n: int = Field(1, ge=1)
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()

    @field_validator("stop", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("logit_bias", mode="before")
    @classmethod
    def _by_id(cls, value: Any) -> Any:
        """JSON has texts as keys."""
        if isinstance(value, dict) and not all(map(_ID.fullmatch, value)):
            raise ValueError('its keys are token ids, such as "42"')
        return {int(i): bias for i, bias in value.items()} if isinstance(value, dict) else value

    @property
    def alternatives(self) -> int | None:
        """Likeliest tokens to name beside each; None where no log-probabilities are asked for."""
        raise NotImplementedError

    def settings(self, index: int, stop_ids: frozenset[int], vocabulary: int) -> SamplingSettings:
        """How the text `index` of a prompt is drawn: with the seed + index."""
        seed = None if self.seed is None else (self.seed + index) % _SEED_RANGE
        return SamplingSettings(
            temperature=self.temperature,
            # -1: all of them, as other servers have it. A top_p of 0 leaves the likeliest one.
            top_k=max(0, self.top_k) if self.top_p else 1,
            top_p=self.top_p if 0 < self.top_p < 1 else None,
            min_p=self.min_p or None,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=tuple(self.logit_bias.items()),
            seed=seed,
            stop_ids=(frozenset() if self.ignore_eos else stop_ids) | {*self.stop_token_ids},
            vocabulary=vocabulary,
            alternatives=self.alternatives or 0,
        )


class CompletionRequest(ApiRequest):
    """`/v1/completions`. A prompt is text or ids; without one a new document begins."""

    prompt: list[str | list[int]] = Field([""], min_length=1)
    echo: bool = False
    add_special_tokens: bool = True  # whether what begins a text may stand before one
    logprobs: int | None = Field(None, ge=0, le=20)

    @field_validator("prompt", mode="before")
    @classmethod
    def _prompts(cls, value: Any) -> list[Any]:
        if isinstance(value, str):
            return [value]
        if isinstance(value, list) and value:
            if all(type(item) is int for item in value):
                return [value]
            if all(isinstance(item, str) for item in value):
                return value
            lists = all(isinstance(item, list) and item for item in value)
            if lists and all(type(i) is int for item in value for i in item):
                return value
        raise ValueError("a prompt is a text, token ids, or a list of texts or of lists of ids")

    @property
    def alternatives(self) -> int | None:
        return self.logprobs

    @property
    def scored(self) -> bool:
        """Whether the tokens of the prompts get log-probabilities too: `logprobs` begin with them,
        as the text does with its prompt. The first has none (null), unless a BOS of ours stands
        before it; see `pipeline.server.engine.service`."""
        return self.echo and self.logprobs is not None


class Message(BaseModel):
    """One turn of a conversation. Content may come in parts, all of them text."""

    model_config = ConfigDict(strict=True, frozen=True)
    role: Literal["system", "user", "assistant"]
    content: str

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        """An answer that was none may have no content; one that calls tools is not understood."""
        if not isinstance(value, dict):
            return value
        for name in ("tool_calls", "function_call", "tool_call_id", "prefix", "reasoning_content"):
            if value.get(name):
                raise ValueError(f"{name} is not supported here")
        if value.get("role") == "assistant" and value.get("content") is None:
            return value | {"content": ""}
        return value

    @field_validator("role", mode="before")
    @classmethod
    def _role(cls, value: Any) -> Any:
        return "system" if value == "developer" else value

    @field_validator("content", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        parts = [part for part in value if isinstance(part, dict) and part.get("type") == "text"]
        texts = [part["text"] for part in parts if isinstance(part.get("text"), str)]
        if len(texts) != len(value):
            raise ValueError('parts are {"type": "text", "text": "..."}: this model reads text')
        return "".join(texts)


class ChatRequest(ApiRequest):
    """`/v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1, max_length=_MOST_MESSAGES)
    max_completion_tokens: int | None = Field(None, ge=0)
    add_generation_prompt: bool = True
    chat_template_kwargs: dict[str, Any] = {}
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)

    @property
    def alternatives(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


class ModelRequest(BaseModel):
    """The model that is to be loaded or unloaded."""

    model_config = ConfigDict(strict=True, frozen=True)
    model: str = Field(max_length=1000)


_PATHS: dict[type[BaseModel], str] = {
    CompletionRequest: "/v1/completions",
    ChatRequest: "/v1/chat/completions",
}
R = TypeVar("R", bound=BaseModel)


def parse(kind: type[R], body: bytes) -> R:
    """The request in `body`.

    Raises:
        ApiError: not a JSON object, a field that is wrong, misspelt or not done here; names it.
    """
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise bad_request(f"The body is not JSON: {error}.", code="invalid_json") from None
    if not isinstance(value, dict):
        raise bad_request("The body is not a JSON object.", code="invalid_json")
    given = {name: item for name, item in value.items() if item is not None}
    if kind in _PATHS:
        others = {other: path for other, path in _PATHS.items() if other is not kind}
        elsewhere = {name: path for other, path in others.items() for name in other.model_fields}
        refuse_other_fields(given, kind.model_fields.keys(), elsewhere)
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        param = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        raise bad_request(f"{param}: {reason}.", param) from None
