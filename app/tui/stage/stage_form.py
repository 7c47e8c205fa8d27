"""What is behind the form of a stage: its draft, its command, the chain before it. No widgets."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from app.commands.settings import CONFIG_FILE
from app.tui.forms import command_line, config_file
from app.tui.forms.draft import Draft
from app.tui.forms.field_spec import Field, fields_of
from app.tui.stage import stage_flow
from pipeline.options.config import Config
from pipeline.stages import Product, Stage
from utils.config import Layer, read_layers
from utils.errors import HatcheryError

Group = tuple[str, Sequence[Field]]


class StageForm:
    """Settings of a stage over config.json.

    `preset` are arguments as typed, `kept` are changes of a form that was left, `products` is
    what there is. `fault` says what could not be read, and is None else.
    """

    def __init__(
        self,
        stage: Stage,
        preset: Sequence[str] = (),
        kept: Mapping[str, Any] | None = None,
        products: Mapping[str, Product] | None = None,
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
        settled = Draft(below, changes).config
        self.draft = Draft(below, changes, stage_flow.proposals(stage, settled, products))

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
        return command_line.arguments(self.stage, self.draft.typed, self.file)

    def arguments_for(self, other: Stage) -> list[str]:
        """The same settings as arguments of another stage."""
        own = {p: v for p, v in self.draft.typed.items() if p not in self.draft.proposed}
        return command_line.arguments(other, own, self.file)

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
        steps = stage_flow.chain(self.stage, self.draft.typed, self.draft.config, products)
        return [*steps[:-1], stage_flow.Step(self.stage, self.arguments)]

    @property
    def own_data(self) -> Config | None:
        """The settings to survey by, where the form changes where the data is; else None."""
        moved = self.file is not None or any(
            path.startswith(("dataset.", "paths.")) for path in self.draft.changes
        )
        return self.draft.config if moved else None

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
        missing_steps = [
            given
            for given in stage_flow.inputs(self.stage, products)
            if given.product.state != "fresh"
        ]
        if not missing_steps or not products:
            return ""
        what, product = missing_steps[0]
        state = product.why or ("not there yet" if product.state == "missing" else product.state)
        chain = stage_flow.in_order(self.chain(products))
        return f"{what[:1].upper()}{what[1:]}: {state} · c makes everything in order ({chain})"
