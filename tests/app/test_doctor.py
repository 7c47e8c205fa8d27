"""The doctor names the cause of every kind of end, and every remedy it offers can be started."""

import errno
import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from threading import Event as StopSignal
from typing import Any

import pytest

from app.commands.arguments import overlaid, without
from app.commands.parser import parse_stage
from app.doctor import diagnosis
from app.doctor.diagnosis import Diagnosis, diagnose
from app.doctor.remedies import Cause, Remedy, startable
from app.jobs import folder, lifecycle, states
from app.jobs.folder import Record, record_exit, write_record
from app.jobs.job import Job
from app.jobs.processes import process_start
from app.jobs.retry import command_again
from app.jobs.runner import describe
from model.config import parameter_count
from pipeline import events, stages
from pipeline.runs import record as run_record
from pipeline.train.trainer import NonFiniteError
from utils.errors import (
    ExitCode,
    HatcheryError,
    NetworkError,
    OutOfMemoryError,
    RefusedError,
    UsageError,
)
from utils.files import AppendLog, DiskFullError

FOLDER = Path("logs/jobs/2026_11_21_08_00_00-train-ab12")


def _ended(
    *told: events.Event,
    code: int | None = 1,
    words: str = "train",
    start: str = "",
    **how: Any,
) -> Job:
    """A job that left these events and this exit code; without a code it is gone."""
    argv = ["python", "main.py", *words.split()]
    write_record(
        FOLDER,
        Record(argv, argv[2], None, 1, start, lifecycle.platform.node(), str(Path.cwd()), 1.0, {}),
    )
    log = AppendLog(FOLDER / "events.jsonl")
    for event in told:
        log.write(events.to_json(event))
    log.close()
    if code is not None:
        record_exit(FOLDER, code, **how)
    return states.look(FOLDER)


def _failed(error: Exception, words: str = "train", *before: events.Event) -> Diagnosis:
    failed = describe(error)
    return diagnose(_ended(*before, failed, code=failed.exit_code, words=words))


def _commands(found: Diagnosis) -> list[str]:
    return [" ".join(remedy.command) for remedy in found.remedies if remedy.command]


def _saved(step: int = 40) -> events.Saved:
    checkpoint = Path(f"checkpoints/run_x/checkpoint_step_{step:06d}")
    checkpoint.mkdir(parents=True, exist_ok=True)
    return events.Saved("checkpoint", str(checkpoint), {"step": step})


def _gone() -> UsageError:
    return UsageError(
        "There are no tokens of python yet.",
        remedy="make them: {}",
        commands=[("prepare", "--source", "python")],
    )


class GpuError(RuntimeError):
    """Has the name of torch's own."""


GpuError.__name__ = "OutOfMemoryError"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OutOfMemoryError("Out of memory with a batch of 16 windows."), Cause.MEMORY),
        (MemoryError(), Cause.MEMORY),
        (GpuError("CUDA out of memory. Tried to allocate 2 GiB"), Cause.MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), Cause.MEMORY),
        (NonFiniteError(7, float("nan"), 1.0), Cause.NAN),
        (DiskFullError("The disk is full."), Cause.DISK),
        (OSError(errno.ENOSPC, "No space left on device", "x"), Cause.DISK),
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), Cause.MISSING),
        (_gone(), Cause.MISSING),
        (RefusedError("Another tokenizer made these."), Cause.MISMATCH),
        (RefusedError("Another process is writing to x."), Cause.BUSY),
        (UsageError("--batch-size must be at least 1."), Cause.SETTINGS),
        (NetworkError("wikipedia could not be fetched."), Cause.NETWORK),
        (HatcheryError("No document survived cleaning."), Cause.OTHER),
        (ZeroDivisionError("oh"), Cause.MISTAKE),
    ],
)
def test_every_error_of_a_stage_has_its_cause(
    error: Exception, cause: Cause, workspace: Path
) -> None:
    found = _failed(error)
    assert found.cause == cause
    assert describe(error).problem in found.explanation
    assert found.remedies


