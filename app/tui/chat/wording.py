"""The sentences of the chat screen. Knows no widgets beyond styled text."""

from collections.abc import Sequence

from textual.content import Content

from app.client.client import Model, Sampling
from app.client.responses import RequestRefusedError
from app.tui.chat.conversation import FAILED, STOPPED, Conversation, Mode, StreamedAnswer, Turn
from app.tui.widgets.text import MUTED, block, joined, plain
from app.tui.widgets.token_colours import CLASSES, percent
from pipeline.runs.folders import short_name
from utils.errors import HatcheryError
from utils.units import human_bytes

HELP = (
    "A base model goes on with a text: write its beginning, and Enter lets it continue; Enter "
    "on nothing begins a new document. A model tuned to answer takes messages; Ctrl+B changes "
    "between the two. FILE:path sends the text of a file.\n\n"
    "Tab or a click goes to the texts, where ↑ and ↓ choose one: e edits what was asked and "
    "asks again, and what was there before stays, [ and ] show it. p colours every token by "
    "its probability; ← and → walk through them and say the number. Everything is kept in "
    "logs/chats/, F2 lists it: / searches in all of it, r gives a conversation a name, Del "
    "deletes it.\n\n"
    "The models live in a server of the app's own, which ends with it."
)
_NOTHING = (
    "There is no checkpoint to talk to yet.\n\n"
    "Esc leads back to the board: 5 trains a model on your text, 0 raises a first one from "
    "Python's own library in a few minutes. F5 looks again."
)


_ENDS = {
    "stop": "the model ended it",
    "length": "full length",
    STOPPED: "stopped",
    FAILED: "broken off",
}
SHADES = {
    "likely": "$foreground on $success 18%",
    "open": "underline $foreground on $warning 20%",
    "unlikely": "underline italic $foreground on $warning 45%",
    "surprising": "bold underline $foreground on $error 45%",
}
"""The look of each class of probability, no two of which differ by colour alone."""


def loading(model: Model) -> str:
    """What is waited for while a model comes into memory."""
    if model.loaded:
        return ""
    size = f", {human_bytes(model.bytes)}" if model.bytes is not None else ""
    return f"loading {short_name(model.id)}{size}"


def facts(model: Model | None) -> Content:
    """The model that answers, in the header."""
    if model is None:
        return plain("")
    loss = f" · val {model.val_loss:.3f}" if model.val_loss is not None else ""
    role: str | tuple[object, str] = ""
    role = ("▲ ", "$success") if model.best else ("● ", "$secondary") if model.latest else role
    return joined(role, f"{short_name(model.id)}{loss}")


def figures_line(turn: Turn) -> str:
    """'83 tokens/s · first 41 ms · 62 tokens · full length · seed 7'."""
    facts, parts = turn.figures, []
    if speed := facts.get("tokens_per_second"):
        parts.append(f"{speed:,.0f} tokens/s" if speed >= 10 else f"{speed:.1f} tokens/s")
    if "first_token_ms" in facts and facts.get("new_tokens"):
        parts.append(f"first {facts['first_token_ms']:,.0f} ms")
    if "new_tokens" in facts:
        count = int(facts["new_tokens"])
        parts.append(f"{count:,} token{'' if count == 1 else 's'}")
    if turn.finish:
        parts.append(_ENDS.get(turn.finish, turn.finish))
    if turn.sampling.get("seed") is not None and turn.sampling.get("temperature"):
        parts.append(f"seed {turn.sampling['seed']}")
    return " · ".join(parts)


def sampling_line(sampling: Sampling) -> str:
    """The settings that matter, in one line."""
    parts = [f"temperature {sampling.temperature:g}"]
    if sampling.temperature:
        parts += [f"top-k {sampling.top_k}"] if sampling.top_k else []
        parts += [f"top-p {sampling.top_p:g}"] if sampling.top_p < 1 else []
        parts += [f"min-p {sampling.min_p:g}"] if sampling.min_p else []
        parts += [f"seed {sampling.seed}"] if sampling.seed is not None else []
    if sampling.repetition_penalty != 1:
        parts.append(f"penalty {sampling.repetition_penalty:g}")
    return " · ".join([*parts, f"{sampling.max_tokens:,} tokens"])


