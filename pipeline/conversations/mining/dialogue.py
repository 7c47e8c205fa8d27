"""Dialogue with names before the speech, as in plays, interviews, transcripts and chats.

Where one speaker says 40 % of a document or more, that is its main voice (of two, the one who asks
less): the answers are that speaker's, the line before each is the question, and what the others
say among themselves is left out. Without a main voice the speakers alternate between user and
assistant in their order.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from pipeline.conversations.mining.blocks import LONGEST_LINE, Line, Parsed, is_question
from pipeline.conversations.mining.candidate import Candidate, Taken, is_note

_NAME = r"[^\W\d_][\w.'’\- ]{0,34}"
_COLON = re.compile(
    r"(?P<time>[\[(]?\d{1,2}[:.]\d\d[\d:.,]{0,9}[\])]?\s*(?:[-–]\s*)?)?(?:\*\*|__)?"
    rf"(?P<name>{_NAME})\s?(?:\([^()]{{1,40}}\)|\[[^\[\]]{{1,40}}\])?(?:\*\*|__)?\s?[:：]"
    r"(?:\*\*|__)?(?P<speech>\s.*|(?<=：).*|)"
)
_STAGE = re.compile(
    r"(?P<name>[^\W\d_a-z][^\W\da-z_.' -]*(?: [^\W\da-z_.' -]+){0,3})"
    r"(?:, [^.:]{1,40})?\.(?P<speech>\s.*|)"
)
_BRACKET = re.compile(r"(?P<name>[^\W\d_]\w{0,7})\s?[「『](?P<speech>.{1,280})[」』]")
_PARTICLES = frozenset(re.findall(r"\w+", "of the and von van der den de la du und et y zu да и"))
_DIRECTION = re.compile(r"[\[(_].{0,280}[\])_]\.?")
_SHORT = 80  # characters of a stage direction that stands between two speeches
_FEWEST, _MOST_NAMES = 3, 2 / 3  # speeches, and speakers for each of them
_LONG = 160  # characters
_MAIN = 0.4  # of the characters of a document
_TURNS, _CHARACTERS = 6, 1600  # of a conversation at most, but for a single exchange


class Utterance(NamedTuple):
    """What one speaker says at a time, and the block it begins in."""

    speaker: str
    text: str
    offset: int
    block: int


def dialogue(parsed: Parsed, taken: Taken) -> Iterator[Candidate]:
    """Speeches with names in front, where names come again."""
    runs = [run for run in _runs(parsed, taken) if run]
    speeches = [one for run in runs for one in run]
    names = Counter(one.speaker for one in speeches)
    if len(speeches) < _FEWEST or not 1 < len(names) <= _MOST_NAMES * len(speeches):
        return
    if not any(is_question(one.text) for one in speeches) and _are_long(speeches):
        return  # paragraphs that begin with a word and a colon
    main = _main_voice(speeches)
    for run in runs:
        turns = alternating(run) if main is None else answered_by(main, run)
        whole = range(run[0].block, run[-1].block + 1)
        for part in turns:
            yield conversation("dialogue", part)._replace(blocks=whole)


def _are_long(speeches: Sequence[Utterance]) -> bool:
    """Whether texts are on average longer than people speak at a time."""
    return sum(len(one.text) for one in speeches) > _LONG * len(speeches)


def _main_voice(speeches: Sequence[Utterance]) -> str | None:
    """Who says 40 % or more; of two such speakers who asks less, then who says more."""
    said: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for one in speeches:
        said[one.speaker] += len(one.text)
        asked[one.speaker] += is_question(one.text)
    most = [name for name, size in said.items() if size >= _MAIN * sum(said.values())]
    return min(most, key=lambda name: (asked[name], -said[name]), default=None)


def _runs(parsed: Parsed, taken: Taken) -> Iterator[list[Utterance]]:
    """Speeches that follow each other; a heading, a long text or another rule's block ends one."""
    is_name = _names(parsed, taken)
    run: list[Utterance] = []
    lines: list[str] = []  # of the speech that is being read
    for place, block in enumerate(parsed.blocks):
        if taken[place] or block.kind in ("heading", "code", "table"):
            yield from [_closed(run, lines)] if run else []
            run, lines = [], []
            continue
        labels = [label_of(line) for line in block.lines]
        whole = all(labels)
        labels = [
            one if one and is_name(one, whole or n == 0) else None for n, one in enumerate(labels)
        ]
        if not any(labels) and (len(block.text) > _SHORT or block.kind == "list"):
            yield from [_closed(run, lines)] if run else []
            run, lines = [], []
            continue
        speaks = False  # whether the lines of this block belong to a speech yet
        for line, label in zip(block.lines, labels, strict=True):
            text = line.text.strip()
            if label is not None:
                run, lines = _closed(run, lines), [label[1]]
                run.append(Utterance(label[0], "", line.offset, place))
                speaks = True
            elif speaks and not _is_aside(text[:LONGEST_LINE]):
                lines.append(text)
    if run:
        yield _closed(run, lines)


