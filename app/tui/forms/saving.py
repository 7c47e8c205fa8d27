"""What the screens of settings share: changes are written into config.json, and a save is taken
back."""

from app.commands.settings import CONFIG_FILE
from app.tui.forms import config_file
from app.tui.forms.draft import Draft
from app.tui.forms.field_panel import FieldPanel
from app.tui.screen import HatcheryScreen
from utils.errors import HatcheryError


class SavingScreen(HatcheryScreen):
    """A screen with a draft over config.json, in a `FieldPanel`."""

    @property
    def edited(self) -> Draft:
        """What is saved."""
        raise NotImplementedError

    def rebase(self) -> None:
        """Begin the draft anew over the files as they are now."""
        raise NotImplementedError

    def redraw(self) -> None:
        """The draft is another one than before."""
        raise NotImplementedError

    def save(self) -> None:
        """Write the changes into config.json, and say which they were."""
        draft = self.edited
        if not draft.unsaved:
            self.hatchery.note("nothing to save: no setting was changed")
            return
        below = list(draft.below)
        try:
            saved = config_file.save_changes(draft.changes, draft.removed)
        except HatcheryError as error:
            self.hatchery.tell(error)
            return
        self.hatchery.last_save = saved
        self._begin_anew()
        words = config_file.saved_words(below, saved)
        self.hatchery.note(f"written to {CONFIG_FILE}: {words}\nu takes it back")

    def undo_save(self) -> None:
        """Take the last save back, where nothing else has changed the file since; what it wrote
        are unsaved changes again, where this screen shows them."""
        saved: config_file.Save | None = self.hatchery.last_save
        if saved is None:
            self.hatchery.note("nothing to take back: nothing was saved here")
            return
        try:
            config_file.undo_save(saved)
        except HatcheryError as error:
            self.hatchery.tell(error)
            return
        self.hatchery.last_save = None
        self._begin_anew(saved)
        self.hatchery.note(f"{CONFIG_FILE} is as it was before")

    def _begin_anew(self, undone: config_file.Save | None = None) -> None:
        draft = self.edited
        self.hatchery.reload_config()
        self.hatchery.survey()
        self.rebase()
        if undone is not None:
            draft.apply(undone.changes)
            for path in undone.removed:
                draft.remove(path)
        self.query_one(FieldPanel).refill(forced=undone is not None)
        self.redraw()
