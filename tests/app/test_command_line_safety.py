"""No name of a file, folder, run, corpus, tokenizer, job, model or machine reaches the terminal as
a command, from any command line."""

import json
import os
import pty
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from app.cli import main
from app.jobs.folder import Exit, Record
from pipeline.events import Failed, Started, Warned, to_json
from tests.support.terminals import terminal
from tests.support.tiny_checkpoints import lively_model, two_runs
from utils.text import safe, safe_json

PAYLOADS = {
    "OSC 52": "\x1b]52;c;SEFD\x07",
    "C1": "\x9b31m\x90q\x9c",
    "RLO": "\u202egnp.exe\u2066",
    "markup": "[bold][/foo]",
    "title": "\x1b]0;evil\x1b\\\x1b[2J",
}
NAME = "".join(PAYLOADS.values()).replace("/", "")
RUN = f"run_2026_01_03_10_00_{NAME}"
MISSING = f"x{NAME}"
JOB = "2026_11_21_08_00_00-train-ab12"
# What Rich and readline write: colours, the cursor on and off, lines erased, bracketed paste.
OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\[\?(?:25|2004)[lh]|\x1b\[\d*[AK]|\r")

COMMANDS = [
    ["download", "--list"],
    ["download", NAME],
    ["cleanup", "--input", f"raw/{NAME}.txt", "--name", "mine"],
    ["cleanup", "--input", f"raw/{NAME}"],
    ["cleanup", "--source", NAME],
    ["cleanup", "--input", "raw", "--output", NAME, "--workers", "1"],
    ["tokenize", "--load", NAME],
    ["tokenize", "--train", "char", "--name", NAME],
    ["tokenize", "--encode", NAME],
    ["tokenize", "--encode", "a", "--name", NAME],
    ["prepare", "--tokenizer", NAME],
    ["prepare", "--input", NAME],
    ["prepare", "--source", NAME],
    ["train", "--resume", NAME],
    ["train", "--resume", RUN],
    ["train", "--source", NAME],
    ["train", "--name", NAME],
    ["train", "--data", NAME],
    ["train", "--init-from", NAME],
    ["train", "--config", NAME],
    ["plan", "--no-probe", "--resume", RUN],
    ["inference", "--checkpoint", MISSING, "--prompt", NAME],
    ["inference", "--checkpoint", RUN, "--prompt", NAME, "--max-length", "3"],
    ["inference", "--checkpoint", RUN, "--prompt", NAME, "--max-length", "3", "--json"],
    ["inference", "--checkpoint", RUN, "--prompt", f"FILE:{NAME}"],
    ["serve", "--checkpoint", MISSING],
    ["serve", "--host", NAME, "--token", "12345678"],
    ["export", "--checkpoint", RUN],
    ["export", "--checkpoint", MISSING],
    ["bench", "--checkpoint", MISSING],
    ["rehearse", "--source", NAME],
    ["jobs", "list"],
    ["jobs", "list", "--json"],
    ["jobs", "why", "ab12"],
    ["jobs", "why", "ab12", "--json"],
    ["jobs", "attach", "ab12"],
    ["jobs", "attach", "ab12", "--json"],
    ["jobs", "stop", "ab12"],
    ["jobs", "stop", NAME],
    ["jobs", "retry", NAME],
    ["jobs", "start", "--", "train", NAME],
    ["web", "--host", NAME],
    [NAME],
]


@pytest.fixture(scope="module")
def _named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which everything has that name."""
    folder = tmp_path_factory.mktemp("named")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        two_runs([lively_model(seed) for seed in (1, 2, 3)])
        Path("checkpoints/run_2026_01_02_10_00").rename(Path("checkpoints", RUN))
        shutil.copytree("tokenizers/bytes", Path("tokenizers", NAME))
        Path("raw", NAME).mkdir(parents=True)
        for name in (f"raw/{NAME}.txt", f"raw/{NAME}/{NAME}.bin", f"raw/{NAME}.txt.gz"):
            Path(name).write_text("The small hen lays an egg under the green bush.\n" * 9)
        Path("data/cleaned_articles", NAME).mkdir(parents=True)
        job = Path("logs/jobs", JOB)
        job.mkdir(parents=True)
        argv = ["python", "main.py", "train", "--name", NAME]
        record = Record(argv, "train", NAME, 1, "x", os.uname().nodename, str(folder), 1e9, {})
        (job / "job.json").write_bytes(msgspec.json.encode(record))
        told = [Started("train", NAME), Warned(NAME, NAME), Failed(NAME, NAME, NAME, 1)]
        (job / "events.jsonl").write_bytes(b"".join(to_json(e) + b"\n" for e in told))
        (job / "exit.json").write_bytes(msgspec.json.encode(Exit(1, 1e9)))
        elsewhere = Path("logs/jobs", f"2026_11_21_08_00_01-{NAME}-cd34")
        shutil.copytree(job, elsewhere)
        (elsewhere / "exit.json").unlink()
        abroad = msgspec.structs.replace(record, host=NAME)
        (elsewhere / "job.json").write_bytes(msgspec.json.encode(abroad))
    return folder


@pytest.fixture
def named(_named: Path, workspace: Path) -> Path:
    shutil.copytree(_named, workspace, dirs_exist_ok=True, symlinks=True)
    return workspace


@contextmanager
def _on_a_terminal() -> Iterator[bytearray]:
    """stdout and stderr of this process are a terminal; what was written, once it is over."""
    master, slave = pty.openpty()
    written = bytearray()

    def drain() -> None:
        while data := os.read(master, 1 << 16):
            written.extend(data)
            if data.endswith(b"\0"):
                return

    reader = threading.Thread(target=drain)
    reader.start()
    with pytest.MonkeyPatch.context() as patch, os.fdopen(slave, "w", buffering=1) as stream:
        patch.setattr("sys.stdout", stream)
        patch.setattr("sys.stderr", stream)
        patch.setenv("COLUMNS", "100")
        try:
            yield written
        finally:
            stream.flush()
            os.write(stream.fileno(), b"\0")
            reader.join()
            os.close(master)


def foreign(output: bytes) -> str:
    """What is left of the output without our own sequences, if anything in it is unsafe."""
    left = OURS.sub("", output.decode().rstrip("\0"))
    return "" if left == safe(left) else repr(left)


@pytest.mark.slow
@pytest.mark.parametrize("typed", COMMANDS, ids=lambda typed: ascii(" ".join(typed))[1:60])
def test_no_command_writes_a_foreign_control_byte(typed: list[str], named: Path) -> None:
    with _on_a_terminal() as written, pytest.raises(SystemExit):
        main.main(typed)
    assert written.strip(b"\0")
    assert foreign(bytes(written)) == ""


@pytest.mark.slow
def test_no_run_that_is_chosen_and_loaded_does(named: Path) -> None:
    main_file = str(Path(__file__).parents[2] / "main.py")
    with terminal(main_file, "inference") as opened:
        opened.until("Enter: 1]")
        opened.type("1\n")
        opened.until("Checkpoint [1-")
        opened.type("1\n")
        loaded = opened.until("/help shows")
        opened.type("/model\n")
        opened.until("Enter: 1]", loaded)
        opened.type("\x04")
        opened.until("Nothing changed")
        opened.type("/quit\n")
        assert opened.ended() == 0
        assert "loading" in opened.text
        assert "[bold]" in opened.text
        assert foreign(bytes(opened.output)) == ""


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_events_as_json_hold_it_so_that_a_terminal_does_not_obey(payload: str) -> None:
    line = safe_json(to_json(Warned(payload, f"é {payload} 漢 \U000e0041")))
    assert safe(line.decode()) == line.decode()
    assert json.loads(line)["message"] == payload
    assert json.loads(line)["remedy"] == f"é {payload} 漢 \U000e0041"
