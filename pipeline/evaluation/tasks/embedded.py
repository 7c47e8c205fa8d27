"""The sets of our own, which need no download: see `pipeline.evaluation.embedded`."""

from pipeline.evaluation.tasks.task import (
    ChoiceTask,
    DocumentTask,
    Fields,
    Item,
    LastWordTask,
    NextTokenTask,
    PairTask,
    Row,
)


class EmbeddedPythonText(DocumentTask):
    name = "embedded_python_text"
    title = "Python texts"
    about = "How well documents of Python's library, held out by quickstart, are foretold"
    embedded = "embedded_python_text"

    def item(self, row: Row) -> Item:
        return self.document(Fields(row).text("text"))


class EmbeddedNextToken(NextTokenTask):
    name = "embedded_next_token"
    title = "Python next token"
    about = "How often the next token of such documents is among the likeliest"
    embedded = "embedded_python_text"

    def item(self, row: Row) -> Item:
        return self.document(Fields(row).text("text"))


class EmbeddedLastWord(LastWordTask):
    name = "embedded_last_word"
    title = "Python last word"
    about = "The last word of a passage of Python's library"
    embedded = "embedded_last_word"

    def item(self, row: Row) -> Item:
        fields = Fields(row)
        word = fields.text("continuation")
        return Item(((fields.text("context"), f" {word}"),), answers=(word,))


class EmbeddedDocstrings(ChoiceTask):
    name = "embedded_docstrings"
    title = "Python docstrings"
    about = "Which of four descriptions belongs to a function of Python's library"
    embedded = "embedded_docstrings"
    chance = 0.25

    def item(self, row: Row) -> Item:
        return self.asked(*Fields(row).question())


class EmbeddedGrammar(PairTask):
    name = "embedded_grammar"
    title = "Grammar pairs"
    about = "Which of two sentences is grammatical, by phenomenon: hand-written pairs of ours"
    embedded = "embedded_grammar"

    def item(self, row: Row) -> Item:
        fields = Fields(row)
        pair = (fields.text("good"), fields.text("bad"))
        requests = tuple(("", sentence) for sentence in pair)
        return Item(requests, 0, pair, fields.text("phenomenon"))
