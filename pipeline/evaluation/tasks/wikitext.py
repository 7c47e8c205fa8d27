"""WikiText-2: how well pages of Wikipedia are foretold (Merity et al. 2016)."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.evaluation.tasks.task import DocumentTask, Fields, HubSet, Item, Row

_PLAIN = (
    ("s '", "s'"), (" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", "."), (" : ", ": "), (" ; ", "; "),
    (" . ", ". "), (" ! ", "! "), (" ? ", "? "), (" , ", ", "),
)  # fmt: skip
_BRACKETS = ((r"\(\s*([^\)]*?)\s*\)", r"(\1)"), (r"\[\s*([^\]]*?)\s*\]", r"[\1]"),
             (r"{\s*([^}]*?)\s*}", r"{\1}"), (r"\"\s*([^\"]*?)\s*\"", r'"\1"'),
             (r"'\s*([^']*?)\s*'", r"'\1'"))  # fmt: skip
_OTHER = (
    ("= = = =", "===="), ("= = =", "==="), ("= =", "=="), (" \N{DEGREE SIGN} ", "\N{DEGREE SIGN}"),
    (" \n", "\n"), ("\n ", "\n"), (" N ", " 1 "), (" 's", "'s"),
)  # fmt: skip


class WikiText(DocumentTask):
    name = "wikitext"
    title = "WikiText-2"
    about = "How well whole pages of Wikipedia are foretold"
    files = ("wikitext*.jsonl", "wiki.test.raw*", "wiki.valid.raw*")
    hub = HubSet(
        "EleutherAI/wikitext_document_level",
        "wikitext-2-raw-v1",
        "test",
        "647234772b9554e208af6c826f23b99e3cac88c8",
    )

    def gathered(self, rows: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, Any]]:
        """Pages, also where every row is a paragraph; a blank one had been a blank."""
        found = list(rows)
        if not _are_lines(found):
            return found
        lines = [(row["text"].rstrip("\n") or " ") for _, row in found]
        return [(f"page {n}", {"page": page}) for n, page in enumerate(pages("\n".join(lines)), 1)]

    def item(self, row: Row) -> Item:
        page = Fields(row).text("page" if "page" in row else "text")
        return self.document(readable(page), page)


def readable(page: str) -> str:
    """A page without the blanks that its publication put around marks and numbers; the same rules,
    in the same order, as lm-evaluation-harness."""
    for old, new in _PLAIN:
        page = page.replace(old, new)
    for pattern, new in _BRACKETS:
        page = re.sub(pattern, new, page)
    for old, new in _OTHER:
        page = page.replace(old, new)
    return page


def pages(text: str) -> list[str]:
    """The pages of a file as it was published, one paragraph a line; cut as in the data set of
    whole documents that lm-evaluation-harness reads."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    found: list[list[str]] = [[]]
    for line in lines:
        if is_title(line):
            found.append([])
        found[-1].append(line)
    return [page for page in ("\n".join(lines) for lines in found) if page.strip()]


def is_title(line: str) -> bool:
    """Whether a line is the title of a page, and not that of a section: ` = Title = `."""
    stripped = line.replace("= = =", "===").replace("= =", "==").strip()
    return stripped.startswith("= ") and stripped.endswith(" =")


def _are_lines(rows: Sequence[tuple[str, Any]]) -> bool:
    """Whether rows hold a paragraph each, as in the data set `Salesforce/wikitext`."""
    if not all(isinstance(row, dict) and isinstance(row.get("text"), str) for _, row in rows):
        return False
    texts = [row["text"] for _, row in rows]
    first = next((text for text in texts if text.strip()), "")
    return is_title(first) and not any("\n" in text[:-1] for text in texts)