def test_an_error_of_an_older_version_is_known_by_its_exit_code(workspace: Path) -> None:
    told = events.Failed("They do not fit.", exit_code=ExitCode.REFUSED)
    assert diagnose(_ended(told, code=3)).cause == Cause.MISMATCH


@pytest.mark.parametrize(
    ("code", "how", "cause"),
    [
        (130, {"signal": "SIGINT"}, Cause.STOPPED),
        (143, {"signal": "SIGTERM"}, Cause.TERMINATED),
        (143, {"signal": "SIGHUP"}, Cause.TERMINAL),
        (137, {"killed": True}, Cause.KILLED_BY_YOU),
        (0, {}, Cause.NONE),
        (None, {}, Cause.KILLED),
    ],
)
def test_every_end_from_outside_has_its_cause(
    code: int | None, how: dict[str, Any], cause: Cause, workspace: Path
) -> None:
    found = diagnose(_ended(code=code, **how))
    assert found.cause == cause
    assert bool(found.remedies) == (cause is not Cause.NONE)


def test_a_restart_of_the_machine_is_told_from_a_kill(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _ended(code=None, start="0ld0ld00-17")
    assert diagnose(job).cause == Cause.RESTARTED
    boot = (process_start(os.getpid()) or "").partition("-")[0]
    assert diagnose(_ended(code=None, start=f"{boot}-1")).cause == Cause.KILLED


def test_a_sudden_death_with_full_memory_is_put_down_to_it(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "_memory", lambda: 1000)
    monkeypatch.setattr(Path, "exists", lambda self: False)  # no GPU whose memory it could be
    for used, cause in ((200.0, Cause.KILLED), (900.0, Cause.MEMORY)):
        found = diagnose(_ended(events.Metric(1, {"memory": used}), code=None))
        assert found.cause == cause
        assert any(line.startswith("it used") for line in found.evidence)


def test_a_job_that_runs_or_waits_needs_no_remedy(workspace: Path) -> None:
    found = diagnose(_ended(code=None, start=process_start(1) or ""))
    assert (found.cause, found.remedies) == (Cause.ACTIVE, ())


# Remedies.


def test_memory_is_saved_by_half_the_batch_then_checkpointing_then_a_smaller_model(
    workspace: Path,
) -> None:
    words = "train --name a --batch-size 12 --gradient-accumulation-steps=3 --model.preset 125M"
    found = _failed(OutOfMemoryError("full"), words)
    half, checkpointing, smaller, *_ = (list(remedy.command) for remedy in found.remedies)
    train = parse_stage(half).config.train
    assert (train.name, train.batch_size, train.gradient_accumulation_steps) == ("a", 6, 6)
    assert parse_stage(checkpointing).config.train.gradient_checkpointing
    now, then = (parameter_count(parse_stage(c).config.model) for c in (words.split(), smaller))
    assert then < 0.8 * now


@pytest.mark.parametrize("samples", ["", "--samples all", "--samples 300"])
def test_a_benchmark_without_memory_reads_fewer_tokens_at_once(
    samples: str, workspace: Path
) -> None:
    words = f"benchmark --checkpoint a b {samples}".strip()
    commands = _commands(_failed(OutOfMemoryError("full"), words))
    assert commands[0] == f"{words} --batch-tokens 1024"
    assert not [command for command in commands if "--samples 1" in command]


def test_a_model_that_is_spelled_out_loses_layers_where_no_preset_can_shrink_it(
    workspace: Path,
) -> None:
    sizes = "train --model.hidden-size 512 --model.num-heads 8"
    commands = _commands(_failed(OutOfMemoryError("full"), f"{sizes} --model.num-layers 8"))
    assert f"{sizes} --model.num-layers 4" in commands
    assert not [command for command in commands if "preset" in command]


def test_a_run_with_a_checkpoint_goes_on_from_it_in_smaller_batches_too(workspace: Path) -> None:
    found = _failed(OutOfMemoryError("full"), "train --resume auto", _saved())
    assert _commands(found)[0] == "train --resume checkpoints/run_x --gradient-checkpointing"
    half = next(command for command in _commands(found) if "--batch-size 8" in command)
    assert half.startswith("train --resume checkpoints/run_x")
    assert half.endswith("--batch-size 8 --gradient-accumulation-steps 2")


def test_smaller_batches_keep_the_product_that_the_run_has_and_not_that_of_the_config(
    workspace: Path,
) -> None:
    saved = _saved()
    options = {"batch_size": 6, "gradient_accumulation_steps": 3, "learning_rate": 0.2}
    record = run_record.RunRecord(options, {}, "data", {}, "2026-01-01", "0.1.0")
    run_record.write_record(Path("checkpoints/run_x"), record)
    commands = _commands(_failed(OutOfMemoryError("full"), "train --resume auto", saved))
    [smaller] = [command for command in commands if "--batch-size" in command]
    assert smaller.endswith("--batch-size 3 --gradient-accumulation-steps 6")
    lower = _commands(_failed(NonFiniteError(50, 1.0, 2.0), "train --resume auto", saved))[0]
    assert "--learning-rate 0.1 " in lower


def test_broken_numbers_are_met_with_lower_rates_from_the_last_checkpoint(workspace: Path) -> None:
    adamw = _failed(NonFiniteError(50, 1.0, 2.0), "train --optimizer adamw --learning-rate 0.1")
    assert _commands(adamw)[0] == "train --optimizer adamw --learning-rate 0.05"
    found = _failed(NonFiniteError(50, 1.0, float("inf")), "train --test", _saved())
    rates = "--learning-rate 0.0015 --matrix-learning-rate 0.01"
    assert _commands(found)[0] == f"train --test --resume checkpoints/run_x {rates}"


def test_a_full_disk_says_where_the_room_went(workspace: Path) -> None:
    for name, size in (("data/raw", 5000), ("checkpoints/run_a", 3000), ("data/small", 10)):
        Path(name).mkdir(parents=True)
        (Path(name) / "file").write_bytes(bytes(size))
    found = _failed(DiskFullError("The disk is full."), "train", _saved())
    assert "data/raw 4.9 KiB, checkpoints/run_a 2.9 KiB" in found.remedies[0].why
    assert _commands(found)[0] == "train --resume checkpoints/run_x --keep-checkpoints 1"


def test_what_is_missing_is_made_first(workspace: Path) -> None:
    remedy = _failed(_gone(), "train --name a").remedies[0]
    assert remedy.first == ("prepare", "--source", "python")
    assert remedy.command == ("train", "--name", "a")


def test_what_is_made_first_is_of_the_same_source(workspace: Path) -> None:
    train = ("tokenize", "--train", "bpe")
    lacking = UsageError("No tokenizer.", remedy="train one: {}", commands=[train])
    remedy = _failed(lacking, "prepare --source files").remedies[0]
    assert remedy.first == ("tokenize", "--train", "bpe", "--source", "files")


@pytest.mark.parametrize("code", [None, 137, 130, 143])
def test_what_was_ended_goes_on_where_it_stopped(code: int | None, workspace: Path) -> None:
    killed = code == 137
    found = diagnose(_ended(_saved(), code=code, killed=killed, words="train --name a"))
    assert found.remedies[0].label == "Go on where it stopped"
    assert _commands(found)[0] == "train --name a --resume checkpoints/run_x"


def test_a_checkpoint_that_is_gone_is_not_gone_on_from(workspace: Path) -> None:
    job = _ended(_saved(10), *[events.Metric(n, {"loss": 1.0}) for n in range(9000)], _saved(20))
    Path("checkpoints/run_x/checkpoint_step_000020").rmdir()
    assert command_again(job) == ["train", "--resume", "checkpoints/run_x"]
    Path("checkpoints/run_x/checkpoint_step_000010").rmdir()
    assert command_again(job) == ["train"]


def _errors() -> list[Exception]:
    return [
        OutOfMemoryError("a"),
        NonFiniteError(1, 1.0, 1.0),
        DiskFullError("a"),
        RefusedError("a", commands=[("train", "--resume", "auto", "--name", "NAME")]),
        UsageError("a", commands=[("cleanup", "--source", "python")]),
        NetworkError("a"),
        ZeroDivisionError("a"),
    ]


def test_advice_with_a_word_to_fill_in_is_not_started(workspace: Path) -> None:
    unnamed = [("prepare", "--input", "FILE_OR_FOLDER"), ("jobs", "list"), ("teleport",)]
    refused = RefusedError("a", remedy="{}, {}, {}", commands=[*unnamed, ("download", "--list")])
    assert startable(describe(refused)) == [("download", "--list")]


def test_failures_recorded_before_commands_were_are_still_explained(workspace: Path) -> None:
    line = (
        b'{"event":"failed","time":1.0,"problem":"There are no tokens of python yet.","found":"",'
    )
    line += b'"remedy":"make them: python main.py prepare --source python","exit_code":2,'
    failed = events.from_json(line + b'"kind":"UsageError"}')
    found = diagnose(_ended(failed, code=2))
    assert found.explanation.startswith("There are no tokens of python yet.")
    assert "Make them: python main.py prepare --source python" in [r.label for r in found.remedies]


@pytest.mark.slow
@pytest.mark.parametrize("words", ["train --resume auto", "plan", "cleanup --workers 4"])
def test_every_command_of_every_remedy_is_valid(words: str, workspace: Path) -> None:
    for error in _errors():
        for remedy in _failed(error, words).remedies:
            for command in filter(None, (remedy.first, remedy.command)):
                assert parse_stage(command).stage.command == command[0]


def test_a_job_without_a_record_or_of_an_unknown_stage_is_diagnosed(workspace: Path) -> None:
    FOLDER.mkdir(parents=True)
    assert diagnose(states.look(FOLDER)).remedies[0].command == ()
    assert diagnose(_ended(code=1, words="teleport")).remedies[0].command == ()
    (FOLDER / "job.json").write_bytes(b"\xff{")
    assert diagnose(states.look(FOLDER)).cause == Cause.OTHER


def test_a_broken_config_file_is_a_setting_that_is_wrong(workspace: Path) -> None:
    Path("config.json").write_text("{")
    found = _failed(UsageError("config.json is not JSON."))
    assert found.cause == Cause.SETTINGS
    assert found.remedies[-1] == Remedy(
        "Change its settings", "opens its form", ("train",), (), True
    )


# Command lines.


@pytest.mark.parametrize(
    ("remedy", "commands", "text"),
    [
        (
            "make them: {}",
            ["cleanup --source files"],
            "make them: python main.py cleanup --source files",
        ),
        (
            "{} sets it aside and goes on",
            ["train --resume auto --name run_x"],
            "python main.py train --resume auto --name run_x sets it aside and goes on",
        ),
        (
            "its model still writes: {}; {} starts a new run",
            ["inference --checkpoint a", "train"],
            "its model still writes: python main.py inference --checkpoint a; python main.py train "
            "starts a new run",
        ),
        (
            "fetch it: {}",
            ["download wikipedia"],
            "fetch it: python main.py download wikipedia",
        ),
    ],
)
def test_advice_is_a_sentence_and_the_commands_in_it(
    remedy: str, commands: list[str], text: str
) -> None:
    words = [tuple(command.split()) for command in commands]
    failed = describe(UsageError("p", remedy=remedy, commands=words))
    assert failed.remedy == text
    assert startable(failed) == words


@pytest.mark.parametrize(
    ("command", "typed", "more", "result"),
    [
        ("train", "--batch-size 16 --test", "--batch-size 8", "--test --batch-size 8"),
        ("train", "--batch-size=16 --test", "--train.batch_size 8", "--test --train.batch_size 8"),
        ("train", "--no-tensorboard --json", "--tensorboard", "--json --tensorboard"),
        ("train", "--model.preset tiny", "--model.preset mini", "--model.preset mini"),
        ("cleanup", "--input a b --force", "--input c", "--force --input c"),
        ("download", "--force python", "wikipedia", "--force wikipedia"),
        ("plan", "--batch-size 4 --no-probe", "--batch-size 2", "--no-probe --batch-size 2"),
        ("train", "--config a.json", "--config b.json", "--config b.json"),
    ],
)
def test_later_flags_win(command: str, typed: str, more: str, result: str) -> None:
    stage = stages.find(command)
    merged = overlaid(stage, typed.split(), more.split())
    assert merged == result.split()


def test_a_setting_can_be_taken_out() -> None:
    words = ["--resume", "auto", "--train.resume=x", "--name", "a"]
    assert without(stages.find("train"), words, "resume") == ["--name", "a"]


def test_why_prints_the_diagnosis_and_json_on_demand(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from app.cli.jobs import why

    _failed(_gone(), "train --name a")
    why()
    shown = capsys.readouterr().out
    assert "train ab12: something is missing" in shown
    assert "jobs retry ab12 --remedy 1" in shown
    assert "python main.py prepare --source python; python main.py train --name a" in shown
    why(as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["remedies"][0]["first"] == ["prepare", "--source", "python"]


@pytest.mark.parametrize("free", [0, 1, 4096, 65536, 500_000])
def test_a_job_that_could_not_write_how_it_ended_is_put_down_to_the_full_disk(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    job = _ended(events.Progress(3), code=None)
    assert diagnose(job).cause is Cause.KILLED
    usage = shutil.disk_usage(workspace)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    found = diagnose(job)
    assert found.cause is Cause.DISK
    assert any("disk" in line and "is full" in line for line in found.evidence)


@pytest.mark.parametrize("code", [0, 1, 2, 3, 130])
def test_room_is_kept_to_write_down_how_a_job_ended(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    _ended(code=None)
    folder.reserve_room(FOLDER)
    [kept] = [path for path in FOLDER.iterdir() if path.name.startswith(".")]
    written = folder.write_json

    def full_but_for_the_reserve(path: Path, value: object) -> object:
        if kept.exists():
            raise DiskFullError("The disk is full.")
        return written(path, value)

    monkeypatch.setattr(folder, "write_json", full_but_for_the_reserve)
    record_exit(FOLDER, code)
    assert states.look(FOLDER).exit_code == code
    assert not kept.exists()


def _really_failed(words: str) -> Diagnosis:
    """What a job of this command ends with, run here."""
    parsed = parse_stage(words.split())
    with pytest.raises(UsageError) as caught:
        list(parsed.stage.events(parsed.settings, StopSignal()))
    return _failed(caught.value, words)


@pytest.mark.parametrize(
    ("words", "first", "command"),
    [
        ("cleanup --source letters", "", "cleanup --input letters"),
        ("cleanup --source ./letters --workers 1", "", "cleanup --input ./letters"),
        ("cleanup --source book.txt", "", "cleanup --input book.txt"),
        ("cleanup --source texts/poems/", "", "cleanup --input texts/poems/"),
        (
            "tokenize --train bpe --source ./letters",
            "cleanup --input ./letters",
            "tokenize --train bpe --source letters",
        ),
        (
            "tokenize --train char --source letters",
            "cleanup --input letters",
            "tokenize --train char --source letters",
        ),
        (
            "prepare --source texts/poems --window 64",
            "cleanup --input texts/poems",
            "prepare --window 64 --source poems",
        ),
        ("prepare --source book.txt", "cleanup --input book.txt", "prepare --source book"),
        ("train --source ./letters", "cleanup --input ./letters", "train --source letters"),
    ],
)
def test_a_path_as_a_corpus_is_corrected_ready_to_start(
    workspace: Path, words: str, first: str, command: str
) -> None:
    for name in ("letters/a.txt", "texts/poems/b.txt", "book.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("Dear friend. " * 60)
    remedy = _really_failed(words).remedies[0]
    assert (" ".join(remedy.first), " ".join(remedy.command)) == (first, command)
    for line in filter(None, (remedy.first, remedy.command)):
        parse_stage(line)
    cleaned = parse_stage(remedy.first or remedy.command)
    assert list(cleaned.stage.events(cleaned.settings, StopSignal()))
    if first:  # and the job goes on with what that made
        again = parse_stage(remedy.command)
        with pytest.raises(UsageError) if "--train" not in command else nullcontext() as caught:
            list(again.stage.events(again.settings, StopSignal()))
        assert caught is None or "is a path" not in str(caught.value)
