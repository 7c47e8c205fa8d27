"""Votes between answers of models to one prompt, and what they say together.

One vote is one line of `votes.jsonl`; lines are only ever added. A share of few votes says little:
it is given with its Wilson interval, and a lead is called one only where a sign test says so.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipeline.evaluation.distributions import LEVEL, share_interval, sign_test
from pipeline.runs.results import BENCHMARKS
from utils.errors import HatcheryError
from utils.files import AppendLog, FolderLock

FOLDER, FILE = BENCHMARKS, "votes.jsonl"


class Vote(msgspec.Struct, frozen=True):
    """Which of `models` was preferred for `prompt`; `winner` is None where none was better.

    `texts` are SHA-256 of the answers, in the order of `models`, and `answers` what they say, which
    votes of older versions do not hold; `time` is seconds since 1970;
    `blind` says that the names were hidden and the order was shuffled, `chat` that the prompt was
    answered as a message and not continued.
    """

    prompt: str
    models: tuple[str, ...]
    texts: tuple[str, ...]
    winner: str | None
    sampling: dict[str, float | int | str | list[str] | None]
    seed: int | None
    blind: bool
    time: float
    chat: bool = False
    answers: tuple[str, ...] = ()


class Votes(NamedTuple):
    """Votes, oldest first, and how many lines of the file were none."""

    votes: tuple[Vote, ...]
    unreadable: int = 0


class Standing(NamedTuple):
    """A model's `wins` in the `votes` it stood in; the share of wins lies between `low` and `high`
    with probability `LEVEL`."""

    model: str
    wins: int
    votes: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.wins / self.votes


def text_hash(text: str) -> str:
    """SHA-256 of a text; lone surrogates, which UTF-8 cannot hold, count too."""
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def add(folder: Path, vote: Vote) -> Path:
    """Append `vote` to `folder`/votes.jsonl, durably; the file.

    Raises:
        RefusedError: another process is adding one at this moment.
        DiskFullError, HatcheryError: it cannot be written.
    """
    path = folder / FILE
    try:
        with FolderLock(folder):
            log = AppendLog(path)
            try:
                log.write(msgspec.json.encode(_encodable(vote)))
                os.fsync(log.fileno())
            finally:
                log.close()
    except OSError as error:
        raise HatcheryError(
            f"The vote could not be written to {path}.",
            found=error.strerror or str(error),
            remedy="make the folder writable, then vote again",
        ) from error
    return path


def _encodable(vote: Vote) -> Vote:
    """The vote without lone surrogates, which a prompt or a file name may hold."""

    def clean(text: str) -> str:
        return text.encode(errors="replace").decode()

    return msgspec.structs.replace(
        vote,
        prompt=clean(vote.prompt),
        models=tuple(map(clean, vote.models)),
        winner=None if vote.winner is None else clean(vote.winner),
        answers=tuple(map(clean, vote.answers)),
    )


def read(folder: Path) -> Votes:
    """All votes; a line that is none, torn or edited, is counted and passed over."""
    try:
        lines = (folder / FILE).read_bytes().split(b"\n")
    except OSError:
        return Votes(())
    found, unreadable = [], 0
    for line in filter(None, lines):
        try:
            found.append(msgspec.json.decode(line, type=Vote))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            unreadable += 1
    return Votes(tuple(found), unreadable)


def standings(votes: Iterable[Vote]) -> list[Standing]:
    """Every model that stood in a vote, the highest share first, then the most votes."""
    wins: dict[str, int] = {}
    stood: dict[str, int] = {}
    for vote in votes:
        for model in set(vote.models):
            stood[model] = stood.get(model, 0) + 1
            wins[model] = wins.get(model, 0) + (model == vote.winner)
    found = [Standing(m, wins[m], n, *share_interval(wins[m], n)) for m, n in stood.items()]
    return sorted(found, key=lambda s: (-s.share, -s.votes, s.model))


def verdict(votes: Sequence[Vote]) -> str:
    """In a sentence, whether the leader is better than the runner-up: by the votes in which both
    stood and one of them won."""
    ranked = standings(votes)
    if len(ranked) < 2:
        return ""
    first, second = ranked[0].model, ranked[1].model
    shared = [vote for vote in votes if first in vote.models and second in vote.models]
    wins = sum(vote.winner == first for vote in shared)
    losses = sum(vote.winner == second for vote in shared)
    if not shared:
        return f"{first} and {second} have not met in one vote."
    against = f"{wins} to {losses} in {_votes(len(shared))} with both"
    chance = sign_test(wins, losses)
    if chance > 1 - LEVEL or losses > wins:
        return (
            f"No significant difference between {first} and {second}: {against}; "
            f"equals split as unevenly in {chance:.0%} of cases."
        )
    return (
        f"{first} is preferred to {second}: {against}; equals split as unevenly in only "
        f"{chance:.1%} of cases."
    )


def _votes(count: int) -> str:
    return "1 vote" if count == 1 else f"{count} votes"