def hint(mode: Mode, conversation: Conversation) -> str:
    """What an empty prompt says."""
    if mode == "chat":
        return "Enter sends, Ctrl+J begins a new line" + ", Ctrl+N starts anew" * bool(
            conversation.turns
        )
    if conversation.turns:
        return "Enter begins another text, Ctrl+G goes on, Ctrl+N starts anew"
    return "Enter lets the model go on; Enter on nothing begins a document"


def welcome(models: Sequence[Model] | None, model: Model | None, mode: Mode) -> Content:
    """What an empty conversation says."""
    if models is not None and not models:
        return block(_NOTHING)
    name = short_name(model.id) if model is not None else "the model"
    if mode == "chat":
        first = f"Write a message below, and {name} answers."
    else:
        first = f"Write the beginning of a text below, and {name} goes on with it."
    lines = [
        joined(first),
        plain(""),
        joined(("Ctrl+L", "$accent"), "  another model, or another checkpoint of the run"),
        joined(("Ctrl+O", "$accent"), "  how tokens are chosen"),
        joined(("Ctrl+B", "$accent"), "  a chat, or a text that goes on"),
        joined(("F2", "$accent"), "      earlier conversations"),
    ]
    return Content("\n").join(lines)


def length(tokens: int, context: int | None) -> Content:
    """How long the text in the prompt is for the model, as far as that is known before it is sent;
    no words for an empty one."""
    if not tokens:
        return plain("")
    if context is None:
        return plain(f"about {tokens:,} tokens", MUTED)
    words = f"about {tokens:,} of {context:,} tokens"
    return plain(words, MUTED) if tokens < context else plain(f"{words}: too long", "$error")


def status(
    answer: StreamedAnswer | None,
    fault: HatcheryError | None,
    waiting_for: str,
    editing: Turn | None,
    shading: tuple[str, float | None] | bool,
) -> Content:
    """What goes on, or what went wrong; `shading` is the token under the cursor, or whether
    tokens are coloured."""
    if answer is not None:
        return _writing(answer, waiting_for)
    if fault is not None:
        return _failed(fault)
    if waiting_for:
        return joined(("◐ ", "$accent"), f"{waiting_for} …")
    if editing is not None:
        return joined(
            ("✎ ", "$accent"), "Enter asks this instead, and keeps what was; Esc leaves it"
        )
    if shading:
        return _token(shading)
    return plain("")


def _writing(answer: StreamedAnswer, waiting_for: str) -> Content:
    model = short_name(answer.request.model)
    if not answer.tokens:
        return joined(
            ("◐ ", "$accent"), f"{waiting_for or f'{model} reads'} …", ("  Esc stops", MUTED)
        )
    speed = f" · {answer.speed:,.0f} tokens/s" if answer.speed else ""
    return joined(
        ("◐ ", "$accent"),
        f"{model} writes · {answer.tokens:,} tokens{speed}",
        ("  Esc stops", MUTED),
    )


def _failed(fault: HatcheryError) -> Content:
    lines = [joined(("✕ ", "$error"), fault.problem)]
    lines += [block(fault.found, MUTED)] if fault.found else []
    lines += [joined(("→ ", "$accent"), fault.remedy)] if fault.remedy else []
    if not isinstance(fault, RequestRefusedError):
        lines.append(joined(("F5", "$accent"), " tries again"))
    return Content("\n").join(lines)


def _token(shading: tuple[str, float | None] | bool) -> Content:
    """The token under the cursor with its number, and the legend."""
    parts: list[str | tuple[object, str]] = []
    for _, name, words in CLASSES:
        parts += [(f" {words} ", SHADES[name]), "  "]
    legend = joined(*parts, ("← → walk", MUTED))
    if not isinstance(shading, tuple):
        return legend
    text, logprob = shading
    token = joined(("token ", MUTED), (repr(text), "bold"), "  ", percent(logprob))
    return Content("\n").join([token, legend])
