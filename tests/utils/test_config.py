"""Settings: strict files, layers in their order, and errors that say where and what instead."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from model.config import ModelConfig
from pipeline.options.config import Config
from utils.config import COMMAND_LINE, Layer, merge, nest, read_layers, resolve, valid_names
from utils.errors import UsageError

ROOT = Path(__file__).parents[2]


def _resolve(*layers: dict[str, Any]) -> Config:
    names = ["config.json", "--config", COMMAND_LINE]
    return resolve(Config, [Layer(n, v) for n, v in zip(names, layers, strict=False)])


def _fault(*layers: dict[str, Any]) -> UsageError:
    with pytest.raises(UsageError) as refused:
        _resolve(*layers)
    return refused.value


def test_the_config_file_of_the_project_says_what_the_defaults_say() -> None:
    """But for the model: the file's fits a small machine, its vocabulary is the tokenizer's."""
    said = json.loads((ROOT / "config.json").read_text())
    chosen = {"hidden_size": 512, "num_layers": 8, "num_heads": 8, "num_kv_heads": 2}
    resolved = resolve(Config, read_layers(ROOT / "config.json"))
    assert resolved == Config(model=ModelConfig(**chosen))
    assert "vocab_size" not in resolved.model.model_fields_set
    plain = Config().model_dump(mode="json")
    plain["model"] |= chosen | {"vocab_size": None}
    for section, values in said.items():
        assert values.items() <= plain[section].items(), section


def test_the_config_file_has_the_promised_sections_and_keys() -> None:
    said = json.loads((ROOT / "config.json").read_text())
    assert list(said) == ["paths", "dataset", "model", "train"]
    model = "vocab_size hidden_size num_layers num_heads num_kv_heads max_position_embeddings "
    model += "dropout attention_dropout layer_norm_eps initializer_range use_cache"
    assert list(said["model"]) == model.split()
    assert {"source", "wikipedia_test_dir", "fineweb_full_dir"} <= set(said["dataset"])


def test_stronger_layers_win_key_by_key() -> None:
    config = _resolve(
        {"train": {"seed": 1, "epochs": 2, "log_every": 3}},
        {"train": {"seed": 4, "epochs": 5}},
        {"train": {"seed": 6}},
    )
    assert (config.train.seed, config.train.epochs, config.train.log_every) == (6, 5.0, 3)
    assert config.train.batch_size == Config().train.batch_size


def test_null_is_a_value_and_lists_replace_lists() -> None:
    config = _resolve(
        {"train": {"gradient_clip": 2.0}, "cleanup": {"input": ["a", "b"]}},
        {"train": {"gradient_clip": None}, "cleanup": {"input": ["c"]}},
    )
    assert config.train.gradient_clip is None
    assert config.cleanup.input == [Path("c")]


@pytest.mark.parametrize("dial", [{"preset": "tiny"}, {"depth": 4}])
def test_a_section_that_names_a_preset_or_depth_starts_anew(dial: dict[str, Any]) -> None:
    config = _resolve({"model": {"hidden_size": 1024, "dropout": 0.5}}, {"model": dial})
    assert config.model.hidden_size != 1024
    assert config.model.dropout == 0.0
    wide = _resolve({"model": dial}, {"model": {"hidden_size": 512}})
    assert wide.model.hidden_size == 512


def test_a_preset_of_sizes_forgets_only_another_size() -> None:
    weaker = {"benchmark": {"tasks": ["piqa"], "samples": 7}}
    quick = _resolve(weaker, {"benchmark": {"preset": "quick"}}).benchmark
    assert (quick.tasks, quick.samples) == (["piqa"], None)
    both = _resolve(weaker, {"benchmark": {"preset": "quick", "samples": 9}}).benchmark
    assert both.samples == 9


def test_a_preset_of_null_forgets_only_the_preset() -> None:
    config = _resolve({"model": {"preset": "tiny", "dropout": 0.5}}, {"model": {"preset": None}})
    assert config.model.preset is None
    assert config.model.dropout == 0.5
    assert config.model.hidden_size == Config().model.hidden_size


def test_origins_name_the_layer_that_decided() -> None:
    layers = [Layer("a", {"model": {"depth": 2}}), Layer("b", {"model": {"preset": "tiny"}})]
    values, origins = merge(layers)
    assert values == {"model": {"preset": "tiny"}}
    assert origins == {"model": "b", "model.preset": "b"}
    assert nest({"a.b.c": 1, "a.d": 2}) == {"a": {"b": {"c": 1}, "d": 2}}


def test_nested_models_are_reached_by_their_path() -> None:
    scaling = {"kind": "linear", "factor": 2}
    config = _resolve(
        {"model": {"rope_scaling": scaling}}, {"model": {"rope_scaling": {"factor": 4}}}
    )
    assert config.model.rope_scaling is not None
    assert config.model.rope_scaling.factor == 4
    fault = _fault({"model": {"rope_scaling": {"kind": "linear", "faktor": 2}}})
    assert "model.rope_scaling.f" in fault.problem
    assert "model.rope_scaling.factor" in f"{fault.remedy}"


@pytest.mark.parametrize(
    ("layer", "problem", "instead"),
    [
        ({"train": {"sed": 1}}, "train.sed, from config.json: there is no such", "train.seed"),
        ({"trian": {}}, "trian, from config.json: there is no such", "write train"),
        ({"zzz": 1}, "zzz, from config.json", "remove zzz"),
        ({"train": {"seed": "42"}}, "train.seed, from config.json", "train.seed in config.json"),
        ({"train": {"seed": 1.5}}, "train.seed", "correct train.seed"),
        ({"train": {"seed": True}}, "train.seed", "correct train.seed"),
        ({"train": {"seed": -1}}, "greater than or equal to 0", "correct"),
        ({"train": {"seed": None}}, "valid integer", "correct"),
        ({"train": 3}, "train, from config.json: input should be an object", "correct train"),
        ({"train": {"optimizer": "muno"}}, "'muon' or 'adamw'", "write muon"),
        ({"paths": {"data_dir": 5}}, "paths.data_dir", "correct"),
        ({"model": {"hidden_size": 100}}, "hidden_size (100)", "correct model.hidden_size in"),
        ({"model": {"preset": "tiny", "depth": 3}}, "preset and depth", "correct model"),
        ({"model": {"rope_scaling": {"factor": 2}}}, "model.rope_scaling.kind", "give"),
        ({"train": {"name": "a\udcffb"}}, "train.name, from config.json: the text", "UTF-8"),
    ],
)
def test_every_fault_names_the_file_the_path_and_the_way_out(
    layer: dict[str, Any], problem: str, instead: str
) -> None:
    fault = _fault(layer)
    assert problem in fault.problem
    assert instead in fault.remedy
    assert "\n" not in fault.problem


def test_unknown_keys_come_with_the_valid_ones() -> None:
    found = _fault({"dataset": {"sorce": "python"}}).found
    assert found == f"dataset knows {', '.join(valid_names(Config, ['dataset']))}"


def test_a_fault_on_the_command_line_names_the_flag() -> None:
    fault = _fault({}, {}, {"train": {"batch_size": 0}})
    assert "from the command line" in fault.problem
    assert fault.remedy == "correct --train.batch-size"


def test_files_extend_each_other_relative_to_themselves(workspace: Path) -> None:
    (workspace / "deep").mkdir()
    (workspace / "deep" / "base.json").write_text('{"train": {"seed": 1, "epochs": 3}}')
    (workspace / "mid.json").write_text('{"extends": "deep/base.json", "train": {"seed": 2}}')
    (workspace / "top.json").write_text('\ufeff{"extends": "mid.json", "train": {"max_steps": 9}}')
    config = resolve(Config, read_layers(workspace / "top.json"))
    assert (config.train.seed, config.train.epochs, config.train.max_steps) == (2, 3.0, 9)


def test_circles_and_missing_parents_are_named(workspace: Path) -> None:
    (workspace / "a.json").write_text('{"extends": "b.json"}')
    (workspace / "b.json").write_text('{"extends": "a.json"}')
    with pytest.raises(UsageError, match="extends itself") as circle:
        read_layers(workspace / "a.json")
    assert circle.value.found == "a.json → b.json → a.json"
    (workspace / "b.json").write_text('{"extends": "gone.json"}')
    with pytest.raises(UsageError, match=r"gone\.json cannot be read") as missing:
        read_layers(workspace / "a.json")
    assert "b.json extends it" in missing.value.found
    (workspace / "a.json").write_text('{"extends": ["b.json"]}')
    with pytest.raises(UsageError, match='"extends" must be a file name'):
        read_layers(workspace / "a.json")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not valid JSON"),
        (b'{"train": {"seed": 1}', "not valid JSON"),
        (b"{'train': 1}", "not valid JSON"),
        (b'{"train": 1,}', "not valid JSON"),
        (b"// hello\n{}", "not valid JSON"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b'{"train": {"seed": 1}, "train": {}}', '"train" stands twice'),
        (b'{"train": {"epochs": NaN}}', "NaN is no JSON number"),
        (b'{"train": {"epochs": -Infinity}}', "-Infinity is no JSON number"),
        (b'{"train": {"epochs": 1e999}}', "1e999 is no JSON number"),
        (b'{"train": {"seed": ' + b"9" * 5000 + b"}}", "thousands of digits"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 40 + b"1" + b"}" * 40, "nested too deeply"),
        (b"[]", "must hold a JSON object"),
        (b"null", "must hold a JSON object"),
    ],
    ids=range(15),
)
def test_files_that_are_not_strict_json_are_refused_by_name(
    content: bytes, problem: str, workspace: Path
) -> None:
    path = workspace / "config.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        read_layers(path)
    assert problem in refused.value.problem
    assert str(path) in refused.value.problem
    assert refused.value.remedy


@pytest.mark.parametrize("kind", ["folder", "loop", "gone"])
def test_paths_that_are_no_file_are_refused_by_name(kind: str, workspace: Path) -> None:
    path = workspace / "config.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "loop":
        os.symlink(path, path)  # noqa: PTH211
    with pytest.raises(UsageError, match=r"config\.json cannot be read"):
        read_layers(path)
