r"""Markup of a wiki that was left unrendered: which of it is debris, and what it leaves.

The text of an article is rendered: a `<b>`, a `[[` or an entity in it is what its reader sees,
unless its form can only be markup. So a template needs the name of one or a parameter, a table
its opening and closing marks, a plain link a piped one beside it, and so on.

A pattern with a closing mark either stops at the next opening one or is written as a scan, which
looks once for each mark: no text may make a rule slow.
"""

import html
import re
from collections.abc import Iterator

from pipeline.cleaner.rule_engine import Edit, NextMatch, rule

_LONGEST_COMMENT = 5000  # characters, as all of these
_LONGEST_ADDRESS = 1000
_LONGEST_LABEL = 500
_LONGEST_TABLE = 20_000
_COMMENT_END = re.compile(r"[>\n]")
_WEB_LINK, _WEB_LINK_END = re.compile(r"\[https?://"), re.compile(r"[\]\n]")
_SPACE = re.compile(r"\s")
_PLACED_COMMENT = re.compile(r"\w<!--|-->\w|(?m:^<!--[^>\n]*-->$)")
_LABELLED_ADDRESS = re.compile(r"\[https?://[^\s\[\],]{1,1000}+(?:\]| [^\]\n])")

_UNRENDERED = "nowiki|noinclude|includeonly|onlyinclude"  # tags that no browser knows
_TEMPLATES = (  # those in most articles, which take parameters without a name
    "cite [a-z]+|lang|main|see also|further|convert|IPA[a-z-]*|sfn|efn|refn|rp|harv[a-z]*|as of|"
    "flag|audio|nowrap|nihongo|transl|circa|coord|citation needed|clarify|reflist|quote|short descr"
    "iption|use [dm][mdy]+ dates"
)
_TEMPLATES_ALONE = "citation needed|cn|fact|reflist|clarify|dead link|failed verification|circa"
_TEMPLATE = (
    rf"\{{\{{(?:(?:{_TEMPLATES})\||(?:{_TEMPLATES_ALONE})(?=\}}\}})"
    r"|[a-z][\w -]{0,60}\|(?=[^{}|\n]{0,60}=))"
    r"(?:[^{}\n]|\{\{[^{}\n]{0,500}\}\}){0,5000}+\}\}"
)
_NESTED_TEMPLATE = r"(?<=\{{6})\{\{[^{}\n]{0,5000}\}\}"  # in three others: no code nests braces so
_MAGIC = (
    "(?:NO|FORCE)?TOC|NOEDITSECTION|(?:NO)?NEWSECTIONLINK|NOGALLERY|HIDDENCAT|NO(?:CONTENT|TITLE)"
    "CONVERT|EXPECTUNUSEDCATEGORY|EXPECTUNUSEDTEMPLATE|NOINDEX|STATICREDIRECT|DISAMBIG"
)
_NEAR = 200  # characters on either side
_PAGE_TAG = re.compile(r"</?(?:a|b|body|div|h[1-6]|head|html|i|li|ol|p|span|t[dhr]|table|ul)[ >]")
_PIPED_LINK = re.compile(r"\[\[(?=\w)[^\[\]|\n]{1,300}\|(?!\|)([^\[\]|\n]{0,500})\]\]")
_LINK = re.compile(r"\[\[(?=\w)(?:[^\[\]|\n]{1,300}\|(?!\|))?([^\[\]|\n]{0,500})\]\]")
_TABLE_MARK = re.compile(r"(?m)^[ :]{0,9}(\{\||\|\})")
_TABLE_IN_LINE = re.compile(r"\{\|[^{}\n]{0,5000}\|\}")
_TABLE_SIGN = re.compile(r"\|-|\|\+|(?:class|style) ?=")
_ROW = re.compile(r"[^\n]*\n\s*[|!]")
_ENTITY = re.compile(
    r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|amp|nbsp|[nm]dash|quot|apos|lt|gt|hellip|[lr][sd]quo|"
    r"[lr]aquo|deg|middot|bull|times|minus|thinsp|ensp|emsp|zwj|zwnj|shy|euro|pound|"
    r"[A-Za-z]{1,2}(?:acute|grave|circ|uml|tilde|cedil|ring|slash|lig|caron));"
)
_ENTITY_IN_WORD = re.compile(rf"(?<=[^\W_])(?!&[lg]t;){_ENTITY.pattern}(?=[^\W_])")


def _comments(text: str) -> Iterator[Edit]:
    """`<!--[^>\\n]{0,5000}-->`: every opening mark before a `>` or line end shares that end."""
    begin = text.find("<!--")
    ends = NextMatch(_COMMENT_END, text)
    while begin >= 0:
        end = ends.at(begin)
        if text.startswith("-->", end - 2):
            opening = text.find("<!--", max(begin, end - _LONGEST_COMMENT - 6), end - 2)
            if opening >= 0:
                yield opening, end + 1, ""
        begin = text.find("<!--", end)


