"""A flipped bit in what a stage reads is refused by name, with the command that mends it."""

import gzip
import json
import random
import shlex
from pathlib import Path

import pytest

from app.commands.parser import parse_stage
from pipeline.sources.documents import read_cleaned
from pipeline.sources.items import as_input
from pipeline.sources.raw import read_items
from pipeline.tokenizer.formats import read
from tests.support.token_sets import prepare, prepared, save_tokenizer, write_documents
from utils.artefacts import build_folder, read_manifest, source
from utils.errors import ExitCode, RefusedError
from utils.verification import DamagedFileError, check_file, open_checked


def cleaned(folder: Path, texts: list[str], name: str = "cleaned_0.jsonl") -> Path:
    """A cleaned artefact of one file, which is returned."""
    raw = folder.with_name("raw.txt")
    raw.write_text("raw")
    options = {"source": "files", "format": "jsonl", "min_words": 0, "test": False}
    with build_folder(
        folder, kind="cleaned", command="cleanup", options=options, inputs=[source(raw)]
    ) as builder:
        write_documents(builder.path / name, texts)
        builder.adopt(name)
    return folder / name


def flip_letter(path: Path, seed: int = 0) -> bytes:
    """Flip one bit inside a word, so that the JSON stays whole; returns what was there before."""
    before = path.read_bytes()
    data = bytearray(before)
    places = [i for i, byte in enumerate(before) if byte == ord("w")]
    data[random.Random(seed).choice(places)] ^= 1
    path.write_bytes(data)
    return before


TEXTS = [f"www wow {number} www" for number in range(60)]


@pytest.mark.parametrize("seed", range(6))
def test_prepare_refuses_a_flipped_bit_wherever_it_is(workspace: Path, seed: int) -> None:
    save_tokenizer("letters")
    path = cleaned(Path("cleaned").absolute(), TEXTS)
    before = flip_letter(path, seed)
    with pytest.raises(DamagedFileError, match="is damaged") as error:
        prepare(input=[Path("cleaned")], output=Path("set"), shard_tokens=1024)
    assert error.value.exit_code == ExitCode.REFUSED
    [command] = error.value.commands
    assert parse_stage(list(command)) is not None
    assert {"--force", "--input", "--output"} <= set(command)
    assert shlex.join(command) in str(error.value)
    assert not Path("set").exists()
    path.write_bytes(before)
    assert prepared(input=[Path("cleaned")], output=Path("set")).summary["documents"] == 60


def test_shards_made_before_the_damage_was_known_are_made_again(workspace: Path) -> None:
    save_tokenizer("letters")
    path = cleaned(Path("cleaned").absolute(), ["www " * 300] * 12)
    before = path.read_bytes()
    path.write_bytes(before.replace(b"www", b"vww", 1))
    chosen = {"input": [Path("cleaned")], "output": Path("set"), "shard_tokens": 2048}
    with pytest.raises(DamagedFileError):
        prepare(**chosen)
    path.write_bytes(before)
    prepare(**chosen)
    prepare(**chosen | {"output": Path("other")})
    for name in ("set", "other"):
        manifest = read_manifest(Path(name))
        assert manifest is not None
        assert len(manifest.files) > 4
    first, second = (
        {p.name: p.read_bytes() for p in Path(name).glob("*.npy")} for name in ("set", "other")
    )
    assert first == second


def test_a_test_run_compares_the_rest_of_the_file_too(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tokenizer("letters")
    path = cleaned(Path("cleaned").absolute(), TEXTS)
    monkeypatch.setattr("pipeline.prep.plan.TEST_DOCUMENTS", 5)
    data = bytearray(path.read_bytes())
    data[data.rindex(b"w")] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedFileError):
        prepare(input=[Path("cleaned")], output=Path("set"), test=True)


def test_reading_refuses_plain_text_gzip_and_files_given_alone(tmp_path: Path) -> None:
    lines = cleaned(tmp_path / "lines", TEXTS)
    flip_letter(lines)
    with pytest.raises(DamagedFileError, match="lines/cleaned_0"):
        list(read_cleaned(lines))
    flat = cleaned(tmp_path / "flat", TEXTS, "cleaned_0.txt")
    flip_letter(flat)
    with pytest.raises(DamagedFileError):
        list(read_cleaned(flat))
    raw = tmp_path / "raw"
    with build_folder(raw, kind="raw", command="download", options={"name": "fineweb"}) as builder:
        (builder.path / "deep").mkdir()
        builder.write("deep/a.jsonl.gz", gzip.compress(b'{"text": "www"}\n' * 50))
        builder.write("b.txt", "www\n" * 50)
        builder.write("c.json", json.dumps([{"text": "www"}]))
    for name in ("deep/a.jsonl.gz", "b.txt", "c.json"):
        assert list(read_items(as_input(raw / name, name)))
        data = bytearray((raw / name).read_bytes())
        data[len(data) // 2] ^= 1
        (raw / name).write_bytes(data)
        with pytest.raises(DamagedFileError, match="download fineweb --force"):
            list(read_items(as_input(raw / name, name)))


@pytest.mark.parametrize("at", [0, 1, 5, 9, 40, -2, -1])
def test_a_bit_that_breaks_the_json_is_damage_of_the_same_kind(tmp_path: Path, at: int) -> None:
    path = cleaned(tmp_path / "cleaned", TEXTS)
    data = bytearray(path.read_bytes())
    data[at] ^= 0x80
    path.write_bytes(data)
    with pytest.raises(DamagedFileError):
        list(read_cleaned(path))


def test_a_manifest_of_another_program_checks_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    for content in ("{}", "[]", "not json", '{"files": {"a.txt": 3}}', '{"checksum": "x"}'):
        (tmp_path / "manifest.json").write_text(content)
        with open_checked(tmp_path / "a.txt") as handle:
            assert handle.read() == b"text"
        check_file(tmp_path / "a.txt")


def test_a_damaged_manifest_of_ours_is_refused(tmp_path: Path) -> None:
    path = cleaned(tmp_path / "cleaned", TEXTS)
    manifest = path.parent / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"cleanup"', b'"cleanuq"'))
    with pytest.raises(RefusedError, match="damaged"):
        list(read_cleaned(path))


def test_a_reader_that_jumps_has_no_check_and_gets_its_bytes(tmp_path: Path) -> None:
    path = cleaned(tmp_path / "cleaned", TEXTS)
    data = path.read_bytes()
    with open_checked(path) as handle:
        handle.seek(len(data) - 5)
        assert handle.read() == data[-5:]
        handle.seek(0)
        assert handle.read() == data


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_every_file_of_a_tokenizer_is_compared(workspace: Path, name: str) -> None:
    folder = save_tokenizer("letters")
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data.replace(b"</s>", b"<.s>"))
    with pytest.raises(DamagedFileError, match=name.replace(".", "[.]")):
        read(folder, "letters")
