"""Letters that answer each other: who is greeted in one has signed the other.

Letters that only follow each other may be of one hand; a reply is one where a name ties the two.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.conversations.mining.blocks import LONGEST_LINE, Line, Parsed
from pipeline.conversations.mining.candidate import NO_ANSWER, Candidate, Taken

_GREETING = re.compile(
    r"(?:(?:my )?dear(?:est)?|hello|hi|sehr geehrte[rs]?|(?:mein[e]? )?liebe[rs]?|hallo|"
    r"verehrte[rs]?|(?:mon |ma )?ch(?:er|ère)s?|monsieur|madame|estimad[oa]s?|querid[oa]s?|"
    r"muy señor mío|beste|geachte|lieve|(?:мой |моя )?(?:дорог(?:ой|ая|ие)|мил(?:ый|ая))|"
    r"уважаем(?:ый|ая|ые)|здравствуй(?:те)?|привет)\b(?P<name>[^,!:.]{0,60})[,!:]?(?P<rest>.*)|"
    r"(?:尊敬的|亲爱的)(?P<name_zh>[^，：:,]{1,20})[，：:,]?|(?P<name_ja>\w{1,20})(?:様|さんへ|へ)[、,]?",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"(?:yours|sincerely|best (?:wishes|regards)|kind regards|regards|with love|love|"
    r"your (?:loving|faithful|devoted|affectionate|friend)|ever yours|affectionately|respectfully|"
    r"mit (?:freundlichen|besten|herzlichen|lieben) grüßen|hochachtungsvoll|"
    r"(?:viele|liebe|herzliche|beste) grüße|dein[e]?\b|ihr[e]?\b|euer|eure|"
    r"cordialement|bien à (?:toi|vous)|amicalement|veuillez agréer|je t['’]embrasse|"
    r"atentamente|saludos|un abrazo|cordialmente|tuy[oa]|suy[oa]|"
    r"met vriendelijke groet(?:en)?|groeten|hoogachtend|liefs|"
    r"с уважением|с любовью|искренне|всего доброго|твой|твоя|ваш|ваша|обнимаю|целую|"
    r"此致|敬具|草々|かしこ)(?:\s.{0,60}|[,.!，]\s?.{0,60}|)",
    re.IGNORECASE,
)
_NAME = re.compile(r"[^\W\d_]{2,}")
_TITLES = frozenset(
    re.findall(
        r"\w+",
        "mr mrs ms miss sir madam dr prof herr herrn frau fräulein monsieur madame señor señora "
        "mijnheer mevrouw friend freund freundin ami amie amigo amiga vriend vriendin друг "
        "dear yours your sincerely love with best",
    )
)
_NO_SIGNATURE = re.compile(r"[\d:@_*#]")
_SIGNATURE = 3  # lines below the closing


class _Letter(NamedTuple):
    text: str
    greeted: frozenset[str]
    signed: frozenset[str]
    blocks: range
    offset: int


def letters(parsed: Parsed, taken: Taken) -> Iterator[Candidate]:
    """Each letter with the reply to it; one without a reply is rejected as such."""
    found = list(_letters(parsed, taken))
    place = 0
    while place < len(found):
        letter = found[place]
        reply = found[place + 1] if place + 1 < len(found) else None
        if reply is not None and _answers(reply, letter):
            blocks = range(letter.blocks.start, reply.blocks.stop)
            texts = (letter.text, reply.text)
            yield Candidate("letter", texts, letter.offset, blocks, least=8)
            place += 2
        else:
            texts = (letter.text, "")
            yield Candidate("letter", texts, letter.offset, letter.blocks, NO_ANSWER)
            place += 1


def _answers(reply: _Letter, letter: _Letter) -> bool:
    """Whether a name ties the two, and they are not by the same hand."""
    tied = bool(reply.greeted & letter.signed) or bool(letter.greeted & reply.signed)
    return tied and not reply.signed & letter.signed


def _letters(parsed: Parsed, taken: Taken) -> Iterator[_Letter]:
    """Texts from a greeting to a closing with its signature."""
    lines: list[tuple[int, Line]] = []
    greeted: frozenset[str] = frozenset()
    below = 0  # lines that the signature may still have
    closed: list[str] = []
    for place, block in enumerate(parsed.blocks):
        ends = bool(taken[place]) or block.kind in ("code", "table")
        for line in block.lines:
            text = line.text.strip()
            short = len(text) <= LONGEST_LINE
            greeting = _GREETING.fullmatch(text) if short else None
            if ends or greeting or (closed and not (below and _may_sign(text))):
                if lines and closed:
                    yield _letter(lines, greeted, closed)
                lines, closed, below = [], [], 0
            if ends:
                continue
            if greeting is not None and _is_greeting(greeting, block.kind):
                lines, greeted = [(place, line)], _names(_greeted(greeting))
            elif lines:
                lines.append((place, line))
                if closed:
                    closed.append(text)
                    below -= 1
                elif short and len(lines) > 1 and _CLOSING.fullmatch(text):
                    closed, below = [text], _SIGNATURE
    if lines and closed:
        yield _letter(lines, greeted, closed)


def _may_sign(text: str) -> bool:
    """Whether a line may stand below a closing: short, no date and no head of a message."""
    return len(text) <= 40 and _NO_SIGNATURE.search(text) is None


def _is_greeting(found: re.Match[str], kind: str) -> bool:
    """A greeting stands alone, or is the beginning of a first line."""
    whole = found[0].strip()
    return kind in ("paragraph", "heading") and (len(whole) <= 80 and bool(_greeted(found).strip()))


def _greeted(found: re.Match[str]) -> str:
    return found["name"] or found["name_zh"] or found["name_ja"] or ""


def _names(text: str) -> frozenset[str]:
    return frozenset(word.casefold() for word in _NAME.findall(text)) - _TITLES


def _letter(lines: list[tuple[int, Line]], greeted: frozenset[str], closed: list[str]) -> _Letter:
    first, last = lines[0], lines[-1]
    parts = []
    block = first[0]
    for place, line in lines:
        parts.append("\n" * (place != block) + line.text.strip())
        block = place
    names = _names(" ".join(_CLOSED.sub("", text, count=1) for text in closed))
    return _Letter("\n".join(parts), greeted, names, range(first[0], last[0] + 1), first[1].offset)


_CLOSED = re.compile(r"^[^,.!，]{0,40}[,.!，]\s?")
"""What a closing says before the name."""
