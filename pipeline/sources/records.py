"""A row of raw JSON or Parquet as a typed record, whatever release it comes from.

Only the fields an article is made of are decoded; infoboxes, links, citations, tables and images
are skipped unread. A row whose fields have unexpected types takes a slower, tolerant way.
"""

import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import msgspec

from pipeline.sources.source_code import is_source_code


class Part(msgspec.Struct, gc=False):
    """A node of a section tree: section, paragraph, list, list_item, or something left out."""

    type: str | None = None
    name: str | None = None
    value: str | list[Any] | None = None
    has_parts: "list[Part] | str | None" = None


Parts: TypeAlias = list[Part] | str | None

TEXT_FIELDS = (
    *("text", "content", "article", "article_body", "body", "full_text", "fulltext"),
    *("document", "story", "raw_content", "code"),
)
"""Fields that hold the text of a row; of several the longest does, of equals the first."""

# Fields that only records of an encyclopedia have, and those that describe any row.
_ENCYCLOPEDIC = frozenset(
    {
        *("is_part_of", "isPartOf", "in_language", "inLanguage", "infobox", "infoboxes"),
        *("main_entity", "mainEntity"),
    }
)
# An article of which no more than the lead is left.
_STUB = frozenset({"name", "abstract", "url", "identifier"})
_DESCRIBING = frozenset(
    {
        *("abstract", "id", "identifier", "name", "title", "url", "uri", "link", "description"),
        *("license", "path", "file", "filename", "lang", "language", "hash", "sha256"),
    }
)
_PROJECT = re.compile(  # the name of a wiki's database, as `dewiki`
    r"(?!commons|wikidata|species|meta|incubator)([a-z]{2,12}(?:_[a-z]{2,9}){0,2})"
    r"(?:wiki(?:books|news|quote|source|versity|voyage)?|wiktionary)"
)
_HOST = re.compile(
    r"https?://(?!www\.|commons|species|meta|incubator)([a-z-]{2,12})\.(?:m\.)?"
    r"(?:wiki(?:pedia|books|news|quote|source|versity|voyage)|wiktionary)\.org"
)
_PATHS = (
    *("path", "file_path", "filepath", "filename", "file_name", "file"),
    *("max_stars_repo_path", "sample_path"),
)
_SAID = (*_PATHS, "ext", "extension", "lang", "programming_language", "categories", "templates")
_LISTED = 6  # fields named in a rejection


class Record(msgspec.Struct, gc=False):
    """The fields that any row of raw JSON may carry; the rest is skipped unread."""

    name: str | None = None
    identifier: int | str | None = None
    abstract: str | None = None
    description: str | None = None
    sections: Parts = None
    article_sections: Parts = None
    id: int | str | None = None
    url: str | None = None
    title: str | None = None
    text: str | None = None
    content: str | None = None
    article: Any = None
    article_body: Any = None
    body: Any = None
    full_text: Any = None
    fulltext: Any = None
    document: Any = None
    story: Any = None
    raw_content: Any = None
    in_language: Any = None
    is_part_of: Any = None
    in_language_camel: Any = msgspec.field(default=None, name="inLanguage")
    is_part_of_camel: Any = msgspec.field(default=None, name="isPartOf")
    categories: Any = None
    templates: Any = None
    code: Any = None
    path: Any = None
    file: Any = None
    filename: Any = None
    file_name: Any = None
    file_path: Any = None
    filepath: Any = None
    max_stars_repo_path: Any = None
    sample_path: Any = None
    ext: Any = None
    extension: Any = None
    lang: Any = None
    language_name: Any = msgspec.field(default=None, name="language")
    programming_language: Any = None

    @property
    def language(self) -> str:
        """The code of its language, from what the record says of itself; empty where unknown."""
        for value in (self.in_language, self.in_language_camel):
            code = value.get("identifier") if isinstance(value, dict) else value
            if isinstance(code, str) and code:
                return code
        for value in (self.is_part_of, self.is_part_of_camel):
            name = value.get("identifier") if isinstance(value, dict) else value
            project = _PROJECT.fullmatch(name) if isinstance(name, str) else None
            if project:
                return project[1]
        host = _HOST.match(self.url or "")
        return host[1] if host else ""

    @property
    def is_code(self) -> bool:
        """Whether it says that its text is source code."""
        paths = (getattr(self, name) for name in _PATHS)
        languages = (self.programming_language, self.lang, self.language_name)
        return is_source_code(paths, (self.ext, self.extension), languages)

    @property
    def has_tree(self) -> bool:
        """Whether its sections are those of an encyclopedia: nodes with types or parts."""
        parts = self.sections or self.article_sections
        if isinstance(parts, str):
            return '"type"' in parts or '"has_parts"' in parts
        return any(part.type is not None or part.has_parts is not None for part in parts or ())


