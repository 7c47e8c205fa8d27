"""The last line of every screen: the keys that matter here."""

from textual.widgets import Footer

Shown = list[tuple[str, str, str, bool]]


class KeyLine(Footer):
    """Textual's footer, which is built anew, at 1 ms a key, whenever bindings may have changed;
    this one only if any of its keys has: opening a form says four times that they may."""

    def __init__(self) -> None:
        super().__init__(compact=True, show_command_palette=False)
        self._built: Shown | None = None

    def _keys(self) -> Shown:
        return [
            (binding.key, binding.description, binding.action, enabled)
            for _, binding, enabled, _ in self.screen.active_bindings.values()
            if binding.show
        ]

    async def recompose(self) -> None:
        """Build the keys anew where they are others than before."""
        if not self.is_attached:
            return
        keys = self._keys()
        if keys != self._built:
            self._built = keys
            await super().recompose()
