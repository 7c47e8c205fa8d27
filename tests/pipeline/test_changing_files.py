"""A file that something writes to while it is read is noticed, and costs only itself."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest

from pipeline.cleaner import stage, worker
from pipeline.events import Finished
from pipeline.options.config import CleanupOptions, Config
from pipeline.sources.documents import Document, cleaned_files, read_cleaned

TEXT = "The quick brown fox jumps over the lazy dog again and again until the evening comes."


def write(path: Path, data: bytes | str = TEXT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def rows(count: int) -> bytes:
    lines = (json.dumps({"text": f"{number} {TEXT}"}) for number in range(count))
    return "\n".join(lines).encode()


def clean(*inputs: Path) -> dict:
    options = CleanupOptions(
        source="files", input=list(inputs), workers=1, min_words=5, output=Path("out"), force=True
    )
    *_, last = stage.run(Config(), options, Event())
    assert isinstance(last, Finished)
    return last.summary


def documents() -> list[Document]:
    return [d for file in cleaned_files(Path("out")) for d in read_cleaned(file)]


CHANGES = {
    "grows": lambda path: path.write_bytes(path.read_bytes() + b"more of it\n"),
    "shrinks": lambda path: path.write_bytes(path.read_bytes()[:500]),
    "same size": lambda path: path.write_bytes(path.read_bytes().replace(b"fox", b"cat")),
    "is replaced": lambda path: write(path.with_name("new"), "other").replace(path),
    "goes": lambda path: path.unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.md"])
def test_a_file_that_changes_while_it_is_read_costs_only_itself(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: Callable
) -> None:
    content = rows(40) if name.endswith("l") else f"{TEXT}\n\n".encode() * 40
    changing = write(Path("in") / name, content)
    times = changing.stat()
    write(Path("in/still.txt"), f"{TEXT} Still.")
    reading = worker.read_items
    done: list[str] = []

    def read(source, *arguments):
        for number, item in enumerate(reading(source, *arguments)):
            if source.path == changing and not number and not done:
                done.append(name)
                change(changing)
                if changing.exists():
                    os.utime(changing, ns=(times.st_atime_ns, times.st_mtime_ns))
            yield item

    monkeypatch.setattr(worker, "read_items", read)
    facts = clean(Path("in"))
    assert done
    assert facts["rejected"] == {"changed_while_read": 1}
    assert [document.id for document in documents()] == ["still.txt"]
    if changing.exists():
        assert "changed_while_read" not in clean(Path("in"))["rejected"]


def test_a_file_that_is_only_touched_is_kept(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(Path("in/a.txt"))
    reading = worker.read_items

    def read(source, *arguments):
        path.touch()
        return reading(source, *arguments)

    monkeypatch.setattr(worker, "read_items", read)
    assert clean(Path("in"))["kept"] == 1
