"""The board's words: what is there, what is missing, and the one thing to do next."""

import re
from pathlib import Path
from typing import Any

import pytest

from app.jobs.folder import Record, record_run
from app.jobs.job import Job, State
from app.tui import navigation
from app.tui.board.rows import ROWS, ScreenRow, corpus_of, rows, what_next
from pipeline.runs.record import RunRecord, write_record
from pipeline.stages import MISSING, STAGES, Product

_MADE = ("cleanup", "tokenize", "prepare", "train")


def products(**there: Product) -> dict[str, Product]:
    nothing = dict.fromkeys(_MADE, MISSING) | {"download": Product("fresh", "python")}
    return nothing | there


def fresh(*commands: str) -> dict[str, Product]:
    return {command: Product("fresh", "x", "figure", Path("x"), 100.0) for command in commands}


def job(stage: str, state: State, ended: float | None = None, **more: Any) -> Job:
    facts = {"percent": None, "started": 50.0, "ended": ended, "exit_code": None} | more
    return Job(
        id="ab12", folder=Path(f"logs/jobs/t-{stage}-ab12"), record=None, state=state, **facts
    )


def test_every_stage_of_the_registry_has_a_row() -> None:
    table = rows(products(), [])
    stages = [row.stage for row in table if not isinstance(row.stage, ScreenRow)]
    assert stages == [stage for stage in STAGES if not stage.tool]


def test_chat_and_compare_follow_the_training_that_they_need() -> None:
    table = {row.stage.command: row for row in rows(products(), [])}
    names = list(table)
    assert names[names.index("train") + 1 :][:2] == ["chat", "compare"]
    assert table["chat"].figure == "needs a checkpoint"
    there = rows(products(**fresh("train")), [])
    assert [row.figure for row in there if isinstance(row.stage, ScreenRow)] == ["ready", "ready"]


def test_a_newcomer_is_led_to_a_first_model() -> None:
    number, sentence = what_next(rows(products(), []))
    assert ROWS[number].command == "quickstart"
    assert "Enter" in sentence


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        (_MADE[:1], "tokenize"),
        (_MADE[:2], "prepare"),
        (_MADE[:3], "train"),
        (_MADE, "chat"),
    ],
)
def test_each_step_leads_to_the_next(there: tuple[str, ...], expected: str) -> None:
    number, sentence = what_next(rows(products(**fresh(*there)), []))
    assert ROWS[number].command == expected
    assert sentence.endswith("(Enter)")  # the key, which no narrow window may cut off
    assert len(f"Next: {sentence}") <= 76


def test_a_stage_says_what_it_lacks() -> None:
    table = {row.stage.command: row for row in rows(products(), [])}
    assert table["train"].figure == "needs tokens"
    assert table["cleanup"].figure == "ready"
    assert table["inference"].figure == "needs a checkpoint"


def test_stale_comes_before_missing_and_says_why() -> None:
    stale = Product("stale", "x", "figure", Path("x"), 100.0, "first has changed since")
    number, sentence = what_next(rows(products(**fresh("cleanup"), tokenize=stale), []))
    assert ROWS[number].command == "tokenize"
    assert "first has changed since" in sentence


def test_what_runs_is_to_be_watched() -> None:
    table = rows(products(**fresh("cleanup")), [job("cleanup", "running", percent=42.4)])
    number, sentence = what_next(table)
    assert (ROWS[number].command, table[number].figure) == ("cleanup", "42 %")
    assert sentence.startswith("watch")


def test_a_failure_counts_until_the_stage_has_worked_since() -> None:
    failed = job("cleanup", "failed", ended=200.0)
    table = rows(products(**fresh("cleanup")), [failed])
    assert ROWS[what_next(table).row].command == "cleanup"
    later = Product("fresh", "x", "figure", Path("x"), 300.0)
    table = rows(products(cleanup=later), [failed])
    assert ROWS[what_next(table).row].command == "tokenize"


def test_only_the_newest_job_of_a_stage_counts() -> None:
    jobs = [job("cleanup", "done", ended=400.0), job("cleanup", "failed", ended=200.0)]
    assert {row.state for row in rows(products(), jobs)} == {"fresh", "missing"}


def test_every_screen_that_is_opened_by_name_is_known_to_the_navigation() -> None:
    root = Path(navigation.__file__).parent
    found = {
        name
        for path in root.rglob("*.py")
        for name in re.findall(r'hatchery\.open\(\s*"(\w+)"', path.read_text())
    }
    assert {"job", "run", "stage", "doctor", "data", "votes"} <= found
    for name in found | {row.command for row in ROWS if isinstance(row, ScreenRow)}:
        assert callable(getattr(navigation.Navigation, f"open_{name}"))


