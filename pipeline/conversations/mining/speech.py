"""Speech in stories: paragraphs in quotation marks or behind a dash that follow each other.

Who speaks is not said in a form that a rule could read, so neighbouring paragraphs alternate
between user and assistant, as people do who talk to each other. What the narrator puts between the
parts of a speech ("he said") is left out where marks tell it from the speech.
"""

import re
from collections.abc import Iterable, Iterator

from pipeline.conversations.mining.blocks import Block, Parsed
from pipeline.conversations.mining.candidate import Candidate, Taken
from pipeline.conversations.mining.dialogue import (
    Utterance,
    alternating,
    conversation,
)

_CLOSING = {
    "“": "”",
    "„": "“”",
    "«": "»",
    "»": "«",
    '"': '"',
    "「": "」",
    "『": "』",
    "‹": "›",
    "›": "‹",
    "‘": "’",
}
_OPENING = re.compile(r"[“„«»\"「『‹›]|(?<!\w)‘")
_DASH = re.compile(r"[—–―]\s?")
_NARRATED_RUSSIAN = re.compile(r"(?<=[,.!?…])\s?[—–―]\s")
_NARRATED_SPANISH = re.compile(r"\s[—–―](?=\w)[^—–―]*(?:[—–―](?=[\s.,;:])|$)")
_FULL_WIDTH = "，。！？、；：…"  # no blank follows them
_LONGEST = 3000  # characters of a paragraph that is looked into
_SHARE, _SHARE_BEGUN = 0.5, 0.3  # of a paragraph that must be speech, less where it begins so
_FEWEST = 4  # paragraphs of speech in runs; fewer are quotations in an article


def speech(parsed: Parsed, taken: Taken) -> Iterator[Candidate]:
    """Paragraphs of speech that follow each other directly, where somebody asks something."""
    runs = [run for run in _runs(parsed, taken) if len(run) > 1]
    spoken = [one for run in runs for one in run]
    asks = any("?" in one.text or "？" in one.text for one in spoken)
    if len(spoken) < _FEWEST or not asks:
        return
    for run in runs:
        for part in alternating(run):
            yield conversation("speech", part)


def _runs(parsed: Parsed, taken: Taken) -> Iterator[list[Utterance]]:
    run: list[Utterance] = []
    open_quote = False
    for place, block in enumerate(parsed.blocks):
        spoken = None
        if not taken[place] and block.kind == "paragraph" and len(block.text) <= _LONGEST:
            spoken = _spoken(block)
        if spoken is None:
            yield run
            run, open_quote = [], False
            continue
        text, goes_on = spoken
        if open_quote and run:  # the same speaker goes on in another paragraph
            last = run.pop()
            run.append(last._replace(text=f"{last.text}\n\n{text}"))
        else:
            run.append(Utterance("", text, block.offset, place))
        open_quote = goes_on
    yield run


def _spoken(block: Block) -> tuple[str, bool] | None:
    """What is said in a paragraph, and whether the quotation goes on in the next; None where it
    is no speech."""
    text = " ".join(line.text.strip() for line in block.lines)
    if found := _DASH.match(text):
        said = _without_narrator(text[found.end() :])
        return (said, False) if said else None
    first = _OPENING.search(text)
    if first is None:
        return None
    parts, goes_on = _quoted(text, first.start(), first[0])
    inside = sum(map(len, parts))
    begins = first.start() == 0
    if not parts or inside < (_SHARE_BEGUN if begins else _SHARE) * len(text):
        return None
    said = _joined(parts)
    return (said, goes_on) if said else None


def _quoted(text: str, start: int, mark: str) -> tuple[list[str], bool]:
    """The parts of a text between quotation marks of the kind of the first, and whether the last
    one is never closed."""
    closing = re.compile(r"’(?!\w)" if mark == "‘" else f"[{_CLOSING[mark]}]")
    parts = []
    while start >= 0:
        end = closing.search(text, start + 1)
        if end is None:
            parts.append(text[start + 1 :].strip())
            return parts, True
        parts.append(text[start + 1 : end.start()].strip())
        start = text.find(mark, end.end())
    return parts, False


def _without_narrator(text: str) -> str:
    """Speech behind a dash: in Russian every second part between dashes is the narrator's, in
    Spanish what stands between a dash that opens and one that closes."""
    if _NARRATED_SPANISH.search(text):
        said = _NARRATED_SPANISH.sub("", text)
    else:
        said = _joined(_NARRATED_RUSSIAN.split(text)[::2])
    return _joined([said])


def _joined(parts: Iterable[str]) -> str:
    """Parts of a speech as one text: the comma before the narrator becomes a full stop where the
    next part is a new sentence, and one is set where German puts it behind the quotation."""
    said = ""
    for part in filter(None, (" ".join(part.split()) for part in parts)):
        if said:
            said = _led(said) if part[0].islower() else _ended(said)
            said += part if said[-1] in _FULL_WIDTH else f" {part}"
        else:
            said = part
    return _ended(said) if said else ""


def _ended(said: str) -> str:
    """A sentence that ends as one; scripts without capitals keep what they have."""
    if said.endswith((",", ";")):
        return said[:-1] + "."
    return said + "." if said[-1].isalnum() and (said[-1].lower() != said[-1].upper()) else said


def _led(said: str) -> str:
    return said + "," if said[-1].isalnum() else said
