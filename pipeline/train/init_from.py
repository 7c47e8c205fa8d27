"""The weights that a new training begins with, and whether settings and data fit them.

torch is imported only where a .pt file is named, because the plan stage reads this too.
"""

from dataclasses import dataclass
from pathlib import Path

from model.config import ModelConfig
from model.huggingface.config import read_model_config
from pipeline.options.command import train_command
from pipeline.options.config import Config, Settings, TrainOptions, Typed, typed_in
from pipeline.runs import inventory
from pipeline.runs.pretrained import KNOWN, hub_id, kept
from pipeline.tokenizer.load import load_tokenizer, online_path, sibling_tokenizer
from pipeline.tokenizer.tokenizer import Tokenizer
from pipeline.tokens.token_set import TokenSet
from utils.artefacts import Source, source
from utils.errors import RefusedError, UsageError
from utils.files import home_path

# What may differ from the weights' own description: it changes how a training goes, not what the
# weights mean.
_FREE = ("dropout", "attention_dropout", "attention", "use_cache")


@dataclass(frozen=True)
class Initial:
    """Weights to begin with. `path` is None where a plan only knows their shape."""

    name: str
    path: Path | None
    model: ModelConfig

    def origin(self) -> Source:
        """Lineage: where they are and what identifies them; of the hub, the commit."""
        assert self.path is not None
        identity = hub_id(self.name)
        if identity is not None and self.path.parent.name == "snapshots":
            return Source(online_path(identity.partition("@")[0]), self.path.name)
        return source(self.path)

    def check(
        self, settings: Settings, options: TrainOptions, data: TokenSet, tokenizer: Tokenizer
    ) -> None:
        """Refuse data that these weights cannot go on with.

        Raises:
            RefusedError: the data was made with another tokenizer.
            UsageError: its windows are longer than the weights' context.
        """
        self._check_tokenizer(settings.config, options, data, tokenizer)
        context, window = self.model.max_position_embeddings, data.train.window
        if window > context:
            raise UsageError(
                f"Windows of {window} tokens do not fit into {self.name}.",
                found=f"its context is {context} tokens",
                remedy="take a shorter one: {}",
                commands=[train_command(settings, {"train.window": context})],
            )

    def _check_tokenizer(
        self, config: Config, options: TrainOptions, data: TokenSet, tokenizer: Tokenizer
    ) -> None:
        folder = None if self.path is None else sibling_tokenizer(self.path)
        if folder is not None:
            own = load_tokenizer(folder, config.paths.tokenizers_dir)
            if own.fingerprint != tokenizer.fingerprint:
                command = ["prepare", "--source", data.metadata.source or config.source]
                command += ["--tokenizer", str(folder)]
                command += ["--test"] if options.test else []
                command += [] if options.data is None else ["--output", str(options.data)]
                raise RefusedError(
                    f"The tokens in {data.folder} were made with another tokenizer than "
                    f"{self.name} was.",
                    found=f"fingerprint {tokenizer.fingerprint[:16]}… ({tokenizer.name}), where "
                    f"the weights need {own.fingerprint[:16]}…",
                    remedy="{}",
                    commands=[tuple(command)],
                )
        if tokenizer.vocab_size > self.model.vocab_size:
            raise RefusedError(
                f"The tokenizer {tokenizer.name} has more ids than {self.name} knows.",
                found=f"{tokenizer.vocab_size:,} ids, {self.model.vocab_size:,} embeddings",
                remedy="prepare the data with the tokenizer that the weights were trained with: {}",
                commands=[("prepare", "--tokenizer", "PATH")],
            )


def find_initial(
    config: Config, options: TrainOptions, typed: Typed, *, fetch: bool
) -> Initial | None:
    """What `--init-from` means, with the model that training will have; None without it.

    Without `fetch` nothing is downloaded: of the well-known models their shape is known.

    Raises:
        UsageError: there is nothing of that name, or a typed --model setting contradicts it.
    """
    where = options.init_from
    if where is None:
        return None
    path = _located(config, where, fetch=fetch)
    if path is None:
        shape = ModelConfig.model_validate({"preset": where.partition("@")[0]})
    elif path.is_dir():
        shape = read_model_config(path / "config.json")
    else:
        from model.checkpoint import describe  # torch, which alone reads a .pt file

        shape = describe(path)
    return Initial(where, path, _adjusted(config, shape, where, typed))


def _located(config: Config, where: str, *, fetch: bool) -> Path | None:
    """The folder or file; None for a well-known model that is not here and is not to be fetched."""
    identity = hub_id(where)
    local = fetch or identity is None or home_path(where).exists()
    if local or inventory.is_run(where, config.paths.checkpoints_dir):
        return inventory.resolve(where, config.paths.checkpoints_dir).path
    assert identity is not None
    here = kept(identity)
    if here is None and where.partition("@")[0] not in KNOWN:
        raise UsageError(
            f"{where} is not on this machine yet, so its size is not known.",
            remedy="fetch it: {}",
            commands=[("inference", "--checkpoint", where, "--prompt", "")],
        )
    return here


def _adjusted(config: Config, shape: ModelConfig, where: str, typed: Typed) -> ModelConfig:
    """The model of the weights with the switches that settings may change.

    Raises:
        UsageError: a typed setting contradicts the weights.
    """
    own, given = typed_in("model", typed), config.model.model_fields_set
    dials = sorted(own & {"preset", "depth"})  # they stand for every size they fill in
    for name in sorted((given if dials else own) - {*_FREE, "preset", "depth"}):
        requested, found = _setting(config.model, name), _setting(shape, name)
        if requested == found:
            continue
        shown = name if name in own else dials[0]
        raise UsageError(
            f"--model.{shown.replace('_', '-')} {getattr(config.model, shown)} contradicts the "
            f"weights of {where}.",
            found=f"{name} {requested}, where the weights have {found}",
            remedy="leave it out: the model's shape comes from the weights",
        )
    changes = {name: getattr(config.model, name) for name in _FREE if name in given}
    return shape.model_copy(update=changes)


def _setting(model: ModelConfig, name: str) -> object:
    """A setting, with what an empty one stands for."""
    meant = {"num_kv_heads": "kv_heads", "head_dim": "head_size", "intermediate_size": "mlp_size"}
    value: object = getattr(model, meant.get(name, name))
    return value
