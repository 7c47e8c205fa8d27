"""Judging a model that another program serves: likelihoods as /v1/completions gives them.

A text is sent whole and comes back with the log-probability of each of its tokens (`echo` with
`logprobs`, no new tokens), as tools that evaluate models have asked since the first OpenAI API. No
ids are known, so that what belongs to the continuation is told by where tokens begin in the text.
"""

import json
import math
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from threading import Event as StopSignal
from typing import Any

from model.generation.batch_scoring import Likelihood
from pipeline.evaluation.scoring import ItemScore, NoScoreError
from pipeline.evaluation.tasks.task import Item, Task
from utils.errors import NetworkError, RefusedError, UsageError

_TIMEOUT = 120.0  # seconds of an answer
_TOLERANCE = 1e-6  # nats; equal likelihoods are rounded by whoever writes them


class EndpointJudge:
    """A served model that is asked about items, as `Judge` asks one that is here.

    `url` is the server's address, with or without /v1; `model` its name there.

    Raises:
        UsageError: the address is none of http or https.
    """

    def __init__(self, url: str, model: str, key: str | None) -> None:
        if not url.startswith(("http://", "https://")):
            raise UsageError(
                f"{url} is no address of a server.",
                remedy="give one of http or https: --endpoint http://127.0.0.1:8000",
            )
        base = url.rstrip("/")
        self._url = f"{base if base.endswith('/v1') else f'{base}/v1'}/completions"
        self.name, self._model, self._key = f"{model} at {base}", model, key

    @property
    def recipe(self) -> dict[str, Any]:
        """How it was asked; what stands before a text is the server's choice."""
        return {"endpoint": self._url, "model": self._model, "bos": None, "window": None}

    def scores(
        self, task: Task, items: Sequence[Item], stop: StopSignal
    ) -> Iterator[tuple[int, ItemScore]]:
        """What every item adds to the task's metrics, with its index; ends early on `stop`.

        Raises:
            NetworkError: nobody answers.
            RefusedError: the server gives no log-probabilities of a prompt.
            NoScoreError: it gives what is no likelihood.
        """
        for index, item in enumerate(items):
            try:
                found = [self._likelihood(*request) for request in item.requests]
                yield index, ItemScore(task.ratios(item, found))
            except ValueError as error:
                yield index, ItemScore({}, str(error))
            if stop.is_set():
                return

    def _likelihood(self, context: str, continuation: str) -> Likelihood:
        """Of a continuation; white space before it belongs to it.

        Raises:
            ValueError: it has no token of its own.
        """
        logprobs = self._asked(context + continuation)
        begin = len(context.rstrip())
        places = zip(
            logprobs["text_offset"],
            logprobs["token_logprobs"],
            logprobs["top_logprobs"] or [None] * len(logprobs["text_offset"]),
            strict=True,
        )
        own = [(lp, top) for at, lp, top in places if at >= begin and lp is not None]
        if not own:
            raise ValueError("there is nothing to score: no token of its own")
        total = math.fsum(logprob for logprob, _ in own)
        if not math.isfinite(total):
            raise NoScoreError(f"{self.name} computes {total}: it has no score.")
        greedy = all(top and lp >= max(top.values()) - _TOLERANCE for lp, top in own)
        return Likelihood(total, len(own), greedy)

    def _asked(self, text: str) -> dict[str, Any]:
        """The log-probabilities of the tokens of a text.

        Raises:
            ValueError: the server refuses this text, as one longer than its context.
        """
        body = {"model": self._model, "prompt": text, "echo": True, "logprobs": 1}
        body |= {"max_tokens": 0, "temperature": 0}
        headers = {"Content-Type": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = json.dumps(body).encode()
        request = urllib.request.Request(self._url, data, headers)  # noqa: S310 - http, see above
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
                choice = json.loads(answer.read())["choices"][0]
            logprobs: dict[str, Any] = choice["logprobs"]
            echoed = choice["text"] == text and bool(logprobs["token_logprobs"])
        except urllib.error.HTTPError as error:
            said = error.read(500).decode(errors="replace")
            if error.code in (401, 403, 404):
                raise UsageError(
                    f"{self._url} refuses the request.",
                    found=f"{error.code}: {said}",
                    remedy="check --endpoint-model, and the key: --endpoint-key-env VARIABLE",
                ) from error
            if error.code in (400, 422) and "context" in said:
                raise ValueError("it does not fit into the context of the server") from error
            raise self._no_echo(f"{error.code}: {said}") from error
        except (OSError, ValueError) as error:
            raise NetworkError(
                f"No server of models answers at {self._url}.",
                found=str(error),
                remedy="start it, or mend the address: --endpoint http://127.0.0.1:8000",
            ) from error
        except (KeyError, IndexError, TypeError) as error:
            raise self._no_echo("an answer without them") from error
        if not echoed:
            raise self._no_echo("an answer without those of the prompt")
        return logprobs

    def _no_echo(self, found: str) -> RefusedError:
        return RefusedError(
            f"{self._url} gives no log-probabilities of a prompt: {self._model} cannot be judged.",
            found=found,
            remedy="judge it where it can be loaded, or serve it by a program that answers echo "
            "with logprobs",
        )
