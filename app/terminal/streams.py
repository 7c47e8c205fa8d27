"""Texts that models write at the same time, printed one after the other, the first one live."""

from dataclasses import dataclass

from rich.style import Style
from rich.text import Text

from app.terminal.layout import Console
from pipeline.events import Delta, Sample
from utils.text import safe

_PROMPT_SHOWN = 2000  # characters of a long prompt's end that a terminal shows
_DIM = Style(dim=True)
_ENDS = {"stop": "the model ended it", "length": "full length", "interrupted": "interrupted"}


@dataclass
class _TextState:
    """One text: what of it is not printed yet, and its end when that is known."""

    prompt: str = ""
    waiting: str = ""
    printed: bool = False
    last: str = ""
    end: Sample | None = None


class Streams:
    """Prompt and text go to stdout, statistics to stderr.

    With `headings` every text has one: set it where there will be several.
    """

    def __init__(self, out: Console, notes: Console) -> None:
        self._out, self._notes = out, notes
        self._texts: dict[tuple[str, int], _TextState] = {}
        self.headings = False

    def take(self, event: Delta | Sample) -> None:
        """A piece of a text, or its end."""
        text = self._texts.setdefault((event.source, event.index), _TextState())
        text.prompt = text.prompt or event.prompt
        if isinstance(event, Delta):
            text.waiting += event.text
        else:
            if not text.printed and not text.waiting:
                text.waiting = event.text
            text.end = event
        self._print()

    def break_off(self) -> None:
        """Something else is about to be printed: end the line; texts not complete are given up."""
        if any(text.printed for text in self._texts.values()):
            self._out.print()
        self._texts.clear()

    def _print(self) -> None:
        for key, text in list(self._texts.items()):
            if not text.printed:
                self._begin(key, text)
            self._write(text, text.waiting)
            text.waiting = ""
            if text.end is None:
                return
            if text.last != "\n":
                self._out.print()
            if text.end.statistics:
                line = statistics_line(text.end, self._notes.sign("·"))
                self._notes.say(f"  {line}", "dim")
            del self._texts[key]

    def _begin(self, key: tuple[str, int], text: _TextState) -> None:
        if self.headings:
            source, index = key
            parts = [part for part in (source, f"sample {index + 1}") if part]
            dot = f" {self._out.sign('·')} "
            heading = f"== {dot.join(parts)} =="
            self._out.print(Text(safe(heading, lines=False), "bold"), soft_wrap=True)
        prompt = text.prompt
        if self._out.is_terminal and len(prompt) > _PROMPT_SHOWN:
            prompt = f"{self._out.sign('…')}{prompt[-_PROMPT_SHOWN:]}"
        self._write(text, prompt, _DIM)
        text.printed = True

    def _write(self, text: _TextState, piece: str, style: Style | None = None) -> None:
        if piece:
            shown = safe(piece)
            if style is not None and self._out.lively:
                shown = style.render(shown)
            self._out.file.write(shown)  # print would turn tabs into spaces
            self._out.file.flush()
            text.last = piece[-1]


def statistics_line(sample: Sample, dot: str) -> str:
    """'48 tokens in 0.61 s · 79 tokens/s · first after 14 ms · ... · seed 5 · full length'."""
    facts = sample.statistics
    parts = []
    if "new_tokens" in facts and "seconds" in facts:
        parts.append(f"{facts['new_tokens']} tokens in {_number(facts['seconds'])} s")
    for name, before, after in (
        ("tokens_per_second", "", " tokens/s"),
        ("first_token_ms", "first after ", " ms"),
        ("prompt_tokens", "prompt ", " tokens"),
        ("perplexity", "perplexity ", ""),
        ("seed", "seed ", ""),
    ):
        if name in facts:
            parts.append(f"{before}{_number(facts[name])}{after}")
    if "finish" in facts:
        parts.append(_ENDS.get(str(facts["finish"]), str(facts["finish"])))
    return f" {dot} ".join(parts)


def _number(value: float | str | None) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return str(value)
