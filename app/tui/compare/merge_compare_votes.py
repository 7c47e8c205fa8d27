"""How standings and votes read."""

from collections.abc import Sequence

import msgspec
from textual.content import Content

from app.tui.widgets.meter import columns
from app.tui.widgets.text import MUTED, block, joined, plain
from pipeline.benchmark.votes import Standing, Vote
from pipeline.runs.folders import short_name
from utils.units import ago

_BAR = 20  # cells of the picture of an interval


def heading(width: int) -> Content:
    """The names of the columns of `standing`."""
    names = ["model", "won of", "share", "95 % interval", ""]
    return _fitted([plain(name, MUTED) for name in names], width)


def standing(one: Standing, width: int) -> Content:
    """A line: wins, votes, the share, and its interval in figures and as a picture."""
    cells = [
        plain(one.model),
        plain(f"{one.wins} / {one.votes}"),
        plain(f"{one.share:.0%}", "bold"),
        plain(f"{one.low:.0%} - {one.high:.0%}", MUTED),
        interval(one),
    ]
    return _fitted(cells, width)


def interval(one: Standing) -> Content:
    """From 0 to 1: where the true share lies, `●` is the share itself."""
    low, high = (round(bound * (_BAR - 1)) for bound in (one.low, one.high))
    at = min(max(round(one.share * (_BAR - 1)), low), high)
    return joined(
        ("·" * low, MUTED),
        ("─" * (at - low), "$accent"),
        ("●", "bold $accent"),
        ("─" * (high - at), "$accent"),
        ("·" * (_BAR - 1 - high), MUTED),
    )


def _fitted(cells: list[Content], width: int) -> Content:
    rest = [-9, -6, -13, _BAR][: 4 if width >= 90 else 3]
    return columns(cells[: len(rest) + 1], [width - sum(2 + abs(w) for w in rest), *rest])


def line(vote: Vote, now: float, width: int) -> Content:
    """A vote: what won over what, for which prompt."""
    won = joined(("✔ ", "$success"), vote.winner) if vote.winner else plain("none better", MUTED)
    beaten = ", ".join(model for model in vote.models if model != vote.winner)
    cells = [
        won,
        plain(f"over {beaten}" if vote.winner else beaten, MUTED),
        plain(vote.prompt),
        plain("blind" if vote.blind else "open", MUTED),
        plain(ago(max(0.0, now - vote.time)), MUTED),
    ]
    room = width - 5 - 10 - 8
    return columns(cells, [room // 3, room // 3, room - 2 * (room // 3), 5, -10])


def about(vote: Vote) -> Content:
    """The whole prompt, and the settings."""
    named = [f"{name} {value}" for name, value in vote.sampling.items() if value not in ([], None)]
    if vote.seed is not None:
        named.append(f"seed {vote.seed}")
    if vote.chat:
        named.insert(0, "chat")
    prompt = joined(("Prompt ", MUTED), block(vote.prompt))
    return Content("\n").join([prompt, plain(" · ".join(named), MUTED)])


def shortened(votes: Sequence[Vote]) -> list[Vote]:
    """The votes with the runs in them called as they were named, where that is enough."""
    full = {model for vote in votes for model in vote.models}
    short = [short_name(model) for model in full]
    names = {m: s if short.count(s) == 1 else m for m, s in zip(full, short, strict=True)}
    return [
        msgspec.structs.replace(
            vote,
            models=tuple(names[model] for model in vote.models),
            winner=names.get(vote.winner or ""),
        )
        for vote in votes
    ]
