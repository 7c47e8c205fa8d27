"""Every command that an error about texts, tokenizers or tokens advises, run as it was printed, in
the situation that the error is about."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from pipeline.conversations.example_set import open_examples
from pipeline.tokenizer.load import load_tokenizer
from pipeline.tokens.shards import Shard
from tests.support.advice import LINE, Situation, advises, made
from tests.support.servers.hub import Hub
from tests.support.small_tokenizers import PROSE, train
from utils.artefacts import read_manifest
from utils.files import hash_file

CLEAN = Path("data/cleaned_articles/notes")
TOKENS = Path("data/tokenized_datasets/notes_full_dataset")
SITUATIONS: dict[str, Situation] = {}


def _added(text: str, number: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": number, "content": text, "special": True} | flags


def _write_tokenizer(folder: str, spec: Mapping[str, Any]) -> None:
    Path(folder).mkdir()
    Path(folder, "tokenizer.json").write_text(json.dumps(spec))


def _rewritten(name: str, data: bytes) -> None:
    """Another content for a file of the tokens, which their manifest knows about."""
    (TOKENS / name).write_bytes(data)
    old = read_manifest(TOKENS)
    assert old is not None
    new = msgspec.structs.replace(old, files=old.files | {name: hash_file(TOKENS / name)})
    new = msgspec.structs.replace(new, checksum=new.own_checksum())
    (TOKENS / "manifest.json").write_bytes(msgspec.json.encode(new))


# Texts and where they come from.


@advises(SITUATIONS, "pipeline/source_table.py:find_source")
def _an_unknown_source() -> list[str]:
    return ["download", "wikipadia"]


@advises(SITUATIONS, "pipeline/sources/stage.py:run")
def _no_source_named() -> list[str]:
    return ["download"]


@advises(SITUATIONS, "pipeline/sources/stage.py:run#2", PATH="notes")
def _ones_own_files_to_download() -> list[str]:
    return ["download", "files"]


@advises(SITUATIONS, "pipeline/sources/stage.py:run#3")
def _files_are_where_a_download_goes() -> list[str]:
    folder = Path("data/raw/shakespeare")
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text(LINE)
    return ["download", "shakespeare"]


@advises(SITUATIONS, "pipeline/sources/stage.py:raw_inputs")
def _the_library_takes_no_input() -> list[str]:
    return ["cleanup", "--source", "python", "--input", "notes"]


@advises(SITUATIONS, "pipeline/sources/stage.py:raw_inputs#2", FOLDER="notes")
def _no_raw_text() -> list[str]:
    return ["cleanup", "--source", "files"]


def _fetched_by_hand() -> None:
    Path("data/raw/shakespeare").mkdir(parents=True)
    Path("data/raw/shakespeare/input.txt").write_text(LINE * 9)


@advises(SITUATIONS, "pipeline/sources/fetch.py:_unreachable", then=_fetched_by_hand)
def _no_network() -> list[str]:
    return ["download", "shakespeare", "--url", "http://127.0.0.1:9/input.txt"]


@advises(SITUATIONS, "pipeline/evaluation/hub.py:_unreachable")
def _a_hub_of_tasks_out_of_reach() -> list[str]:
    os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # taken back by `house`
    return ["benchmark", "--tasks", "piqa"]


@advises(SITUATIONS, "pipeline/sources/python_library.py:library_folder", FOLDER="notes")
def _a_python_without_its_library() -> list[str]:
    shutil.rmtree("library")
    return ["cleanup", "--source", "python"]


@advises(SITUATIONS, "pipeline/sources/documents.py:cleaned_files", FILE_OR_FOLDER="notes")
def _clean_documents_that_are_not_there() -> list[str]:
    return ["prepare", "--input", "cleaned"]


@advises(SITUATIONS, "pipeline/sources/documents.py:cleaned_files#2", FILE_OR_FOLDER="notes")
def _only_rejected_documents() -> list[str]:
    Path("clean").mkdir()
    Path("clean/rejected_0.jsonl").write_text('{"id": "1"}\n')
    return ["prepare", "--input", "clean"]


@advises(SITUATIONS, "pipeline/sources/documents.py:read_documents")
def _a_text_called_like_clean_documents() -> list[str]:
    shutil.rmtree(CLEAN)
    CLEAN.mkdir()
    (CLEAN / "cleaned_up.md").write_text(LINE * 9)
    return ["prepare", "--output", "apart"]


GERMAN = "Der Käse und die Brötchen für Jürgen stehen überall schön auf den Tischen.\n" * 40


def _saved_as_utf8() -> None:
    (CLEAN / "old.txt").write_text(GERMAN, "utf-8")


@advises(SITUATIONS, "pipeline/sources/documents.py:_decoded", then=_saved_as_utf8)
def _another_encoding_among_clean_documents() -> list[str]:
    shutil.rmtree(CLEAN)
    CLEAN.mkdir()
    (CLEAN / "old.txt").write_bytes(GERMAN.encode("cp1252"))
    return ["prepare", "--output", "apart"]


def _in_other_encodings() -> list[str]:
    Path("letters").mkdir()
    Path("letters/windows.txt").write_bytes(GERMAN.encode("cp1252"))
    Path("letters/notepad.txt").write_bytes(f"{LINE * 30}".encode("utf-16"))
    Path("letters/mine.txt").write_text(LINE * 20)
    return ["--input", "letters"]


@advises(SITUATIONS, "pipeline/sources/documents.py:NotCleanedError.with_cleaning")
def _another_encoding() -> list[str]:
    return ["prepare", *_in_other_encodings(), "--window", "32"]


@advises(SITUATIONS, "pipeline/sources/documents.py:NotCleanedError.with_cleaning (learning)")
def _another_encoding_to_learn_from() -> list[str]:
    return ["tokenize", "--train", "char", *_in_other_encodings(), "--name", "letters"]


@advises(SITUATIONS, "pipeline/sources/documents.py:NotCleanedError.with_cleaning (form)")
def _articles_of_wikiextractor() -> list[str]:
    Path("wiki").mkdir()
    Path("wiki/wiki_00").write_text(f'<doc id="1" url="u" title="T">\nT\n\n{LINE * 9}\n</doc>\n')
    Path("wiki/mine.txt").write_text(LINE * 20)
    return ["prepare", "--input", "wiki"]


@advises(SITUATIONS, "pipeline/sources/documents.py:_parsed")
def _rows_that_are_no_documents() -> list[str]:
    Path("cleaned_rows.jsonl").write_text(json.dumps({"content": LINE}) + "\n")
    return ["prepare", "--input", "cleaned_rows.jsonl"]


@advises(SITUATIONS, "pipeline/corpora.py:in_the_way")
def _other_texts_under_the_same_name() -> list[str]:
    for name in ("notes", "notes_2"):
        folder = Path("other", name)
        folder.mkdir(parents=True)
        (folder / "a.txt").write_text(f"{name}: {LINE}")
    made("cleanup", "--input", "other/notes_2")
    return ["cleanup", "--input", "other/notes"]


@advises(SITUATIONS, "pipeline/cleaner/corpus.py:_refuse_name_of_test")
def _the_name_of_a_trial() -> list[str]:
    return ["cleanup", "--input", "notes", "--name", "notes_test"]


@advises(SITUATIONS, "pipeline/cleaner/corpus.py:_of_your_own", FILE_OR_FOLDER="notes")
def _a_name_that_nothing_has() -> list[str]:
    return ["cleanup", "--source", "letters"]


@advises(SITUATIONS, "pipeline/cleaner/report.py:finished")
def _only_short_texts() -> list[str]:
    Path("short.txt").write_text(LINE)
    return ["cleanup", "--input", "short.txt", "--min-words", "500"]


@advises(SITUATIONS, "pipeline/corpora.py:path_for_name")
def _a_path_where_a_name_belongs() -> list[str]:
    return ["cleanup", "--source", "notes/"]


# Tokenizers and tokens.


@advises(SITUATIONS, "pipeline/prep/plan.py:input_paths", FOLDER="notes")
def _no_clean_documents() -> list[str]:
    shutil.rmtree("data/cleaned_articles/notes")
    return ["prepare", "--source", "notes"]


@advises(SITUATIONS, "pipeline/tokenizer/stage.py:_corpus")
def _nothing_to_learn_from() -> list[str]:
    return ["tokenize", "--train", "bpe", "--source", "python"]


@advises(SITUATIONS, "pipeline/prep/stage.py:_Build._nothing_left", FILE_OR_FOLDER="more.txt")
def _no_token_left() -> list[str]:
    Path("more.txt").write_text(LINE * 20)
    Path("empty.txt").write_text("\n")
    return ["prepare", "--input", "empty.txt", "--output", "empty"]


@advises(SITUATIONS, "pipeline/prep/stage.py:_Build._nothing_left (rows)", NAME="inhalt")
def _rows_with_an_unknown_field() -> list[str]:
    row = json.dumps({"inhalt": LINE, "sprache": "de"})
    Path("rows.jsonl").write_text(f"{row}\n" * 30)
    return ["prepare", "--input", "rows.jsonl"]


@advises(SITUATIONS, "pipeline/prep/stage.py:_Build._held_out", FILE_OR_FOLDER="notes")
def _two_tokens() -> list[str]:
    Path("short.txt").write_text("a")
    return ["prepare", "--input", "short.txt", "--output", "short"]


@advises(SITUATIONS, "pipeline/tokenizer/train.py:learn (rows)", NAME="inhalt")
def _nothing_to_read_in_rows() -> list[str]:
    Path("rows.jsonl").write_text(json.dumps({"inhalt": LINE, "sprache": "de"}) + "\n")
    return ["tokenize", "--train", "bpe", "--input", "rows.jsonl"]


@advises(SITUATIONS, "pipeline/tokenizer/train.py:learn", FILE_OR_FOLDER="notes")
def _text_without_a_character() -> list[str]:
    Path("cleaned_0.jsonl").write_text(json.dumps({"id": "1", "title": "", "text": ""}) + "\n")
    return ["tokenize", "--train", "bpe", "--input", "cleaned_0.jsonl"]


@advises(SITUATIONS, "pipeline/tokenizer/load.py:not_here")
def _an_unknown_tokenizer() -> list[str]:
    return ["prepare", "--tokenizer", "charz"]


@advises(SITUATIONS, "pipeline/tokenizer/load.py:newest")
def _no_tokenizer() -> list[str]:
    shutil.rmtree("tokenizers")
    return ["prepare"]


@advises(SITUATIONS, "pipeline/tokenizer/load.py:_unreachable", FOLDER="tokenizers/chars")
def _a_tokenizer_out_of_reach() -> list[str]:
    os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # taken back by `house`
    return ["tokenize", "--load", "nobody/nothing"]


@advises(
    SITUATIONS,
    "pipeline/tokenizer/formats.py:_tiktoken",
    FOLDER_WITH_TOKENIZER_JSON="tokenizers/chars",
)
def _a_tiktoken_file() -> list[str]:
    Path("cl100k.tiktoken").write_text("IQ== 0\nIg== 1\n")
    return ["tokenize", "--load", "cl100k.tiktoken"]


@advises(SITUATIONS, "pipeline/tokenizer/spec.py:kind_of")
def _a_tokenizer_that_loses_text() -> list[str]:
    model = {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "a"}
    Path("words.json").write_text(json.dumps({"model": model, "decoder": None}))
    return ["tokenize", "--load", "words.json"]


@advises(SITUATIONS, "pipeline/tokenizer/spec.py:normalized")
def _words_that_are_control_tokens() -> list[str]:
    spec = train("bpe", PROSE, Path("made")).spec
    spec["model"]["ignore_merges"] = True
    spec["model"]["vocab"]["<|word|>"] = 400
    _write_tokenizer(
        "odd", spec | {"added_tokens": [*spec["added_tokens"], _added("<|word|>", 400)]}
    )
    return ["tokenize", "--load", "odd"]


@advises(SITUATIONS, "pipeline/tokenizer/sentencepiece.py:_require_exact")
def _a_unigram_model() -> list[str]:
    sentencepiece = pytest.importorskip("sentencepiece")
    Path("corpus.txt").write_text(LINE * 50)
    sentencepiece.SentencePieceTrainer.train(
        input="corpus.txt", model_prefix="tokenizer", vocab_size=30, minloglevel=9
    )
    return ["tokenize", "--load", "tokenizer.model"]


@advises(SITUATIONS, "pipeline/tokenizer/stage.py:probed")
def _a_tokenizer_that_writes_small() -> list[str]:
    spec = train("bpe", PROSE, Path("made")).spec
    _write_tokenizer("small", spec | {"normalizer": {"type": "Lowercase"}})
    return ["tokenize", "--load", "small"]


@advises(SITUATIONS, "pipeline/tokens/shards.py:Shard.add", NAME="tokenizers/chars")
def _an_id_outside_of_the_vocabulary() -> list[str]:
    Shard(10).add(np.array([3, 11]), "a", 2)
    return []


@advises(SITUATIONS, "pipeline/tokens/metadata.py:read_metadata")
def _tokens_of_another_version() -> list[str]:
    _rewritten("metadata.json", b"{}")
    return ["train"]


@advises(SITUATIONS, "pipeline/tokens/token_set.py:TokenSet.check_tokenizer")
def _another_tokenizer_of_the_same_name() -> list[str]:
    made("tokenize", "--train", "bpe", "--name", "chars")
    return ["train"]


@advises(SITUATIONS, "pipeline/tokens/token_set.py:_complete")
def _no_token_set_there() -> list[str]:
    return ["train", "--data", "nothing"]


def _moved_away() -> None:
    Path("tokens").rename("aside")


@advises(SITUATIONS, "pipeline/tokens/token_set.py:_complete#2", then=_moved_away)
def _half_a_token_set() -> list[str]:
    Path("tokens").mkdir()
    Path("tokens/notes.txt").write_text("mine")
    return ["train", "--data", "tokens"]


@advises(SITUATIONS, "pipeline/tokens/token_set.py:_verify")
def _a_flipped_bit_in_tokens() -> list[str]:
    file = next(TOKENS.glob("tokens_*.npy"))
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    return ["train"]


@advises(SITUATIONS, "pipeline/tokens/token_set.py:_mapped")
def _tokens_that_are_no_array() -> list[str]:
    _rewritten(next(TOKENS.glob("tokens_*.npy")).name, b"no array")
    return ["train"]


@advises(SITUATIONS, "pipeline/tokens/token_set.py:_check_shards")
def _tokens_that_contradict_their_description() -> list[str]:
    found = json.loads((TOKENS / "metadata.json").read_bytes())
    found["shards"][0]["largest_id"] = 60_000
    _rewritten("metadata.json", json.dumps(found).encode())
    return ["train"]


# Conversations.

CHATS = Path("data/post-training/chats")


def _chats(*answers: str) -> list[str]:
    rows = [{"prompt": f"Note {n}", "completion": text} for n, text in enumerate(answers)]
    Path("chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["lima", "--input", "chats.jsonl", "--tokenizer", "chars"]


def _a_set() -> None:
    made(*_chats(LINE, "The hen."))


@advises(SITUATIONS, "pipeline/conversations/encoding.py:_unusable")
def _a_template_that_takes_nothing() -> list[str]:
    shutil.copytree("tokenizers/chars", "odd")
    Path("odd/manifest.json").unlink()
    Path("odd/chat_template.jinja").write_text("{{ raise_exception('no') }}")
    return [*_chats("The hen.")[:-1], "odd"]


@advises(SITUATIONS, "pipeline/conversations/origins.py:from_corpus")
def _a_corpus_without_clean_documents() -> list[str]:
    _fetched_by_hand()
    return ["lima", "--from", "shakespeare"]


@advises(SITUATIONS, "pipeline/conversations/stage.py:_Build._nothing_left")
def _only_long_conversations() -> list[str]:
    return [*_chats(LINE * 9, LINE * 12), "--max-length", "64"]


def _given_one() -> None:
    _chats("The hen.")


@advises(SITUATIONS, "pipeline/conversations/stage.py:_Build._nothing_left (shape)",
         then=_given_one, FILE="chats.jsonl")  # fmt: skip
def _no_conversation() -> list[str]:
    return ["lima", "--input", "notes"]


@advises(SITUATIONS, "pipeline/evaluation/hub.py:_unreachable (conversations)")
def _a_set_out_of_reach() -> list[str]:
    Path("train.jsonl").write_text('{"conversations": ["Who lays an egg?", "The hen."]}\n')
    os.environ["HF_ENDPOINT"] = "http://127.0.0.1:9"  # taken back by `house`
    return ["lima"]


@advises(SITUATIONS, "pipeline/conversations/example_set.py:_complete", then=_given_one,
         FILE="chats.jsonl")  # fmt: skip
def _no_set_where_one_is_named() -> list[str]:
    open_examples(Path("data/post-training/none"))
    raise AssertionError("it was opened")


@advises(SITUATIONS, "pipeline/conversations/example_set.py:_complete#2", then=_given_one,
         FILE="chats.jsonl")  # fmt: skip
def _tokens_where_a_set_is_named() -> list[str]:
    open_examples(TOKENS)
    raise AssertionError("it was opened")


@advises(SITUATIONS, "pipeline/conversations/example_set.py:_damaged")
def _a_flipped_bit_in_a_set() -> list[str]:
    _a_set()
    file = CHATS / "loss_mask.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    open_examples(CHATS)
    raise AssertionError("it was opened")


@advises(SITUATIONS, "pipeline/conversations/example_set.py:ExampleSet.check_tokenizer",
         TOKENIZER="other")  # fmt: skip
def _a_set_of_another_tokenizer() -> list[str]:
    _a_set()
    made("tokenize", "--train", "bpe", "--name", "other")
    open_examples(CHATS).check_tokenizer(load_tokenizer("other", Path("tokenizers")))
    raise AssertionError("it was taken")


@pytest.mark.slow
@pytest.mark.parametrize("place", sorted(SITUATIONS))
def test_what_is_advised_works(
    place: str, house: Path, hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    SITUATIONS[place].check(place, hub.url, capfd)
