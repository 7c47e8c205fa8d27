"""What the README tells people to type and read exists."""

import re

import pytest
from conftest import ROOT

from pipeline.stages import STAGES

README = (ROOT / "README.md").read_text("utf-8")


def test_every_command_it_names_exists() -> None:
    named = set(re.findall(r"python main\.py ([a-z]+)", README))
    assert named == {stage.command for stage in STAGES} | {"jobs", "web"}


PACKAGES = sorted(
    str(init.parent.relative_to(ROOT))
    for name in ("app", "pipeline", "model", "utils")
    for init in (ROOT / name).rglob("__init__.py")
)


@pytest.mark.parametrize("folder", PACKAGES)
def test_every_file_has_its_line(folder: str) -> None:
    section = README.split(f"**{folder}/", 1)[1].split("\n**", 1)[0]
    listed = re.findall(r"^- `(\w+\.py)` \S", section, re.MULTILINE)
    assert listed == sorted(p.name for p in (ROOT / folder).glob("*.py") if p.stem != "__init__")


def test_every_make_target_it_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in set(re.findall(r"`?make ([a-z]+)", README)) - {"sure"}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