def ran(stage: str, *words: str, folder: str = "logs/jobs/x") -> Job:
    record = Record(
        ["python", "main.py", stage, *words], stage, None, 1, "", "h", "/home/me", 1.0, {}
    )
    return Job("ab12", Path(folder), record, "failed", 1, 50.0, 200.0, None)


@pytest.mark.parametrize(
    ("words", "corpus"),
    [
        (["cleanup", "--source", "poems"], "poems"),
        (["cleanup", "--input", "texts/poems/", "--workers", "2"], "poems"),
        (["cleanup", "--input=poems/*.txt"], "poems"),
        (["cleanup", "--input", "texts/a=b"], "a_b"),
        (["cleanup", "--workers=2", "--input=texts/a=b"], "a_b"),
        (["cleanup", "--input", "texts/poems", "--name", "verse"], "verse"),
        (["prepare", "--source=poems"], "poems"),
        (["tokenize", "--train", "bpe", "--name", "small", "--source", "poems"], "poems"),
        (["train", "--dataset.source", "poems"], "poems"),
        (["train", "--name", "big"], None),
        (["prepare"], None),
        (["serve", "--port", "8000"], None),
        (["inference", "--checkpoint", "poems"], None),
    ],
)
def test_the_corpus_of_a_job_is_what_its_command_names(
    words: list[str], corpus: str | None
) -> None:
    assert corpus_of(ran(*words)) == corpus


def test_the_corpus_of_a_resumed_training_is_that_of_its_run(tmp_path: Path) -> None:
    run, job = tmp_path / "checkpoints/run_1", tmp_path / "logs/jobs/x"
    run.mkdir(parents=True)
    job.mkdir(parents=True)
    (run / "events.jsonl").touch()
    tokens = "data/tokenized_datasets/poems_full_dataset"
    write_record(run, RunRecord({}, {}, tokens, {}, "2026-11-21T11:20:00+0000", "0.1.0"))
    assert record_run(job, run)
    assert corpus_of(ran("train", "--resume", "run_1", folder=str(job))) == "poems"


@pytest.mark.parametrize("stage", ["cleanup", "tokenize", "prepare", "train"])
def test_a_job_of_another_corpus_marks_no_row(stage: str) -> None:
    failed = ran(stage, "--source", "poems")
    there = products(**fresh(*_MADE))
    other = {row.stage.command: row for row in rows(there, [failed], "python")}
    assert (other[stage].state, other[stage].job) == ("fresh", None)
    own = {row.stage.command: row for row in rows(there, [failed], "poems")}
    assert (own[stage].state, own[stage].job) == ("failed", failed)
    unnamed = {row.stage.command: row for row in rows(there, [ran(stage)], "python")}
    assert unnamed[stage].state == "failed"


def test_a_failure_is_explained_by_d_and_not_by_what_opens_the_form() -> None:
    table = rows(products(**fresh("cleanup")), [job("cleanup", "failed", ended=200.0)])
    assert what_next(table).sentence == "d says why Clean failed, and mends it"


def test_a_run_of_another_corpus_is_ready_to_talk_and_named() -> None:
    elsewhere = MISSING._replace(elsewhere="first of python")
    table = {
        row.stage.command: row for row in rows(products(**fresh(*_MADE[:3]), train=elsewhere), [])
    }
    assert table["train"].figure == "ready"
    for command in ("chat", "compare", "inference", "serve", "export"):
        assert table[command].figure == "ready, with first of python"
    assert ROWS[what_next(list(table.values())).row].command == "train"


def test_what_has_been_made_without_an_earlier_step_needs_none() -> None:
    tokens = products(download=MISSING, **fresh("tokenize", "prepare"))
    assert ROWS[what_next(rows(tokens, [])).row].command == "train"
    assert ROWS[what_next(rows(products(**fresh("train")), [])).row].command == "chat"
    assert ROWS[what_next(rows(products(**fresh("train", "lima")), [])).row].command == "sft"
    assert (
        ROWS[what_next(rows(products(**fresh("train", "lima", "sft")), [])).row].command == "chat"
    )


def test_a_stopped_training_is_to_be_resumed_and_is_no_finished_model() -> None:
    stopped = Product("stopped", "shake", "stopped at 15 of 80", Path("x"), 100.0)
    table = rows(products(**fresh(*_MADE[:3]), train=stopped), [])
    row = next(row for row in table if row.stage.command == "train")
    assert (row.state, row.figure) == ("stopped", "stopped at 15 of 80 · r resumes")
    number, sentence = what_next(table)
    assert ROWS[number].command == "train"
    assert sentence.startswith("resume Train shake, stopped at 15 of 80")
    assert [row.figure for row in table if isinstance(row.stage, ScreenRow)] == ["ready", "ready"]
