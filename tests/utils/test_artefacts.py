"""Artefacts: whole or not there, whatever kills, flips or interrupts their making."""

import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from utils.artefacts import (
    MANIFEST,
    Manifest,
    Source,
    build_folder,
    fingerprint,
    is_current,
    read_manifest,
    sibling,
    source,
)
from utils.errors import HatcheryError, RefusedError
from utils.files import write_file
from utils.verification import verify

UNITS = {f"unit_{i}.bin": random.Random(i).randbytes(3000) for i in range(6)}
ROOT = Path(__file__).parents[2]


def _build(target: Path, options: dict[str, int], units: Sequence[str] = tuple(UNITS)) -> int:
    """Build `target` from the units that are missing; how many were there already."""
    with build_folder(target, kind="test", command="make", options=options) as builder:
        there = len(builder.units)
        for name in units:
            if name not in builder.units:
                write = write_file(builder.path / name, UNITS[name])
                builder.commit(name, {name: write})
        builder.facts["units"] = len(units)
    return there


def test_a_finished_artefact_holds_its_files_and_manifest_and_nothing_else(
    workspace: Path,
) -> None:
    _build(workspace / "a", {"x": 1})
    assert {p.name for p in (workspace / "a").iterdir()} == {*UNITS, MANIFEST}
    assert [p.name for p in workspace.iterdir()] == ["a"]
    manifest = verify(workspace / "a")
    assert manifest.made_by.command == "make"
    assert manifest.facts == {"units": len(UNITS)}


def _interrupted(target: Path, options: dict[str, int]) -> None:
    """A build that ends with an error after its first unit."""
    with build_folder(target, kind="test", command="make", options=options) as builder:
        builder.write("unit_0.bin", UNITS["unit_0.bin"])
        raise InterruptedError("half way")


def test_an_interrupted_build_goes_on_and_another_plan_starts_anew(workspace: Path) -> None:
    target = workspace / "a"
    for version in (1, 1, 2):
        with pytest.raises(InterruptedError):
            _interrupted(target, {"x": version})
    assert not target.exists()
    assert read_manifest(target) is None
    assert _build(target, {"x": 2}) == 1
    verify(target)
    with pytest.raises(InterruptedError):
        _interrupted(target, {"x": 3})
    assert _build(target, {"x": 4}) == 0


def test_a_failing_rebuild_leaves_the_old_artefact_whole(workspace: Path) -> None:
    target = workspace / "a"
    _build(target, {"x": 1})
    before = verify(target)
    with pytest.raises(InterruptedError):
        _interrupted(target, {"x": 2})
    assert verify(target) == before


def test_temporary_files_of_a_killed_write_are_not_published(workspace: Path) -> None:
    with build_folder(workspace / "a", kind="t", command="c", options={}) as builder:
        builder.write("file", b"x")
        (builder.path / ".gone.bin.tmp").write_bytes(b"half")
    assert {p.name for p in (workspace / "a").iterdir()} == {"file", MANIFEST}


@pytest.mark.parametrize("damage", [b"\xff\xfe garbage\n", b'{"name": "unit_0.bin"}\n'])
def test_a_journal_torn_by_a_power_cut_costs_only_the_work(damage: bytes, workspace: Path) -> None:
    target = workspace / "a"
    with pytest.raises(InterruptedError):
        _interrupted(target, {})
    with (sibling(target, "building") / "journal.jsonl").open("ab") as journal:
        journal.write(damage)
    assert _build(target, {}) == 0
    verify(target)


_KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from utils.artefacts import build_folder
from utils.files import write_file
print("ready", flush=True)
while True:
    for version in (1, 2):
        with build_folder(
            Path("target"), kind="test", command="make", options={"version": version}
        ) as builder:
            for name in ("unit_0.bin", "unit_1.bin", "unit_2.bin"):
                if name not in builder.units:
                    builder.commit(name, {name: write_file(builder.path / name, name * 500)})
