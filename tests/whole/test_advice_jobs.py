"""Every command that jobs, their doctor, plans and the program's own texts advise, run as it was
printed."""

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from app.doctor.diagnosis import diagnose
from app.jobs import history, lifecycle, states
from app.jobs.folder import Record, record_exit, write_record
from app.jobs.job import Job
from app.jobs.processes import process_start
from app.jobs.runner import describe
from pipeline import events, stages
from pipeline.runs.folders import step_folders
from pipeline.stages import STAGES
from pipeline.train.trainer import NonFiniteError
from tests.support.advice import advised, made, pasted, recorded, typed
from tests.support.programs import fake_stage
from utils.errors import NetworkError, OutOfMemoryError, RefusedError
from utils.files import AppendLog, DiskFullError

LOGS = Path("logs")
Printed = Callable[[], tuple[str, dict[str, str]]]


@pytest.fixture
def work(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder whose jobs are of the fake kind; what still runs at the end is killed."""
    monkeypatch.setattr(lifecycle, "PROGRAM", (sys.executable, fake_stage.__file__))
    monkeypatch.setattr(stages, "STAGES", (*STAGES, fake_stage.FAKE))
    yield workspace
    for job in states.all_jobs(LOGS):
        if job.state in ("running", "waiting"):
            lifecycle.kill(job)


def _start(mode: str = "noisy", *after: Job, steps: int = 2) -> Job:
    words = ["fake", "--name", mode, "--max-steps", str(steps)]
    return lifecycle.start(LOGS, words, "fake", mode, after=[job.id for job in after])


def _ended(job: Job) -> Job:
    deadline = time.monotonic() + 60
    while (now := states.look(job.folder)).state in ("running", "waiting"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return now


def _folder(words: str, *told: events.Event, code: int | None = 1, host: str = "") -> Job:
    """A job that ended so, without a process of its own."""
    folder = LOGS / "jobs/2026_11_21_08_00_00-train-ab12"
    argv = ["python", "main.py", *words.split()]
    host, own = host or lifecycle.platform.node(), str(Path.cwd())
    start = process_start(os.getpid()) if code is None and host else ""
    write_record(folder, Record(argv, argv[2], None, 1, start or "", host, own, 1.0, {}))
    log = AppendLog(folder / "events.jsonl")
    for event in told:
        log.write(events.to_json(event))
    log.close()
    if code is not None:
        record_exit(folder, code)
    return states.look(folder)


def _interrupted() -> None:
    raise KeyboardInterrupt


def _last(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    outcome = typed(words, capfd)
    return outcome.out + outcome.err


# Jobs.


@pytest.mark.slow
@pytest.mark.parametrize("which", ["jobs attach", "jobs stop"])
def test_a_started_job_can_be_followed_and_stopped_as_it_says(
    which: str, work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = _last(capfd, "jobs", "start", "--", "fake", "--max-steps", "40")
    [line] = [line for line in advised(text) if which in line]
    assert pasted(line, capfd).code == 0


@pytest.mark.slow
def test_the_first_job_that_the_empty_list_proposes_starts(
    work: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    [line] = advised(_last(capfd, "jobs", "list"))
    assert pasted(line, capfd).code == 0


@pytest.mark.slow
def test_what_is_wrong_with_a_command_of_jobs_has_its_way_out(
    work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    done, stubborn = _ended(_start()), _start("stubborn", steps=100_000)
    waiting = _start("noisy", stubborn)
    unknown = LOGS / "jobs/2026_11_21_08_00_00-train-ab12"
    _folder("teleport")
    shutil.copytree(unknown, unknown.with_name("2026_11_21_08_00_01-train-cd34"))
    (unknown.with_name("2026_11_21_08_00_01-train-cd34") / "job.json").unlink()
    for words in (
        ["jobs", "attach", "beef"],
        ["jobs", "stop", done.id],
        ["jobs", "retry", done.id, "--remedy", "9"],
        ["jobs", "retry", "ab12"],
        ["jobs", "retry", "cd34"],
        ["jobs", "start"],
        ["jobs", "bogus"],
        ["fake", "--bogus"],
    ):
        failed = typed(words, capfd)
        [line] = advised(failed.err)
        assert failed.code
        assert pasted(line.replace("STAGE", "fake"), capfd).code == 0, line
    for removed in (stubborn, done):
        with pytest.raises(RefusedError) as refused:
            lifecycle.remove(removed, [*states.all_jobs(LOGS), _named(waiting, done)])
        [line] = advised(refused.value.remedy)
        assert line.split()[2:4] == ["jobs", "stop"]
    deadline = time.monotonic() + 60
    while len(history.EventReader(stubborn.folder).read()) < 3:  # before, it still can be stopped
        assert time.monotonic() < deadline
        time.sleep(0.02)
    failed = typed(["jobs", "stop", stubborn.id, "--timeout", "0.2"], capfd)
    [line] = advised(failed.err)
    assert pasted(line, capfd).code == 0
    assert states.look(stubborn.folder).state == "killed"


def _named(waiting: Job, other: Job) -> Job:
    """The waiting job as if it waited for the other one."""
    return waiting._replace(waits_for=(other.id,))


@pytest.mark.slow
def test_a_job_that_is_done_again_can_be_followed(
    work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    running = _start(steps=40)
    [line] = advised(typed(["jobs", "retry", running.id], capfd).err)
    assert line == f"python main.py jobs attach {running.id}"
    assert pasted(line, capfd).code == 0


@pytest.mark.slow
def test_a_job_that_died_or_was_left_says_how_to_learn_more(
    work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    died = _ended(_start("die"))
    [why] = advised(typed(["jobs", "attach", died.id], capfd).err)
    explained = pasted(why, capfd)
    assert explained.code == 0
    lines = advised(explained.out)
    assert any("--remedy 1" in line for line in lines)
    assert any(line.endswith("OPTIONS") for line in lines)
    for line in lines:
        line = line.replace("OPTIONS", "--max-steps 2").replace("--name die", "--name noisy")
        assert pasted(line, capfd).code == 0, line
        for job in states.all_jobs(LOGS):
            _ended(job)
    running = _start(steps=100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.cli.attach.time.sleep", lambda seconds: _interrupted())
        [line] = advised(typed(["jobs", "attach", running.id], capfd).err)
    assert line == f"python main.py jobs attach {running.id}"
    assert lifecycle.find(LOGS, shlex.split(line)[-1]).id == running.id
    lifecycle.kill(running)


@pytest.mark.slow
def test_a_job_that_waits_in_vain_says_what_to_do(
    work: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = _ended(_start("refuse"))
    waiting = _start("noisy", first)
    elsewhere = _start("noisy", _folder("fake", code=None, host="another"))
    gone = _start("noisy", lost := _ended(_start()))
    shutil.rmtree(lost.folder)
    for job, commands in ((waiting, 1), (elsewhere, 1), (gone, 2)):
        deadline, lines = time.monotonic() + 60, list[str]()
        while len(lines) < commands:
            assert time.monotonic() < deadline, job.id
            told = history.EventReader(job.folder).read()
            warned = [event.remedy for event in told if isinstance(event, events.Warned)]
            lines = advised("\n".join(warned))
        for line in dict.fromkeys(lines):
            assert pasted(line, capfd).code == 0, line


# The doctor.


def _failed(error: Exception) -> events.Failed:
    failed = describe(error)
    assert isinstance(failed, events.Failed)
    return failed


def _saved() -> events.Saved:
    run = next(Path("checkpoints").glob("run_*_first"))
    return events.Saved("checkpoint", str(step_folders(run)[-1]), {"step": 2})


def _real(words: Sequence[str], capfd: pytest.CaptureFixture[str]) -> events.Failed:
    """What a command of this workspace fails with."""
    with recorded() as errors:
        assert typed(words, capfd).code
    return _failed(errors[-1][1])


OOM = OutOfMemoryError("Out of memory with a batch of 2 windows.")
ENDS: dict[str, tuple[str, Exception | None, bool]] = {
    "memory": ("train --name large", OOM, False),
    "memory with a run": ("train --name first --max-steps 3", OOM, True),
    "memory while cleaning": ("cleanup --workers 2", MemoryError(), False),
    "not a number": ("train --max-steps 3", NonFiniteError(3, float("nan"), 1.0), True),
    "disk": ("train --max-steps 3", DiskFullError("The disk is full."), True),
    "mismatch": ("train --max-steps 3", RefusedError("They do not belong together."), False),
    "network": ("prepare", NetworkError("It could not be fetched."), False),
    "killed": ("train --max-steps 3", None, True),
    "mistake": ("tokenize --train bpe", ZeroDivisionError(), False),
}


@pytest.mark.slow
@pytest.mark.parametrize("end", sorted(ENDS))
def test_every_remedy_of_the_doctor_works(
    end: str, house: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words, error, has_run = ENDS[end]
    told = [*([_saved()] * has_run), *([_failed(error)] if error else [])]
    found = diagnose(_folder(words, *told, code=1 if error else None))
    startable = [remedy for remedy in found.remedies if remedy.command]
    assert startable
    for remedy in startable:
        for command in remedy.commands:
            done = typed(command, capfd)
            assert done.code == 0, (remedy, done.err)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "steps"),
    [
        ("train --source python", ["cleanup", "prepare"]),
        ("prepare --source python", ["cleanup"]),
        ("tokenize --train bpe --source python --name other", ["cleanup"]),
        ("train --resume gone", []),
    ],
)
def test_all_that_is_missing_is_made_in_order(
    words: str, steps: list[str], house: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    found = diagnose(_folder(words, _real(words.split(), capfd), code=2))
    [remedy, *_] = [remedy for remedy in found.remedies if remedy.command]
    assert [command[0] for command in remedy.commands[:-1]] == steps
    for command in remedy.commands if steps else ():
        done = typed(command, capfd)
        assert done.code == 0, (command, done.err)


# Plans, the quickstart and the program's own texts.


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "plan --no-probe --max-steps 90000",
        "plan --no-probe --model.preset small --batch-size 4096",
        "plan --no-probe --resume auto --max-steps 5",
        "plan --finish-by 3s --seed 7 --eval-every 50",
    ],
)
def test_every_command_of_a_plan_works(
    words: str, house: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = typed(words.split(), capfd)
    lines = advised(shown.out + shown.err)
    assert lines
    for line in lines:
        assert pasted(line.replace("train ", "plan --no-probe ", 1), capfd).code == 0, line
    assert pasted(_short(lines[-1]), capfd).code == 0


def _short(line: str) -> str:
    """The command with a length and a model that a test can wait for."""
    words = shlex.split(line)
    for flag, least in (("--max-steps", "3"), ("--model.preset", "tiny"), ("--batch-size", "4")):
        if flag in words:
            words[words.index(flag) + 1] = least
    return shlex.join(words)


@pytest.mark.slow
def test_what_the_quickstart_proposes_works(house: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shown = typed(["quickstart"], capfd)
    lines = advised(shown.out + shown.err)
    assert len(set(lines)) >= 4
    for line in dict.fromkeys(lines):
        line = line.replace("FOLDER", "notes").replace("--minutes 20", "--max-steps 2")
        done = pasted(line, capfd)
        assert done.code == 0, line
        if "--chat" in line:
            follow = advised(done.out + done.err)[-1]
            assert follow.split()[2] == "chat"
            assert pasted(follow, capfd).code == 0, follow


@pytest.mark.slow
def test_documents_that_a_tokenizer_loses_are_kept_with_the_proposed_one(
    house: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made("tokenize", "--train", "bpe", "--name", "own")
    folder = Path("tokenizers/own")
    file = folder / "tokenizer.json"
    step = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": "_"}
    Path("odd").mkdir()
    text = json.dumps(json.loads(file.read_bytes()) | {"normalizer": step})
    Path("odd/tokenizer.json").write_text(text)
    shown = typed(["tokenize", "--load", "odd"], capfd)
    assert shown.code == 0
    [line] = advised(shown.err)
    assert pasted(line, capfd).code == 0
    Path("notes/30.txt").write_text("A\u2581b and the small hen.\n" * 9)
    made("cleanup", "--input", "notes")
    shown = typed(["prepare", "--tokenizer", "odd"], capfd)
    lines = advised(shown.err)
    assert [line.split()[2] for line in lines] == ["tokenize", "prepare"], shown.err
    for line in lines:
        done = pasted(line, capfd)
        assert done.code == 0, line
    assert "left out" not in done.err


@pytest.mark.slow
def test_a_tokenizer_that_is_replaced_can_be_kept(
    house: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    made("tokenize", "--train", "bpe", "--name", "own")
    Path("other.txt").write_text("Quite another text, and nothing else in it.\n" * 40)
    made("cleanup", "--input", "other.txt")
    shown = typed(["tokenize", "--train", "bpe", "--name", "own"], capfd)
    [line] = advised(shown.err)
    assert pasted(line, capfd).code == 0
    assert Path("tokenizers/own_2").is_dir()


@pytest.mark.slow
def test_a_text_shorter_than_a_window_says_how_to_train_on_it(
    house: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shown = typed(["prepare", "--window", "60000"], capfd)
    [line] = advised(shown.err)
    assert pasted(line, capfd).code == 0


@pytest.mark.slow
def test_a_model_too_large_for_its_text_says_what_would_fit(
    house: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = json.loads(Path("config.json").read_bytes())
    Path("config.json").write_text(json.dumps(settings | {"model": {}}))
    # Muon takes half a minute for one step of the model that is far too large.
    large = typed(
        ["train", "--max-steps", "1", "--optimizer", "adamw", "--eval-batches", "1"], capfd
    )
    [line] = advised(large.err)
    assert "--model.preset tiny" in line
    assert pasted(line, capfd).code == 0


@pytest.mark.slow
def test_a_run_that_is_done_says_how_it_goes_on(
    house: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for words in (["--resume", "first"], ["--resume", "first", "--max-steps", "1"]):
        [line] = advised(typed(["train", *words], capfd).err)
        assert pasted(line, capfd).code == 0
