"""What is behind the form of a stage: its draft, its command, the chain before it. No widgets."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.commands.corpus import corpus_setting
from app.commands.settings import CONFIG_FILE
from app.tui.forms import command_line, config_file
from app.tui.forms.draft import Draft
from app.tui.forms.field_spec import Field, fields_of
from app.tui.stage import form_corpus, stage_flow
from pipeline.options.config import TRAININGS, Config
from pipeline.runs.folders import short_name
from pipeline.runs.record import read_record, recorded_options
from pipeline.stages import Product, Stage
from pipeline.tokens.metadata import read_metadata
from pipeline.train.fitting import Fitting, fitting, is_unset
from pipeline.vocabulary import fitting_size, text_bytes_of
from utils.artefacts import read_manifest
from utils.config import Layer, read_layers
from utils.errors import HatcheryError
from utils.units import human_bytes

Group = tuple[str, Sequence[Field]]

_COUNTED = 20_000_000  # tokens up to which those held out are counted
_NOT_OF_THE_RUN = ("name", "resume", "init_from")
"""Settings of a command rather than of the run that it goes on with."""


class StageForm:
    """Settings of a stage over config.json.

    `preset` are arguments as typed, `kept` are changes of a form that was left, `products` is
    what there is, `speed` how many operations a second this machine trains with, once measured.
    `fault` says what could not be read, and is None else. `fit` is the training that is proposed.
    """

    def __init__(
        self,
        stage: Stage,
        preset: Sequence[str] = (),
        kept: Mapping[str, Any] | None = None,
        products: Mapping[str, Product] | None = None,
        speed: float | None = None,
    ) -> None:
        self.stage = stage
        self.fault: HatcheryError | None = None
        self.file: Path | None = None
        changes = dict(kept or {})
        below: list[Layer] = []
        try:
            below = config_file.layers()
            if preset:
                changes, self.file = command_line.parsed_changes(stage, preset)
            if self.file is not None:
                below += read_layers(self.file)
        except HatcheryError as error:
            self.fault = error
        self._products = products or {}
        self._speed = speed
        self.fit: Fitting | None = None
        self._files = below
        self.draft = Draft(below, changes, check=lambda config: form_corpus.faults(stage, config))
        self._corpus = form_corpus.named_corpus(self.draft.config)
        self.propose()

    def rebase(self) -> None:
        """Begin anew over config.json, as after saving."""
        self._files = config_file.layers()
        self.draft.rebase(self._files)

    def propose(self) -> None:
        """Fill in what fits the settings as they are now: those of a run that is to go on lie over
        the files."""
        settled = Draft(self._files, self.draft.changes).config
        section = self.stage.also or self.stage.section
        goes_on = section in TRAININGS and getattr(settled, section).resume
        below = [*self._files, *(settings_of_run(settled, section) if goes_on else [])]
        if below != self.draft.below:
            self.draft.move(below)
        found = stage_flow.proposals(self.stage, settled, self._products, self._to_name(settled))
        self.fit = fitting_text(settled, self._speed) if self.stage.command == "train" else None
        if self.fit is not None:
            found |= self.fit.changes(settled)
        self.draft.propose(found)

    def _to_name(self, config: Config) -> str | None:
        """The corpus that commands of this form name: that of its own Source, if one is chosen."""
        own = getattr(getattr(config, self.stage.section), "source", None)
        return own or self._corpus

    @property
    def sections(self) -> list[str]:
        """The stage's own section first; whatever trains also shows the model's."""
        found = [name for name in (self.stage.section, self.stage.also) if name]
        return [*found, "model"] if "train" in found else found

    @property
    def groups(self) -> list[Group]:
        """Titles and fields."""
        return [(section.capitalize(), fields_of(section)) for section in self.sections]

    @property
    def arguments(self) -> list[str]:
        """What follows the stage's command."""
        draft = self.draft
        proposed = draft.proposed.keys() - draft.changes.keys()
        return command_line.arguments(self.stage, draft.typed, self.file, proposed=proposed)

    def arguments_for(self, other: Stage) -> list[str]:
        """The same settings as arguments of another stage."""
        draft = self.draft
        own = {
            path: value
            for path, value in draft.typed.items()
            if path not in draft.proposed
            or path in draft.changes
            or path.startswith(("train.", "model."))
        }
        if self._corpus is not None and (setting := corpus_setting(other, draft.config)):
            own.setdefault(setting, self._corpus)
        return command_line.arguments(other, own, self.file, proposed=own.keys())

    @property
    def line(self) -> str:
        """The whole command for a shell."""
        return command_line.shell_line(self.stage, self.arguments)

    @property
    def name(self) -> str | None:
        """What the job is called."""
        name = getattr(getattr(self.draft.config, self.stage.section), "name", None)
        return name if isinstance(name, str) and name else None

    def chain(self, products: Mapping[str, Product]) -> list[stage_flow.Step]:
        """This stage after all it lacks."""
        draft, config = self.draft, self.draft.config
        corpus = self._to_name(config)
        proposed = draft.proposed.keys() - draft.changes.keys()
        typed = {path: value for path, value in draft.typed.items() if path not in proposed}
        steps = stage_flow.chain(self.stage, typed, config, products, corpus)
        return [*steps[:-1], stage_flow.Step(self.stage, self.arguments)]

    @property
    def own_data(self) -> Config | None:
        """The settings to survey by, where the form changes where the data is; else None."""
        settings = ("source", "input", "tokenizer")
        moved = self.file is not None or any(
            path.startswith(("dataset.", "paths."))
            or path in [f"{self.stage.section}.{name}" for name in settings]
            for path in self.draft.changes
        )
        return self.meant if moved else None

    @property
    def meant(self) -> Config:
        """The settings with a path that stands where a corpus belongs as the input that it will
        be."""
        config = self.draft.config
        path = form_corpus.misplaced_path(self.stage, config)
        if path is None or not form_corpus.takes_texts(self.stage):
            return config
        options = getattr(config, self.stage.section)
        options = options.model_copy(update={"source": None, "input": [path]})
        return config.model_copy(update={self.stage.section: options})

    def survey(self, config: Config) -> dict[str, Product]:
        """What there is for these settings; reads folders."""
        from pipeline.survey import given_texts, of_corpus, survey

        found = survey(of_corpus(config, form_corpus.corpus_of(self.stage, config)))
        given = getattr(getattr(config, self.stage.section), "input", None)
        if given and self.stage.needs and self.stage.command != "cleanup":  # surveyed already
            replaced = stage_flow.is_made_by_others(self.stage)
            first = stage_flow.maker(self.stage.needs[0]).command if replaced else stage_flow.GIVEN
            found[first] = given_texts(given)
        return found

    def take_path(self, setting: str) -> Path | None:
        """Move a path that stands in `setting`, where a corpus belongs, to the stage's own input;
        that path, None where there is nothing to move."""
        config = self.draft.config
        path = form_corpus.misplaced_path(self.stage, config)
        if path is None or setting != form_corpus.naming_setting(self.stage):
            return None
        self.draft.undo(setting)
        if form_corpus.misplaced_path(self.stage, self.draft.config) is not None:  # of a file
            self.draft.apply({setting: None})
        if form_corpus.takes_texts(self.stage):
            self.draft.apply({f"{self.stage.section}.input": [str(path)]})
        return path

    @property
    def first_fault(self) -> str | None:
        """The path of the first wrong setting on the form."""
        paths = [field.path for _, fields in self.groups for field in fields]
        return next((path for path in paths if path in self.draft.faults), None)

    @property
    def fault_elsewhere(self) -> str:
        """What is wrong outside the form's own fields, in a sentence; empty where nothing is."""
        if self.fault is not None:
            return " ".join(filter(None, (self.fault.problem, self.fault.found)))
        shown = {field.path for _, fields in self.groups for field in fields}
        wrong = [(path, words) for path, words in self.draft.faults.items() if path not in shown]
        return f"{wrong[0][0]} {wrong[0][1]}".strip() if wrong else ""

    @property
    def why(self) -> str:
        """Why something is proposed that nobody would guess; empty where there is nothing."""
        size = self.draft.proposed.get("tokenize.vocab_size")
        if size is None or "tokenize.vocab_size" in self.draft.changes:
            return ""
        config = self.draft.config
        text_bytes = text_bytes_of(config, form_corpus.corpus_of(self.stage, config))
        if text_bytes is None or size != fitting_size(text_bytes):
            return ""  # as a tokenizer that is there was made
        return (
            f"{size:,} proposed: so many are met often enough to be learned in "
            f"{human_bytes(text_bytes)} of text"
        )

    @property
    def saved(self) -> str:
        """Which files lie below, and how many changes are in none of them."""
        file = str(CONFIG_FILE) if CONFIG_FILE.exists() else "defaults"
        file += f" + {self.file}" if self.file is not None else ""
        unsaved = self.draft.unsaved
        return f"{file} · {unsaved} change{'s' * (unsaved != 1)} unsaved" if unsaved else file

    def hint(self, products: Mapping[str, Product]) -> str:
        """What stands in the way of a start, and the key that helps; empty where nothing does."""
        if fault := self.fault_elsewhere:
            return f"✕ {fault} · Settings (Ctrl+P) mends it"
        lacking = [
            needed
            for needed in stage_flow.inputs(self.stage, products, self.draft.config)
            if not needed.product.usable
            and not (needed.product.state == "missing" and needed.product.elsewhere)
        ]
        if not lacking or not products:
            return ""
        what, product, given = lacking[0]
        if given:
            return f"Input {product.title}: {product.why}"
        state = product.why or ("not there yet" if product.state == "missing" else product.state)
        chain = stage_flow.in_order(self.chain(products))
        return f"{what[:1].upper()}{what[1:]}: {state} · c makes everything in order ({chain})"


