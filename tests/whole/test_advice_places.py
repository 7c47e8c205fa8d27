"""No place that advises a command is left out; and the commands of servers, of README.md and of
the program's help."""

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from yarl import URL

from app.client.responses import not_openai
from pipeline.options.config import LoadOptions
from pipeline.server.engine.catalogue import Catalogue
from pipeline.server.errors import ApiError
from tests.support.advice import ROOT, advised, pasted, places, recorded, typed
from tests.whole import test_advice, test_advice_jobs, test_advice_models
from utils.errors import as_typed

README = (ROOT / "README.md").read_text("utf-8")

PRINTED = {
    "what_is_wrong_with_a_command_of_jobs_has_its_way_out": "app/cli/jobs.py:_chosen "
    "app/cli/jobs.py:stop app/cli/jobs.py:stop#2 app/commands/parser.py:parse_stage "
    "app/commands/parser.py:parse app/jobs/lifecycle.py:find app/jobs/lifecycle.py:remove "
    "app/jobs/lifecycle.py:remove#2 app/jobs/retry.py:command_of app/jobs/retry.py:stage_of",
    "a_job_that_died_or_was_left_says_how_to_learn_more": "app/cli/attach.py:_verdict "
    "app/cli/jobs.py:attach app/cli/jobs.py:_print_diagnosis "
    "app/cli/jobs.py:_print_diagnosis#2 app/cli/jobs.py:_print_diagnosis#3",
    "a_started_job_can_be_followed_and_stopped_as_it_says": "app/cli/jobs.py:_announce "
    "app/cli/jobs.py:_announce#2",
    "the_first_job_that_the_empty_list_proposes_starts": "app/cli/jobs.py:list_jobs",
    "a_job_that_waits_in_vain_says_what_to_do": "app/jobs/dependencies.py:_warning "
    "app/jobs/dependencies.py:_warning#2 app/jobs/dependencies.py:_warning#3",
    "a_job_that_is_done_again_can_be_followed": "app/jobs/retry.py:_refuse_active",
    "every_command_of_a_plan_works": "pipeline/planning/stage.py:_typed",
    "a_tokenizer_that_is_replaced_can_be_kept": "pipeline/tokenizer/stage.py:_replacing",
    "a_text_shorter_than_a_window_says_how_to_train_on_it": "pipeline/prep/stage.py:"
    "_Build._held_out#2",
    "documents_that_a_tokenizer_loses_are_kept_with_the_proposed_one": "pipeline/tokenizer/"
    "stage.py:probed#2 pipeline/prep/stage.py:_Build.dropped "
    "pipeline/prep/stage.py:_Build.dropped#2",
    "a_model_too_large_for_its_text_says_what_would_fit": "pipeline/train/stage.py:"
    "_size_for_the_text",
    "a_run_that_is_done_says_how_it_goes_on": "pipeline/train/course.py:nothing_to_do",
    "what_the_quickstart_proposes_works": "pipeline/quickstart.py:_next_commands "
    "pipeline/quickstart.py:_next_commands#2 pipeline/quickstart.py:_next_commands#3 "
    "pipeline/quickstart.py:_next_commands#4 pipeline/quickstart.py:_next_commands#5 "
    "pipeline/quickstart.py:_taught_to_answer",
    "a_server_that_is_advised_answers": "app/client/responses.py:not_openai "
    "app/web/command.py:web pipeline/server/stage.py:_listen",
    "a_server_without_models_says_how_to_make_one": "pipeline/server/engine/"
    "catalogue.py:Catalogue.find",
    "the_help_names_commands_that_work": "app/commands/parser.py:",
    "what_others_call_differently_is_led_to_what_works": "app/commands/parser.py:parse#2",
    "what_a_longer_window_keeps_is_made_as_it_says": "pipeline/conversations/stage.py:_Build._note",
    "no_runs_lead_to_the_first_one": "app/cli/runs.py:list_all",
}
"""Places whose commands are printed, or belong to no stage, by the test that runs them."""

HANDED_ON = {
    "app/cli/main.py:_fail": "as an event",
    "app/client/server_process.py:died": "of the server's process",
    "app/jobs/runner.py:describe": "as an event",
    "app/tui/forms/command_line.py:shell_line": "what a form is set to",
    "app/tui/jobs/doctor_screen.py:DoctorScreen._moved": "of the doctor",
    "app/tui/jobs/doctor_screen.py:DoctorScreen.action_copy": "of the doctor",
    "app/tui/jobs/screen.py:_command": "what a job was started with",
    "app/tui/stage/preflight_card.py:PreflightCard._handle_event": "of the planning process",
    "app/launcher.py:obstacle": "opens the app, as tests/app/test_launcher.py does",
    "app/launcher.py:obstacle#2": "opens the app, as tests/app/test_launcher.py does",
    "app/tui/shutdown.py:farewell": "opens the app",
    "app/web/server.py:Server._guard": "names the command that is running",
    "pipeline/benchmark/candidates.py:Candidates.failure": "of the first checkpoint",
    "pipeline/missing.py:MissingError.__init__": "of its caller",
    "pipeline/rehearsal/stage.py:_conclusion": "of a rehearsed stage",
    "pipeline/rehearsal/verdicts.py:failed": "of a rehearsed stage",
    "pipeline/train/trainer.py:NonFiniteError.__init__": "of its caller",
    "utils/errors.py:HatcheryError.__init__": "of its caller",
    "utils/verification.py:DamagedFileError.__init__": "of its caller",
}
"""Places that advise nothing of their own, and whose command it is."""