"""


@pytest.mark.slow
def test_after_a_kill_at_any_instant_the_target_is_whole_and_the_build_goes_on(
    workspace: Path,
) -> None:
    command = [sys.executable, "-c", _KILLED, str(ROOT)]
    moments = random.Random(5)
    seen_before = False
    for _ in range(25):
        with subprocess.Popen(command, stdout=subprocess.PIPE) as builder:
            assert builder.stdout is not None
            assert builder.stdout.readline() == b"ready\n"
            deadline = time.perf_counter() + moments.uniform(0, 0.06)
            while time.perf_counter() < deadline:
                pass
            builder.kill()
        target = Path("target")
        found = read_manifest(target)
        assert found is not None or not seen_before, "a finished artefact was lost"
        if found is not None:
            seen_before = True
            assert verify(target).made_by.options["version"] in (1, 2)
            assert {p.name for p in target.iterdir()} == {*list(UNITS)[:3], MANIFEST}
    assert seen_before
    _build(Path("target"), {"version": 3})
    assert verify(Path("target")).made_by.options == {"version": 3}
    assert [p.name for p in workspace.iterdir()] == ["target"]


@pytest.mark.parametrize("role", ["building", "old"])
def test_a_kill_between_the_two_renames_is_mended_by_the_next_reader(
    role: str, workspace: Path
) -> None:
    _build(workspace / "a", {"x": 1})
    (workspace / "a").rename(sibling(workspace / "a", role))
    assert verify(workspace / "a").made_by.options == {"x": 1}
    assert [p.name for p in workspace.iterdir()] == ["a"]


def test_of_two_whole_artefacts_left_by_a_kill_the_new_one_wins(workspace: Path) -> None:
    target = workspace / "a"
    _build(target, {"x": 1})
    _build(workspace / "new", {"x": 2})
    (workspace / "new").rename(sibling(target, "building"))
    assert verify(target).made_by.options == {"x": 2}
    assert [p.name for p in workspace.iterdir()] == ["a"]


def test_a_reader_leaves_a_living_builder_alone(workspace: Path) -> None:
    target = workspace / "a"
    with build_folder(target, kind="t", command="c", options={}) as builder:
        builder.write("file", b"x")
        (builder.path / MANIFEST).write_bytes(b"{}")
        assert read_manifest(target) is None
        assert (builder.path / "file").is_file()
    verify(target)


def test_two_builders_of_one_target_are_refused(workspace: Path) -> None:
    with (
        build_folder(workspace / "a", kind="t", command="c", options={}),
        pytest.raises(RefusedError, match="Another process is writing"),
        build_folder(workspace / "a", kind="t", command="c", options={}),
    ):
        pass


def test_a_single_flipped_bit_in_any_file_is_refused(workspace: Path) -> None:
    target = workspace / "a"
    _build(target, {"x": 1}, list(UNITS)[:2])
    dice = random.Random(3)
    for path in sorted(target.iterdir()):
        whole = path.read_bytes()
        count = 400 if path.name == MANIFEST else 40
        for bit in dice.sample(range(len(whole) * 8), count):
            changed = bytearray(whole)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(bytes(changed))
            try:
                same = verify(target)
            except RefusedError:
                continue
            raise AssertionError(f"bit {bit} of {path.name} went unnoticed: {same}")
        path.write_bytes(whole)
    verify(target)


@pytest.mark.parametrize("damage", ["missing", "cut", "longer", "unknown", "no manifest"])
def test_every_kind_of_damage_is_named(damage: str, workspace: Path) -> None:
    target = workspace / "a"
    _build(target, {"x": 1})
    victim = target / "unit_3.bin"
    only = None
    if damage == "missing":
        victim.unlink()
    elif damage == "cut":
        victim.write_bytes(UNITS["unit_3.bin"][:-1])
    elif damage == "longer":
        victim.write_bytes(UNITS["unit_3.bin"] + b"\0")
    elif damage == "unknown":
        only = ["unit_99.bin"]
    else:
        (target / MANIFEST).unlink()
    with pytest.raises(RefusedError) as refused:
        verify(target, only)
    assert str(target) in refused.value.problem
    assert refused.value.remedy


def test_an_edited_manifest_is_refused(workspace: Path) -> None:
    _build(workspace / "a", {"x": 1})
    manifest = json.loads((workspace / "a" / MANIFEST).read_text())
    manifest["facts"]["units"] = 7
    (workspace / "a" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(RefusedError, match="own checksum"):
        read_manifest(workspace / "a")


def test_only_the_same_command_options_and_inputs_are_current(workspace: Path) -> None:
    (workspace / "in.txt").write_text("text")
    inputs = [source(workspace / "in.txt")]
    with build_folder(
        workspace / "a", kind="t", command="c", options={"x": 1}, inputs=inputs
    ) as builder:
        builder.write("file", b"x")
    assert isinstance(is_current(workspace / "a", "c", {"x": 1}, inputs), Manifest)
    assert is_current(workspace / "a", "c", {"x": 2}, inputs) is None
    assert is_current(workspace / "a", "d", {"x": 1}, inputs) is None
    (workspace / "in.txt").write_text("Text")
    assert is_current(workspace / "a", "c", {"x": 1}, [source(workspace / "in.txt")]) is None


def test_fingerprints_tell_contents_not_places(workspace: Path) -> None:
    _build(workspace / "a", {"x": 1})
    _build(workspace / "b", {"x": 2})
    assert fingerprint(workspace / "a") == fingerprint(workspace / "b")
    plain = workspace / "plain"
    plain.mkdir()
    (plain / "file").write_bytes(b"1")
    one = fingerprint(plain)
    shutil.copytree(plain, workspace / "copy")
    assert fingerprint(workspace / "copy") == one
    (plain / "file").write_bytes(b"2")
    assert fingerprint(plain) != one


def test_a_source_that_is_not_there_is_a_named_error(workspace: Path) -> None:
    with pytest.raises(HatcheryError, match="cannot be read: No such file"):
        source(workspace / "gone")
    assert Source("a", "b") == Source("a", "b")