def fitting_text(config: Config, speed: float | None) -> Fitting | None:
    """The training that fits the tokens there are and this machine, at `speed` or a guess; None
    where a size was chosen, or where there are no tokens yet."""
    if not is_unset(config):
        return None
    folder = config.train.data or config.tokens_dir(config.source, test=config.train.test)
    try:
        manifest = read_manifest(folder)
        tokens = read_metadata(folder, manifest) if manifest is not None else None
    except (HatcheryError, OSError):
        return None
    if tokens is None:
        return None
    share = config.train.val_split
    count = round(tokens.tokens * (1 - share))
    if tokens.tokens <= _COUNTED and manifest is not None:
        count = _training_tokens(folder, manifest.fingerprint, share) or count
    window = config.train.window or tokens.window
    speed = speed or _guessed_speed(config.train.device)
    return fitting(config, count, window, tokens.tokenizer.vocab_size, speed)


@lru_cache
def _training_tokens(folder: Path, fingerprint: str, share: float) -> int | None:
    """Tokens that are not held out, which in a small text may be far from the share asked for;
    `fingerprint` tells one state of the folder from another."""
    from pipeline.tokens.token_set import open_tokens

    try:
        return open_tokens(folder, val_split=share, check="sizes").train.tokens
    except (HatcheryError, OSError, ValueError):
        return None


@lru_cache
def _guessed_speed(device: str) -> float:
    from pipeline.planning.target import guessed_speed

    return guessed_speed(device)


def settings_of_run(config: Config, command: str) -> list[Layer]:
    """The settings of the run that --resume of the stage `command` names, as a layer over the
    files; none where there is no such run, which the card says."""
    from pipeline.train.found_run import place_to_resume

    try:
        run, _ = place_to_resume(config, getattr(config, command), command)
        record = read_record(run)
        recorded_options(run, record)
    except (HatcheryError, OSError):
        return []
    options = {name: v for name, v in record.options.items() if name not in _NOT_OF_THE_RUN}
    if record.command != command:
        return []
    model = {"model": record.model} if command == "train" else {}
    return [Layer(short_name(run.name), {command: options} | model)]
