"""Documents, tokens and windows as text on the screen. Knows no widgets."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from textual.content import Content

from app.tui.widgets.meter import columns, fitted
from app.tui.widgets.text import MUTED, block, joined, plain
from utils.units import human_count

if TYPE_CHECKING:  # NumPy and the cleaner, 0.2 s, are loaded where they work
    from pipeline.cleaner.steps import Rejection
    from pipeline.conversations.example_set import ExampleMetadata
    from pipeline.inspection.conversations import InspectedItem
    from pipeline.inspection.documents import InspectedDocument
    from pipeline.inspection.tokens import Tokens
    from pipeline.inspection.trace import Mark, Use
    from pipeline.inspection.windows import Window
    from pipeline.sources.documents import Document

PART = 8000
"""Characters of a document shown at a time."""

_HUES = ("$error", "$secondary", "$warning", "$success", "$accent")
_LOWERED = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_VISIBLE = str.maketrans({" ": "·", "\n": "⏎\n", "\t": "→   ", "\u00a0": "⍽"})


def hues(uses: "Sequence[Use]") -> dict[str, str]:
    """A colour for each rule, in the order of the list."""
    return {use.rule: _HUES[number % len(_HUES)] for number, use in enumerate(uses)}


def parts(raw: str) -> list[tuple[int, int]]:
    """Where a long document is cut for showing: at a line end where there is one near."""
    found, begin = [], 0
    while len(raw) - begin > PART:
        end = raw.rfind("\n", begin + PART // 2, begin + PART) + 1 or begin + PART
        found.append((begin, end))
        begin = end
    return [*found, (begin, len(raw))]


def raw_text(
    look: "InspectedDocument", span: tuple[int, int], colours: Mapping[str, str]
) -> Content:
    """A part of the raw text; what was removed is struck through in its rule's colour, blanks in
    it made visible."""
    pieces = []
    for begin, end, rule in _painted(look.marks, *span):
        text = look.raw[begin:end]
        if rule is None:
            pieces.append(block(text))
        else:
            shown = text if text.strip() else text.translate(_VISIBLE)
            pieces.append(block(shown, f"{colours[rule]} strike"))
    return Content("").join(pieces)


def _painted(
    marks: "Sequence[Mark]", begin: int, end: int
) -> Iterator[tuple[int, int, str | None]]:
    """[begin, end) in runs of one rule or none; of rules on the same character the later counts."""
    owner: list[str | None] = [None] * (end - begin)
    for mark in marks:
        low, high = max(mark.start, begin), min(mark.end, end)
        if low < high:
            owner[low - begin : high - begin] = [mark.rule] * (high - low)
    at = 0
    while at < len(owner):
        last = at
        while last < len(owner) and owner[last] == owner[at]:
            last += 1
        yield begin + at, begin + last, owner[at]
        at = last


def clean_text(look: "InspectedDocument", span: tuple[int, int]) -> Content:
    """What became of a part of the raw text."""
    begin, end = (int(n) for n in look.origin.searchsorted(span))
    end = len(look.text) if span[1] >= len(look.raw) else end
    return block(look.text[begin:end].strip("\n"))


def uses_lines(uses: "Sequence[Use]", width: int) -> Content:
    """What each rule did: its name, how often, how many characters, and the first of it."""
    colours = hues(uses)
    widths = [1, 20, -6, -10, max(10, width - 45)]
    names = ("", "rule", "places", "characters", "first of them")
    lines = [columns([plain(name, MUTED) for name in names], widths)]
    for use in uses:
        cells = [
            plain("■", colours[use.rule]),
            plain(use.rule.replace("_", " "), colours[use.rule]),
            plain(f"{use.places:,}"),
            plain(f"{use.characters:,}"),
            fitted(_excerpt(use.excerpt), widths[-1], MUTED),
        ]
        lines.append(columns(cells, widths))
    return Content("\n").join(lines) if uses else plain("No rule found anything to remove.", MUTED)


def _excerpt(text: str) -> str:
    return " ".join(text.split()) if text.strip() else text.translate(_VISIBLE).replace("\n", "")


def tokens_text(tokens: "Tokens", *, ids: bool, blanks: bool) -> Content:
    """Tokens one after the other: every other one is underlined and on a ground of its own, so
    that borders show without colour too; `ids` are put behind each, `blanks` made visible."""
    if tokens.fault:
        return block(tokens.fault, "$warning")
    pieces = []
    for number, (text, i) in enumerate(tokens.pieces):
        style = "underline on $accent 18%" if number % 2 else "on $secondary 14%"
        shown = text.translate(_VISIBLE) if blanks else text
        body = shown.rstrip("\n")
        pieces.append(block(body, style))
        if ids:
            pieces.append(plain(f"{str(i).translate(_LOWERED)} ", MUTED))
        pieces.append(block(shown[len(body) :]))
    if len(tokens.pieces) < tokens.tokens:
        pieces.append(plain(f" … {tokens.tokens - len(tokens.pieces):,} more", MUTED))
    return Content("").join(pieces)


def tokens_sums(tokens: "Tokens") -> Content:
    """How many tokens, and how well the text is packed."""
    if tokens.fault:
        return plain("cannot be read", "$warning")
    return joined(
        (f"{tokens.tokens:,}", "bold"), (" tokens · ", MUTED),
        (f"{tokens.bytes_per_token:.2f}", "bold"),
        (f" bytes per token · {human_count(tokens.vocab_size)} ids", MUTED),
    )  # fmt: skip


def window_text(window: "Window", titles: "Mapping[int, Document]") -> Content:
    """A window with a line before each document in it."""
    pieces: list[Content] = []
    for excerpt in window.excerpts:
        title = titles[excerpt.row].title if excerpt.row in titles else ""
        whole = excerpt.begin == 0 and excerpt.end == excerpt.tokens
        span = f"all {excerpt.tokens:,} tokens" if whole else (
            f"tokens {excerpt.begin:,} to {excerpt.end:,} of {excerpt.tokens:,}"
        )  # fmt: skip
        name = f"document {excerpt.row:,}" + (f" · {title}" if title else "")
        pieces.append(joined(("━━ ", "$accent"), (name, "bold $accent"), (f" · {span} ", MUTED),
                             ("━━", "$accent")))  # fmt: skip
        pieces.append(block(excerpt.text))
    return Content("\n").join(pieces)


def set_facts(name: str, about: "ExampleMetadata") -> Content:
    """What a set of examples is, what is learned of it, and what was left out."""
    kinds = "pairs of answers" if about.kind == "preferences" else "conversations"
    share = about.learned_tokens / about.tokens
    facts = (
        f"  {about.kept:,} {kinds} · {human_count(about.tokens)} tokens, {share:.0%} of them "
        f"learned · {len(about.held_out):,} held out · tokenizer {about.tokenizer.name}"
    )
    lines = [joined((name, "bold"), (facts, MUTED))]
    if about.rules:
        rules = " · ".join(f"{rule} {count:,}" for rule, count in about.rules.items())
        lines.append(plain(f"by rule: {rules}", MUTED))
    if about.rejected:
        reasons = " · ".join(f"{_named(name)} {n:,}" for name, n in about.rejected.items())
        lines.append(joined(("left out: ", MUTED), reasons, ("  v shows them", MUTED)))
    return Content("\n").join(lines)


def conversation_text(item: "InspectedItem") -> Content:
    """What a model reads, with a line before each stretch that says whether it is learned; what
    is learned is underlined."""
    share = f"{item.turns} turns · {item.tokens:,} tokens, {item.learned:,} learned"
    lines = [plain(f"{share} · from {item.where}", MUTED)]
    for name, stretches in item.examples:
        if name:
            sign = "✓" if name == "chosen" else "✕"
            lines.append(joined((f"\n{sign} {name}", "bold")))
        for part in stretches:
            what = "learned" if part.learned else "read"
            lines.append(
                joined(
                    ("━━ ", "$success" if part.learned else MUTED),
                    (what, "bold $success" if part.learned else MUTED),
                    (f" · {part.tokens:,} token{'s' * (part.tokens != 1)} ", MUTED),
                    ("━━", "$success" if part.learned else MUTED),
                )
            )
            lines.append(block(part.text, "underline" if part.learned else MUTED))
    return Content("\n").join(lines)


def left_out_text(one: "Rejection", row: str) -> Content:
    """Why something is not in a set, and what it was."""
    lines = [joined(("✕ ", "$error"), (_named(one.reason), "bold $error"))]
    lines += [block(one.detail)] if one.detail else []
    if row:
        more = len(row) - PART
        lines += [plain(""), block(row[:PART])]
        lines += [plain(f"… {more:,} more characters", MUTED)] if more > 0 else []
    return Content("\n").join(lines)


def _named(reason: str) -> str:
    return reason.replace("_", " ")
