"""Inputs are found whatever the folder looks like; clean documents are read or refused."""

import gzip
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.documents import Document, cleaned_files, read_cleaned
from pipeline.sources.input_files import expand_inputs
from pipeline.sources.lines import PIECE, Damage, Line, read_lines, read_pieces
from utils.errors import HatcheryError, UsageError


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def jsonl(*documents: Document) -> bytes:
    return b"".join(msgspec.json.encode(document) + b"\n" for document in documents)


def test_folders_are_searched_once_even_through_symlink_loops(tmp_path: Path) -> None:
    a = write(tmp_path / "a.txt", "a")
    b = write(tmp_path / "deep" / "b.jsonl.gz", gzip.compress(b"{}\n"))
    write(tmp_path / "picture.png", "no text")
    write(tmp_path / ".hidden" / "c.txt", "c")
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    (tmp_path / "again.txt").symlink_to(a)
    found = expand_inputs([tmp_path, a, tmp_path / "*.txt"])
    assert [path.resolve() for path in found] == [a, b]


def test_a_readme_beside_rows_is_not_a_document(tmp_path: Path) -> None:
    rows = write(tmp_path / "data" / "rows.jsonl", "{}")
    write(tmp_path / "data" / "README.md", "about the rows")
    note = write(tmp_path / "notes" / "README.md", "a note")
    write(tmp_path / "data" / "manifest.json", "{}")
    assert expand_inputs([tmp_path]) == [rows, note]


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda p: p / "nowhere", "no file, folder or match"),
        (lambda p: p / "*.md", "no file, folder or match"),
        (lambda p: write(p / "x.exe", "x"), "a kind that is not read here (.exe)"),
        (lambda p: write(p / "y" / "x.exe", "x").parent, "only x.exe"),
        (lambda p: p, "an empty folder"),
        (lambda p: write(p / "empty.txt", ""), "1 file of 0 bytes"),
    ],
)
def test_nothing_to_read_is_said_with_what_was_found(tmp_path: Path, make, found: str) -> None:
    with pytest.raises(UsageError) as error:
        expand_inputs([make(tmp_path)])
    assert found in error.value.found
    assert error.value.remedy


def test_a_cleaned_folder_gives_documents_and_never_rejects(tmp_path: Path) -> None:
    documents = [Document(str(i), "t", f"line one\nline \u2028 two {i}\x85") for i in range(3)]
    kept = write(tmp_path / "cleaned_a.jsonl", jsonl(*documents))
    write(tmp_path / "rejected_a.jsonl", '{"reason":"stub","where":"a:0"}\n')
    write(tmp_path / "manifest.json", "{}")
    assert cleaned_files(tmp_path) == [kept]
    assert list(read_cleaned(kept)) == documents


def test_a_folder_without_clean_documents_names_the_next_command(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no clean documents") as error:
        cleaned_files(tmp_path / "cleaned")
    assert "main.py cleanup" in error.value.remedy


def test_plain_lines_and_plain_files_are_documents_too(tmp_path: Path) -> None:
    lines = write(tmp_path / "cleaned_a.txt", "one\x0bstill one\ntwo\n")
    assert [d.text for d in read_cleaned(lines)] == ["one\x0bstill one", "two"]
    book = write(tmp_path / "book.txt", "one\n\ntwo\n")
    assert [d.text for d in read_cleaned(book)] == ["one\n\ntwo\n"]


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (b'{"id":"2","title":"","te\n', "truncated"),
        (b'{"id":"2","title":"","text":"\xff"}\n', "utf-8"),
        (b'{"id":"2","title":""}\n', "text"),
        (b'{"id":"2","title":"","text":"' + b"x" * 200 + b'"}\n', "bytes"),
        (b"[" * 100_000 + b"\n", ""),
    ],
)
def test_damage_in_a_clean_file_stops_with_file_and_line(
    tmp_path: Path, damage: bytes, found: str
) -> None:
    path = write(tmp_path / "cleaned_a.jsonl", jsonl(Document("1", "", "fine")) + damage)
    with pytest.raises(HatcheryError) as error:
        list(read_cleaned(path, max_line=150))
    assert str(path) in error.value.problem
    assert found in error.value.found
    assert ":2" in error.value.problem or "line 2" in error.value.found


def test_a_huge_line_is_passed_over_and_the_next_one_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b"x" * 5_000_000 + b"\ngood\r\n" + b"y" * 2_000_000)
    first, good, last = read_lines(path, max_line=1000)
    assert first == Damage("too_long_line", 0, "line 1 has 5000001 bytes")
    assert good == Line(2, 5_000_001, b"good")
    assert isinstance(last, Damage)
    assert last.offset == 5_000_007


def test_a_cut_gzip_gives_its_good_lines_then_says_so(tmp_path: Path) -> None:
    lines = b"".join(b"line %d\n" % i for i in range(50_000))
    path = write(tmp_path / "a.jsonl.gz", gzip.compress(lines)[:-5000])
    *good, damage = read_lines(path)
    assert len(good) > 10_000
    assert all(
        isinstance(line, Line) and line.data == b"line %d" % i for i, line in enumerate(good)
    )
    assert isinstance(damage, Damage)
    assert damage.reason == "truncated_gzip"


@given(st.binary(max_size=400), st.integers(4, 64))
def test_pieces_put_together_are_the_file(tmp_path_factory, data: bytes, size: int) -> None:
    path = write(tmp_path_factory.mktemp("pieces") / "a.txt", data)
    pieces = list(read_pieces(path, size))
    assert b"".join(piece.data for piece in pieces if isinstance(piece, Line)) == data
    assert [piece.number for piece in pieces if isinstance(piece, Line)] == [
        *range(1, len(pieces) + 1)
    ]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_no_character_is_cut_in_two(tmp_path_factory, text: str) -> None:
    path = write(tmp_path_factory.mktemp("pieces") / "a.txt", text)
    assert "".join(piece.data.decode() for piece in read_pieces(path, 8)) == text


def test_a_book_is_cut_at_blank_lines_into_pieces_of_the_wanted_size(shared_data: Path) -> None:
    path = shared_data / "tinyshakespeare" / "input.txt"
    pieces = [piece.data for piece in read_pieces(path) if isinstance(piece, Line)]
    assert b"".join(pieces) == path.read_bytes()
    assert all(PIECE <= len(piece) < 1.2 * PIECE for piece in pieces[:-1])
    assert all(piece.endswith(b"\n\n") for piece in pieces[:-1])


def test_wikitext_is_cut_at_titles(shared_data: Path) -> None:
    folder = shared_data / "wikitext-2"
    crlf = list(read_pieces(folder / "wiki.test.raw.part1_crlf.txt", titled=True))
    assert len(crlf) == 12
    assert all(piece.data.startswith(b" = ") for piece in crlf)
    assert len(list(read_pieces(folder / "valid.txt", titled=True))) == 60
