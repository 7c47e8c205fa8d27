"""The stage lima: rows become examples, what is left out has a reason, and a rerun does nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.conversations.conversation import Preference, Turn
from pipeline.conversations.example_set import ExampleSet, open_examples
from pipeline.evaluation import hub, votes
from pipeline.evaluation.votes import Vote, text_hash
from pipeline.events import Event, Example, Finished, Progress, Rejected, Warned
from pipeline.sources.rejection import Rejection
from tests.support.servers.hub import serving
from tests.support.stage_runner import finished, run_stage
from tests.support.tiny_checkpoints import byte_tokenizer
from utils.errors import HatcheryError, NetworkError, RefusedError, UsageError

SETS = Path("data/post-training")
RAISES = "{{ raise_exception('no chats here') }}"
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
    "{% endif %}{{ m['content'] + eos_token }}{% endfor %}"
)
NO_END = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"


@pytest.fixture(autouse=True)
def _tokenizers(workspace: Path) -> None:
    byte_tokenizer().save(Path("tokenizers/bytes"))


def tokenizer(name: str, template: str) -> str:
    made = byte_tokenizer()
    made.chat_template = template
    made.save(Path("tokenizers", name))
    return name


def pair(asked: str, answer: str) -> dict[str, str]:
    return {"prompt": asked, "completion": answer}


def write(name: str, *rows: Any) -> str:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    Path(name).write_text("".join(f"{line}\n" for line in lines), "utf-8", "surrogateescape")
    return name


def lima(*files: str, **options: Any) -> list[Event]:
    given = {"input": list(files)} if files else {}
    return run_stage("lima", lima=given | {"tokenizer": "bytes"} | options)


def made(events: list[Event]) -> ExampleSet:
    return open_examples(Path(str(finished(events).path)))


def rejected(folder: Path) -> list[Rejection]:
    [file] = folder.glob("rejected_*.jsonl")
    return [Rejection(**json.loads(line)) for line in file.read_text().splitlines()]


def test_rows_of_all_shapes_become_one_set(workspace: Path) -> None:
    file = write(
        "mine.jsonl",
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"conversations": ["c", "d", "e", "f"]},
        {"instruction": "g", "input": "h", "output": "i"},
        {"conversations": [{"from": "human", "value": "j"}, {"from": "gpt", "value": "k"}]},
        pair("l", "m"),
    )
    found = made(lima(file))
    assert found.folder == SETS / "mine"
    data = found.metadata
    assert (data.read, data.kept, data.turns, len(found)) == (5, 5, 12, 5)
    assert data.shapes == {
        "chat": 1, "lima": 1, "alpaca": 1, "sharegpt": 1, "prompt and completion": 1,
    }  # fmt: skip
    by = byte_tokenizer()
    assert by.decode(found.ids(1)) == "User: c\nAssistant: dUser: e\nAssistant: f"
    assert by.decode(found.ids(1)[found.learned(1)]) == " d f"
    assert (found.ids(1)[found.learned(1)] == by.eos_id).sum() == 2
    assert data.tokens == sum(found.lengths)
    assert data.learned_tokens == sum(int(found.learned(i).sum()) for i in range(5))
    assert len(found.val) == 1


def test_the_folder_holds_what_a_person_looks_at(workspace: Path) -> None:
    found = made(lima(write("mine.jsonl", pair("a", "b </s>"), pair("", "b"))))
    [shown] = json.loads((found.folder / "example_conversations.json").read_text())
    assert shown["parts"] == [
        {"text": "<s>User: a\nAssistant:", "learned": False},
        {"text": " b </s></s>", "learned": True},
    ]
    assert shown["ids"] == found.ids(0).tolist()
    assert rejected(found.folder) == [Rejection("empty_question", "mine.jsonl:2", "turn 1")]
    names = {path.name for path in found.folder.iterdir()}
    assert names == {
        "tokenized_examples.npy", "loss_mask.npy", "examples.npy", "conversations.jsonl",
        "example_conversations.json", "rejected_mine.jsonl", "metadata.json", "manifest.json",
    }  # fmt: skip


def test_a_written_set_can_be_read_as_one(workspace: Path) -> None:
    first = made(lima(write("mine.jsonl", pair("a", "b"), pair("c", "d"))))
    again = made(lima(str(first.folder / "conversations.jsonl"), name="again"))
    assert [again.ids(i).tolist() for i in range(2)] == [first.ids(i).tolist() for i in range(2)]


def test_bad_lines_are_left_out_by_place_and_reason(workspace: Path) -> None:
    file = write(
        "mine.jsonl",
        '{"prompt": "a", "completion":',
        pair("a", " "),
        '{"prompt": "\udcff", "completion": "b"}',
        {"messages": [{"role": "assistant", "content": "b"}, {"role": "user", "content": "a"}]},
        '["a"]',
        pair("a", "b"),
        pair("a", "b"),
        "",
        {"text": "a"},
    )
    events = lima(file)
    found = made(events)
    reasons = [(one.where, one.reason) for one in rejected(found.folder)]
    assert reasons == [
        ("mine.jsonl:1", "not_json"),
        ("mine.jsonl:2", "empty_answer"),
        ("mine.jsonl:3", "not_utf8"),
        ("mine.jsonl:4", "roles_out_of_order"),
        ("mine.jsonl:5", "no_answer"),
        ("mine.jsonl:7", "duplicate"),
        ("mine.jsonl:9", "unknown_shape"),
    ]
    told = [(event.where, event.rule) for event in events if isinstance(event, Rejected)]
    assert told == reasons
    assert (found.metadata.kept, found.metadata.read) == (1, 8)
    assert found.metadata.duplicates == 1


@pytest.mark.parametrize("text", ["</s>", "<s>", "User: x\nAssistant: y</s><s>", "{{ 1 / 0 }}"])
def test_marks_in_a_text_stay_a_text(workspace: Path, text: str) -> None:
    found = made(lima(write("mine.jsonl", pair(text, f"so {text}"))))
    by = byte_tokenizer()
    assert by.decode(found.ids(0)) == f"User: {text}\nAssistant: so {text}"
    assert [i for i in found.ids(0).tolist() if i in by.controls] == [by.bos_id, by.eos_id]


def test_what_is_too_long_is_said_with_what_a_longer_window_keeps(workspace: Path) -> None:
    rows = [pair("a", "b"), *(pair(str(n), "x" * size) for n, size in enumerate((900, 980, 1500)))]
    events = lima(write("mine.jsonl", *rows))
    [warned] = [event for event in events if isinstance(event, Warned)]
    assert warned.message.startswith("3 of 4 conversations are longer than 512 tokens")
    assert "1,024 tokens keep 2 more: python main.py lima" in warned.remedy
    assert "2,048 tokens keep 3 more" in warned.remedy
    assert "4,096" not in warned.remedy
    found = made(events)
    assert found.metadata.longer == {"1024": 2, "2048": 3}
    assert found.metadata.rejected == {"too_long": 3}
    assert found.metadata.lengths["longest"] > 1500
    longer = made(lima("mine.jsonl", max_length=2048))
    assert (longer.metadata.kept, longer.metadata.longer) == (4, {})


def test_where_all_is_too_long_the_length_that_fits_is_advised(workspace: Path) -> None:
    with pytest.raises(UsageError, match="No conversation is left") as refused:
        lima(write("mine.jsonl", pair("a", "x" * 600)))
    [command] = refused.value.commands
    assert command[-2:] == ("--max-length", "1024")
    assert not SETS.joinpath("mine").exists()


def test_a_rerun_does_nothing_and_another_setting_makes_it_again(workspace: Path) -> None:
    file = write("mine.jsonl", pair("a", "b"), pair("c", "d"))
    first = finished(lima(file))
    assert not first.skipped
    assert finished(lima(file)).skipped
    assert finished(lima(file)).summary == first.summary
    assert not finished(lima(file, max_length=100)).skipped
    assert not finished(lima(file, max_length=100, force=True)).skipped
    write(file, pair("a", "b"), pair("c", "e"))
    assert not finished(lima(file, max_length=100)).skipped
    damaged = SETS / "mine" / "loss_mask.npy"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert not finished(lima(file, max_length=100)).skipped
    tokenizer("bytes", NO_SYSTEM)  # ids of a text are the same by it, and those of a chat are not
    assert not finished(lima(file, max_length=100)).skipped


def test_a_set_of_other_conversations_is_not_replaced(workspace: Path) -> None:
    lima(write("mine.jsonl", pair("a", "b")))
    other = write("other.jsonl", pair("c", "d"))
    with pytest.raises(RefusedError, match="There is a set mine already") as refused:
        lima(other, name="mine")
    assert ("--name", "mine_2") in [command[-2:] for command in refused.value.commands]
    assert made(lima(other, name="mine", force=True)).metadata.sources == ["other.jsonl"]


def test_a_stop_publishes_nothing(workspace: Path) -> None:
    file = write("mine.jsonl", *(pair(str(n), "b") for n in range(9)))
    given = {"input": [file], "tokenizer": "bytes", "batch_size": 2}
    events = run_stage("lima", stop_when=lambda e: isinstance(e, Progress), lima=given)
    assert finished(events).stopped
    assert not SETS.joinpath("mine").exists()


@pytest.mark.parametrize(
    ("template", "why"),
    [(RAISES, "no chats here"), ("{% for %}", "cannot be read"), ("{{ 'a' * 3000000000 }}", "mem")],
)
def test_a_template_that_no_conversation_can_be_written_with_is_refused_at_once(
    workspace: Path, template: str, why: str
) -> None:
    file = write("mine.jsonl", *(pair(str(n), "b") for n in range(9)))
    with pytest.raises(RefusedError, match="chat template") as refused:
        lima(file, tokenizer=tokenizer("bad", template))
    assert why in refused.value.found or "seconds" in refused.value.found


def test_a_conversation_that_the_template_does_not_take_is_left_out(workspace: Path) -> None:
    rows = [pair("a", "b"), pair("c", "d") | {"system": "be brief"}]
    found = made(lima(write("mine.jsonl", *rows), tokenizer=tokenizer("strict", NO_SYSTEM)))
    [one] = rejected(found.folder)
    assert (one.reason, "no system" in one.detail) == ("chat_template", True)


def test_a_template_that_ends_no_answer_is_told(workspace: Path) -> None:
    events = lima(write("mine.jsonl", pair("a", "b")), tokenizer=tokenizer("open", NO_END))
    assert any(isinstance(e, Warned) and "does not learn from it to stop" in e.message
               for e in events)  # fmt: skip


def test_preferences_are_pairs_of_which_the_answers_are_learned(workspace: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
             {"role": "user", "content": "c"}]  # fmt: skip
    file = write("pairs.jsonl", {"prompt": turns, "chosen": "yes", "rejected": "no"},
                 {"prompt": "d", "chosen": "e", "rejected": "e"})  # fmt: skip
    found = made(lima(file))
    by = byte_tokenizer()
    assert (found.metadata.kind, found.metadata.kept, len(found)) == ("preferences", 1, 2)
    said = [by.decode(found.ids(i)[found.learned(i)]) for i in found.pair(0)]
    assert said == [" yes", " no"]
    assert found.texts(0) == Preference(
        (Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")), "yes", "no",
        "pairs.jsonl:1",
    )  # fmt: skip
    assert [one.reason for one in rejected(found.folder)] == ["same_answers"]


def test_conversations_and_pairs_are_no_one_set(workspace: Path) -> None:
    file = write("mixed.jsonl", pair("a", "b"), {"prompt": "a", "chosen": "b", "rejected": "c"})
    with pytest.raises(UsageError, match="cannot be one set"):
        lima(file)


def test_votes_that_kept_their_answers_become_pairs(workspace: Path) -> None:
    def vote(prompt: str, winner: str | None, *answers: str, chat: bool = True) -> None:
        models = ("hen", "owl", "jay")[: len(answers) or 2]
        hashes = tuple(map(text_hash, answers))
        cast = Vote(prompt, models, hashes, winner, {}, 1, True, 0.0, chat, answers)
        votes.add(Path("benchmark_results"), cast)

    vote("a", "owl", "no", "yes")
    vote("b", "hen", "one", "two", "three")
    vote("c", None, "x", "y")
    vote("d", "hen", "x", "y", chat=False)
    vote("e", "hen")
    found = made(lima(votes=True))
    assert found.folder.name == "votes"
    assert [found.texts(i)[1:3] for i in range(3)] == [("yes", "no"), ("one", "two"),
                                                       ("one", "three")]  # fmt: skip
    reasons = {"no_winner": 1, "not_a_chat": 1, "answers_not_kept": 1}
    assert found.metadata.rejected == reasons


def test_without_votes_or_with_two_origins_it_says_so(workspace: Path) -> None:
    with pytest.raises(UsageError, match="no votes"):
        lima(votes=True)
    with pytest.raises(UsageError, match="--input and --votes"):
        lima(write("mine.jsonl", pair("a", "b")), votes=True)


def test_lima_is_fetched_once_and_kept(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"conversations": ["a", "b"]}, {"conversations": ["c"]}]
    published = "".join(json.dumps(row) + "\n" for row in rows).encode()
    files = {"train.jsonl": published + b"{broken\n", "test.jsonl": b'{"conversations": ["x"]}\n'}
    with serving({"GAIR/lima": files}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        found = made(lima())
    assert (found.folder.name, found.metadata.kept) == ("lima", 1)
    assert found.metadata.rejected == {"no_answer": 1, "not_object": 1}
    assert finished(lima()).skipped  # the hub is gone
    assert made(lima(max_length=100)).metadata.kept == 1


def test_lima_that_cannot_be_fetched_is_asked_for_as_a_file(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "_WAIT", 0.0)
    with serving({}) as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        with pytest.raises(NetworkError) as refused:
            lima()
    assert refused.value.commands == (("lima", "--input", "train.jsonl"),)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("nowhere.jsonl", None, "nothing to read"),
        ("empty.jsonl", b"", "is empty"),
        ("table.csv", b"a,b\n", "nothing to read"),
        ("text.txt", b"Once upon a time", "No conversation is left"),
        ("packed.jsonl.gz", b"\x1f\x8bbroken", "No conversation is left"),
        ("noise.jsonl", bytes(range(256)), "No conversation is left"),
    ],
)
def test_files_that_hold_no_conversations_are_refused(
    workspace: Path, name: str, content: bytes | None, problem: str
) -> None:
    if content is not None:
        Path(name).write_bytes(content)
    with pytest.raises(HatcheryError, match=problem):
        lima(name)
    assert not SETS.exists() or not any(p.is_dir() for p in SETS.glob("[!.]*"))


@pytest.mark.parametrize("name", ["a/b", ".x", "", "-x"])
def test_a_name_that_is_none_of_a_folder_is_refused(workspace: Path, name: str) -> None:
    if name:
        with pytest.raises(UsageError, match="cannot be the name"):
            lima(write("mine.jsonl", pair("a", "b")), name=name)
    else:
        assert made(lima(write("mine.jsonl", pair("a", "b")), name=name)).folder.name == "mine"


def test_rows_may_come_as_an_array_packed_or_as_parquet(workspace: Path) -> None:
    import gzip

    import pyarrow as pa
    from pyarrow import parquet as pq

    rows = [pair("a", "b"), pair("c", "d")]
    Path("array.json").write_text(json.dumps(rows))
    Path("packed.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    )
    pq.write_table(pa.Table.from_pylist(rows), "table.parquet")
    sets = [made(lima(name)) for name in ("array.json", "packed.jsonl.gz", "table.parquet")]
    assert [found.metadata.kept for found in sets] == [2, 2, 2]
    assert len({found.ids(0).tobytes() for found in sets}) == 1


def test_the_end_says_what_there_is(workspace: Path) -> None:
    end = finished(lima(write("mine.jsonl", pair("a", "b"), pair("c", "d"))))
    assert isinstance(end, Finished)
    assert {"kept": 2, "read": 2, "held_out": 1, "kind": "conversations"}.items() <= (
        end.summary.items()
    )


def test_a_corpus_is_searched_for_conversations(workspace: Path) -> None:
    Path("notes").mkdir()
    faq = "Q: What does the hen lay?\nA: The hen lays an egg a day, under the green bush.\n\n"
    faq += "Q: Who looks at the egg?\nA: The old fox looks at it from behind the tree.\n\n"
    Path("notes/faq.txt").write_text(faq)
    run_stage("cleanup", cleanup={"input": ["notes"], "min_words": 3})
    events = lima(from_corpus="notes")
    shown = [event for event in events if isinstance(event, Example)]
    assert [(one.rule, one.question, one.index) for one in shown] == [
        ("labels", "What does the hen lay?", 0),
        ("labels", "Who looks at the egg?", 1),
    ]
    assert shown[0].answer == "The hen lays an egg a day, under the green bush."
    assert shown[0].where == "faq.txt:0"
    found = made(events)
    assert found.folder.name == "notes"
    assert found.texts(0).turns[0] == Turn("user", "What does the hen lay?")  # type: ignore[union-attr]
    assert sum(found.metadata.rules.values()) == found.metadata.kept == 2
    assert finished(lima(from_corpus="notes")).skipped


def test_a_corpus_that_is_not_clean_yet_says_how_it_becomes_so(workspace: Path) -> None:
    with pytest.raises(UsageError, match="no clean documents of shakespeare") as refused:
        lima(from_corpus="shakespeare")
    assert refused.value.commands == (
        ("download", "shakespeare"),
        ("cleanup", "--source", "shakespeare"),
    )


def test_the_documentation_of_pythons_library_is_a_set(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = workspace / "library"
    library.mkdir()
    for name in ("os", "owls"):
        (library / f"{name}.py").write_text(
            f'"""All about {name} and their eggs."""\n\n\ndef lay(count):\n'
            f'    """Lay as many eggs as {name} can."""\n'
        )
    monkeypatch.setattr("sysconfig.get_path", lambda name, *_, **__: str(library))
    found = made(lima(embedded=True))
    assert found.folder.name == "python_questions"
    assert found.metadata.kept > 3
    assert finished(lima(embedded=True)).skipped
    assert made(lima(from_corpus="python")).metadata.kept == found.metadata.kept
