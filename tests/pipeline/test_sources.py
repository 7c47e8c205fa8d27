"""Sources are listed, found, fetched once and checked."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest

from pipeline import source_table
from pipeline.events import Event, Finished
from pipeline.options.config import Config, DownloadOptions
from pipeline.source_table import SOURCES, Source, find_source
from pipeline.sources import stage
from pipeline.sources.python_library import library_inputs
from utils.errors import HatcheryError, UsageError
from utils.verification import verify

RECORD = b'{"name":"A","abstract":"Text."}\n'


def download(**options: object) -> list[Event]:
    return list(stage.run(Config(), DownloadOptions(**options), threading.Event()))


@contextmanager
def serve(answers: dict[str, bytes], asked: list[str]) -> Iterator[str]:
    """A web server on this machine that knows `answers`; `asked` notes every request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?")[0]
            asked.append(f"{self.command} {path}")
            body = answers.get(path)
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Length", str(len(body or b"")))
            self.send_header("Content-Type", "application/json")
            if body is not None:
                self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
                self.send_header("X-Repo-Commit", "c" * 40)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body or b"")

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def test_the_list_says_what_how_large_under_which_license_and_whether_it_is_here(
    workspace: Path,
) -> None:
    (finished,) = download(list=True)
    assert isinstance(finished, Finished)
    rows = {row["name"]: row for row in finished.summary["sources"]}
    assert list(rows) == ["python", "files", "wikipedia", "shakespeare"]
    assert all(row["what"] and row["size"] and row["license"] for row in rows.values())
    assert [row["here"] for row in rows.values()] == [True, False, False, False]


def test_an_unknown_source_suggests_the_nearest(workspace: Path) -> None:
    with pytest.raises(UsageError) as error:
        download(name="wikipidea")
    assert "wikipedia" in error.value.found


def test_the_library_of_this_python_is_there_without_its_tests_and_tables() -> None:
    inputs = library_inputs()
    names = {item.name for item in inputs}
    assert {"os.py", "json/decoder.py", "argparse.py"} <= names
    assert not [name for name in names if name.startswith(("test/", "idlelib/", "encodings/"))]
    assert not [name for name in names if "site-packages" in name or "/tests/" in name]
    assert 5_000_000 < sum(item.bytes for item in inputs) < 40_000_000
    (finished,) = download(name="python")
    assert isinstance(finished, Finished)
    assert finished.skipped


def fake_shakespeare(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    """The table with the checksum of `text`."""
    row = Source(
        "shakespeare", "plays", "small", "public domain", "url",
        url="http://127.0.0.1:9/never", file="input.txt",
        sha256=hashlib.sha256(text).hexdigest(), bytes=len(text),
    )  # fmt: skip
    table = tuple(row if source.name == row.name else source for source in SOURCES)
    monkeypatch.setattr(source_table, "SOURCES", table)


def test_shakespeare_is_fetched_checked_and_fetched_only_once(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b"First Citizen:\nBefore we proceed any further, hear me speak.\n" * 100
    fake_shakespeare(monkeypatch, text)
    asked: list[str] = []
    with serve({"/input.txt": text}, asked) as url:
        download(name="shakespeare", url=f"{url}/input.txt")
        again = download(name="shakespeare", url=f"{url}/input.txt")
    assert asked == ["GET /input.txt"]
    assert isinstance(again[-1], Finished)
    assert again[-1].skipped
    assert (workspace / "data/raw/shakespeare/input.txt").read_bytes() == text
    assert verify(Path("data/raw/shakespeare")).facts["license"] == "public domain"


def test_a_wrong_or_cut_file_is_refused_and_leaves_nothing(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_shakespeare(monkeypatch, b"the right text")
    with (
        serve({"/input.txt": b"the wrong text"}, []) as url,
        pytest.raises(HatcheryError, match="not the shakespeare that was expected"),
    ):
        download(name="shakespeare", url=f"{url}/input.txt")
    assert not (workspace / "data/raw/shakespeare").exists()


def test_a_server_that_is_away_is_named_with_what_to_do(workspace: Path) -> None:
    with serve({}, []) as url, pytest.raises(HatcheryError) as error:
        download(name="shakespeare", url=f"{url}/input.txt")
    assert "404" in error.value.found
    assert "cleanup --source shakespeare" in error.value.remedy


def test_files_put_there_by_hand_are_never_replaced(workspace: Path) -> None:
    mine = workspace / "data/raw/shakespeare/input.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(HatcheryError, match="did not put there"):
        download(name="shakespeare", force=True)
    assert mine.read_text() == "mine"


def hub(files: dict[str, bytes], revision: str) -> dict[str, bytes]:
    """What the hub answers about a dataset of these files."""
    base = "/datasets/wikimedia/structured-wikipedia/resolve"
    tree = [{"type": "file", "path": p, "size": len(b), "oid": "0" * 40} for p, b in files.items()]
    answers = {f"{base}/{revision}/{path}": body for path, body in files.items()}
    return {
        f"/api/datasets/wikimedia/structured-wikipedia/tree/{revision}": json.dumps(tree).encode(),
        **answers,
    }


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


@pytest.mark.slow
def test_wikipedia_comes_from_the_pinned_commit_and_is_unpacked(workspace: Path) -> None:
    members = {f"enwiki_namespace_0_{i}.jsonl": RECORD * (i + 1) for i in range(3)}
    files = {"20240916.en/enwiki_namespace_0.zip": zipped(members), "run_me.py": b"1/0"}
    asked: list[str] = []
    with serve(hub(files, find_source("wikipedia").revision), asked) as url:
        events = download(name="wikipedia", url=url)
    assert isinstance(events[-1], Finished)
    assert events[-1].summary["files"] == 3
    folder = workspace / "data/raw/wikipedia"
    assert {p.name: p.read_bytes() for p in folder.glob("*.jsonl")} == members
    assert not [line for line in asked if "run_me" in line]
    verify(folder)


@pytest.mark.slow
def test_newer_releases_are_parquet_and_an_interrupted_fetch_goes_on(workspace: Path) -> None:
    files = {f"enwiki/data/enwiki_{i:05d}.parquet": b"PAR1" * (i + 1) for i in range(3)}
    answers = hub(files, "main")
    lost = next(path for path in answers if path.endswith("00002.parquet"))
    body = answers.pop(lost)
    asked: list[str] = []
    with serve(answers, asked) as url:
        with pytest.raises(HatcheryError, match="could not be fetched"):
            download(name="wikipedia", url=url, revision="main")
        answers[lost] = body
        first = len(asked)
        download(name="wikipedia", url=url, revision="main")
    assert not [line for line in asked[first:] if "00000.parquet" in line]
    folder = workspace / "data/raw/wikipedia"
    verify(folder)
    assert {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.parquet")
    } == files
    assert not (folder / ".cache").exists()
