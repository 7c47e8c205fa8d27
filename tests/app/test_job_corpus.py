"""A job means the corpus that was meant when it was queued, whatever is worked on meanwhile."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.cli.jobs import job_app
from app.commands.corpus import naming_corpus, worked_on_by
from app.commands.parser import parse, parse_stage
from app.jobs import lifecycle, retry
from pipeline.corpora import remember
from utils.files import write_json


@pytest.fixture
def started(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """The jobs that were to be started, each with the words of its command."""
    jobs: list[SimpleNamespace] = []

    def start(
        logs: Path, words: Sequence[str], stage: str, name: str | None, **more: Any
    ) -> SimpleNamespace:
        after = tuple(more.get("after", ()))
        job = SimpleNamespace(
            id=f"{len(jobs):04x}", stage=stage, words=list(words), waits_for=after, state="waiting",
            record=None, percent=None, exit_code=None, started=len(jobs), ended=None, folder=logs,
        )  # fmt: skip
        jobs.append(job)
        return job

    monkeypatch.setattr(lifecycle, "start", start)
    monkeypatch.setattr(
        lifecycle, "find", lambda logs, one: next(job for job in jobs if job.id == one)
    )
    monkeypatch.setattr(retry, "command_of", lambda job: job.words)
    Path("texts").mkdir()
    remember(Path("data"), "poems")
    write_json(Path("data/cleaned_articles/poems/manifest.json"), {})
    return jobs


def jobs(line: str) -> None:
    words = shlex.split(line)
    parse(job_app(), words, "jobs")


NAMED = {
    "train": "train --source poems",
    "train --test --name a": "train --test --name a --source poems",
    "plan --no-probe": "plan --no-probe --source poems",
    "prepare --window 8": "prepare --window 8 --source poems",
    "prepare --name other": "prepare --name other --source poems",
    "tokenize --train bpe": "tokenize --train bpe --source poems",
    "cleanup": "cleanup --source poems",
    "cleanup --test": "cleanup --test --source poems",
    "rehearse": "rehearse --source poems",
}
LEFT = [
    "train --source mine", "train --dataset.source mine", "train --data tokens",
    "train --resume auto", "prepare --input texts", "cleanup --input texts",
    "cleanup --name mine", "tokenize --load gpt2", "tokenize --encode text", "quickstart",
    "bench", "inference --prompt a", "serve", "export", "download python",
]  # fmt: skip


@pytest.mark.parametrize("line", [*NAMED, *LEFT])
def test_a_job_names_the_corpus_that_is_meant_now(
    started: list[SimpleNamespace], line: str
) -> None:
    jobs(f"start -- {line}")
    expected = NAMED.get(line, line).split()
    assert started[0].words == expected
    assert parse_stage(expected).stage.command == expected[0]


def test_what_config_json_says_is_named_too(started: list[SimpleNamespace]) -> None:
    write_json(Path("config.json"), {"dataset": {"source": "wikipedia"}})
    jobs("start -- train")
    assert started[0].words == ["train", "--source", "wikipedia"]


CHAINS = {
    "cleanup --input texts -- tokenize --train bpe -- prepare -- train": [None, *["texts"] * 3],
    "cleanup --input texts --name mine -- train": [None, "mine"],
    "tokenize --train char --source mine -- prepare -- train": ["mine", "mine", "mine"],
    "prepare --input texts -- train -- plan": [None, "texts", "texts"],
    "quickstart -- train": [None, "python"],
    "train -- train": ["poems", "poems"],
    "train --source mine -- inference --prompt a -- train": ["mine", None, "mine"],
}


@pytest.mark.parametrize("chain", CHAINS)
def test_later_steps_of_a_chain_mean_what_the_first_ones_make(
    started: list[SimpleNamespace], chain: str
) -> None:
    jobs(f"chain -- {chain}")
    named = []
    for job in started:
        words = job.words
        named.append(words[words.index("--source") + 1] if "--source" in words else None)
    assert named == CHAINS[chain]


@pytest.mark.parametrize("first", ["cleanup --input texts", "prepare --input texts --window 8"])
def test_a_job_that_waits_means_what_the_one_before_it_makes(
    started: list[SimpleNamespace], first: str
) -> None:
    jobs(f"start -- {first}")
    jobs("start --after 0000 -- train")
    assert started[1].words == ["train", "--source", "texts"]
    assert started[1].waits_for == ("0000",)


def test_a_name_that_cannot_be_is_left_to_the_stage(workspace: Path) -> None:
    parsed = parse_stage(["cleanup", "--name", "a/b", "--input", "x"])
    assert naming_corpus(parsed, ["cleanup"]) == ["cleanup"]
    assert worked_on_by(parsed) is None
