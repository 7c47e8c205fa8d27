"""Marks such as <|endoftext|> divide documents where they stand alone, and are text elsewhere."""

import gzip
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cleaner import stage
from pipeline.events import Finished, Warned
from pipeline.options.config import CleanupOptions, Config
from pipeline.sources.document_marks import MarkCounter, Marks
from pipeline.sources.documents import Document, cleaned_files, read_cleaned
from pipeline.sources.items import ReadingNotes, as_input
from pipeline.sources.lines import PIECE
from pipeline.sources.raw import read_items

STORY = "Once upon a time there was a fox that jumped over a dog, and that was that."


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def clean(path: Path) -> list:
    options = CleanupOptions(
        source="files", input=[path], workers=1, min_words=5, output=Path("out"), force=True
    )
    return list(stage.run(Config(), options, Event()))


def documents() -> list[Document]:
    return [d for file in cleaned_files(Path("out")) for d in read_cleaned(file)]


def contents(path: Path, notes: ReadingNotes | None = None) -> list[bytes]:
    return [item.content for item in read_items(as_input(path, path.name), notes=notes)]


@pytest.mark.parametrize(
    "between",
    [
        "\n<|endoftext|>\n",
        "\r\n<|endoftext|>\r\n",
        "\n\n<|end_of_text|>\n\n",
        "\n</s>\n",
        "\n <eos> \n",
        "\n<|im_end|>\n",
        "\n[EOS]\n",
        "\n<|endoftext|><|endoftext|>\n",
        "\n</s>\n<s>\n",
        "\n<|startoftext|>\n",
        "<|endoftext|>\n",
        "</s>\n",
        "<|endoftext|>\n<|startoftext|>",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_marks_divide_documents_and_go(workspace: Path, between: str, encoding: str) -> None:
    stories = [f"{number}. {STORY}\n\nThe end of “{number}”." for number in range(40)]
    data = between.join(stories).encode(encoding)
    [*_, last] = clean(write(Path("in/stories.txt"), data))
    assert isinstance(last, Finished)
    assert [d.text for d in documents()] == stories
    assert last.summary["divided"].startswith(
        "40 documents, cut at <" if "[" not in between else ""
    )
    assert last.summary["marks_in_text"] == {}


def test_documents_between_marks_are_whole_whatever_their_size(workspace: Path) -> None:
    sizes = [10, PIECE - 20, PIECE, PIECE + 20, 3 * PIECE, 500_000, 30]
    stories = [
        "".join(f"word {n} {i}\n\n" for i in range(size // 14)) for n, size in enumerate(sizes)
    ]
    path = write(Path("in/a.txt.gz"), gzip.compress("\n<|endoftext|>\n".join(stories).encode()))
    assert [c.strip() for c in contents(path)] == [s.strip().encode() for s in stories if s.strip()]


@pytest.mark.slow
def test_a_document_of_many_megabytes_is_cut_and_nothing_is_lost(tmp_path: Path) -> None:
    book = "".join(f"paragraph {n}\n\n" for n in range(250_000))
    path = write(tmp_path / "a.txt", f"{book}<|endoftext|>\n{STORY}\n")
    pieces = contents(path)
    assert b"".join(pieces[:-1]) == book.encode()
    assert pieces[-1] == f"{STORY}\n".encode()
    assert max(map(len, pieces)) < 2 << 20


@pytest.mark.parametrize("before", ["", "x", "xy"])
def test_a_line_of_many_megabytes_is_never_cut_within_a_character(
    tmp_path: Path, before: str
) -> None:
    line = before + "語" * 1_500_000
    path = write(tmp_path / "a.txt", f"{line}\n<|endoftext|>\n{STORY}\n")
    pieces = contents(path)
    assert b"".join(pieces[:-1]).decode() == f"{line}\n"
    assert len(pieces) > 2
    assert all(piece.decode() for piece in pieces)


@pytest.mark.parametrize(
    "text",
    [
        "GPT-2 writes <|endoftext|> between its documents, as anyone may see who reads about it.",
        "A line may begin so: <|endoftext|> and go on for a good while after that, of course.",
        "<|im_start|>user\nHi to you<|im_end|>\n<|im_start|>assistant\nHello, it is me.<|im_end|>",
        "<|im_start|>user\nHello to you\n<|im_end|>\n<|im_start|>assistant\nHello, and how is it?",
        "The token is called <|endoftext|>\nand that of another family is called </s>, they say.",
        "In HTML <s>this is struck out</s> and in the next line\n<s>so is this, and more</s>, too",
    ],
)
def test_marks_within_a_text_stay_and_are_counted(workspace: Path, text: str) -> None:
    events = clean(write(Path("in/a.txt"), text))
    assert [d.text for d in documents()] == [text]
    [warned] = [event for event in events if isinstance(event, Warned)]
    assert "stand within texts" in warned.message
    assert "divided" not in events[-1].summary
    assert sum(events[-1].summary["marks_in_text"].values()) == sum(
        text.count(mark) for mark in ("<|endoftext|>", "<|im_end|>", "<s>", "</s>")
    )


def test_a_mark_before_the_first_document_is_named_too(workspace: Path) -> None:
    [*_, last] = clean(write(Path("in/a.txt"), f"<s>\n{STORY}\n<|endoftext|>\nAgain: {STORY}"))
    assert isinstance(last, Finished)
    assert last.summary["divided"] == "2 documents, cut at <|endoftext|>"


def test_marks_in_programs_are_strings(workspace: Path) -> None:
    events = clean(write(Path("in/a.py"), f'MARK = "<|endoftext|>"\n# {STORY}\n'))
    assert not [event for event in events if isinstance(event, Warned)]


def test_marks_are_for_plain_texts(workspace: Path) -> None:
    text = f"# Title\n\n{STORY}\n\n<|endoftext|>\n\n{STORY}"
    clean(write(Path("in/a.md"), text))
    assert [d.text for d in documents()] == [text]


def test_a_text_without_marks_is_cut_as_before(tmp_path: Path) -> None:
    text = "".join(f"{STORY} {n}\n\n" for n in range(3000))
    notes = ReadingNotes()
    pieces = contents(write(tmp_path / "a.txt", text), notes)
    assert len(pieces) == len(text) // PIECE + 1
    assert b"".join(pieces) == text.encode()
    assert notes == ReadingNotes()


@given(
    st.lists(st.sampled_from(["a", "<|endoftext|>", "\n", "x\n", " ", "</s>", "|>", "é" * 300])),
    st.integers(1, 50),
)
def test_how_the_bytes_come_does_not_matter(parts: list[str], size: int) -> None:
    data = "".join(parts).encode()
    whole, pieces = MarkCounter(), MarkCounter()
    whole.feed(data)
    for start in range(0, len(data), size):
        pieces.feed(data[start : start + size])
    found = whole.marks()
    assert pieces.marks() == found
    lines = [line.strip() for line in "".join(parts).split("\n")]
    marks = {"<|endoftext|>", "</s>"}
    assert found.alone == any(
        line and not line.replace("<|endoftext|>", "").replace("</s>", "").strip() for line in lines
    )
    assert found.seen == any(mark in "".join(parts) for mark in marks)
    assert Marks() == MarkCounter().marks()


def test_turns_of_a_chat_stay_together_between_marks_of_documents(workspace: Path) -> None:
    turns = "<|im_start|>user\nHello to you all\n<|im_end|>\n<|im_start|>assistant\nHi\n<|im_end|>"
    clean(write(Path("in/a.txt"), f"{turns}\n<|endoftext|>\n{turns} Again."))
    assert [d.text for d in documents()] == [turns, f"{turns} Again."]
