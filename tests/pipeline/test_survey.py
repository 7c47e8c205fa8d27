"""What there is, read from manifests: fresh, stale, missing or damaged."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.survey import survey
from tests.support.stage_runner import finished, run_stage, settings


def test_an_empty_folder_has_only_the_embedded_source(workspace: Path) -> None:
    found = survey(settings())
    assert found.pop("download").state == "fresh"
    assert {product.state for product in found.values()} == {"missing"}


def test_each_product_is_found_with_its_figures(prepared: Path) -> None:
    found = survey(settings())
    states = {command: product.state for command, product in found.items()}
    assert states == {
        "download": "fresh",
        "cleanup": "fresh",
        "tokenize": "fresh",
        "prepare": "fresh",
        "train": "missing",
    }
    assert "documents of" in found["cleanup"].figure
    assert "ids" in found["tokenize"].figure
    assert "windows of" in found["prepare"].figure
    assert all(found[made].made for made in ("cleanup", "tokenize", "prepare"))


def test_a_changed_input_makes_what_follows_stale(prepared: Path) -> None:
    tokens = survey(settings())["prepare"]
    assert tokens.path is not None
    Path("more.txt").write_text("the small hen lays an egg and looks at the green bush\n" * 9)
    run_stage("cleanup", cleanup={"input": ["more.txt"], "force": True})
    found = survey(settings())
    assert found["cleanup"].state == "fresh"
    assert (found["tokenize"].state, found["prepare"].state) == ("stale", "stale")
    assert "has changed since" in found["prepare"].why


@pytest.mark.slow
def test_a_run_shows_its_best_loss_and_whether_its_tokens_changed(prepared: Path) -> None:
    model = {"hidden_size": 32, "num_layers": 1, "num_heads": 2, "num_kv_heads": 2}
    train = {"max_steps": 4, "batch_size": 2, "name": "one", "tensorboard": False}
    assert finished(run_stage("train", train=train, model=model)).path
    run = survey(settings())["train"]
    assert (run.state, run.title) == ("fresh", "one")
    assert run.figure.startswith("step 4, val ")
    run_stage("prepare", prepare={"window": 24, "force": True})
    assert survey(settings())["train"].state == "stale"


def test_a_damaged_manifest_is_one_row_s_trouble(prepared: Path) -> None:
    folder = survey(settings())["cleanup"].path
    assert folder is not None
    (folder / "manifest.json").write_text("{")
    found = survey(settings())
    assert found["cleanup"].state == "damaged"
    assert "manifest.json" in found["cleanup"].why
    assert (found["prepare"].state, found["train"].state) == ("stale", "missing")
    assert "is damaged" in found["prepare"].why


def test_looking_never_loads_torch(workspace: Path) -> None:
    code = (
        "import sys; from app.commands.settings import load_config\n"
        "from pipeline.survey import survey\n"
        "survey(load_config({}).config); sys.exit('torch' in sys.modules)"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": root}, check=False)
    assert done.returncode == 0
