"""The command line as a user, a script and a saboteur meet it."""

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from app.cli import main
from app.commands import parser
from app.commands.flags import stage_command
from app.commands.parser import parse_stage
from app.commands.settings import load_config
from app.jobs.runner import StopRequest
from app.terminal.event_renderers import TerminalRenderer, _fact
from app.terminal.layout import without_loops
from model.config import PRESETS
from pipeline import events, stages
from pipeline.options.config import Config, typed_in
from pipeline.stages import STAGES
from tests.support.benchmarks import report
from tests.support.programs import fake_stage
from tests.support.run_folders import finished_run
from utils.errors import ExitCode

FAKE = [sys.executable, fake_stage.__file__]
MAIN = [sys.executable, str(Path(__file__).parents[2] / "main.py")]
Run = Callable[..., int]


@pytest.fixture
def run(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in this process, with the fake stage beside the real ones."""
    monkeypatch.setattr(stages, "STAGES", (*STAGES, fake_stage.FAKE))
    monkeypatch.delenv("HATCHERY_JOB", raising=False)

    def typed(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main.main(arguments)
        return int(ended.value.code or 0)

    return typed


def _settings(*typed: str) -> Config:
    """The settings that `main.py train ...` would run with."""
    return parse_stage(["train", *typed]).config


def test_no_argument_shows_the_help_and_the_first_step(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    shown = capsys.readouterr().out
    names = [stage.command for stage in STAGES]
    assert [word for word in re.findall(r"^  (\w+) ", shown, re.M) if word in names] == names
    assert "python main.py quickstart" in shown


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.command)
def test_every_command_explains_every_option_within_80_columns(
    stage: fake_stage.Stage, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(stage.command, "--help") == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    for name in getattr(Config(), stage.section).model_dump():
        assert name.replace("_", "-") in shown or name.upper() in shown
    assert stage_command(stage, []).__doc__ == stage.purpose + "."


@pytest.mark.parametrize(
    ("typed", "problem", "remedy"),
    [
        (["trian"], 'Unknown command "trian". Did you mean "train"?', "main.py --help"),
        (["--bogus"], 'Unknown command "--bogus"', "main.py --help"),
        (["train", "--sede", "1"], "Unknown option: --sede. Did you mean --seed?", "train --help"),
        (["train", "--seed", "x"], 'unable to convert "x" into int', "train --help"),
        (["train", "--seed"], "requires an argument", "train --help"),
        (["train", "--optimizer", "muno"], 'Did you mean "muon"?', "train --help"),
        (["train", "--seed", "1", "--seed", "2"], "multiple times", "train --help"),
        (["download", "a", "b"], "b is one argument too many", "download --help"),
        (["train", "--model.hiden-size", "3"], "Unknown option", "mean --model.hidden-size?"),
        (["train", "--modle.hidden-size", "3"], "Unknown option", "mean --model.hidden-size?"),
        (["train", "--epochs", "0"], "train.epochs, from the command line", "correct --epochs"),
        (["train", "--learning-rate", "nan"], "finite number", "correct --learning-rate"),
        (["train", "--model.rope-scaling", "{"], "written as JSON", "train --help"),
        (["train", "--config", "gone.json"], "gone.json cannot be read", "check its name"),
        (["train", "--model.num-heads", "3"], "not divisible", "--model"),
        (["jobs", "bogus"], 'Unknown command "bogus"', "jobs --help"),
        (["jobs", "start"], "There is no stage to start", "jobs start -- train"),
        (["jobs", "attach", "beef"], "There is no job beef", "jobs list"),
        (["jobs", "stop"], "There is no running job", "jobs list"),
    ],
)
def test_mistakes_are_one_paragraph_with_the_way_out_and_exit_code_2(
    typed: list[str], problem: str, remedy: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*typed) == ExitCode.USAGE
    shown = capsys.readouterr()
    assert shown.out == ""
    assert problem in shown.err
    assert remedy in shown.err.rpartition("Next: ")[2]
    assert "Traceback" not in shown.err
    assert len(shown.err.splitlines()) <= 3


@pytest.mark.parametrize(
    "typed", [["trian"], ["train", "--sed", "1"], ["fake", "--name", "refuse"]]
)
def test_failures_as_json_are_one_event_on_stdout_and_a_paragraph_on_stderr(
    typed: list[str], run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    code = run(*typed, "--json")
    shown = capfd.readouterr()
    final = events.from_json(shown.out.splitlines()[-1])
    assert isinstance(final, events.Failed)
    assert final.exit_code == code
    assert final.problem in " ".join(shown.err.split())


def test_every_setting_is_a_flag_of_its_dotted_path() -> None:
    config = _settings(
        *("--model.hidden-size", "384", "--model.num_heads=6", "--model.num-kv-heads", "2"),
        *("--paths.data-dir", "elsewhere", "--no-tensorboard", "--cleanup.test"),
        *("--model.rope-scaling", '{"kind": "linear", "factor": 2}', "--train.seed", "7"),
        *("--cleanup.input", "a", "b", "--gradient-clip", "null", "--model.no-use-cache"),
    )
    assert (config.model.hidden_size, config.model.num_heads, config.model.num_kv_heads) == (
        *(384, 6),
        2,
    )
    assert config.paths.data_dir == Path("elsewhere")
    assert (config.train.tensorboard, config.cleanup.test) == (False, True)
    assert config.model.rope_scaling is not None
    assert config.model.rope_scaling.factor == 2
    assert (config.train.seed, config.train.gradient_clip) == (7, None)
    assert config.cleanup.input == [Path("a"), Path("b")]
    assert config.model.use_cache is False
    part = _settings("--model.rope-scaling.kind", "linear", "--model.rope-scaling.factor", "3")
    assert part.model.rope_scaling is not None
    assert part.model.rope_scaling.factor == 3


def test_typed_flags_beat_config_option_beats_config_json(workspace: Path) -> None:
    Path("config.json").write_text('{"train": {"seed": 1, "epochs": 2, "log_every": 3}}')
    Path("mine.json").write_text('{"train": {"seed": 4, "epochs": 5}}')
    train = _settings("--config", "mine.json", "--seed", "6").train
    assert (train.seed, train.epochs, train.log_every) == (6, 5.0, 3)
    assert load_config({}).config.train.seed == 1


def test_what_was_typed_is_remembered_for_resuming(workspace: Path) -> None:
    Path("config.json").write_text('{"train": {"seed": 1}}')
    typed = parse_stage(["train", "--max-steps", "5", "--model.num-layers", "2"]).settings.typed
    assert typed_in("train", typed) == {"max_steps"}
    assert typed_in("model", typed) == {"num_layers"}


def test_a_broken_config_json_stops_every_command_but_help(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("config.json").write_text('{"train": {"sede": 1}}')
    assert run("fake") == ExitCode.USAGE
    assert "train.sede, from config.json" in capsys.readouterr().err
    assert run("train", "--help") == 0


@pytest.mark.parametrize(
    "typed", [["fake", "--", "--max-steps", "1"], ["--", "fake", "--max-steps", "1"]]
)
def test_arguments_may_follow_two_dashes(
    typed: list[str], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*typed) == 0
    assert capsys.readouterr().out == "made/it\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "result"),
    [("plain", "made/it\n"), ("ids", "15043,3186\n"), ("noisy", "made/it\n")],
)
def test_stdout_holds_the_result_and_nothing_else(
    mode: str, result: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fake", "--name", mode, "--max-steps", "11") == 0
    assert capsys.readouterr().out == result


@pytest.mark.parametrize(
    ("mode", "code", "words"),
    [
        ("refuse", 3, ["They do not fit.", "Found: a and b", "Next: python main.py mend"]),
        ("missing", 1, ["no/such/file: No such file or directory."]),
        ("crash", 1, ["mistake in Hatchery itself: ZeroDivisionError", "Traceback"]),
        ("silent", 1, ["without a final event"]),
    ],
)
def test_failures_end_with_their_exit_code_and_only_our_own_mistakes_have_a_traceback(
    mode: str, code: int, words: list[str], run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fake", "--name", mode, "--max-steps", "1") == code
    shown = capsys.readouterr()
    assert shown.out == ""
    assert all(word in shown.err for word in words)
    assert ("Traceback" in shown.err) == ("itself" in shown.err)


@pytest.mark.slow
def test_json_is_every_event_and_silence_on_stderr(
    run: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("fake", "--name", "noisy", "--max-steps", "10", "--json") == 0
    shown = capfd.readouterr()
    kinds = [json.loads(line)["event"] for line in shown.out.splitlines()]
    assert kinds[0] == "started"
    assert kinds[-1] == "finished"
    assert kinds.count("progress") == 10
    assert shown.err == ""


@pytest.mark.parametrize("mode", ["evil", "rows", "stream"])
def test_foreign_text_cannot_reach_the_terminal_as_a_command(
    mode: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fake", "--name", mode, "--max-steps", "1") == 0
    shown = capsys.readouterr()
    for text in (shown.out, shown.err):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", text)
    assert "[/red]" in shown.out + shown.err


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii:strict"},
        {"NO_COLOR": "1", "TERM": "dumb"},
    ],
    ids=["C", "C without UTF-8", "ascii", "dumb"],
)
def test_no_locale_or_terminal_makes_it_fail(environment: dict[str, str], workspace: Path) -> None:
    typed = [
        *FAKE,
        "fake",
        "--name",
        "noisy",
        "--max-steps",
        "10",
        "--quickstart.vocab-size",
        "300",
    ]
    for extra, code in (([], 0), (["--config", b"caf\xe9.json"], 2)):
        done = subprocess.run(
            [*typed, *extra], env=os.environ | environment, capture_output=True, check=False
        )
        assert done.returncode == code
        assert b"Traceback" not in done.stderr
        assert b"\x1b" not in done.stderr


@pytest.mark.slow
def test_a_reader_that_leaves_makes_the_stage_save_and_end_quietly(workspace: Path) -> None:
    for arguments in (
        ["--json", "--max-steps", "1000"],
        ["--name", "noisy", "--max-steps", "1000"],
    ):
        output = subprocess.PIPE
        with subprocess.Popen(
            [*FAKE, "fake", *arguments],
            stdout=output,
            stderr=subprocess.STDOUT if "noisy" in arguments else subprocess.PIPE,
        ) as stage:
            assert stage.stdout is not None
            stage.stdout.readline()
            stage.stdout.close()
            complaint = stage.stderr.read() if stage.stderr else b""
            assert stage.wait(30) == ExitCode.TERMINATED
        assert complaint == b""
        assert Path("saved_state").is_file()
        Path("saved_state").unlink()


@pytest.mark.slow
def test_help_into_a_closed_pipe_and_closed_streams_are_quiet(workspace: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*MAIN, "--help"], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.stderr == b""
    closed = subprocess.run(
        ["sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", *FAKE, "fake", "--max-steps", "1"],
        check=False,
    )
    assert closed.returncode == 0


def _signalled(number: int, *, times: int = 1, mode: str = "plain") -> tuple[int, str]:
    command = [*FAKE, "fake", "--name", mode, "--max-steps", "500", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as stage:
        assert stage.stdout is not None
        assert stage.stderr is not None
        stage.stdout.readline()
        for _ in range(times):
            stage.send_signal(number)
            if times > 1:
                stage.stderr.readline()  # the note that it heard the first
        rest = stage.stdout.read().decode()
        return stage.wait(30), rest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)],
)
def test_the_first_signal_lets_the_stage_save(number: int, code: int, workspace: Path) -> None:
    ended, rest = _signalled(number)
    assert ended == code
    assert json.loads(rest.splitlines()[-1])["stopped"] is True
    assert Path("saved_state").is_file()


@pytest.mark.slow
def test_under_nohup_a_closed_terminal_changes_nothing(workspace: Path) -> None:
    command = ["nohup", *FAKE, "fake", "--max-steps", "60", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as stage:
        assert stage.stdout is not None
        stage.stdout.readline()
        stage.send_signal(signal.SIGHUP)
        rest = stage.stdout.read()
        assert stage.wait(30) == 0
    assert json.loads(rest.splitlines()[-1])["stopped"] is False


@pytest.mark.slow
def test_the_second_signal_leaves_at_once(workspace: Path) -> None:
    ended, rest = _signalled(signal.SIGINT, times=2, mode="stubborn")
    assert ended == 130
    assert "finished" not in rest


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 0)])
def test_forked_workers_end_when_told_and_leave_ctrl_c_to_their_parent(
    number: int, code: int
) -> None:
    stop = StopRequest()
    child = os.fork()
    if child == 0:
        stop.on_signal(number, None)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code
    assert not stop.is_set()


@pytest.mark.slow
def test_a_terminal_that_closes_makes_the_stage_save(workspace: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(FAKE[0], [*FAKE, "fake", "--max-steps", "2000"])
    shown = b""
    while b"steps" not in shown:
        select.select([terminal], [], [], 20)
        shown += os.read(terminal, 4096)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == ExitCode.TERMINATED
    assert Path("saved_state").is_file()


@pytest.mark.slow
def test_a_lively_terminal_gets_one_line_and_its_cursor_back(workspace: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        os.execv(FAKE[0], [*FAKE, "fake", "--max-steps", "20"])
    shown = b""
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
    except OSError:  # Linux ends a closed terminal with EIO
        assert shown
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
    assert b"20 of 20 steps" in shown or b"of 20 steps" in shown
    assert shown.rstrip().endswith(b"made/it")


def test_a_refusal_of_the_operating_system_is_a_paragraph(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("logs").write_text("in the way")
    assert run("jobs", "start", "--", "train") == ExitCode.FAILED
    shown = capsys.readouterr().err
    assert "logs" in shown
    assert "Traceback" not in shown


def test_a_config_json_that_leads_nowhere_is_not_passed_over(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("config.json").symlink_to("gone.json")
    assert run("train") == ExitCode.USAGE
    assert "config.json cannot be read" in capsys.readouterr().err


def test_a_fact_is_told_once_and_nothing_is_told_of_nothing(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = {"documents": 14, "rejected": {}, "rules": {"stub": 2}, "val_loss": None}
    with TerminalRenderer() as renderer:
        renderer.show(events.Started(stage="x", title="X"))
        renderer.show(events.Progress(done=0, message="fetching"))
        renderer.show(events.Saved(kind="tokens", path="out", facts=facts))
        renderer.show(events.Finished(summary=facts, path="out"))
    shown = capsys.readouterr()
    assert shown.out == "out\n"
    assert shown.err.count("saved tokens: out") == 1
    assert shown.err.count("documents") == 1
    assert "rules: stub 2" in shown.err
    assert "rejected" not in shown.err


def test_many_facts_of_what_was_saved_are_told_in_rows_that_divide_none(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    facts = {f"figure_{name}": 1_000_000 + number for number, name in enumerate("abcdefgh")}
    with TerminalRenderer() as renderer:
        renderer.show(events.Saved(kind="tokens", path="out", facts={"units": 3, "windows": 7}))
        renderer.show(events.Saved(kind="tokens", path="x" * 50, facts=facts))
    short, saved, *rows = capsys.readouterr().err.splitlines()
    assert short == "  saved tokens: out  windows 7"
    assert saved == f"  saved tokens: {'x' * 50}"
    assert max(map(len, rows)) <= 60
    told = [fact for row in rows for fact in row.strip().split("  ")]
    assert told == [f"figure {name} {1_000_000 + n:,}" for n, name in enumerate("abcdefgh")]


def test_a_rehearsal_that_fails_is_not_called_done(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(verdict: Literal["works", "fails"]) -> str:
        with TerminalRenderer() as renderer:
            renderer.show(events.Started(stage="rehearse", title="Rehearsal"))
            renderer.show(
                events.StageVerdict(stage="train", verdict=verdict, detail="its window is long")
            )
            renderer.show(events.Finished({"verdicts": []}))
            if verdict == "fails":
                renderer.show(events.Failed("Not ready: train would fail."))
        return capsys.readouterr().err

    assert "✓ done after" in told("works")
    failed = told("fails")
    assert "done" not in failed
    assert failed.index("✕ ended after") < failed.index("Not ready")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_benchmark_ends_with_a_table_on_stderr_and_its_path_alone_on_stdout(
    encoding: str, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = report({"step 10": {"piqa": [0.0] * 40}, "step 20": {"piqa": [1.0] * 40}}, of=40)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding, "backslashreplace") for _ in range(2))
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stderr", err)
    monkeypatch.setenv("COLUMNS", "70")
    evil = "\x1b]52;c;aGk=\x07"
    with TerminalRenderer() as renderer:
        renderer.show(events.Started(stage="benchmark", title="Judge"))
        renderer.show(events.Scored(f"a{evil}", "PIQA", "acc", 0.25, 0.1, 0.4))
        renderer.show(events.Finished(made, "benchmark_results/b.json"))
    told, result = (_written(stream, encoding) for stream in (err, out))
    assert result == "benchmark_results/b.json\n"
    star = "★" if encoding == "utf-8" else "*"
    best, _of_ranking = [line for line in told.splitlines() if f"{star} first step 20" in line]
    assert "100.0 %" in best
    assert "is better than first step 10 by 100.0 points" in " ".join(told.split())
    assert "guessing 50.0 %" in told
    assert "PIQA: accuracy 25.0 % (10.0 to 40.0)" in told
    assert "\x1b" not in told
    assert max(map(len, told.splitlines())) <= 70


def _written(stream: io.TextIOWrapper, encoding: str) -> str:
    stream.flush()
    held = stream.buffer
    assert isinstance(held, io.BytesIO)
    return held.getvalue().decode(encoding)


@pytest.mark.parametrize(
    ("typed", "advised"),
    [
        ("compare", "inference --checkpoint A B --prompt TEXT"),
        ("generate", "inference --prompt TEXT"),
        ("finetune", "train --init-from RUN"),
        ("Fine-Tune", "train --init-from RUN"),
        ("ls", "runs"),
        ("rm", "runs delete RUN"),
        ("talk", "chat"),
        ("resume", "train --resume auto"),
    ],
)
def test_what_other_programs_call_it_leads_to_the_command_here(
    typed: str, advised: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(typed, "and", "more") == ExitCode.USAGE
    told = capsys.readouterr().err
    assert f"There is no command {typed}." in told
    assert told.rstrip().endswith(f"python main.py {advised}")


def test_every_command_that_is_named_in_place_of_another_is_one() -> None:
    known = {stage.command for stage in STAGES} | {"runs", "chat", "web", "jobs"}
    for names, commands in parser._CALLED_HERE.items():
        assert known.isdisjoint(names)
        for command, *flags in commands:
            assert command in known
            if command not in ("runs", "chat", "web"):
                values = [word for word in flags if word.islower()]
                parse_stage([command, *(word if word in values else "x" for word in flags)])


def test_the_help_of_a_training_names_every_shape(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"--model.preset {', '.join(PRESETS)}" in shown


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (["inference", "--checkpoint", "shakke", "--prompt", "x"], "shake"),
        (["export", "--checkpoint", "skahe"], "shake"),
        (["serve", "--checkpoint", "code", "shakee"], "shake"),
        (["bench", "--checkpoint", "run_2026_11_20_10_00_shak"], "run_2026_11_20_10_00_shake"),
        (["train", "--init-from", "shaek"], "shake"),
        (["train", "--resume", "shakes"], "shake"),
        (["inference", "--checkpoint", "zzz", "--prompt", "x"], ""),
    ],
)
def test_a_wrong_name_is_refused_before_a_stage_is_loaded(
    typed: list[str],
    meant: str,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("run_2026_11_20_10_00_shake", "run_2026_11_21_10_00_code"):
        for step in finished_run(name).glob("checkpoint_step_*"):
            (step / "manifest.json").touch()
    monkeypatch.setattr(stages.Stage, "load", lambda self: pytest.fail("it was loaded"))
    assert run(*typed) == ExitCode.USAGE
    told = capsys.readouterr().err
    assert "There is no" in told
    assert ("did you mean" in told) == bool(meant)
    assert f"did you mean {meant}? Else" in told or not meant


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("import warnings\n" * 15, "import warnings\n" * 3 + "… the same line 12 more times\n"),
        ("def sw" + "b" * 40, "def swbbb…"),
        ("ab" * 30 + " end", "ababab… end"),
        ("the the " * 20, "the the the …"),
        ("# " + "-" * 60, "# " + "-" * 60),
        ("=" * 79, "=" * 79),
        ("a\na\na\nb", "a\na\na\nb"),
        ("\n" * 9, "\n" * 9),
        ("    " * 20 + "x", "    " * 20 + "x"),
        ("1, 2, 3, 4, 5, 6", "1, 2, 3, 4, 5, 6"),
    ],
)
def test_a_sample_is_shown_without_its_loops(text: str, shown: str) -> None:
    assert without_loops(text) == shown


@pytest.mark.parametrize(
    ("typed", "advised"),
    [
        (["train", "--batch-size", "0"], "correct --batch-size"),
        (["train", "--batch-size=0"], "correct --batch-size"),
        (["train", "--train.batch-size", "0"], "correct --train.batch-size"),
        (["prepare", "--window", "-5"], "correct --window"),
        (["train", "--model.num-layers", "0"], "correct --model.num-layers"),
        (["inference", "--temperature", "-1"], "correct --temperature"),
        (["serve", "--port", "-1"], "correct --port"),
    ],
)
def test_a_wrong_value_is_to_be_corrected_in_the_flag_that_was_typed(
    typed: list[str], advised: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*typed) == ExitCode.USAGE
    assert capsys.readouterr().err.rstrip().endswith(f"Next: {advised}")


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("text_bytes", 371_433, "text 362.7 KiB"),
        ("raw_bytes", 9_167_604, "raw 8.7 MiB"),
        ("bytes", 12, "size 12 B"),
        ("bytes_per_token", 3.61, "bytes per token 3.61"),
        ("tokens", 110_348, "tokens 110,348"),
        ("text_bytes", None, "text bytes -"),
    ],
)
def test_bytes_of_a_result_are_told_in_units(name: str, value: object, shown: str) -> None:
    assert _fact(name, value) == shown
