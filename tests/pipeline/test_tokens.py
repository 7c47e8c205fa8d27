"""Opening token sets: what is held out, what a window holds, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.tokens import shards as shards_module
from pipeline.tokens.shards import DOCUMENT, Shard, split_hash, token_dtype
from pipeline.tokens.token_set import open_tokens
from pipeline.tokens.windows import Part, Windows
from tests.support.token_sets import numbered, prepared, save_tokenizer, token_set, write_documents
from utils.errors import ExitCode, HatcheryError, RefusedError, UsageError


def trained_ids(windows: Windows) -> set[int]:
    """Every id in any window; ids of `numbered` documents are unique, 0 is padding."""
    return set(windows.gather(np.arange(len(windows))).ravel().tolist()) - {0}


def scored(windows: Windows) -> list[int]:
    """Every target, as often as it is scored."""
    spans = windows.spans(np.arange(len(windows)))
    rows = windows.gather_at(spans)
    return [i for row, n in zip(rows, spans.length, strict=True) for i in row[1:n].tolist()]


@pytest.mark.parametrize("split", ["document", "tail"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.7])
def test_no_validation_token_is_ever_trained_on(tmp_path: Path, split: str, share: float) -> None:
    parts = [numbered(40, 37, first=1), numbered(25, 61, first=20_001), numbered(3, 5, 50_001)]
    data = open_tokens(
        token_set(tmp_path / "set", parts, split=split), window=16, stride=8, val_split=share
    )
    everything = {i for documents in parts for ids in documents for i in ids}
    train, val = trained_ids(data.train), trained_ids(data.val)
    assert len(train) > len(val) > 0 or share > 0.5
    assert not train & val
    # Single tokens left alone at a border have nothing to predict; nothing else is left out.
    assert len(everything - train - val) <= 2 * len(parts)


@pytest.mark.parametrize("window", [2, 7, 16, 500])
def test_every_validation_token_is_scored_exactly_once(tmp_path: Path, window: int) -> None:
    folder = token_set(tmp_path / "set", [numbered(50, 29, 1), numbered(30, 31, 30_001)])
    val = open_tokens(folder, window=window, val_split=0.4).val
    targets = scored(val)
    assert len(targets) == len(set(targets)) == val.targets == val.tokens - 2


@pytest.mark.parametrize(("window", "stride"), [(8, 4), (8, 8), (5, 3), (30, 29), (8, 1)])
def test_no_training_token_is_wasted(tmp_path: Path, window: int, stride: int) -> None:
    folder = token_set(tmp_path / "set", [numbered(20, 17, 1), numbered(9, 23, 9_001)])
    train = open_tokens(folder, window=window, stride=stride, val_split=0.2).train
    assert len(trained_ids(train)) == train.tokens
    assert len(set(scored(train))) == train.tokens - 2
    assert (train.spans(np.arange(len(train))).length == window + 1).all()


def test_a_document_keeps_its_side_whatever_lies_beside_it(tmp_path: Path) -> None:
    documents = numbered(60, 11, 1)
    whole = open_tokens(token_set(tmp_path / "a", [documents]), window=4, val_split=0.3)
    fewer = open_tokens(token_set(tmp_path / "b", [documents[:40]]), window=4, val_split=0.3)
    assert trained_ids(fewer.val) < trained_ids(whole.val)
    assert trained_ids(fewer.train) < trained_ids(whole.train)
    more = open_tokens(tmp_path / "a", window=4, val_split=0.6)
    assert trained_ids(whole.val) < trained_ids(more.val)


def test_the_split_holds_out_about_the_share_asked_for() -> None:
    below = sum(split_hash(f"document {i}") < 0.1 * 2**64 for i in range(20_000))
    assert below == pytest.approx(2000, abs=200)
    # Another value would move documents between the sides of every existing set.
    assert split_hash("document 0") == 0xE931DAD46625DDAD


def test_a_tail_split_keeps_the_order_of_the_text(tmp_path: Path) -> None:
    folder = token_set(tmp_path / "set", [numbered(10, 10, 0)], split="tail")
    data = open_tokens(folder, window=4, val_split=0.1)
    assert data.shards[0].tolist() == list(range(100))
    assert scored(data.val) == list(range(91, 100))
    assert data.train.bytes_per_token == data.val.bytes_per_token == pytest.approx(3.0)


def test_bytes_per_token_counts_only_its_own_side(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    token_set(folder, [[[1] * 10 for _ in range(40)]])
    table = np.load(folder / "documents_00000_000.npy")
    data = open_tokens(folder, window=4, val_split=0.25)
    held_out = int((table["hash"] < 0.25 * 2**64).sum())
    assert data.val.text_bytes == held_out * 30
    assert data.train.text_bytes == (40 - held_out) * 30


def test_documents_in_a_window_are_found_with_their_borders(tmp_path: Path) -> None:
    folder = token_set(tmp_path / "set", [[[1] * 5, [2] * 3, [3] * 20]], split="tail")
    train = open_tokens(folder, window=8, stride=4, val_split=0.2).train
    assert train.documents_in(0) == (0, [Part(0, 0, 5), Part(1, 5, 8), Part(2, 8, 9)])
    assert train.documents_in(1) == (0, [Part(0, 0, 1), Part(1, 1, 4), Part(2, 4, 9)])
    assert train.documents_in(2) == (0, [Part(2, 0, 9)])
    with pytest.raises(IndexError):
        train.documents_in(len(train))


@pytest.mark.parametrize(("vocab_size", "width"), [(65_535, 2), (65_536, 2), (65_537, 4)])
def test_the_largest_id_survives_at_the_border_of_16_bits(
    tmp_path: Path, vocab_size: int, width: int
) -> None:
    documents = [[vocab_size - 1, 0, vocab_size - 1] * 10] * 8
    folder = token_set(tmp_path / "set", [documents], vocab_size=vocab_size)
    data = open_tokens(folder, window=4, val_split=0.5)
    assert data.shards[0].itemsize == width == token_dtype(vocab_size).itemsize
    assert int(data.train.gather([0]).max()) == vocab_size - 1


@pytest.mark.parametrize("ids", [[1, 100], [-1, 5], [70_000]])
def test_an_id_outside_the_vocabulary_is_refused_before_it_could_wrap(ids: list[int]) -> None:
    shard = Shard(100)
    with pytest.raises(RefusedError, match="outside its vocabulary of 100"):
        shard.add(np.array(ids), "d", 1)
    assert shard.documents == shard.tokens == 0


def test_a_shard_written_in_many_blocks_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = [1, 300, 2, 2, 7, 1, 90, 1, 1]
    shard = Shard(60_000)
    rng = np.random.default_rng(0)
    for i in range(180):
        shard.add(rng.integers(0, 60_000, lengths[i % 9]), str(i), 1)
    one = shard.write(tmp_path, "one", by_hash=True)
    monkeypatch.setattr(shards_module, "_WRITE_TOKENS", 64)
    many = shard.write(tmp_path, "two", by_hash=True)
    assert list(one.values()) == list(many.values())
    table = np.load(tmp_path / "documents_one.npy", allow_pickle=False)
    assert table.dtype == DOCUMENT
    assert (np.diff(table["hash"].astype(object)) >= 0).all()
    assert np.load(tmp_path / "tokens_one.npy").dtype == np.uint16


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("harm", [_flip, _cut, Path.unlink])
@pytest.mark.parametrize("name", ["tokens_00001_000.npy", "documents_00000_000.npy"])
def test_a_damaged_shard_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, name: str, harm: object
) -> None:
    folder = token_set(tmp_path / "set", [numbered(20, 9), numbered(20, 9, 500)])
    harm(folder / name)  # type: ignore[operator]
    with pytest.raises(RefusedError, match=name) as caught:
        open_tokens(folder, val_split=0.3)
    assert caught.value.exit_code == ExitCode.REFUSED
    assert f"prepare --output {folder} --force" in caught.value.remedy


def test_a_cut_shard_is_seen_without_reading_everything(tmp_path: Path) -> None:
    folder = token_set(tmp_path / "set", [numbered(20, 9)])
    _cut(folder / "tokens_00000_000.npy")
    with pytest.raises(RefusedError):
        open_tokens(folder, val_split=0.3, check="sizes")


def test_a_folder_without_metadata_fails_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no token set") as absent:
        open_tokens(tmp_path / "none", val_split=0.1)
    assert "python main.py prepare" in absent.value.remedy
    folder = token_set(tmp_path / "set", [numbered(20, 9)])
    (folder / "manifest.json").unlink()
    with pytest.raises(RefusedError, match=r"manifest\.json"):
        open_tokens(folder, val_split=0.1)
    folder = token_set(tmp_path / "other", [numbered(20, 9)])
    (folder / "metadata.json").write_text("{}")
    with pytest.raises(RefusedError, match=r"metadata\.json"):
        open_tokens(folder, val_split=0.1)


def test_a_set_smaller_than_a_window_names_its_size_and_what_to_do(tmp_path: Path) -> None:
    folder = token_set(tmp_path / "set", [numbered(10, 10)])
    with pytest.raises(UsageError, match="do not fill one window of 512") as caught:
        open_tokens(folder, window=512, val_split=0.3)
    assert "100 tokens" in caught.value.found
    assert "--window" in caught.value.remedy
    [command] = caught.value.commands
    assert command == ("train", "--data", str(folder), "--window", "64")
    assert open_tokens(folder, window=64, val_split=0.3).held_out
    tiny = token_set(tmp_path / "tiny", [numbered(1, 9)])
    with pytest.raises(UsageError) as caught:
        open_tokens(tiny, window=16, val_split=0.3)
    assert caught.value.remedy == "add more text"
    assert caught.value.commands == ()


@pytest.mark.parametrize(
    "choice", [{"window": 1}, {"stride": -1}, {"val_split": 0.0}, {"val_split": 1.0}]
)
def test_a_senseless_window_or_share_is_refused(tmp_path: Path, choice: dict[str, int]) -> None:
    folder = token_set(tmp_path / "set", [numbered(20, 10)])
    with pytest.raises(UsageError):
        open_tokens(folder, **({"val_split": 0.3} | choice))  # type: ignore[arg-type]


def test_another_tokenizer_of_the_same_size_is_refused(workspace: Path) -> None:
    from pipeline.tokenizer.load import load_tokenizer

    save_tokenizer("ours", [("t", "h"), ("th", "e")])
    save_tokenizer("theirs", [("h", "e"), ("t", "he")])
    write_documents(workspace / "c" / "cleaned_0.jsonl", ["the cat " * 20] * 50)
    done = prepared(input=[Path("c")], output=Path("set"), tokenizer="ours")
    data = open_tokens(Path(done.path or ""), window=8, val_split=0.3)
    ours, theirs = (load_tokenizer(n, Path("tokenizers")) for n in ("ours", "theirs"))
    data.check_tokenizer(ours)
    assert ours.vocab_size == theirs.vocab_size
    with pytest.raises(HatcheryError) as caught:
        data.check_tokenizer(theirs)
    assert caught.value.exit_code == ExitCode.REFUSED
    assert ours.fingerprint[:16] in caught.value.found
    assert theirs.fingerprint[:16] in caught.value.found
    assert "python main.py prepare" in caught.value.remedy
