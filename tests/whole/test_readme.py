"""What the README tells people to type and read exists."""

import re

from pipeline.stages import STAGES
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text("utf-8")


def test_every_command_it_names_exists() -> None:
    named = set(re.findall(r"python main\.py ([a-z]+)", README))
    assert named == {stage.command for stage in STAGES} | {"jobs", "web", "runs", "chat"}


def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in set(re.findall(r"`?make ([a-z]+)", README)) - {"sure"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_every_file_that_the_architecture_page_names_exists() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    named = set(re.findall(r"`((?:app|pipeline|model|utils|tests)/[\w/.]+)`", text))
    assert len(named) > 40
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_the_readme_is_read_in_one_sitting() -> None:
    assert len(README.splitlines()) <= 230
