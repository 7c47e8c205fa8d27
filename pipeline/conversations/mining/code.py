"""Source code among the documents: Python is asked about by its docstrings, other code not at all.

The rules for prose would take assignments for glossaries and comments for headings.
"""

import re
from collections.abc import Iterator
from itertools import islice

from pipeline.conversations.conversation import Conversation
from pipeline.conversations.docstrings import module_questions
from pipeline.sources.documents import Document
from pipeline.sources.source_code import is_source_code

_LOOKED_AT = 400  # lines that are not blank
_SHARE = 0.25  # of them that must look like code
_FEWEST = 8
_LINE = re.compile(
    r"\s*(?:(?:async )?def \w|class \w+.*[:{]$|import [\w.]+|from [\w.]+ import|return\b.*|elif |"
    r"(?:if|for|while|with|try|except|else)\b.*[:{]$|#include|func(?:tion)? \w|fn \w|"
    r"(?:const|let|var|static|public|private|void|int|char|struct|package|use|namespace) [\w<*&]|"
    r"@\w+|[})\]]+[;,]?$|[\w.\[\]]+ [-+*]?= \S|[\w.]+\(.*\)[;,]?$|.*[;{]$|//|/\*)"
)


def is_code(document: Document) -> bool:
    """Whether a document is source code, by the name of its file or by its lines."""
    if is_source_code([document.id.rpartition(":")[0] or document.id, document.title], [], []):
        return True
    lines = islice(filter(str.strip, document.text[: 100 * _LOOKED_AT].split("\n")), _LOOKED_AT)
    looked_at = [_LINE.match(line[:200]) is not None for line in lines]
    return len(looked_at) >= _FEWEST and sum(looked_at) >= _SHARE * len(looked_at)


def code_questions(document: Document) -> Iterator[Conversation]:
    """The questions about a module of Python; none of code in other languages."""
    yield from module_questions(document.id, document.text)
