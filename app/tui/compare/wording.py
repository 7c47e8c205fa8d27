"""How models, answers and figures read on the compare screen."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from textual.content import Content

from app.client.client import Model, Sampling
from app.tui.compare.round import Answer, Round, Summary, together
from app.tui.compare.selection import Candidate
from app.tui.widgets.meter import columns
from app.tui.widgets.text import MUTED, block, joined, plain
from app.tui.widgets.token_colours import CLASSES, shade
from utils.errors import HatcheryError
from utils.units import human_bytes, human_count

_SHADES = {
    "likely": "$success",
    "open": "",
    "unlikely": "underline $warning",
    "surprising": "bold underline $error",
}
_STATES = {"loading": "loading the model …", "waiting": "waiting …", "empty": ""}
_FINISHES = {"stop": "ended", "length": "full length"}


def marks(model: Model) -> Content:
    """Best and latest, in words too."""
    found = [("▲ best", "$success")] * model.best + [("● latest", "$secondary")] * model.latest
    return Content(" ").join([plain(*one) for one in found])


def row(candidate: Candidate, label: str, number: int, width: int, *, chosen: bool) -> Content:
    """A line of the chooser, in `width` cells."""
    model = candidate.model
    tick = ("✓", "bold $accent") if chosen else (" ", "")
    name = joined(tick, (f" {number:>3}  ", MUTED), (label, "bold" if chosen else ""), "  ")
    loss = "" if model.val_loss is None else f"{model.val_loss:.3f}"
    size = "" if model.bytes is None else human_bytes(model.bytes)
    cells = [
        name.append(marks(model)),
        plain(loss, "bold $success" if model.best else ""),
        plain("" if model.parameters is None else human_count(model.parameters), MUTED),
        plain(size, MUTED),
        plain("in memory" if model.loaded else "remote" if candidate.where else "", MUTED),
    ]
    return _fitted(cells, width)


def heading(width: int) -> Content:
    """The names of the columns of `row`."""
    names = ["       model", "val", "params", "size", ""]
    return _fitted([plain(name, MUTED) for name in names], width)


def _fitted(cells: list[Content], width: int) -> Content:
    rest = [-6, -7, -9, 9][: 4 if width >= 84 else 3 if width >= 72 else 1]
    return columns(cells[: len(rest) + 1], [width - sum(2 + abs(w) for w in rest), *rest])


def title(found: Round, place: int, name: str) -> Content:
    """What stands above a pane."""
    answer = found.answers[place]
    number = (f"{place + 1} ", MUTED) if place < 9 else ""
    model = answer.candidate.model
    sign = marks(replace(model, latest=model.latest and not model.best))
    shown = joined("  ", sign) if sign.plain and not found.hidden else ""
    return joined(number, (name, "bold"), shown)


def edge(found: Round, place: int) -> Content:
    """What stands on the lower border of a pane: the vote, offered or given."""
    answer = found.answers[place]
    if answer is found.winner:
        return plain(" ✔ your choice ", "bold $success")
    if found.votable and answer in found.eligible:
        return plain(f" vote {place + 1} " if place < 9 else " vote x ", "$accent")
    return Content("")


def body(found: Round, answer: Answer, *, coloured: bool) -> Content:
    """Prompt and answer, or why there is none."""
    parts = []
    if found.asked and not found.chat:
        parts.append(_written(found.prompt, MUTED))
    if coloured:
        parts += _shaded(answer)
    elif answer.text:
        parts.append(_written(answer.text))
    if answer.busy:
        parts.append(plain("▌", "$accent"))
    if answer.error is not None:
        parts.append(Content("\n\n" if answer.text else "\n" if parts else ""))
        parts.append(trouble(answer.error))
    return Content("").join(parts)


def trouble(error: HatcheryError, key: str = "") -> Content:
    """What is wrong, what was found, what helps; `key` is what to press here."""
    lines = [joined(("✕ ", "$error"), (error.problem, "$error"))]
    lines += [joined(("Found ", MUTED), block(error.found))] * bool(error.found)
    lines += [joined(("Next  ", MUTED), block(error.remedy))] * bool(error.remedy)
    lines += [plain(key, "bold")] * bool(key)
    return Content("\n").join(lines)


def _shaded(answer: Answer) -> Iterator[Content]:
    at = 0
    for length, logprob in answer.spans:
        yield _written(answer.text[at : at + length], _SHADES.get(shade(logprob) or "", ""))
        at += length
    yield _written(answer.text[at:])


def _written(text: str, style: str = "") -> Content:
    """A text with its tabs four wide: a panel counts its rows before it widens them."""
    return block(text.replace("\t", "    "), style)


def legend() -> Content:
    """What the colours of the tokens mean."""
    words = [plain(text, _SHADES.get(name, "") or "bold") for _, name, text in CLASSES]
    return joined(("how likely each token was:  ", MUTED), Content("  ").join(words))


def figures(found: Round, answer: Answer, best: Summary, width: int) -> Content:
    """The foot of a pane. Speed would tell blind models apart, so it waits for the vote."""
    if answer.state in _STATES:
        return plain(_STATES[answer.state], f"italic {MUTED}")
    if answer.state == "failed":
        return plain("failed", "$error")
    known = answer.figures
    speed: list[Content] = []
    if not found.hidden and "tokens_per_second" in known:
        star = plain(" ★", "bold $success") if answer is best.fastest else Content("")
        speed.append(joined(f"{known['tokens_per_second']:,.0f} tok/s", star))
        if "first_token_ms" in known:
            speed.append(plain(f"first {known['first_token_ms']:,.0f} ms"))
    count = known.get("new_tokens", answer.tokens)
    finish = _FINISHES.get(answer.finish, answer.finish) or answer.state
    length = [plain(f"{count:,.0f} tok"), plain("writing …" if answer.busy else finish, MUTED)]
    line = Content(" · ").join([*speed, *length])
    if line.cell_length <= width or not speed:
        return line
    return Content("\n").join([Content(" · ").join(speed), Content(" · ").join(length)])


def conclusion(found: Round, names: Sequence[str], best: Summary) -> Content:
    """The line below the panes: who stands out, or what one can do now."""
    if not found.asked:
        count = len(found.answers)
        them = {1: "it", 2: "both"}.get(count, f"all {count}")
        return plain(f"Enter sends the prompt to {them}", MUTED)
    if found.busy:
        stops = joined(("Esc", "$accent"), " stops it" if len(found.answers) == 1 else " stops all")
        return Content(" · ").join([part for part in (stops, _shared(found)) if part])
    if found.hidden and found.votable:
        return plain("Names and speeds are shown after your vote: 1-9, or 0 where none is better.")
    by = dict(zip(found.answers, names, strict=True))
    parts = []
    if best.fastest:
        rate = best.fastest.figures["tokens_per_second"]
        star = joined(("★ ", "$success"), ("highest speed ", MUTED))
        parts.append(joined(star, f"{by[best.fastest]}, {rate:,.0f} tokens/s"))
    if best.quickest:
        seconds = best.quickest.figures["seconds"]
        parts.append(joined(("fastest to finish ", MUTED), f"{by[best.quickest]}, {seconds:.1f} s"))
    if best.longest:
        length = best.longest.figures["new_tokens"]
        parts.append(joined(("most tokens ", MUTED), f"{by[best.longest]}, {length:,.0f}"))
    if found.decided:
        winner = by.get(found.winner, "") if found.winner else "none is better"
        parts.insert(0, joined(("✔ ", "$success"), ("your vote ", MUTED), winner))
    return Content(" · ").join(parts)


def _shared(found: Round) -> Content:
    """That speeds are not those of a model alone."""
    local = sum(not answer.candidate.where for answer in found.answers)
    if local < 2 or found.hidden:
        return Content("")
    return plain("They share this machine: alone, each is faster.", MUTED)


def footnote(found: Round) -> Content:
    """What to know of the figures, once they are there."""
    if not found.asked or found.busy:
        return Content("")
    if not found.hidden and not together(found.eligible):
        words = "Not all wrote at the same time, so their speeds do not compare."
        return plain(f"{words} Sent again, they do.", MUTED)
    return _shared(found)


def sampling_line(sampling: Sampling, *, chat: bool, short: bool) -> Content:
    """The settings on one line; without a seed, each round draws its own."""
    if short:
        parts = [f"temp {sampling.temperature:g}", f"k {sampling.top_k}", f"p {sampling.top_p:g}"]
    else:
        parts = [
            f"temperature {sampling.temperature:g}",
            f"top-k {sampling.top_k}",
            f"top-p {sampling.top_p:g}",
        ]
    parts += [f"min-p {sampling.min_p:g}"] * bool(sampling.min_p)
    parts += [f"penalty {sampling.repetition_penalty:g}"] * (sampling.repetition_penalty != 1)
    parts.append("new seeds" if sampling.seed is None else f"seed {sampling.seed}")
    parts.append(f"{sampling.max_tokens:,} tok{'' if short else 'ens'}")
    return joined(("t ", "$accent"), " · ".join(["chat"] * chat + parts))


def ruler(course: Sequence[Candidate], at: Candidate, width: int) -> Content:
    """The steps of a run as marks on a line, the one that is shown among them, with its loss."""
    if at not in course:
        return Content("")
    place, model = course.index(at), at.model
    first, last, pitch = _in_sight(len(course), place, width)
    parts = [plain("‹ " if place else "  ", "$accent")]
    for number, other in enumerate(course[first:last], first):
        if number == place:
            parts.append(plain("◆", "bold $accent"))
        elif other.model.best:
            parts.append(plain("▲", "$success"))
        elif other.model.latest:
            parts.append(plain("●", "$secondary"))
        else:
            parts.append(plain("┼" if pitch > 1 else "─", MUTED))
        parts.append(plain("─" * (pitch - 1 if number + 1 < last else 0), MUTED))
    parts.append(plain(" ›" if place + 1 < len(course) else "  ", "$accent"))
    loss = "" if model.val_loss is None else f" · val {model.val_loss:.3f}"
    parts.append(plain(f"  step {model.step:,}{loss}"))
    return Content("").join(parts)


def _in_sight(count: int, place: int, width: int) -> tuple[int, int, int]:
    """The first and the last + 1 of `count` marks that a ruler shows around `place`, and the cells
    from one to the next."""
    room = max(3, width - 30)
    first = max(0, min(place - room // 2, count - room))
    return first, min(count, first + room), max(1, min(4, room // count))


def ruler_step(count: int, place: int, width: int, x: int) -> int:
    """The place on a ruler that a click at cell `x` means."""
    first, last, pitch = _in_sight(count, place, width)
    step = first + round((x - 2) / pitch)
    if x >= 2 and step < last:
        return step
    return max(0, place - 1) if x < 2 else min(count - 1, place + 1)


def losses(course: Sequence[Candidate], width: int) -> Content:
    """The validation losses of a run's steps, for a pane that has the screen for itself."""
    from pipeline.runs.validations import sparkline

    known = [c.model for c in course if c.model.val_loss is not None]
    if len(known) < 2:
        return Content("")
    values = [model.val_loss for model in known if model.val_loss is not None]
    line = sparkline(values, max(8, min(len(values), width - 40)))
    ends = f"val {values[0]:.3f} at {known[0].step:,} ", f" {values[-1]:.3f} at {known[-1].step:,}"
    return joined((ends[0], MUTED), (line, "$accent"), (ends[1], MUTED))
