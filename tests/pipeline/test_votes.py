"""Votes: kept whatever happens to the file, and never more certain than they are."""

import json
from pathlib import Path

import pytest

from pipeline.evaluation import votes
from pipeline.evaluation.votes import Vote, Votes, standings, verdict
from utils.errors import HatcheryError


def vote(winner: str | None, *models: str, blind: bool = True, prompt: str = "def") -> Vote:
    names = models or ("hen", "fox")
    hashes = tuple(map(votes.text_hash, names))
    return Vote(prompt, names, hashes, winner, {"temperature": 0.8}, 7, blind, 1_795_262_400.0)


def test_votes_come_back_as_they_were_in_their_order(tmp_path: Path) -> None:
    given = [vote("hen"), vote(None, "a", "b", "c"), vote("fox", blind=False)]
    for one in given:
        path = votes.add(tmp_path / "benchmark_results", one)
    assert votes.read(path.parent) == Votes(tuple(given))
    assert [json.loads(line)["winner"] for line in path.read_bytes().splitlines()] == [
        "hen",
        None,
        "fox",
    ]


def test_a_line_that_is_no_vote_is_counted_and_the_others_stay(tmp_path: Path) -> None:
    path = votes.add(tmp_path, vote("hen"))
    lines = [b'{"winner": "fox"}', b"\xff", b"[" * 5000]
    path.write_bytes(path.read_bytes() + b"\n".join(lines) + b"\n" + b'{"prompt": "torn')
    assert votes.read(tmp_path) == Votes((vote("hen"),), 4)
    votes.add(tmp_path, vote("fox"))
    found = votes.read(tmp_path)
    assert [one.winner for one in found.votes] == ["hen", "fox"]
    assert found.unreadable == 3  # what was torn was cut off, not glued to the next


def test_a_prompt_that_was_never_valid_text_is_kept_as_well_as_it_can_be(tmp_path: Path) -> None:
    votes.add(tmp_path, vote("a\udcff", "a\udcff", "b", prompt="x\ud800"))
    [kept] = votes.read(tmp_path).votes
    assert kept.prompt == "x?"
    assert kept.winner == kept.models[0] == "a?"


def test_no_file_is_no_votes_and_no_folder_to_write_is_said(tmp_path: Path) -> None:
    assert votes.read(tmp_path / "none") == Votes(())
    (tmp_path / "file").write_text("")
    with pytest.raises(HatcheryError, match="could not be written"):
        votes.add(tmp_path / "file", vote("hen"))


def test_standings_count_every_model_that_stood() -> None:
    ranked = standings([vote("a", "a", "b", "c"), vote("a", "a", "b"), vote(None, "b", "c")])
    assert [(one.model, one.wins, one.votes) for one in ranked] == [
        ("a", 2, 2),
        ("b", 0, 3),
        ("c", 0, 2),
    ]
    assert all(one.low <= one.share <= one.high for one in ranked)


def test_a_lead_is_called_one_only_when_it_is_unlikely_by_chance() -> None:
    assert verdict([vote("hen")] * 5).startswith("No significant difference between hen and fox")
    assert verdict([vote("hen")] * 6).startswith("hen is preferred to fox: 6 to 0")
    assert "No significant" in verdict([vote("hen")] * 12 + [vote("fox")] * 8)
    assert "No significant" in verdict([vote(None)] * 30 + [vote("hen")])
    assert verdict([]) == ""
    apart = [vote("a", "a", "b"), vote("c", "c", "d")]
    assert "have not met" in verdict(apart)


def test_a_leader_that_lost_to_the_runner_up_is_not_called_better() -> None:
    met = [vote("fox")] * 7
    elsewhere = [vote("hen", "hen", "cat")] * 60
    assert standings(met + elsewhere + [vote("cat", "fox", "cat")] * 3)[0].model == "hen"
    text = verdict(met + elsewhere + [vote("cat", "fox", "cat")] * 3)
    assert "is preferred to" not in text