def _web_links(text: str) -> Iterator[Edit]:
    r"""`\[https?://[^\s\]]{1,1000} ?([^\]\n]{0,500})\]`, which leaves the group."""
    spaces, ends, done = NextMatch(_SPACE, text), NextMatch(_WEB_LINK_END, text), 0
    for opening in _WEB_LINK.finditer(text):
        begin = opening.end()
        end = ends.at(begin)
        address = min(spaces.at(begin), end, begin + _LONGEST_ADDRESS)
        label = address + text.startswith(" ", address)
        closed = text.startswith("]", end) and end - label <= _LONGEST_LABEL
        if opening.start() >= done and address > begin and closed:
            done = end + 1
            yield opening.start(), done, text[label:end]


def _comment_in_word(text: str) -> bool:
    """Whether a comment stands where no one would write about one: glued to a word or alone in
    its line."""
    return "<!--" in text and _PLACED_COMMENT.search(text) is not None


def _labelled_address(text: str) -> bool:
    """Whether an address in brackets stands alone or before a label, as in no list of a program."""
    return _LABELLED_ADDRESS.search(text) is not None


def _links(text: str) -> Iterator[Edit]:
    """Links leave their label. One without a label is text (`[[Prototype]]`, `[[nodiscard]]`)
    unless a link with one stands in the same line."""
    for link in _in_lines_with(_PIPED_LINK, _LINK, text):
        yield link.start(), link.end(), link[1]


def _tables(text: str) -> Iterator[Edit]:
    """Tables, outermost first: from a line that opens with `{|` to the line that closes it."""
    found: list[tuple[int, int]] = []
    opened: list[int] = []
    for mark in _TABLE_MARK.finditer(text):
        if mark[1] == "{|":
            opened.append(mark.start())
        elif opened:
            begin = opened.pop()
            if mark.end() - begin <= _LONGEST_TABLE and _ROW.match(text, begin):
                while found and found[-1][0] > begin:
                    found.pop()
                found.append((begin, mark.end()))
    in_line = _TABLE_IN_LINE.finditer(text)
    found += [table.span() for table in in_line if _TABLE_SIGN.search(table.group())]
    done = 0
    for begin, end in sorted(found):
        if begin >= done:
            done = end
            yield begin, end, ""


def _entities(text: str) -> Iterator[Edit]:
    """Entities become their characters in a line in which one stands within a word; others are
    text, as in an article about HTML, or code (`&sum;`)."""
    for entity in _in_lines_with(_ENTITY_IN_WORD, _ENTITY, text):
        yield entity.start(), entity.end(), html.unescape(entity.group())


def _in_lines_with(
    evidence: re.Pattern[str], pattern: re.Pattern[str], text: str
) -> Iterator[re.Match[str]]:
    """The matches of `pattern` in the lines in which `evidence` is found."""
    line_end, found = -1, False
    for match in pattern.finditer(text):
        if match.start() > line_end:
            begin, end = text.rfind("\n", 0, match.start()) + 1, text.find("\n", match.start())
            line_end = len(text) if end < 0 else end
            found = evidence.search(text, begin, line_end) is not None
        if found:
            yield match


def _of_a_page(match: re.Match[str]) -> bool:
    """Whether other tags of a web page stand near a tag in its line."""
    text, (begin, end) = match.string, match.span()
    low = max(0, begin - _NEAR)
    low = max(low, text.rfind("\n", low, begin) + 1)
    high = text.find("\n", end, end + _NEAR)
    return _PAGE_TAG.search(text, low, high if high >= 0 else end + _NEAR) is not None


def _untagged(match: re.Match[str]) -> str:
    """What stands between two tags, where they are no part of the source of a page."""
    return match.group() if _of_a_page(match) else (match[2] or match[4] or "")


def _break(match: re.Match[str]) -> str:
    """What a line break tag within a sentence leaves."""
    text, (begin, end) = match.string, match.span()
    if _of_a_page(match):
        return match.group()
    return " " if text[begin - 1 : begin].isalnum() and text[end : end + 1].isalnum() else ""


MARKUP_RULES = (
    rule("comments", "<", _comments, evidence=_comment_in_word),
    rule("references", "<", r"<ref\b[^<>\n]{0,500}/>|<ref\b[^<>\n]{0,500}>[^<\n]{0,5000}</ref>"),
    rule(
        "tags",
        "<",
        r"<(?:(?<=\w<)(su[bp])>([^<>\n]{1,200})</\1>|references ?/>"
        rf"|({_UNRENDERED})>([^<>\n]{{0,5000}})</\3>)",
        _untagged,
    ),
    rule(
        "line_break_tags",
        "<",
        r"<br ?/?>(?:(?=\w)|(?<=\w<br>)|(?<=\w<br/>)|(?<=\w<br />))",
        _break,
    ),
    rule("templates", "{{", rf"(?i){_TEMPLATE}|{_NESTED_TEMPLATE}"),
    rule("media_links", "[[", r"\[\[(?:File|Image|Category|Media):[^\[\]\n]{0,1000}\]\]"),
    rule("links", "[[", _links),
    rule("web_links", "[", _web_links, evidence=_labelled_address),
    rule("tables", "{", _tables),
    rule("magic_words", "__", rf"__(?:{_MAGIC})__"),
    rule(
        "emphasis",
        "''",
        r"(?<![^\s\"“(])(?<![=(,+:] )('{2,5})(?=[^\W_])([^'\n]{1,300})(?<=[^\s'])\1"
        r"(?=[^\S\n]|[.,;:!?)\"”])",
        r"\2",
    ),
    rule("entities", "&", _entities),
)
