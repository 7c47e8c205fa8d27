"""What the server counts, in Prometheus's terms; nothing of paths, prompts or names of users."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
_WAITS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, 60.0)


class Metrics:
    """The counters of one server. `requests` counts all answers, `written` all new tokens."""

    def __init__(self) -> None:
        self._registry = own = CollectorRegistry()
        self.answers = Counter(
            "hatchery_requests", "Requests answered", ["route", "code"], registry=own
        )
        self.prompt_tokens = Counter(
            "hatchery_prompt_tokens", "Tokens of prompts read", registry=own
        )
        self.new_tokens = Counter("hatchery_new_tokens", "Tokens written", registry=own)
        self.waiting = Gauge("hatchery_requests_waiting", "Requests waiting for a row",
                             registry=own)  # fmt: skip
        self.rows = Gauge("hatchery_rows", "Texts being written", registry=own)
        self.models = Gauge("hatchery_models_loaded", "Models in memory", registry=own)
        self.step_seconds = Histogram(
            "hatchery_step_seconds", "Time of one step of one model", buckets=_STEPS, registry=own
        )
        self.first_token_seconds = Histogram(
            "hatchery_first_token_seconds", "Time from a request to its first text",
            buckets=_WAITS, registry=own,
        )  # fmt: skip

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self._registry)

    def total(self, name: str) -> int:
        """The sum of one counter or gauge over all its labels."""
        found = 0.0
        for metric in self._registry.collect():
            found += sum(sample.value for sample in metric.samples if sample.name == name)
        return int(found)
