"""A round of a comparison as Markdown: all that is needed to have it again."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

from app.tui.compare.round import Answer, Round, Summary, settings, summary
from utils.errors import HatcheryError
from utils.files import write_file


def write_transcript(found: Round, folder: Path) -> Path:
    """Write the round into a file of its own, named after this moment.

    Raises:
        HatcheryError: it cannot be written.
    """
    now = time.localtime()
    path = folder / f"compare_{time.strftime('%Y_%m_%d_%H_%M_%S', now)}.md"
    text = transcript(found, time.strftime("%Y-%m-%d %H:%M", now))
    try:
        write_file(path, text.encode(errors="replace"))
    except OSError as error:
        raise HatcheryError(f"{path} could not be written: {error.strerror}.") from error
    return path


def transcript(found: Round, when: str) -> str:
    """The round as Markdown: settings, seed, every text whole, figures, and the vote."""
    return "\n".join(_transcript(found, when)) + "\n"


def _transcript(found: Round, when: str) -> Iterator[str]:
    how = "answered as a chat" if found.chat else "continued"
    yield f"# Comparison of {len(found.answers)} models"
    yield f"\n{when}, {how}, the same settings and seed for all.\n"
    for name, value in (settings(found.sampling) | {"seed": found.sampling.seed}).items():
        if value not in ([], None):
            yield f"- {name}: {value}"
    yield f"\n## Prompt\n\n{_fenced(found.prompt)}"
    best = summary(found.answers)
    for answer, name in zip(found.answers, found.names(), strict=True):
        chosen = " (preferred)" if answer is found.winner else ""
        yield f"\n## {_heading(name)}{chosen}\n"
        if not found.hidden:
            yield f"{_code(answer.candidate.name)}  "
            yield _figures(answer, best) + "\n"
        if answer.error is not None:
            yield _fenced(str(answer.error)) + "\n"
        yield _fenced(answer.text)
    if found.decided:
        yield f"\n{'Blind' if found.blind else 'Open'} vote: " + (
            _code(found.winner.candidate.name) if found.winner else "no answer is better"
        )


def _figures(answer: Answer, best: Summary) -> str:
    parts = [f"{_whole(answer, 'new_tokens')} tokens"]
    for name, unit in (("tokens_per_second", "tokens/s"), ("seconds", "s")):
        if name in answer.figures:
            parts.append(f"{answer.figures[name]:.2f} {unit}")
    if "first_token_ms" in answer.figures:
        parts.append(f"first token after {answer.figures['first_token_ms']:.0f} ms")
    parts.append({"stop": "ended by itself", "length": "full length"}.get(
        answer.finish, answer.finish or answer.state))  # fmt: skip
    notes = {"fastest": "highest speed", "quickest": "first to finish", "longest": "most tokens"}
    parts += [text for name, text in notes.items() if getattr(best, name) is answer]
    return ", ".join(parts)


def _whole(answer: Answer, figure: str) -> str:
    return f"{answer.figures[figure]:,.0f}" if figure in answer.figures else "?"


def _heading(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>#])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    fence = "`" * (_longest_run(text) + 1)
    return f"{fence}{' '.join(text.split())}{fence}"


def _fenced(text: str) -> str:
    """A block that no text can close."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}text\n{text}\n{fence}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
