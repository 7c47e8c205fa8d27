"""Is this the name of an apparatus section, a redirect, a disambiguation page? By language.

Names are compared folded: without case, the vowel signs of Arabic and invisible characters. Of a
language that is not in the table only what holds for every wiki is known.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache, lru_cache
from typing import NamedTuple

from pipeline.cleaner.languages import LANGUAGES, Names

_FOLDED_AWAY = re.compile("[\u0307\u064b-\u0655\u055b\u200b-\u200f\u00ad]|[:：.]+$")
_VARIANTS = str.maketrans({"ş": "ș", "ţ": "ț", "’": "'", "ي": "ی", "ك": "ک", "ı": "i", "_": " "})
_SAME = {"simple": "en", "nb": "no", "nn": "no", "sh": "sr", "in": "id", "iw": "he"}
_UNMISTAKABLE = 8  # letters of a section name that means the same in no other language
_SHORTEST_REDIRECT = 4  # letters, where the language is not known; one more without a `#`
_LONGEST_NAME = 100  # characters; what is longer is no name
_LONGEST_LEAD = 300  # characters of a first sentence that only opens a list
_LEAD_END = 100  # of them are looked at
_BETWEEN = (  # before the colon
    " (?:among others|notamment|entre autres|entre otros?|también|anche|tra l'altro|unter anderem|"
    r"u\. a\.|auch|onder andere|onder meer|bl\.a\.|bland annat|m\.in\.|também|també)"
)
_TITLE_END = re.compile(r"[(（]([^()（）]{2,40})[)）]\s*$")


@lru_cache(maxsize=4096)
def fold(name: str) -> str:
    """`name` as it is compared."""
    composed = unicodedata.normalize("NFC", name).casefold().translate(_VARIANTS)
    return " ".join(_FOLDED_AWAY.sub("", composed).split())


def _folded(names: Iterable[str]) -> frozenset[str]:
    return frozenset(fold(name) for name in "|".join(names).split("|")) - {""}


class Language(NamedTuple):
    """The names of a language, folded; see `Names`."""

    sections: frozenset[str]
    literature: frozenset[str]
    redirects: frozenset[str]
    titles: frozenset[str]
    markers: frozenset[str]
    descriptions: frozenset[str]
    lead: re.Pattern[str] | None

    def is_apparatus(self, heading: str, *, root: bool) -> bool:
        """Whether a section of this name holds no prose; `root`: it is in no other one."""
        name = fold(heading[:_LONGEST_NAME])
        return name in self.sections or (root and name in self.literature)

    def is_redirect(self, block: str, *, alone: bool) -> bool:
        """Whether a first paragraph is a redirect; `alone`: nothing follows it.

        Rendering takes the `#` for that of a list, so the word may stand without it: in capitals,
        or as the only item of a list.
        """
        text = block[:_LONGEST_NAME].removeprefix("- ").lstrip()
        marked = text[:1] in ("#", "＃")
        word = re.split(r"[\s:\[]", text[marked:].lstrip(), maxsplit=1)[0]
        if marked and any(fold(word).startswith(known) for known in self._unspaced):
            return True
        if fold(word) not in self.redirects:
            return False
        capitals = word.isupper() and len(word) > _SHORTEST_REDIRECT
        return marked or capitals or (alone and block.startswith("- "))

    @property
    def _unspaced(self) -> list[str]:
        """Redirect words of scripts that put no blank behind a word."""
        return [word for word in self.redirects if word[0] >= "\u2e80"]

    def is_disambiguation(self, title: str, lead: str, marks: Iterable[str]) -> bool:
        """Whether a page lists what its title may mean, by its title, first paragraph, or the
        names of its templates and categories."""
        ending = _TITLE_END.search(title)
        if ending and fold(ending[1]) in self.titles:
            return True
        if len(lead) <= _LONGEST_LEAD and self.lead and self.lead.search(lead[-_LEAD_END:]):
            return True
        names = (mark[:_LONGEST_NAME].rpartition(":")[2] for mark in marks)
        return any(fold(name) in self.markers for name in names)

    def is_described_so(self, description: str) -> bool:
        """Whether Wikidata says of a page that it is one of disambiguation."""
        return fold(description[:_LONGEST_NAME]) in self.descriptions


def _language(names: Iterable[Names]) -> Language:
    listed = [*names]
    leads = [re.escape(lead) for each in listed for lead in each.leads.split("|") if lead]
    # The sentence that opens the list, up to its colon. Only "may refer to" is clear enough for
    # more words before it: "Als Gruppe bezeichnet man eine Menge:" opens an article.
    lead = (
        rf"(?:{'|'.join(leads)})(?:{_BETWEEN})?\s*[:：]?\s*$"
        rf"|(?:may|can|could|might) (?:also )?(?:refer to|stand for) [^.:\n]{{0,40}}:\s*$"
    )
    return Language(
        _folded(each.sections for each in listed),
        _folded(each.literature for each in listed),
        _folded(["REDIRECT", *(each.redirects for each in listed)]),
        _folded(each.title for each in listed),
        _folded([*(each.markers for each in listed), *(each.title for each in listed)]),
        _folded(each.description for each in LANGUAGES.values()),
        re.compile(lead, re.IGNORECASE) if leads else None,
    )


@cache
def _unsaid() -> Language:
    """What can be taken for any language: the English names of sections and those of others that
    mean nothing else anywhere, and all marks of redirects and disambiguation pages."""
    every, english = _language(LANGUAGES.values()), _language([LANGUAGES["en"]])
    unmistakable = {
        name
        for name in every.sections
        if " " in name or (name.isascii() and len(name) >= _UNMISTAKABLE)
    }
    long = {w for w in every.redirects if len(w) >= _SHORTEST_REDIRECT or not w.isascii()}
    return every._replace(
        sections=english.sections | unmistakable,
        literature=frozenset(),
        redirects=frozenset(long),
    )


def canonical(code: str) -> str:
    """The code of a language without script and region: `pt` of `pt-BR`, `zh` of `zh_Hant`."""
    code = code.lower().replace("_", "-")
    first, _, rest = code.partition("-")
    if len(rest) in (2, 4):
        code = first
    return _SAME.get(code, code)


@lru_cache(maxsize=256)
def language(code: str) -> Language:
    """The names of the language with this code; of every language where it is empty."""
    code = canonical(code)
    if not code:
        return _unsaid()
    return _language([LANGUAGES[code]] if code in LANGUAGES else [])
