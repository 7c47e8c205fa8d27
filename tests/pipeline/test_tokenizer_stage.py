"""The tokenize stage as a user runs it: train, load, encode, decode, measure, run again."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.events import Event, Finished, Saved, Warned
from pipeline.options.config import Config, TokenizeOptions
from pipeline.tokenizer.fast_encoder import GPT2_SPLIT
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokenizer.stage import run
from pipeline.tokenizer.train import StoppedError, TrainingTexts
from tests.support.servers.hub import COMMIT, Hub, serving
from tests.support.small_tokenizers import PROSE, train
from utils.errors import HatcheryError, UsageError


def test_training_depends_on_the_documents_not_on_their_order(tmp_path: Path) -> None:
    texts = [f"{text} {i % 7}" for i, text in enumerate(PROSE * 5)]
    for kind in ("bpe", "char"):
        first = train(kind, texts, tmp_path / "a", 500).files()
        assert train(kind, texts[::-1], tmp_path / "b", 500).files() == first


def test_control_tokens_come_first_and_documents_cannot_spell_them(tmp_path: Path) -> None:
    for kind in ("bpe", "char"):
        poisoned = train(kind, ["<s>a</s><unk>" * 50, "</s> <s>"], tmp_path / kind, 600)
        assert [poisoned.piece(i) for i in range(3)] == ["<unk>", "<s>", "</s>"]
        assert (poisoned.bos_id, poisoned.eos_id, poisoned.unk_id, poisoned.pad_id) == (1, 2, 0, 2)
        assert min(poisoned.encode("<s>a</s><unk>")) > 2


def test_words_are_cut_so_that_other_programs_can_and_indentation_is_one_token(
    tmp_path: Path,
) -> None:
    code = train("bpe", ["if x:\n        y = 1\n" * 30], tmp_path, 330)
    assert code.spec["pre_tokenizer"] | {"trim_offsets": True} == GPT2_SPLIT | {
        "trim_offsets": True
    }
    pieces = [code.piece(i) for i in code.encode("if x:\n        y = 1\n")]
    assert "\n       " in pieces
    assert " y" in pieces


@pytest.mark.slow
def test_tiny_shakespeare_is_65_characters_beside_controls_and_bytes(
    shared_data: Path, tmp_path: Path
) -> None:
    text = (shared_data / "tinyshakespeare" / "input.txt").read_text()
    tokenizer = train("char", [text], tmp_path)
    assert tokenizer.vocab_size == 3 + 256 + 65
    assert min(tokenizer.encode(text)) == tokenizer.encode("\n")[0] == 259
    assert len(tokenizer.encode(text)) == len(text) == 1_115_394


@pytest.fixture
def config(workspace: Path) -> Config:
    folder = workspace / "data" / "cleaned_articles" / "python"
    folder.mkdir(parents=True)
    for part in range(2):
        rows = [{"id": f"{part}-{i}", "title": "", "text": t} for i, t in enumerate(PROSE)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"cleaned_{part}.jsonl").write_text(lines)
    return Config()


def stage(config: Config, **options: Any) -> list[Event]:
    return list(run(config, TokenizeOptions(**options), threading.Event()))


def last(events: list[Event]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def test_train_then_again_then_with_other_input(config: Config) -> None:
    events = stage(config, train="bpe", vocab_size=300)
    done = last(events)
    assert done.path == "tokenizers/bpe_tokenizer"
    assert done.summary["vocab_size"] == 300
    assert done.summary["exact_round_trips"] == done.summary["sample_documents"] == 18
    assert done.summary["bytes_per_token"] > 1
    assert any(isinstance(event, Saved) for event in events)
    again = last(stage(config, train="bpe", vocab_size=300))
    assert again.skipped
    assert again.summary == done.summary
    assert not last(stage(config, train="bpe", vocab_size=301)).skipped
    file = config.cleaned_dir("python") / "cleaned_0.jsonl"
    file.write_text(json.dumps({"id": "x", "title": "", "text": "Another one. " * 9}) + "\n")
    assert not last(stage(config, train="bpe", vocab_size=301)).skipped
    assert not last(stage(config, train="bpe", vocab_size=301, force=True)).skipped


def test_encode_and_decode_answer_in_the_summary(config: Config) -> None:
    stage(config, train="char")
    answer = last(stage(config, encode="To bé </s>")).summary
    assert answer["tokens"][:3] == ["T", "o", " "]
    assert answer["count"] == len(answer["ids"]) == 11  # é was not learned: its two bytes
    typed = ",".join(map(str, answer["ids"]))
    for text in (typed, f"[{typed}]", typed.replace(",", " ")):
        assert last(stage(config, decode=text)).summary["text"] == "To bé </s>"
    assert last(stage(config, encode="")).summary["ids"] == []


@pytest.mark.parametrize("typed", ["", "a", "1,,x", "1.5", "-1", "9" * 30, "²", "1e3"])
def test_ids_that_are_none_are_a_usage_error(config: Config, typed: str) -> None:
    stage(config, train="char")
    with pytest.raises(UsageError, match="not token ids"):
        stage(config, decode=typed)


def test_a_vocabulary_larger_than_the_text_allows_says_what_was_learned(config: Config) -> None:
    events = stage(config, train="bpe", vocab_size=50_000)
    learned = last(events).summary["vocab_size"]
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert len(warnings) == 1
    assert f"Only {learned} of 50000 ids" in warnings[0]


def test_a_corpus_of_one_character_makes_a_working_tokenizer(config: Config) -> None:
    Path("a.txt").write_text("a")
    for kind in ("bpe", "char"):
        stage(config, train=kind, input=[Path("a.txt")], vocab_size=259)
        ours = load_tokenizer(f"{kind}_tokenizer", config.paths.tokenizers_dir)
        assert ours.vocab_size == 259 + (kind == "char")
        assert ours.decode(ours.encode("北 a")) == "北 a"


def test_training_without_text_fails_and_leaves_nothing(config: Config) -> None:
    empty = {"id": "0", "title": "", "text": ""}
    Path("cleaned_e.jsonl").write_text(json.dumps(empty) + "\n")
    for kind in ("bpe", "char"):
        with pytest.raises(UsageError, match="no text"):
            stage(config, train=kind, input=[Path("cleaned_e.jsonl")])
    with pytest.raises(UsageError):
        stage(config, train="bpe", input=[Path("missing")])
    assert not Path("tokenizers").exists() or not any(Path("tokenizers").iterdir())


def test_stopping_while_learning_keeps_the_old_tokenizer(config: Config) -> None:
    before = last(stage(config, train="bpe", vocab_size=300)).summary["fingerprint"]
    stop = threading.Event()
    stop.set()
    options = TokenizeOptions(train="bpe", vocab_size=310)
    done = last(list(run(config, options, stop)))
    assert done.stopped
    ours = load_tokenizer("bpe_tokenizer", config.paths.tokenizers_dir)
    assert ours.fingerprint == before


def test_too_small_and_absurd_vocabularies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="too small"):
        train("bpe", PROSE, tmp_path, vocab_size=258)
    for size in (258, 10**12):
        with pytest.raises(ValueError, match="vocab_size"):
            TokenizeOptions(vocab_size=size)


def test_a_sample_is_spread_over_the_corpus_and_stays_under_its_limit(tmp_path: Path) -> None:
    texts = [f"document {i} " * 20 for i in range(400)]
    file = tmp_path / "big.txt"
    file.write_text("\n".join(texts))
    rows = tmp_path / "cleaned_a.jsonl"
    rows.write_text("".join(json.dumps({"id": "", "title": "", "text": t}) + "\n" for t in texts))
    feed = TrainingTexts([rows], rows.stat().st_size // 4, threading.Event())
    kept = [int(text.split()[1]) for text in feed]
    assert 50 < len(kept) < 150
    assert min(kept) < 40
    assert max(kept) > 360
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        list(TrainingTexts([rows], 1 << 30, stop))


@pytest.mark.slow
def test_load_converts_a_local_folder_once(config: Config, shared_data: Path) -> None:
    where = str(shared_data / "tokenizer-codellama")
    done = last(stage(config, load=where, name="codellama_tokenizer"))
    assert done.path == "tokenizers/codellama_tokenizer"
    done = last(stage(config, load=where, encode="Hi"))
    assert done.path is None, "the ids are the result, not the folder"
    assert next(iter(done.summary.values())) == [6324]
    assert last(stage(config, load=where, name="codellama_tokenizer")).skipped
    assert last(stage(config, load="codellama")).skipped  # its usual folder: nothing is fetched
    copied = last(stage(config, load=where))  # named after its folder
    assert copied.path == "tokenizers/tokenizer-codellama"
    assert last(stage(config, load="tokenizers/tokenizer-codellama")).skipped
    gpt2 = str(shared_data / "tokenizer-gpt2")
    stage(config, load=gpt2, name="gpt2_tokenizer")
    compared = last(stage(config, name="codellama_tokenizer", input=[config.cleaned_dir("python")]))
    assert compared.summary["tokens_vs_gpt2"] > 0


@pytest.mark.parametrize(
    "options", [{"train": "bpe", "load": "gpt2"}, {"train": "bpe", "name": "../up"}, {"name": ""}]
)
def test_contradictions_and_bad_names_are_usage_errors(
    config: Config, options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        stage(config, **options)


def test_without_any_tokenizer_the_next_command_is_named(config: Config) -> None:
    with pytest.raises(UsageError, match="no tokenizer") as error:
        stage(config, encode="x")
    assert "--train bpe" in error.value.remedy


# A hub on this machine.


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Knows someone/mine alone."""
    files = train("bpe", PROSE, tmp_path_factory.mktemp("hub")).files()
    files |= {"pytorch_model.bin": b"weights", "tokenization_evil.py": b"raise SystemExit"}
    with serving({"someone/mine": files}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_a_hub_id_fetches_only_tokenizer_files_and_only_once(config: Config, hub: Hub) -> None:
    done = last(stage(config, load="someone/mine"))
    assert done.path == "tokenizers/mine"
    assert not done.skipped
    fetched = {path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path}
    assert fetched == {"tokenizer.json", "tokenizer_config.json"}
    assert all(COMMIT in path for path in hub.asked if "/resolve/" in path)
    hub.asked.clear()
    assert last(stage(config, load="someone/mine")).skipped
    assert hub.asked == []
    assert not last(stage(config, load="someone/mine", force=True)).skipped
    assert hub.asked


@pytest.mark.slow
@pytest.mark.parametrize("reachable", [True, False])
def test_a_hub_that_fails_is_one_paragraph_with_the_local_way(
    config: Config, hub: Hub, monkeypatch: pytest.MonkeyPatch, reachable: bool
) -> None:
    if not reachable:
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HatcheryError, match="could not be fetched") as error:
        stage(config, load="nobody/nothing")
    assert "--load FOLDER" in error.value.remedy
    assert not Path("tokenizers").exists()
