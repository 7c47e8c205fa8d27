"""A row of raw JSON or Parquet as a typed record, whatever release it comes from.

Only the fields an article is made of are decoded; infoboxes, links, citations, tables and images
are skipped unread. A row whose fields have unexpected types takes a slower, tolerant way.
"""

import json
import re
from typing import Any, TypeAlias

import msgspec


class Part(msgspec.Struct, gc=False):
    """A node of a section tree: section, paragraph, list, list_item, or something left out."""

    type: str | None = None
    name: str | None = None
    value: str | list[Any] | None = None
    has_parts: "list[Part] | str | None" = None


Parts: TypeAlias = list[Part] | str | None


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

    @property
    def structured(self) -> bool:
        """Whether this is an encyclopedia article and not a row with a text."""
        return (
            self.sections is not None
            or self.article_sections is not None
            or self.abstract is not None
            or (self.name is not None and self.text is None and self.content is None)
        )


class RejectedError(Exception):
    """This record is not a document; carries the name of the reason and a detail."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


_record = msgspec.json.Decoder(Record)
_parts = msgspec.json.Decoder(list[Part])
_anything = msgspec.json.Decoder()


def decode(line: bytes) -> Record:
    """A row of raw JSON.

    Raises:
        RejectedError: not_utf8, not_json, lone_surrogate, too_deep, not_object.
    """
    try:
        return _record.decode(line)
    except msgspec.ValidationError:
        return _tolerant(_untyped(line))
    except UnicodeDecodeError as error:
        raise RejectedError("not_utf8", str(error)) from error
    except RecursionError as error:
        raise RejectedError("too_deep", "nested deeper than any article") from error
    except msgspec.DecodeError as error:
        surrogate = re.search(rb"\\u[dD][89a-fA-F]", line)
        reason = "lone_surrogate" if surrogate and _is_json(line) else "not_json"
        raise RejectedError(reason, str(error)) from error


def convert(row: Any) -> Record:
    """A row that is already Python values, as from Parquet.

    Raises:
        RejectedError: not_object.
    """
    return _tolerant(row)


def as_parts(parts: Parts) -> list[Part]:
    """Parts that may be encoded as a JSON string; what cannot be read counts as absent."""
    if isinstance(parts, str):
        try:
            return _parts.decode(parts) if parts else []
        except msgspec.ValidationError:
            return _tolerant_parts(_anything.decode(parts)) or []
        except (msgspec.DecodeError, RecursionError) as error:
            raise RejectedError("not_json", f"sections: {error}") from error
    return parts or []


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _untyped(line: bytes) -> Any:
    try:
        return _anything.decode(line)
    except UnicodeDecodeError as error:
        raise RejectedError("not_utf8", str(error)) from error
    except RecursionError as error:
        raise RejectedError("too_deep", "nested deeper than any article") from error
    except msgspec.DecodeError as error:
        raise RejectedError("not_json", str(error)) from error


def _tolerant(row: Any) -> Record:
    """A record from values of any type: what has the wrong type counts as absent."""
    if not isinstance(row, dict):
        raise RejectedError("not_object", f"a JSON {type(row).__name__}")
    record = Record()
    for field in ("name", "abstract", "description", "url", "title", "text", "content"):
        if isinstance(row.get(field), str):
            setattr(record, field, row[field])
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
