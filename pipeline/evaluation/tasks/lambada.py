"""LAMBADA: the last word of a passage that needs all of it (Paperno et al. 2016).

Two sets that are not to be mixed: `lambada_openai` keeps the letters' case and the marks of the
books, `lambada_standard` is in lower case and split into tokens.
"""

from typing import ClassVar

from pipeline.evaluation.tasks.task import Fields, HubSet, Item, LastWordTask, Row, RowError


class LambadaOpenAI(LastWordTask):
    name = "lambada_openai"
    title = "LAMBADA"
    about = "The last word of a passage that needs all of it, as OpenAI prepared it"
    files: ClassVar[tuple[str, ...]] = ("lambada_openai*.jsonl", "lambada_test*.jsonl")
    hub = HubSet(
        "EleutherAI/lambada_openai", "default", "test", "900124bf3b8235c6daf21033af9948b3f07346c4"
    )

    def item(self, row: Row) -> Item:
        fields = Fields(row)
        if "continuation" in row:
            context, word = fields.text("context"), fields.text("continuation")
        else:
            context, blank, word = fields.text("text").rpartition(" ")
            if not blank or not word.strip():
                raise RowError("the text has no last word")
        return Item(((context, f" {word}"),), answers=(word,))


class LambadaStandard(LambadaOpenAI):
    name = "lambada_standard"
    title = "LAMBADA standard"
    about = "The last word of a passage, in lower case and split into tokens as first published"
    files = ("lambada_standard*.jsonl",)
    hub = HubSet("cimec/lambada", "plain_text", "test")
