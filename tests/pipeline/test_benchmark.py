"""The benchmark stage, with small random models: what it refuses before a model is loaded, and what
becomes of items that are hard to ask."""

import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from model.gpt import GPT
from pipeline.benchmark import ModelBenchmark, format_benchmark_results, stage
from pipeline.benchmark.report import scope
from pipeline.events import Event, Failed, Finished, Warned
from pipeline.runs import folders
from pipeline.tokenizer.formats import read
from pipeline.tokenizer.tokenizer import Tokenizer
from tests.support.stage_runner import finished, run_stage, typed_settings
from tests.support.tiny_checkpoints import byte_tokenizer, lively_model, save_step
from tests.support.token_sets import save_tokenizer
from utils.errors import ExitCode, HatcheryError, RefusedError, UsageError

PAIR = {"query": "Is ice cold?", "choices": ["yes", "no"], "gold": 0}
CONTEXT = 64  # of the small models
ROOT = Path(__file__).parents[2]


@pytest.fixture
def model(workspace: Path) -> GPT:
    """The one of the checkpoint `a`."""
    return saved("a")


def saved(name: str, seed: int = 0, tokenizer: Tokenizer | None = None) -> GPT:
    made = lively_model(seed)
    save_step(Path("checkpoints") / name, 1, made, tokenizer or byte_tokenizer())
    return made


def written(rows: Mapping[str, Any] | list[dict[str, Any]], task: str = "piqa") -> list[Path]:
    """A file of a task, as --data names it."""
    path = Path(f"{task}.jsonl")
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in ([rows] if dict is type(rows) else rows))
    )
    return [path]


def judge(*checkpoints: str, **options: Any) -> list[Event]:
    return run_stage(
        "benchmark", benchmark={"checkpoint": [*checkpoints], "samples": "all"} | options
    )


def scores(*checkpoints: str, **options: Any) -> dict[str, Any]:
    """The whole results, from the file."""
    events = judge(*checkpoints, **options)
    report = json.loads(Path(finished(events).path or "").read_text())
    found: dict[str, Any] = report["results"]
    return found


def warnings(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Warned)]


def logprob(model: GPT, context: str, continuation: str, prefix: int | None = 256) -> float:
    """The log-likelihood of a continuation, read alone; a byte is an id."""
    before = [] if prefix is None else [prefix]
    ids = byte_tokenizer().encode(context + continuation)
    return of_ids(model, [*before, *ids], len(continuation.encode()))


def of_ids(model: GPT, ids: list[int], count: int) -> float:
    """The log-likelihood of the last `count` ids."""
    with torch.inference_mode():
        logits = model.logits(model.hidden(torch.tensor([ids[:-1]])))
    found = torch.log_softmax(logits[0, -count:].double(), -1)
    return float(found.gather(1, torch.tensor(ids[-count:])[:, None]).sum())