@pytest.mark.slow
def test_every_place_that_advises_a_command_is_tried() -> None:
    """One that is new belongs into a table of situations, or beside the test that runs it."""
    there = {place.name for inside in places().values() for place in inside}
    known = [*test_advice.SITUATIONS, *test_advice_models.SITUATIONS]
    tried = {name.partition(" (")[0] for name in known}
    printed = {name for names in PRINTED.values() for name in names.split()}
    assert there == tried | printed | HANDED_ON.keys()
    tests = vars(test_advice_jobs) | globals()
    assert {test for test in PRINTED if not callable(tests.get(f"test_{test}"))} == set()


# Servers.


def _taken(kind: str) -> tuple[list[str], "socket.socket | None"]:
    """What is typed for a server whose port is taken, and the socket that takes it."""
    if kind == "a server elsewhere":
        return [], None
    taken = socket.create_server(("127.0.0.1", 0))
    return [kind, "--port", str(taken.getsockname()[1])], taken


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["serve", "web", "a server elsewhere"])
def test_a_server_that_is_advised_answers(
    kind: str, house: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words, taken = _taken(kind)
    if taken is None:
        url = SimpleNamespace(url=URL("http://x/"), status=200, content_type="text/html")
        line = as_typed(not_openai(url).commands[0])  # type: ignore[arg-type]
    else:
        with taken:
            [line] = advised(typed(words, capfd).err)
    assert line.split()[2] in ("serve", "web")
    program = [sys.executable, str(ROOT / "main.py"), *shlex.split(line)[2:]]
    with subprocess.Popen(
        program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        assert re.match(r"http://127\.0\.0\.1:\d+/", server.stdout.readline())
        server.send_signal(signal.SIGINT)
        server.stdout.read()
    assert server.returncode in (0, 130)


@pytest.mark.slow
def test_the_port_that_is_advised_is_free(house: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        try:
            second = socket.create_server(("127.0.0.1", port + 1))
        except OSError:  # somebody else has it, which is as good
            second = socket.socket()
        with second, recorded() as errors:
            assert typed(["serve", "--port", str(port)], capfd).code == 1
    [(_, error)] = errors
    assert int(error.commands[0][-1]) not in (port, port + 1)


def test_a_server_without_models_says_how_to_make_one(workspace: Path) -> None:
    with pytest.raises(ApiError) as refused:
        Catalogue(Path("checkpoints"), LoadOptions(), []).find(None)
    assert advised(refused.value.remedy) == ["python main.py quickstart"]


# What is there to read.


@pytest.mark.slow
def test_what_a_longer_window_keeps_is_made_as_it_says(
    house: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = [["Who?", "The hen."], ["What?", "An egg. " * 40], ["Where?", "In a bush. " * 80]]
    text = "".join(json.dumps({"conversations": row}) + "\n" for row in rows)
    Path("chats.jsonl").write_text(text)
    words = ["lima", "--input", "chats.jsonl", "--tokenizer", "chars", "--max-length", "64"]
    lines = [line for line in advised(typed(words, capfd).err) if "--max-length" in line]
    assert len(lines) == 1
    done = pasted(lines[0], capfd)
    assert done.code == 0, done.err
    assert "kept: 3" in typed(shlex.split(lines[0])[2:], capfd).err


def test_no_runs_lead_to_the_first_one(workspace: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert advised(typed(["runs", "list"], capfd).err) == ["python main.py quickstart"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "word",
    ["compare", "generate", "finetune", "resume", "ls", "rm", "clean", "tokenizer", "prep"],
)
def test_what_others_call_differently_is_led_to_what_works(
    word: str, house: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    [line] = advised(typed([word], capfd).err)
    values = {"A": "first", "B": "first", "RUN": "first", "TEXT": "Once"}
    words = [values.get(word, word) for word in shlex.split(line)]
    line = shlex.join([*words, *["--yes"] * (word == "rm")])
    done = pasted(line, capfd)
    assert done.code == 0, done.err


@pytest.mark.slow
def test_the_help_names_commands_that_work(house: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines = advised(typed(["--help"], capfd).out)
    assert "python main.py quickstart" in lines
    for line in set(lines) - {"python main.py quickstart", "python main.py COMMAND"}:
        assert pasted(line, capfd).code == 0, line


@pytest.mark.slow
def test_the_way_of_ones_own_text_in_the_readme_works(
    house: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    block = next(b for b in re.findall(r"```\n(.*?)```", README, re.S) if "my_texts" in b)
    (house / "notes").rename("my_texts")
    lines = block.strip().splitlines()
    assert len(lines) == 5
    for line in lines:
        done = pasted(line, capfd)
        assert done.code == 0, (line, done.err)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        found
        for found in re.findall(r"^\| `(python main\.py [^`]*)` \|", README, re.M)
        if found.split()[2] not in ("serve", "web", "quickstart")  # run elsewhere in these tests
    ],
)
def test_the_commands_of_the_readmes_table_work(
    line: str, house: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    prepare = {"lima": test_advice_models.several_chats, "sft": test_advice_models.a_set_of_chats}
    prepare.get(line.split()[2], lambda: None)()
    done = pasted(line.removesuffix(" …").replace("FILE", "chats.jsonl"), capfd)
    assert done.code == 0, done.err
    for follow in advised(done.err if "jobs start" in line else ""):
        if "attach" in follow:
            assert pasted(follow, capfd).code == 0
