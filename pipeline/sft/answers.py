"""What a model answers to held-out questions between its steps."""

from collections.abc import Iterator

from model.gpt import GPT
from pipeline.chat.encoder import ChatEncoder
from pipeline.conversations.conversation import Conversation
from pipeline.conversations.example_set import ExampleSet
from pipeline.events import Sample
from pipeline.sft.packing import shuffle
from pipeline.tokenizer.tokenizer import Tokenizer
from pipeline.train.task import write_sample

_LONGEST = 80  # tokens of an answer
_SHORT = 128  # tokens of a conversation that a person reads at a glance


class HeldOutQuestions:
    """The beginnings of some held-out conversations, up to the first answer: the same at every
    step, `count` of them at most, of those that leave room for an answer in the context."""

    def __init__(self, data: ExampleSet, tokenizer: Tokenizer, *, count: int, context: int) -> None:
        self._tokenizer, self._context = tokenizer, context
        encoder = ChatEncoder(tokenizer)
        own = {tokenizer.eos_id} if tokenizer.eos_id is not None else set()
        self._ends = encoder.stop_ids | own
        self._asked: list[list[int]] = []
        for number in _short_ones_first(data):
            if len(self._asked) == count:
                break
            said = data.texts(number)
            turns = said.turns if isinstance(said, Conversation) else (*said.prompt,)
            answers = [at for at, turn in enumerate(turns) if turn.role == "assistant"]
            before = turns[: answers[0]] if isinstance(said, Conversation) else turns
            ids = encoder.encode(before)
            if len(ids) < context:
                self._asked.append(ids)

    def __call__(self, model: GPT, step: int) -> Iterator[Sample]:
        """What `model` answers at `step`."""
        for number, ids in enumerate(self._asked):
            length = min(_LONGEST, self._context - len(ids))
            prompt = self._tokenizer.decode(ids)
            sample = write_sample(
                model, self._tokenizer, ids, step, prompt=prompt, ends=self._ends, length=length
            )
            yield Sample(
                sample.text, prompt=prompt, step=step, index=number, token_ids=sample.token_ids
            )


def _short_ones_first(data: ExampleSet) -> list[int]:
    """The held-out conversations in random order, but for the long ones, which come last."""
    order = [int(data.val[number]) for number in shuffle(len(data.val), 0)]
    lengths = data.lengths
    return sorted(order, key=lambda item: max(_SHORT, int(lengths[item])))
