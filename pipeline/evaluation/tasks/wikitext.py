"""WikiText-2: how well pages of Wikipedia are foretold (Merity et al. 2016)."""

import re

from pipeline.evaluation.tasks.task import DocumentTask, Fields, HubSet, Item, Row

_TITLE = re.compile(r"^ ?= [^=].*[^=] = ?$")
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
    hub = HubSet("EleutherAI/wikitext_document_level", "wikitext-2-raw-v1", "test")

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
    """The pages of a file as it was published, one paragraph a line, each beginning with its
    title."""
    found: list[list[str]] = []
    for line in text.replace("\r\n", "\n").splitlines(keepends=True):
        if _TITLE.match(line.rstrip("\n")) or not found:
            found.append([])
        found[-1].append(line)
    joined = ["".join(lines) for lines in found]
    return [page for page in joined if page.strip()]
