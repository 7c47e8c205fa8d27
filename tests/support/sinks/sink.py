"""What a sink is, and what more than one table of sinks is made of."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, cast

from textual.containers import Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from app.client.client import Model
from app.tui.forms.draft import Draft
from app.tui.forms.field_panel import FieldPanel
from app.tui.forms.field_spec import Field
from utils.errors import HatcheryError

Feed = Callable[[Any, Sequence[str]], Awaitable[object] | None]


class Sink(NamedTuple):
    """`build` makes a widget, `feed` shows it as many strings as fit on a page; `covers` are the
    classes of app/widgets that then show them."""

    name: str
    page: int
    build: Callable[[], Widget]
    feed: Feed
    covers: tuple[type[Widget], ...] = ()


class Told(Draft):
    """A draft that says what it is told to, of every setting in turn."""

    def __init__(self) -> None:
        super().__init__([])
        self.texts: Sequence[str] = ("",)
        self._places: dict[str, int] = {}

    def _at(self, path: str) -> str:
        return self.texts[self._places.setdefault(path, len(self._places)) % len(self.texts)]

    def text(self, field: Field) -> str:
        return self._at(field.path)

    def origin(self, path: str) -> str:
        return self._at(path)


def lines(join: Callable[[str], Content]) -> Feed:
    """Texts below each other, made harmless in one of the ways there are."""

    def feed(shown: Static, texts: Sequence[str]) -> None:
        shown.update(Content("\n").join(map(join, texts)))

    return feed


def stack(count: int, build: Callable[[], Widget], classes: str = "") -> Callable[[], Widget]:
    return lambda: Vertical(*(build() for _ in range(count)), classes=classes)


def each(kind: str, show: Callable[[Any, str], object]) -> Feed:
    """One text for every widget of a kind."""

    def feed(held: Widget, texts: Sequence[str]) -> None:
        for one, text in zip(held.query(kind), texts, strict=False):
            show(one, text)

    return feed


def fill_panel(shown: FieldPanel, texts: Sequence[str]) -> None:
    draft = cast(Told, shown.draft)
    draft.texts, paths = texts, [line.margins.field.path for line in shown.lines]
    draft.faults = {path: " ".join(texts[place :: len(paths)]) for place, path in enumerate(paths)}
    shown.refill(forced=True)


def model(text: str) -> Model:
    return Model(text, text, 3, 1.5, best=True, latest=True, parameters=9, context=9, bytes=9)


def fault(texts: Sequence[str]) -> HatcheryError:
    """All of these in the three parts of an error."""
    a, b, c = (texts[start::3] for start in range(3))
    return HatcheryError(" ".join(a), found="\n".join(b), remedy="\n".join(c))


def spans(text: str) -> tuple[tuple[int, float | None], ...]:
    """Tokens of three characters, in all the classes of probability, and one that is not known."""
    likely: Sequence[float | None] = (-0.1, -1.0, -3.0, -9.0, None)
    return tuple((3, likely[n % 5]) for n in range(len(text) // 3))
