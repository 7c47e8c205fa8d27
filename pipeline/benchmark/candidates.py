"""What is judged: the checkpoints that were named, and which of them can be asked at all.

One that cannot be asked does not keep the others from their scores: why is noted, and told at the
end. What is wrong with a tokenizer or a description is found before any weights are read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from model.checkpoint import load_config
from pipeline.benchmark.report import listed
from pipeline.evaluation.scoring import NoScoreError
from pipeline.events import Failed, Warned
from pipeline.options.config import BenchmarkOptions, Config
from pipeline.runs import inventory
from pipeline.runs.inventory import Checkpoint
from pipeline.tokenizer.load import check_vocabulary, tokenizer_of
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.errors import HatcheryError

_NAMED = 4  # checkpoints whose fault a failure says; a warning has said each


@dataclass
class Candidates:
    """Checkpoints by name, `tokenizers` of those that can be asked, and `faults` of the rest."""

    checkpoints: Mapping[str, Checkpoint]
    tokenizers: dict[str, Tokenizer] = field(default_factory=dict)
    faults: dict[str, HatcheryError] = field(default_factory=dict)

    def leave_out(self, name: str, error: HatcheryError) -> None:
        """Note why a checkpoint has no score; nothing that it had loaded is held by that."""
        self.faults[name] = error.with_traceback(None)

    def refuse_if_none(self) -> None:
        """Refuse to go on where no checkpoint is left.

        Raises:
            HatcheryError: what is wrong with the first one.
        """
        if self.faults.keys() == self.checkpoints.keys():
            raise next(iter(self.faults.values()))

    def warning(self, name: str, short: str) -> Warned:
        """Why a checkpoint, called `short`, has no score."""
        error = self.faults[name]
        found = f" {error.found}." if error.found else ""
        return Warned(f"{self._problem(name, short)}{found}", remedy=error.remedy)

    def _problem(self, name: str, short: str) -> str:
        """What is wrong with which checkpoint."""
        problem = self.faults[name].problem
        known = (short, str(self.checkpoints[name].path))
        return problem if any(one in problem for one in known) else f"{short}: {problem}"

    def failure(self, names: Mapping[str, str]) -> Failed | None:
        """What a benchmark ends with where a checkpoint could not be asked; `names` are short ones.

        None where all could. That a model computes NaN is what was asked for, and one that a
        training has deleted meanwhile is no fault.
        """
        broken = {
            name: error
            for name, error in self.faults.items()
            if not isinstance(error, NoScoreError) and self.checkpoints[name].path.exists()
        }
        if not broken:
            return None
        first = next(iter(broken.values()))
        return Failed(
            f"{len(broken)} of {len(self.checkpoints)} checkpoints could not be judged: "
            f"{listed([names[name] for name in broken])}.",
            found=" ".join(self._problem(name, names[name]) for name in [*broken][:_NAMED]),
            remedy=first.remedy,
            exit_code=first.exit_code,
            kind=type(first).__name__,
            commands=first.commands,
        )


def named(config: Config, options: BenchmarkOptions) -> dict[str, Checkpoint]:
    """The checkpoints by the name that was typed or else the label, each once.

    Raises:
        UsageError: there is nothing of a name.
        MissingError: nothing is named, and there is no run.
    """
    directory = config.paths.checkpoints_dir
    found = {where: inventory.resolve(where, directory) for where in options.checkpoint or ()}
    if options.every_checkpoint is not None:
        steps = inventory.steps_of(options.every_checkpoint, directory)
        found |= {checkpoint.label: checkpoint for checkpoint in steps}
    if not found:
        newest = inventory.newest(config)
        found = {newest.label: newest}
    seen: dict[Path, str] = {}
    for name, checkpoint in found.items():
        seen.setdefault(checkpoint.path.resolve(), name)
    return {name: found[name] for name in seen.values()}


def examined(
    chosen: Mapping[str, Checkpoint], config: Config, options: BenchmarkOptions
) -> Candidates:
    """Which checkpoints have a tokenizer that their model knows all ids of; equal ones, as those
    of a run are, are held once.

    Raises:
        HatcheryError: see `Candidates.refuse_if_none`.
    """
    held: dict[str, Tokenizer] = {}
    found = Candidates(chosen)
    for name, checkpoint in chosen.items():
        path = checkpoint.path
        try:
            own = tokenizer_of(path, options.tokenizer, config.paths.tokenizers_dir)
            if path.is_dir():  # that of a .pt file is told by its weights
                check_vocabulary(name, own, load_config(path).vocab_size)
        except HatcheryError as error:
            found.leave_out(name, error)
        else:
            found.tokenizers[name] = held.setdefault(own.fingerprint, own)
    found.refuse_if_none()
    return found