def changed_tokenizer(
    name: str, merges: Sequence[tuple[str, str]] = (), roles: bool = True, **step: Any
) -> Tokenizer:
    """A byte-level tokenizer with changes to how it splits texts, and maybe without any role."""
    folder = save_tokenizer(name, merges)
    spec = json.loads((folder / "tokenizer.json").read_text())
    spec["pre_tokenizer"] |= step
    if not roles:
        vocab = spec["model"]["vocab"]
        vocab |= {"one": vocab.pop("<s>"), "two": vocab.pop("</s>")}
        spec["added_tokens"] = []
        (folder / "tokenizer_config.json").write_text("{}")
    (folder / "manifest.json").unlink(missing_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    return read(folder, name)


def bare_tokenizer() -> Tokenizer:
    """Neither BOS nor EOS."""
    tokenizer = changed_tokenizer("bare", roles=False)
    assert tokenizer.bos_id is None
    assert tokenizer.eos_id is None
    return tokenizer


# What is refused before a model is loaded.


@pytest.fixture
def no_model(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint `a`, which must not be loaded."""
    saved("a")
    monkeypatch.setattr(stage, "load_model", lambda *_: pytest.fail("a model was loaded"))


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"tasks": ["piqua"]}, "There is no task piqua"),
        ({"tasks": [","]}, "No task is named"),
        ({"data": [Path("none")]}, "There is no none"),
        ({"data": [Path("empty")]}, "empty holds no file of a task"),
        ({"data": [Path("good"), Path("empty")]}, "empty holds no file of a task"),
        ({"data": [Path("other.jsonl")]}, "bears the name of no task"),
        ({"data": [Path("pica=other.jsonl")]}, "names no task"),
        ({"data": [Path("piqa=other.jsonl")]}, "does not hold the items of piqa"),
        ({"data": [Path("good")], "tasks": ["copa"]}, "There is no data for copa"),
        ({"data": [Path("good"), Path("good/more")]}, "several files for piqa"),
        ({"data": [Path("copa.jsonl")]}, "does not hold the items of copa"),
    ],
)
def test_data_that_are_none_are_refused_before_a_model_is_loaded(
    options: dict[str, Any], problem: str
) -> None:
    Path("empty").mkdir()
    Path("good/more").mkdir(parents=True)
    for folder in ("good", "good/more"):
        Path(folder, "piqa.jsonl").write_text(json.dumps(PAIR))
    Path("other.jsonl").write_text('{"text": "no item"}\n')
    Path("copa.jsonl").write_text(json.dumps(PAIR | {"gold": 7}))
    with pytest.raises(HatcheryError) as refused:
        judge("a", **options)
    assert problem in refused.value.problem
    assert refused.value.remedy
    assert not Path("benchmark_results").exists()


@pytest.mark.usefixtures("no_model")
def test_a_mistyped_task_is_guessed() -> None:
    with pytest.raises(UsageError) as refused:
        judge("a", tasks=["piqua"])
    assert refused.value.remedy == "did you mean --tasks piqa?"


@pytest.mark.usefixtures("no_model")
def test_a_checkpoint_without_a_tokenizer_or_that_is_none_is_named() -> None:
    save_step(Path("checkpoints/bare"), 1, lively_model())
    with pytest.raises(UsageError, match="tokenizer"):
        judge("bare", data=written(PAIR))
    with pytest.raises(UsageError, match="nowhere"):
        judge("a", "nowhere", data=written(PAIR))


@pytest.mark.usefixtures("no_model")
def test_a_tokenizer_with_more_ids_than_the_model_is_refused_before_weights_are_read() -> None:
    save_step(Path("checkpoints/other"), 1, lively_model(vocab_size=200), byte_tokenizer())
    with pytest.raises(RefusedError, match="do not belong together") as refused:
        judge("other", data=written(PAIR))
    assert "258 ids, the model knows 200" in refused.value.found


# Of several checkpoints some cannot be asked.


def bare(name: str) -> Path:
    return save_step(Path("checkpoints") / name, 1, lively_model())


def cut_weights(name: str) -> Path:
    saved(name)
    path = folders.step_folder(Path("checkpoints", name), 1) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + b"bits")
    return path


def cut_description(name: str) -> Path:
    saved(name)
    path = folders.step_folder(Path("checkpoints", name), 1) / "config.json"
    path.write_text(path.read_text()[:40])
    return path


def damaged_tokenizer(name: str) -> Path:
    saved(name)
    path = folders.step_folder(Path("checkpoints", name), 1) / "tokenizer.json"
    path.write_text("{}")
    return path


def misfit(name: str) -> Path:
    model = lively_model(vocab_size=200)
    return save_step(Path("checkpoints") / name, 1, model, byte_tokenizer())


@pytest.mark.parametrize(
    ("spoil", "problem", "code"),
    [
        (bare, "holds no tokenizer", ExitCode.USAGE),
        (damaged_tokenizer, "tokenizer", ExitCode.REFUSED),
        (cut_description, "config.json", ExitCode.REFUSED),
        (cut_weights, "is damaged", ExitCode.REFUSED),
        (misfit, "do not belong together", ExitCode.REFUSED),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_of_several_checkpoints_one_that_cannot_be_asked_is_told_and_the_others_are_scored(
    model: GPT, spoil: Callable[[str], Path], problem: str, code: int, place: int
) -> None:
    spoil("b")
    saved("c", 1)
    asked = ["a", "c"]
    asked.insert(place, "b")
    events = judge(*asked, data=written(PAIR))
    end, last = events[-2:]
    assert isinstance(end, Finished)
    assert isinstance(last, Failed)
    assert last.summary == end.summary
    assert last.exit_code == code
    assert last.remedy
    assert last.problem.startswith("1 of 3 checkpoints could not be judged: b ")
    assert problem in last.found
    assert "b step 1" in last.found or "checkpoints/b/" in last.found
    results = last.summary["results"]
    assert problem in results["b"]["piqa"]["error"]
    assert [results[name]["piqa"]["n"] for name in ("a", "c")] == [1, 1]
    assert any(problem in message for message in warnings(events))


def test_where_no_checkpoint_can_be_asked_the_first_reason_ends_the_benchmark(
    workspace: Path,
) -> None:
    bare("b")
    cut_weights("c")
    misfit("d")
    with pytest.raises(UsageError, match="holds no tokenizer"):
        judge("b", "c", "d", data=written(PAIR))


def test_a_program_gets_the_scores_of_the_others(model: GPT) -> None:
    cut_weights("b")
    found = ModelBenchmark(data=written(PAIR)).run_full_benchmark({"mine": "a", "yours": "b"})
    assert "is damaged" in found["results"]["yours"]["piqa"]["error"]
    assert found["results"]["mine"]["piqa"]["n"] == 1


# Items that are hard to ask.


def test_an_answer_that_is_the_beginning_of_another_counts_by_itself(model: GPT) -> None:
    answers = ["ice", "ice cold", "ice cold beer", "hot"]
    row = {"query": "It is", "choices": answers, "gold": 2}
    [result] = [scores("a", data=written(row))["a"]["piqa"]]
    [item] = result["items"].values()
    context = "Question: It is\nAnswer:"
    sums = [logprob(model, context, f" {answer}") for answer in answers]
    by_characters = [total / len(answer) for total, answer in zip(sums, answers, strict=True)]
    assert item["acc"] == [float(sums.index(max(sums)) == 2), 1]
    assert item["acc_norm"] == [float(by_characters.index(max(by_characters)) == 2), 1]
    assert item["gold_bits_per_byte"][0] == pytest.approx(sums[2], abs=1e-4)
    assert item["gold_bits_per_byte"][1] == len("ice cold beer")


def test_equal_answers_share_the_point(model: GPT) -> None:
    row = PAIR | {"choices": ["the same", "the same"]}
    result = scores("a", data=written([row, row | {"gold": 1}]))["a"]["piqa"]
    assert result["metrics"]["acc"] == 0.5
    assert [item["acc"] for item in result["items"].values()] == [[0.5, 1], [0.5, 1]]


def test_items_that_stand_twice_count_twice_and_are_told(model: GPT) -> None:
    other = PAIR | {"query": "Is fire cold?", "gold": 1}
    events = judge("a", data=written([PAIR, other, PAIR]))
    result = finished(events).summary["results"]["a"]["piqa"]
    assert result["n"] == 3
    assert any("1 item of piqa stand more than once" in text for text in warnings(events))


def test_a_token_over_the_join_is_scored_and_counted(workspace: Path) -> None:
    """As lm-evaluation-harness cuts it: what the context alone has many ids of is context."""
    tokenizer = changed_tokenizer("joined", [(":", "Ġ")], use_regex=False)
    assert tokenizer.encode(": ") == [256]
    model = lively_model(vocab_size=259)
    save_step(Path("checkpoints/a"), 1, model, tokenizer)
    result = scores("a", data=written(PAIR))["a"]["piqa"]
    assert (result["n"], result["joined"]) == (1, 1)
    ids = [257, *tokenizer.encode("Question: Is ice cold?\nAnswer: yes")]
    [item] = result["items"].values()
    assert item["gold_bits_per_byte"] == [pytest.approx(of_ids(model, ids, 3), abs=1e-4), 3]


def test_where_a_token_over_the_join_is_the_whole_answer_it_is_scored(workspace: Path) -> None:
    merges = [(":", "Ġ"), (":Ġ", "a")]
    tokenizer = changed_tokenizer("joined", merges, use_regex=False)
    assert tokenizer.encode(": a") == [257]
    model = lively_model(vocab_size=260)
    save_step(Path("checkpoints/a"), 1, model, tokenizer)
    result = scores("a", data=written(PAIR | {"choices": ["a", "b"]}))["a"]["piqa"]
    ids = [258, *tokenizer.encode("Question: Is ice cold?\nAnswer: a")]
    [item] = result["items"].values()
    assert item["gold_bits_per_byte"] == [pytest.approx(of_ids(model, ids, 1), abs=1e-4), 1]


def test_a_long_context_loses_its_beginning_and_a_long_answer_is_left_out(model: GPT) -> None:
    long = PAIR | {"query": "x" * 500, "choices": ["yes", "no"]}
    endless = PAIR | {"choices": ["y" * 500, "no"]}
    events = judge("a", data=written([PAIR, long, endless]))
    result = json.loads(Path(finished(events).path or "").read_text())["results"]["a"]["piqa"]
    assert (result["n"], result["cut"], sum(result["left_out"].values())) == (2, 1, 1)
    assert [result["recipe"][name] for name in ("items", "asked", "of")] == [2, 3, 3]
    assert scope(result) == "real sets"  # the whole one, of which an item cannot be asked
    assert scope(scores("a", data=[Path("piqa.jsonl")], samples=2)["a"]["piqa"]).endswith("samples")
    assert any("1 item of piqa left out: more tokens to score than" in t for t in warnings(events))
    end = f"{'x' * 500}\nAnswer: yes"[-CONTEXT - 1 :]
    found = [item["gold_bits_per_byte"][0] for item in result["items"].values()][1]
    assert found == pytest.approx(logprob(model, end[:-4], " yes", prefix=None), abs=1e-4)


def test_where_no_item_can_be_scored_there_is_no_score(model: GPT) -> None:
    result = scores("a", data=written(PAIR | {"choices": ["y" * 500, "n" * 500]}))["a"]["piqa"]
    assert result["n"] == 0
    assert set(result["metrics"].values()) == {None}
    assert "none" in next(Path("benchmark_results").glob("*.txt")).read_text()


def test_without_bos_and_eos_a_text_is_scored_from_its_second_token(workspace: Path) -> None:
    model = saved("a", tokenizer=bare_tokenizer())
    rows = [{"good": "She sings.", "bad": "She sing.", "phenomenon": "agreement"},
            {"good": "I", "bad": "i", "phenomenon": "case"}]  # fmt: skip
    result = scores("a", data=written(rows, "blimp"))["a"]["blimp"]
    assert result["recipe"]["prefix"] is None
    assert result["recipe"]["bos"] is False
    assert result["n"] == 1  # of one token nothing is left to score
    good, bad = (
        logprob(model, text[0], text[1:], prefix=None) for text in ("She sings.", "She sing.")
    )
    assert result["metrics"]["acc"] == float(good > bad)


def test_a_document_of_one_token_is_left_out_where_nothing_precedes_it(workspace: Path) -> None:
    saved("a", tokenizer=bare_tokenizer())
    found = scores("a", data=written([{"page": "x"}, {"page": "xy"}], "wikitext"))["a"]["wikitext"]
    assert found["n"] == 1
    assert sum(found["left_out"].values()) == 1


# Models that compute NaN.


def spoiled(name: str) -> None:
    model = lively_model(7)
    with torch.no_grad():
        model.embedding.weight.fill_(math.nan)
    save_step(Path("checkpoints") / name, 1, model, byte_tokenizer())


def test_of_several_models_one_that_computes_nan_has_an_error_and_the_others_scores(
    model: GPT,
) -> None:
    spoiled("b")
    saved("c", 1)
    events = judge("a", "b", "c", data=written([PAIR, PAIR | {"query": "Is it hot?"}]))
    found = finished(events).summary
    assert found["results"]["b"]["piqa"].keys() == {"error"}
    assert "nan" in found["results"]["b"]["piqa"]["error"]
    for name in ("a", "c"):
        assert found["results"][name]["piqa"]["n"] == 2
    assert {row["checkpoint"] for row in found["ranking"]} == {"a", "c"}
    assert [(row["first"], row["second"]) for row in found["comparisons"]] == [("a", "c")]
    assert any(t.startswith("b ") and "computes nan" in t for t in warnings(events))
    assert "no score" in next(Path("benchmark_results").glob("*.txt")).read_text()


def test_a_tied_model_of_others_that_computes_nan_is_told_as_that(workspace: Path) -> None:
    model = lively_model(7, tie_word_embeddings=True)
    with torch.no_grad():
        model.embedding.weight[3, 5] = math.nan
    step = save_step(Path("checkpoints/b"), 1, model, byte_tokenizer())
    with pytest.raises(HatcheryError, match="computes nan"):
        judge(str(step), data=written(PAIR))


def test_where_every_model_computes_nan_the_benchmark_fails(workspace: Path) -> None:
    spoiled("b")
    with pytest.raises(HatcheryError, match="computes nan"):
        judge("b", data=written(PAIR))


# Text of the user's own.

TEXTS = ["The hen lays an egg.\n", "An old fox looks at it, and runs away.\n"]


def own_texts() -> list[Path]:
    """A folder of forms that cleanup reads, with the two texts thrice."""
    folder = Path("mine")
    folder.mkdir()
    (folder / "latin.txt").write_bytes("Café à la crème, déjà vu: l'été.\n".encode("cp1252") * 4)
    rows = [json.dumps({"text": text}) for text in TEXTS]
    (folder / "rows.jsonl").write_text("\n".join([*rows, '{"no": "text"}', "{"]) + "\n")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return [folder]


def test_own_text_is_scored_by_document_and_file(model: GPT) -> None:
    events = judge("a", text=own_texts())
    report = json.loads(Path(finished(events).path or "").read_text())
    assert [*report["results"]["a"]] == ["text", "next_token"]
    result = report["results"]["a"]["text"]
    assert (result["n"], result["origin"], result["where"]) == (3, "local", "mine")
    assert {name: group["n"] for name, group in result["groups"].items()} == {
        "latin.txt": 1,
        "rows.jsonl": 2,
    }
    by_name = {row["name"]: row for row in result["documents"]}
    assert len(by_name) == 3
    fox = by_name["rows.jsonl:2"]
    total = logprob(model, "", TEXTS[1])
    assert fox["bits_per_byte"] == pytest.approx(-total / math.log(2) / len(TEXTS[1]), rel=1e-5)
    words = 9 + 1  # with the empty one behind the line end, as lm-evaluation-harness counts
    assert fox["word_perplexity"] == pytest.approx(math.exp(-total / words), rel=1e-4)
    assert fox["byte_perplexity"] == fox["token_perplexity"]  # a byte is a token
    said = warnings(events)
    assert any("1 file (.png 1) passed over" in text for text in said)
    assert sum("left out" in text for text in said) == 2
    assert report["ranking"] == []
    assert scope(result) == "text of your own"
    top = report["results"]["a"]["next_token"]["metrics"]
    assert top["top_1"] <= top["top_5"] <= top["top_10"]
    assert "documents" not in finished(events).summary["results"]["a"]["text"]


@pytest.mark.parametrize("form", ["jsonl", "txt"])
def test_a_cleaned_corpus_is_scored_document_by_document(model: GPT, form: str) -> None:
    Path("raw").mkdir()
    for number in range(3):
        text = f"This is the text of document {number}, and it goes on for a while longer.\n" * 2
        Path(f"raw/{number}.txt").write_text(text)
    run_stage("cleanup", cleanup={"input": [Path("raw")], "name": "mine", "format": form})
    result = scores("a", text=[Path("data/cleaned_articles/mine")], tasks=["text"])["a"]["text"]
    assert result["n"] == 3


def test_own_text_stands_beside_tasks_that_are_named(model: GPT) -> None:
    texts = own_texts()
    data = written(PAIR)
    assert [*scores("a", text=texts, data=data)["a"]] == ["piqa", "text", "next_token"]
    assert [*scores("a", text=texts, data=data, tasks=["text"])["a"]] == ["text"]


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"tasks": ["text"]}, "asks a text of your own"),
        ({"text": [Path("none.txt")]}, "no clean documents at none.txt"),
        ({"text": [Path("blank.txt")]}, "no text in blank.txt"),
        ({"data": [Path("text=blank.txt")]}, "names no task"),
    ],
)
def test_own_text_that_is_none_is_refused(options: dict[str, Any], problem: str) -> None:
    Path("blank.txt").write_text(" \n\n ")
    with pytest.raises(HatcheryError) as refused:
        judge("a", **options)
    assert problem in refused.value.problem


# From a program.


def test_a_program_judges_models_by_names_of_its_own(model: GPT) -> None:
    saved("b", 1)
    seen: list[Event] = []
    benchmark = ModelBenchmark(preset="quick", data=written(PAIR), on_event=seen.append)
    models: dict[str, str | Path] = {"first": "checkpoints/a", "second": Path("checkpoints/b")}
    report = benchmark.run_full_benchmark(models)
    assert [*report["results"]] == ["first", "second"]
    assert report["results"]["first"]["piqa"]["n"] == 1
    [file] = Path("benchmark_results").glob("benchmark_*.json")
    assert json.loads(file.read_text()) == report
    text = format_benchmark_results(report)
    assert text == file.with_suffix(".txt").read_text()
    assert "first" in text
    assert "a step 1" not in text
    assert any("first" in str(event) for event in seen)
    [by_command] = scores("checkpoints/a", data=written(PAIR)).values()
    assert by_command["piqa"]["items"] == report["results"]["first"]["piqa"]["items"]


def test_a_programs_configuration_is_a_file_an_object_or_that_of_the_folder(
    workspace: Path,
) -> None:
    Path("config.json").write_text('{"benchmark": {"samples": 3}, "paths": {"data_dir": "here"}}')
    Path("other.json").write_text('{"benchmark": {"samples": 4}}')
    assert ModelBenchmark().config.benchmark.samples == 3
    assert ModelBenchmark(samples=5).config.benchmark.samples == 5
    found = ModelBenchmark("other.json", tasks=["piqa"]).config
    assert (found.benchmark.samples, found.benchmark.preset) == (4, "standard")
    assert ModelBenchmark("other.json", "quick").config.benchmark.samples is None  # its own sizes
    assert found.paths.data_dir == Path("data")
    assert ModelBenchmark(typed_settings().config).config.paths.data_dir == Path("here")


@pytest.mark.slow
@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("options", "models", "problem"),
    [
        ({"preset": "long"}, {"a": "a"}, "preset"),
        ({"task": ["piqa"]}, {"a": "a"}, "task"),
        ({"tasks": ["pica"]}, {"a": "a"}, "no task pica"),
        ({}, {}, "No model is named"),
        ({}, {"a": "nowhere"}, "nowhere"),
        ({"config": "none.json"}, {"a": "a"}, "none.json"),
    ],
)
def test_what_a_program_cannot_mean_is_refused(
    options: dict[str, Any], models: dict[str, str | Path], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        ModelBenchmark(**options).run_full_benchmark(models)


@pytest.mark.slow
def test_the_package_is_light_until_a_benchmark_is_made() -> None:
    script = "import sys, pipeline.benchmark as b\n"
    script += "b.format_benchmark_results\nassert 'torch' not in sys.modules\n"
    script += "from pipeline.benchmark import ModelBenchmark\nassert 'torch' in sys.modules\n"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)
