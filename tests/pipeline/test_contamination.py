"""Items that stand in the training text: found exactly and once, scored with and without."""

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.benchmark import training_text
from pipeline.benchmark.report import format_benchmark_results
from pipeline.evaluation import contamination
from pipeline.evaluation.contamination import Sequences, gram_of, is_seen
from pipeline.evaluation.tasks import TASKS
from pipeline.events import Event
from pipeline.tokenizer.load import load_tokenizer
from tests.pipeline.test_train import MODEL
from tests.support.stage_runner import finished, run_stage

# Stretches of ids.


def by_definition(ids: Sequence[int], training: Sequence[Sequence[int]], n: int) -> float:
    """The share of ids in stretches of n that a stretch of training has too."""
    known = {tuple(t[at : at + n]) for t in training for at in range(len(t) - n + 1)}
    marks = [False] * len(ids)
    for at in range(len(ids) - n + 1):
        if tuple(ids[at : at + n]) in known:
            marks[at : at + n] = [True] * n
    return sum(marks) / len(ids)


@pytest.mark.parametrize("gram", [12, 13, 48])
@pytest.mark.parametrize("seed", range(3))
def test_shares_are_those_of_the_definition(
    gram: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contamination, "_CHUNK", 64)  # stretches lie over many borders
    chance = random.Random(seed)
    training = [[chance.randrange(1000) for _ in range(500)] for _ in range(3)]
    sequences = []
    for _ in range(40):
        ids: list[int] = []
        while len(ids) < chance.randrange(1, 4 * gram):
            text, at = chance.choice(training), chance.randrange(450)
            ids += text[at : at + chance.randrange(1, 2 * gram)]
            ids += [chance.randrange(1000) for _ in range(chance.randrange(3))]
        sequences.append(ids)
    search = Sequences([np.array(ids, np.uint16) for ids in sequences], gram)
    for stretch in training:
        search.look_in(np.array(stretch, np.uint16))
    for ids, share in zip(sequences, search.covered(), strict=True):
        n = min(len(ids), gram)
        if n < 2 * gram / 3:
            assert share is None
        else:
            assert share == by_definition(ids, training, n)


def test_equal_hashes_of_other_ids_are_no_hits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contamination, "_hashes", lambda words, n: 0 * words[: len(words) - n + 1])
    search = Sequences([np.arange(12), np.arange(12, 24)], 12)
    search.look_in(np.arange(100, 200))
    assert search.covered() == [0.0, 0.0]


def test_stretches_over_the_end_of_a_sequence_are_none_of_its() -> None:
    search = Sequences([np.arange(12), np.arange(12, 30)], 12)
    search.look_in(np.arange(6, 18))  # six ids of each
    assert search.covered() == [0.0, 0.0]


def test_of_short_tokens_more_are_looked_for() -> None:
    assert [gram_of(size) for size in (1.0, 2.0, 4.0, 5.5)] == [48, 24, 12, 12]


def test_documents_count_by_their_share_and_items_by_any_stretch() -> None:
    document, item = TASKS["wikitext"], TASKS["arc_easy"]
    assert [is_seen(document, share) for share in (0.69, 0.7, 1.0)] == [False, True, True]
    assert [is_seen(item, share) for share in (0.0, 0.01)] == [False, True]


# In a benchmark.


