"""Conversations to token ids by the tokenizer's own Jinja template.

Control tokens come from the template and never from what somebody wrote: before rendering, each
content gets a pair of guard characters at both ends, and in place of every control token that it
spells out its number between them, so that only the template's own are found in the result.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Any

from pipeline.server.engine.protocol import Message
from pipeline.server.engine.template_renderer import TemplateError, TemplateRenderer
from pipeline.server.errors import ApiError, bad_request
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.errors import UsageError

NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType({})
_UNSET = {"tools": None, "documents": None}  # as transformers gives them
_GUARDS = range(0xF0000, 0x10FFFE)  # private use: a template has no business with them
_LONGEST_MARK = 40  # characters of a text that begins a turn


class ChatEncoder:
    """Renders and encodes with the chat template of one tokenizer.

    `stop_ids` and `stop_texts` are what follows an answer in it: a model that was never taught to
    end writes on with the next turn.

    Raises:
        UsageError: the template cannot be read.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._source = tokenizer.chat_template
        named = {"bos_token": tokenizer.bos_id, "eos_token": tokenizer.eos_id}
        named |= {"pad_token": tokenizer.pad_id, "unk_token": tokenizer.unk_id}
        self._tokens = {k: "" if i is None else tokenizer.piece(i) for k, i in named.items()}
        self._controls = {tokenizer.piece(i): i for i in tokenizer.controls}
        longest_first = sorted(filter(None, self._controls), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, longest_first)) or "(?!)")
        self._boundary = re.compile("|".join(map(self._with_spaces, longest_first)) or "(?!)")
        try:
            self._renderer = TemplateRenderer(self._source)
        except TemplateError as error:
            raise UsageError(
                f"The chat template of {tokenizer.name} cannot be read: {error}.",
                remedy="use /v1/completions, or mend chat_template in tokenizer_config.json",
            ) from error
        self.stop_ids, self.stop_texts = self._ends()

    def encode(
        self,
        messages: Sequence[Message],
        arguments: Mapping[str, Any] = NO_ARGUMENTS,
        *,
        answer: bool = True,
    ) -> list[int]:
        """Ids of the conversation, up to where the next answer begins; without `answer` up to its
        end. `arguments` are those of the template beside what every one is given.

        Raises:
            ApiError: the template does not take these messages; an argument has the name of what
                every template is given, or spells a control token.
        """
        self._check(arguments)
        guards = _unused([self._source, *(message.content for message in messages)])
        turns = [
            {"role": message.role, "content": self._guarded(message.content, *guards)}
            for message in messages
        ]
        ids: list[int] = []
        encode = self._tokenizer.encode
        rendered = self._render(turns, arguments, answer=answer)
        for text, control in self._split(rendered):
            ids += encode(self._unguarded(text, *guards)) if text else []
            ids += [] if control is None else [control]
            encode = self._tokenizer.encode_inside
        return ids

    def _with_spaces(self, token: str) -> str:
        """A pattern for a control token, in a group, and the white space that it takes."""
        left, right = self._tokenizer.takes_space(self._controls[token])
        return r"\s*" * left + f"({re.escape(token)})" + r"\s*" * right

    def _guarded(self, content: str, left: str, right: str) -> str:
        """`content` with guards inside its outer white space, which a template may trim, and
        with numbers for its control tokens."""
        core = content.strip()
        if not core:
            return content
        begin = content.find(core)
        safe = self._control.sub(lambda m: f"{left}{self._controls[m[0]]}{right}", core)
        edge = left + right
        return f"{content[:begin]}{edge}{safe}{edge}{content[begin + len(core) :]}"

    def _unguarded(self, text: str, left: str, right: str) -> str:
        piece = self._tokenizer.piece
        whole = re.sub(f"{left}([0-9]+){right}", lambda m: piece(int(m[1])), text)
        return whole.replace(left, "").replace(right, "")

    def _split(self, rendered: str) -> Iterator[tuple[str, int | None]]:
        """Texts and the control token after each; none after the last. Some tokens take the white
        space beside them."""
        at = 0
        for match in self._boundary.finditer(rendered):
            token = next(filter(None, match.groups()))
            yield rendered[at : match.start()], self._controls[token]
            at = match.end()
        yield rendered[at:], None

    def _check(self, arguments: Mapping[str, Any]) -> None:
        taken = arguments.keys() & {"messages", "add_generation_prompt", *self._tokens}
        if taken:
            raise bad_request(f"chat_template_kwargs cannot set {min(taken)}.",
                              "chat_template_kwargs")  # fmt: skip
        if self._control.search(" ".join(_texts_in(arguments))):
            raise bad_request("chat_template_kwargs holds a control token of the model.",
                              "chat_template_kwargs")  # fmt: skip

    def _render(
        self,
        turns: Sequence[Mapping[str, str]],
        arguments: Mapping[str, Any] = NO_ARGUMENTS,
        *,
        answer: bool = True,
    ) -> str:
        given = _UNSET | dict(arguments) | self._tokens
        given |= {"messages": turns, "add_generation_prompt": answer}
        try:
            return self._renderer.render(given)
        except TemplateError as error:
            raise bad_request(
                "The model's chat template does not take these messages.",
                "messages",
                code="chat_template",
                found=str(error)[:300],
                remedy="let user and assistant take turns, the user first",
            ) from error

    def _ends(self) -> tuple[frozenset[int], tuple[str, ...]]:
        """What the template puts between an answer and the next question."""
        question, answer, next_question = (chr(code) for code in _GUARDS[:3])
        turns = [
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
            {"role": "user", "content": next_question},
        ]
        try:
            rendered = self._render(turns, answer=False)
        except ApiError:  # it takes no such conversation: its models end by themselves
            return frozenset(), ()
        between = rendered.partition(answer)[2].partition(next_question)[0]
        parts = list(self._split(between))
        first = [control for _, control in parts if control is not None][:1]
        mark = parts[-1][0].strip()
        distinct = bool(re.search(r"[^\w\s]", mark)) and len(mark) <= _LONGEST_MARK
        return frozenset(first), (f"\n{mark}",) if distinct else ()


def _texts_in(value: Any) -> Iterator[str]:
    """Every text in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | Mapping):
        inner = value if isinstance(value, list) else [*value.keys(), *value.values()]
        for part in inner:
            yield from _texts_in(part)


def _unused(texts: Sequence[str]) -> tuple[str, str]:
    """Two characters that are in none of the texts."""
    taken = set().union(*texts)
    free = islice((chr(code) for code in _GUARDS if chr(code) not in taken), 2)
    try:
        left, right = free
    except ValueError:
        raise bad_request("The messages use all private characters.", "messages") from None
    return left, right
