"""Conversations to token ids by the tokenizer's own Jinja template, to be answered or learned from.

Training, the terminal and the server all encode here, so that a model is asked as it was taught.

Control tokens come from the template and never from what somebody wrote: before rendering, each
content gets a pair of guard characters at both ends, and in place of every control token that it
spells out its number between them, so that only the template's own are found in the result.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, takewhile
from types import MappingProxyType
from typing import Any, Protocol

from pipeline.chat.renderer import TemplateError, TemplateRenderer
from pipeline.tokenizer.tokenizer import Tokenizer
from utils.errors import UsageError

NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType({})
_UNSET = {"tools": None, "documents": None}  # as transformers gives them
_GUARDS = range(0xF0000, 0x10FFFE)  # private use: a template has no business with them
_LONGEST_MARK = 40  # characters of a text that begins a turn


class Message(Protocol):
    """One turn: who speaks ("system", "user" or "assistant"), and what is said."""

    @property
    def role(self) -> str: ...
    @property
    def content(self) -> str: ...


class ChatTemplateError(UsageError):
    """A conversation that a template does not take. For programs: `param` is the field of a request
    at fault, as the OpenAI protocol names it, and `code` the kind of fault."""

    def __init__(
        self,
        problem: str,
        param: str,
        *,
        code: str = "invalid_value",
        found: str = "",
        remedy: str = "",
    ) -> None:
        super().__init__(problem, found=found, remedy=remedy)
        self.param, self.code = param, code


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
                f"The chat template of the tokenizer {tokenizer.name} cannot be read: {error}.",
                remedy="mend chat_template in tokenizer_config.json",
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
            ChatTemplateError: the template does not take these messages; an argument has the name
                of what every template is given, or spells a control token.
        """
        self._check(arguments)
        turns, guards = self._guarded_turns(messages)
        return self._ids(self._render(turns, arguments, answer=answer), guards)[0]

    def encode_example(self, messages: Sequence[Message]) -> tuple[list[int], list[bool]]:
        """Ids of a whole conversation, those of `encode` with no answer to come, and for each
        whether it is learned.

        Learned of each answer is what follows the ids that a model is given when it is asked for
        it, so that a token which spans the border is learned too; up to and with the control token
        that ends the turn, or up to the turn's end where the template has none. Ids are chosen by
        where they stand and never by what they are: the end of a turn may share its id with the
        padding.

        Raises:
            ChatTemplateError: the template does not take these messages, or writes some of them
                otherwise once the conversation goes on.
        """
        turns, guards = self._guarded_turns(messages)
        rendered = self._render(turns, answer=False)
        known: dict[tuple[str, bool], list[int]] = {}
        ids, ends = self._ids(rendered, guards, known)
        learned = [False] * len(ids)
        for number, message in enumerate(messages):
            if message.role != "assistant":
                continue
            asked = self._render(turns[:number], answer=True)
            answered = self._render(turns[: number + 1], answer=False)
            _check_beginning(rendered, asked, guards)
            _check_beginning(rendered, answered, guards)
            start = _shared(ids, self._ids(asked, guards, known)[0])
            stop = _shared(ids, self._ids(answered, guards, known)[0])
            stop = min((end for end in ends if start < end <= stop), default=stop)
            learned[start:stop] = [True] * (stop - start)
        return ids, learned

    def _guarded_turns(
        self, messages: Sequence[Message]
    ) -> tuple[list[dict[str, str]], tuple[str, str]]:
        """What the template is given, and the two characters that guard it."""
        guards = _unused([self._source, *(message.content for message in messages)])
        turns = [
            {"role": message.role, "content": self._guarded(message.content, *guards)}
            for message in messages
        ]
        return turns, guards

    def _ids(
        self,
        rendered: str,
        guards: tuple[str, str],
        known: dict[tuple[str, bool], list[int]] | None = None,
    ) -> tuple[list[int], list[int]]:
        """Ids of a rendered text, and the places behind each control token that follows something
        said. `known` keeps the ids of parts that are met again."""
        known = {} if known is None else known
        ids: list[int] = []
        ends: list[int] = []
        first = True
        for text, control in self._split(rendered):
            if text:
                if (text, first) not in known:
                    by = self._tokenizer.encode if first else self._tokenizer.encode_inside
                    known[text, first] = by(self._unguarded(text, *guards))
                ids += known[text, first]
            first = False
            if control is not None:
                ids.append(control)
                ends += [len(ids)] if guards[0] in text else []
        return ids, ends

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
            raise ChatTemplateError(f"chat_template_kwargs cannot set {min(taken)}.",
                                    "chat_template_kwargs")  # fmt: skip
        if self._control.search(" ".join(_texts_in(arguments))):
            raise ChatTemplateError("chat_template_kwargs holds a control token of the model.",
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
            raise ChatTemplateError(
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
        except ChatTemplateError:  # it takes no such conversation: its models end by themselves
            return frozenset(), ()
        between = rendered.partition(answer)[2].partition(next_question)[0]
        parts = list(self._split(between))
        first = [control for _, control in parts if control is not None][:1]
        mark = parts[-1][0].strip()
        distinct = bool(re.search(r"[^\w\s]", mark)) and len(mark) <= _LONGEST_MARK
        return frozenset(first), (f"\n{mark}",) if distinct else ()


def _check_beginning(rendered: str, beginning: str, guards: tuple[str, str]) -> None:
    """Refuse a conversation of which something said is written otherwise where it has just been
    said: what is learned would not be what a model writes."""
    shared = _shared(rendered, beginning)
    if rendered[:shared].count(guards[0]) < beginning.count(guards[0]):
        found = re.sub("|".join(guards), "", beginning[max(0, shared - 20) : shared + 40])
        raise ChatTemplateError(
            "The chat template writes a turn otherwise once the conversation goes on.",
            "messages",
            code="chat_template",
            found=f"near {found!r}",
            remedy="leave one answer in each conversation, or mend the template",
        )


def _shared(whole: Sequence[Any], part: Sequence[Any]) -> int:
    """How many items both begin with."""
    pairs = zip(whole, part, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


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
        problem = "The messages use all private characters."
        raise ChatTemplateError(problem, "messages") from None
    return left, right