@pytest.fixture(scope="module")
def _trained(_prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(_prepared, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("config.json").write_text('{"dataset": {"source": "files"}}')
        few: dict[str, Any] = {"max_steps": 2, "batch_size": 2, "device": "cpu", "val_split": 0.3}
        run_stage("train", train=few | {"tensorboard": False, "eval_every": 1}, model=MODEL)
        Path("copa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    return folder


def rows() -> list[dict[str, Any]]:
    """Six questions of which the first four stand in the text as they are, whether it was learned
    from or held out, and one is too short to tell."""
    seen = [of_note(number) for number in range(0, 40, 10)]
    other = "An egg under the old fox lays hen and bush and green at from it looks small the"
    return [
        *seen,
        {"query": other, "choices": ["fox and it", "green bush"], "gold": 1},
        {"query": "the hen", "choices": ["eats", "lays"], "gold": 1},
    ]


def of_note(number: int) -> dict[str, Any]:
    note = Path(f"notes/{number:02}.txt").read_text()
    return {"query": note[100:150], "choices": [note[151:160], "green bush"], "gold": 0}


@pytest.fixture
def trained(_trained: Path, workspace: Path) -> Path:
    shutil.copytree(_trained, workspace, dirs_exist_ok=True, symlinks=True)
    return workspace


def judge(**options: Any) -> list[Event]:
    asked = {"tasks": ["copa"], "data": ["copa.jsonl"], "samples": "all", "device": "cpu"}
    return run_stage("benchmark", benchmark=asked | options)


def result(events: list[Event]) -> dict[str, Any]:
    [by_task] = finished(events).summary["results"].values()
    found: dict[str, Any] = by_task["copa"]
    return found


def learned_from() -> list[bool]:
    """Which of the first four items stand in the tokens that were learned from."""
    from pipeline.tokens.token_set import open_tokens

    [folder] = Path("data").rglob("tokens_*.npy")
    data = open_tokens(folder.parent, val_split=0.3)
    tokenizer = load_tokenizer("chars", Path("tokenizers"))
    text = "".join(
        tokenizer.decode([int(i) for i in data.shards[shard][begin:end]])
        for shard, begin, end in data.train.stretches
    )
    return [row["query"] in text for row in rows()[:4]]


def test_items_are_scored_with_and_without_those_in_the_training_text(trained: Path) -> None:
    events = judge()
    found = result(events)
    seen = learned_from()
    assert 0 < sum(seen) < 4
    told = found["contamination"]
    assert told["checked"]
    assert told["items"] == sum(seen)
    assert told["share"] == sum(seen) / 6
    assert told["n_without"] == 6 - sum(seen)
    assert told["too_short"] == 1
    assert told["rule"].startswith("48 tokens in a row")
    report = json.loads(Path(finished(events).path or "").read_text())
    text = format_benchmark_results(report).replace("\n", " ")
    assert f"{sum(seen)} of 6 items stand in its training text; without these: " in " ".join(
        text.split()
    )
    kept = [row for row, was in zip(rows(), [*seen, False, False], strict=True) if not was]
    Path("copa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    alone = result(judge())
    assert alone["metrics"] == told["metrics_without"]
    assert alone["interval"] == told["interval_without"]
    assert alone["contamination"]["items"] == 0


def test_the_training_text_is_read_once_for_the_same_items(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = result(judge(every_checkpoint=None))

    def refuse(*_: Any) -> Any:
        raise AssertionError("it was read again")

    monkeypatch.setattr(training_text, "_read_through", refuse)
    assert result(judge())["contamination"] == first["contamination"]
    [kept] = Path("benchmark_results/contamination").iterdir()
    kept.write_text(kept.read_text()[:50])  # a damaged one is made anew
    with pytest.raises(AssertionError, match="read again"):
        judge()


def test_it_can_be_left_out(trained: Path) -> None:
    found = result(judge(contamination="off"))
    assert found["contamination"] == {"checked": False, "why": "it was not asked for"}
    assert not Path("benchmark_results/contamination").exists()


def test_of_a_model_of_others_the_training_text_is_named_or_not_known(trained: Path) -> None:
    [step] = [p for p in Path("checkpoints").glob("*/checkpoint_step_000002") if p.is_dir()]
    shutil.copytree(step, "foreign")
    for name in ("manifest.json", "state.json"):
        Path("foreign", name).unlink()
    told = result(judge(checkpoint=["foreign"]))["contamination"]
    assert not told["checked"]
    assert "--training-data" in told["why"]
    [tokens] = Path("data").rglob("tokens_*.npy")
    told = result(judge(checkpoint=["foreign"], training_data=str(tokens.parent)))["contamination"]
    assert told["items"] == 4  # held out or not: what it was is not known


def test_where_the_tokens_are_gone_it_says_so_and_goes_on(trained: Path) -> None:
    [tokens] = Path("data").rglob("tokens_*.npy")
    shutil.rmtree(tokens.parent)
    told = result(judge())["contamination"]
    assert not told["checked"]
    assert "cannot be read" in told["why"]


# Weights that another run has trained before.


def train(name: str, **options: Any) -> Path:
    """The last checkpoint of a run of two steps, whose text is a small part of the notes."""
    few: dict[str, Any] = {"max_steps": 2, "batch_size": 2, "device": "cpu", "val_split": 0.49}
    few |= {
        "tensorboard": False,
        "eval_every": 1,
        "checkpoint_every": 1,
        "keep_checkpoints": 9,
        "name": name,
    }
    model = {"dropout": 0.1} if {"init_from", "resume"} & options.keys() else MODEL
    events = run_stage("train", train=few | options, model=model)
    return Path(finished(events).path or "") / "checkpoint_step_000002"


def told(checkpoint: Path, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = result(judge(checkpoint=[str(checkpoint)], **options))["contamination"]
    return found


@pytest.mark.slow
def test_what_earlier_runs_of_the_weights_have_read_counts_as_seen(trained: Path) -> None:
    [first] = Path("checkpoints").iterdir()
    Path("copa.jsonl").write_text("".join(json.dumps(of_note(n)) + "\n" for n in range(40)))
    whole = told(first)["items"]
    fresh = train("fresh")
    assert told(fresh)["items"] < whole
    second = train("second", init_from=str(first))
    third = train("third", init_from=str(second))
    for later in (second, third):
        found = told(later)
        assert (found["items"], found["partly"]) == (whole, "")
    branch = train("branch", resume=str(third.parent / "checkpoint_step_000001"))
    assert branch.parent != third.parent
    assert told(branch)["items"] == whole
    # Of weights that their run has deleted meanwhile, its record says what they had read.
    shutil.rmtree(second)
    assert told(third)["items"] == whole
    # A run of that name that is made later says nothing of them.
    shutil.rmtree(second.parent)
    Path(second.parent).mkdir()
    record = json.loads((fresh.parent / "run.json").read_text())
    (second.parent / "run.json").write_text(
        json.dumps(record | {"created": "2999-01-01T00:00:00+0000", "checksum": ""})
    )
    found = told(third)
    assert found["items"] < whole
    assert found["partly"].endswith("had learned from before")
    assert second.parent.name in found["partly"]


@pytest.mark.slow
def test_where_the_first_weights_are_of_others_it_says_so(trained: Path) -> None:
    [step] = [p for p in Path("checkpoints").glob("*/checkpoint_step_000002") if p.is_dir()]
    shutil.copytree(step, "foreign")
    for name in ("manifest.json", "state.json"):
        Path("foreign", name).unlink()
    tuned = train("tuned", init_from="foreign")
    found = told(tuned)
    assert found["checked"]
    assert found["partly"] == "what foreign had learned from before"
    [tokens] = Path("data").rglob("tokens_*.npy")
    found = told(tuned, training_data=str(tokens.parent))
    assert (found["items"], found["partly"]) == (4, "")