def _is_aside(text: str) -> bool:
    """Whether a line is a stage direction, or a note with a word and a colon in front."""
    noted = _COLON.fullmatch(text)
    aside = noted is not None and is_note(noted["name"])
    return aside or _DIRECTION.fullmatch(text) is not None


def _names(parsed: Parsed, taken: Taken) -> Callable[[tuple[str, str], bool], bool]:
    """What tells a name from the words before a colon in a speech, by the label and whether it
    begins a block or the block has nothing but such lines.

    Where most names have a line of their own, all have. Elsewhere in a block a name is one that
    comes again.
    """
    labels = [
        label
        for place, block in enumerate(parsed.blocks)
        if not taken[place] and block.kind in ("paragraph", "list")
        for line in block.lines
        if (label := label_of(line)) is not None
    ]
    often = Counter(name for name, _ in labels)
    alone = 2 * sum(not speech for _, speech in labels) > len(labels)

    def is_name(label: tuple[str, str], begins: bool) -> bool:
        name, speech = label
        return not (alone and speech) and (begins or often[name] > 1)

    return is_name


def _closed(run: list[Utterance], lines: list[str]) -> list[Utterance]:
    """The speeches with the text of the last one; one speaker's in a row are joined."""
    if not run or run[-1].text or not lines:
        return run
    text = "\n".join(filter(None, (line.strip() for line in lines)))
    last = run.pop()
    if not text:
        return run
    if run and run[-1].speaker == last.speaker:
        before = run.pop()
        last, text = before, f"{before.text}\n{text}"
    run.append(last._replace(text=text))
    return run


def label_of(line: Line) -> tuple[str, str] | None:
    """Speaker and what is said on the same line, if a line begins with a name."""
    text = line.text.strip()
    if len(text) > LONGEST_LINE:
        head = text[:LONGEST_LINE]
        rest = text[LONGEST_LINE:]
    else:
        head, rest = text, ""
    found = _COLON.fullmatch(head) or _BRACKET.fullmatch(head)
    staged = _STAGE.fullmatch(head) if found is None else None
    if found is None and (staged is None or not staged["name"].isupper()):
        return None
    found = found or staged
    assert found is not None
    name = found["name"].strip(" .*_")
    if is_note(name) or not (_is_proper(name) or ("time" in found.groupdict() and found["time"])):
        return None
    return name, (found["speech"] + rest).strip()


def _is_proper(name: str) -> bool:
    """Whether the words of a name are written as those of names, in scripts that have capitals."""
    words = name.split()
    small = any(word[0].islower() and word not in _PARTICLES for word in words)
    return len(words) <= 4 and not small and not name[0].islower()


def answered_by(main: str, run: Sequence[Utterance]) -> Iterator[list[Utterance]]:
    """Exchanges in which `main` answers, neighbouring ones together."""
    part: list[Utterance] = []
    for before, after in pairwise(run):
        if after.speaker != main:
            continue
        follows = part and before.block - part[-1].block <= 2
        if part and not (follows and _fits(part, (before, after))):
            yield part
            part = []
        part += [before, after]
    if part:
        yield part


def alternating(run: Sequence[Utterance]) -> Iterator[list[Utterance]]:
    """All speeches in their order in conversations of a few turns; an odd last one is left out."""
    part: list[Utterance] = []
    for first, second in zip(run[::2], run[1::2], strict=False):
        if part and not _fits(part, (first, second)):
            yield part
            part = []
        part += [first, second]
    if part:
        yield part


def _fits(part: Sequence[Utterance], more: Sequence[Utterance]) -> bool:
    size = sum(len(one.text) for one in (*part, *more))
    return len(part) + len(more) <= _TURNS and size <= _CHARACTERS


def conversation(rule: str, part: Sequence[Utterance]) -> Candidate:
    """Speeches as a candidate; any answer that is there will do."""
    return Candidate(
        rule,
        tuple(one.text for one in part),
        part[0].offset,
        range(part[0].block, part[-1].block + 1),
        least=1,
    )