def document_id(record: Record, place: str) -> str:
    """What a row calls itself, or else where it was found."""
    return str(record.identifier or record.id or record.url or place)


class RowText(NamedTuple):
    """The text of a row, empty where it is an `article`; `unread` counts the characters of other
    fields that could have been its text, and `code` says that it is source code."""

    text: str
    article: bool = False
    unread: int = 0
    code: bool = False


class RejectedError(Exception):
    """This record is not a document; carries the name of the reason and a detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


_record = msgspec.json.Decoder(Record)
_parts = msgspec.json.Decoder(list[Part])
_anything = msgspec.json.Decoder()
_HALF_PAIRS = re.compile("[\ud800-\udfff]")


def decode(line: bytes) -> Record:
    """A row of raw JSON. What Python's own reader takes beyond the standard (NaN, raw control
    characters) is taken here too; half of a surrogate pair becomes U+FFFD.

    Raises:
        RejectedError: not_utf8, not_json, too_deep, not_object.
    """
    try:
        return _record.decode(line)
    except msgspec.DecodeError:  # also a field of another type
        return _tolerant(untyped(line))
    except UnicodeDecodeError as error:
        raise RejectedError("not_utf8", str(error)) from error
    except RecursionError as error:
        raise RejectedError("too_deep", "nested deeper than any article") from error


def convert(row: Any) -> Record:
    """A row that is already Python values, as from Parquet.

    Raises:
        RejectedError: not_object.
    """
    return _tolerant(row)


def text_of(record: Record, row: Callable[[], Any], field: str | None = None) -> RowText:
    """The text of a record; `row()` is the record undecoded, `field` the one the user named.

    Raises:
        RejectedError: no_text_field, body_not_read.
    """
    if field is not None:
        return RowText(_named_text(row(), field), code=record.is_code or field == "code")
    found = {name: value for name in TEXT_FIELDS if isinstance(value := getattr(record, name), str)}
    best = max(found, key=lambda name: len(found[name])) if found else ""
    length = len(found[best]) if found else -1
    if record.has_tree:
        if length < 0 or length <= _text_size(record.sections or record.article_sections):
            return RowText("", article=True, unread=max(length, 0))
    elif record.article_body is not None and not isinstance(record.article_body, str):
        size = _text_size(record.article_body)
        if size > length:
            raise RejectedError("body_not_read", f"article_body: {size} characters of markup")
    if not found:
        return _without_text(record, row())
    # A code in one line is a number of some kind.
    others = sum(len(t) for n, t in found.items() if n != best and (n != "code" or "\n" in t))
    unread = others + len(record.abstract or "")
    return RowText(found[best], unread=unread, code=record.is_code or best == "code")


def _named_text(row: Any, field: str) -> str:
    """The text of the field that the user named; dots lead into objects."""
    value = row
    for key in [field] if isinstance(row, dict) and field in row else field.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, list) and value and all(isinstance(part, str) for part in value):
        return "\n\n".join(value)
    if not isinstance(value, str):
        raise RejectedError("no_text_field", f"no text in {field}; {_fields(row)}")
    return value


def _without_text(record: Record, row: Any) -> RowText:
    """What a record is that has neither a tree nor a field known to hold text: an article of
    which only the lead is there, an abstract, or something whose text is elsewhere."""
    fields = row if isinstance(row, dict) else {}
    lead = record.abstract or ""
    encyclopedic = not _ENCYCLOPEDIC.isdisjoint(fields)
    if not encyclopedic:
        sizes = {f: _text_size(v) for f, v in fields.items() if f not in _DESCRIBING}
        if max(sizes.values(), default=0) > len(lead):
            raise RejectedError("no_text_field", _fields(row))
        if lead and not _STUB.issuperset(fields):
            return RowText(lead)
        if record.name is None:
            raise RejectedError("no_text_field", _fields(row))
    return RowText("", article=True)


def _fields(row: Any) -> str:
    """The fields that hold most text, and how to name one."""
    if not isinstance(row, dict):
        return "the row has no fields"
    sizes = {str(name): _text_size(value) for name, value in row.items()}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:_LISTED]
    names = ", ".join(f"{name} ({sizes[name]} characters)" for name in largest)
    return f"fields: {names or 'none'}; --text-field names the one to read"


def _text_size(value: Any) -> int:
    """Characters of all strings in a value, to any depth."""
    size, stack = 0, [value]
    while stack:
        here = stack.pop()
        if isinstance(here, str):
            size += len(here)
        elif isinstance(here, dict):
            stack += here.values()
        elif isinstance(here, list):
            stack += here
        elif isinstance(here, Part):
            stack += (here.name, here.value, here.has_parts)
    return size


def as_parts(parts: Parts) -> list[Part]:
    """Parts that may be encoded as a JSON string; what cannot be read counts as absent."""
    if isinstance(parts, str):
        try:
            try:
                return _parts.decode(parts) if parts else []
            except msgspec.ValidationError:
                return _tolerant_parts(_anything.decode(parts)) or []
        except (msgspec.DecodeError, RecursionError) as error:
            raise RejectedError("not_json", f"sections: {error}") from error
    return parts or []


def untyped(line: bytes) -> Any:
    """A row of raw JSON as Python values, read as tolerantly as by `decode`.

    Raises:
        RejectedError: not_utf8, not_json, too_deep.
    """
    try:
        return _anything.decode(line)
    except UnicodeDecodeError as error:
        raise RejectedError("not_utf8", str(error)) from error
    except RecursionError as error:
        raise RejectedError("too_deep", "nested deeper than any article") from error
    except msgspec.DecodeError as error:
        reason = str(error)
    try:
        return _mended(json.loads(line, strict=False))
    except UnicodeDecodeError as error:
        raise RejectedError("not_utf8", str(error)) from error
    except RecursionError as error:
        raise RejectedError("too_deep", "nested deeper than any article") from error
    except ValueError as error:
        raise RejectedError("not_json", reason) from error


def _mended(value: Any) -> Any:
    """The same with U+FFFD for every half of a surrogate pair, which no UTF-8 can hold."""
    if isinstance(value, str):
        return _HALF_PAIRS.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_mended(key): _mended(inner) for key, inner in value.items()}
    return [_mended(inner) for inner in value] if isinstance(value, list) else value


def _tolerant(row: Any) -> Record:
    """A record from values of any type: what has the wrong type counts as absent."""
    if not isinstance(row, dict):
        raise RejectedError("not_object", f"a JSON {type(row).__name__}")
    record = Record()
    for field in ("name", "abstract", "description", "url", "title", "text", "content"):
        if isinstance(row.get(field), str):
            setattr(record, field, row[field])
    for field in (*TEXT_FIELDS[2:], *_SAID, "in_language", "is_part_of"):
        setattr(record, field, row.get(field))
    record.in_language_camel, record.is_part_of_camel = row.get("inLanguage"), row.get("isPartOf")
    record.language_name = row.get("language")
    for field in ("identifier", "id"):
        if isinstance(row.get(field), int | str):
            setattr(record, field, row[field])
    for field in ("sections", "article_sections"):
        value = row.get(field)
        setattr(record, field, value if isinstance(value, str) else _tolerant_parts(value))
    return record


def _tolerant_parts(values: Any) -> list[Part] | None:
    """Parts from values of any type, to any depth."""
    if not isinstance(values, list):
        return None
    roots: list[Part] = []
    stack = [(values, roots)]
    while stack:
        rows, into = stack.pop()
        for row in rows:
            if not isinstance(row, dict):
                continue
            fields = {k: row[k] if isinstance(row.get(k), str) else None for k in ("type", "name")}
            value, inside = row.get("value"), row.get("has_parts")
            part = Part(**fields, value=value if isinstance(value, str | list) else None)
            if isinstance(inside, list):
                part.has_parts = []
                stack.append((inside, part.has_parts))
            elif isinstance(inside, str):
                part.has_parts = inside
            into.append(part)
    return roots
