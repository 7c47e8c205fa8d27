"""How tokens are sampled, and how by default: the one place that the options of the stages,
`generate`, the page and the app read. Never imports torch, so that a form can read it too.
"""

from dataclasses import dataclass

from utils.errors import UsageError

DEFAULT_LENGTH = 200
"""Tokens of a text where nobody says how many."""


@dataclass(frozen=True)
class SamplingSettings:
    """How the next token is drawn, and when to end. None switches a limit off."""

    temperature: float = 0.8  # 0 takes the likeliest token
    top_k: int | None = 50  # only the k likeliest tokens; 0 means what None does: all of them
    top_p: float | None = 0.95  # only the likeliest tokens that together have this probability
    min_p: float | None = None  # only tokens at least this share as likely as the likeliest
    repetition_penalty: float = 1.0  # above 1 makes tokens that were there before less likely
    presence_penalty: float = 0.0  # taken from the logits of tokens drawn before
    frequency_penalty: float = 0.0  # the same, for each time that they were drawn
    logit_bias: tuple[tuple[int, float], ...] = ()  # ids of the vocabulary, what their logits gain
    seed: int | None = None
    max_new_tokens: int | None = None
    max_length: int | None = None  # prompt included
    stop_ids: frozenset[int] = frozenset()
    slide: bool = False  # go on when the context is full, with its newer half in sight
    vocabulary: int | None = None  # only ids below this: a padded head has more than the tokenizer
    counts_padding: bool = False  # log-probabilities over all rows of such a head, drawn or not
    alternatives: int = 0  # likeliest tokens to name beside the chosen one
    use_cache: bool = True

    def __post_init__(self) -> None:
        limits = (
            ("temperature", self.temperature >= 0, "at least 0"),
            ("top_k", self.top_k is None or self.top_k >= 0, "at least 0"),
            ("top_p", self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min_p", self.min_p is None or 0 <= self.min_p <= 1, "between 0 and 1"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("presence_penalty", -2 <= self.presence_penalty <= 2, "from -2 to 2"),
            ("frequency_penalty", -2 <= self.frequency_penalty <= 2, "from -2 to 2"),
            ("logit_bias", all(-100 <= b <= 100 for _, b in self.logit_bias), "from -100 to 100"),
            ("max_new_tokens", (self.max_new_tokens or 0) >= 0, "at least 0"),
            ("alternatives", self.alternatives >= 0, "at least 0"),
        )
        for name, holds, meaning in limits:
            if not holds:
                raise UsageError(f"{name} must be {meaning}.", found=str(getattr(self, name)))
        if self.top_k == 0:
            object.__setattr__(self, "top_k", None)

    @property
    def limited(self) -> bool:
        """Whether any token may be left out."""
        return self.top_k is not None or (self.top_p or 1) < 1 or (self.min_p or 0) > 0

    @property
    def counts_drawn(self) -> bool:
        """Whether a penalty counts how often tokens were drawn; as in OpenAI's API and vLLM, those
        of the prompt do not count."""
        return bool(self.presence_penalty or self.frequency_penalty)

    @property
    def sampled_alike(self) -> tuple[object, ...]:
        """What decides how a token is drawn: rows in which it is equal are drawn together."""
        limits = (self.temperature, self.top_k, self.top_p, self.min_p)
        penalties = (self.repetition_penalty, self.presence_penalty, self.frequency_penalty)
        return (*limits, *penalties, self.logit_bias, self.vocabulary, self.counts_padding,
                self.alternatives)  # fmt: skip
