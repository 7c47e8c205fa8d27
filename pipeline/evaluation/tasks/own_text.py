"""Documents of the user's own, which `--text` names: how well they are foretold."""

from pipeline.evaluation.tasks.task import DocumentTask, Fields, Item, NextTokenTask, Row


class OwnText(DocumentTask):
    name = "text"
    title = "Own text"
    about = "How well documents of your own are foretold"
    of_own_text = True

    def item(self, row: Row) -> Item:
        return _document(row)


class OwnNextToken(NextTokenTask):
    name = "next_token"
    title = "Own next token"
    about = "How often the next token of your own documents is among the likeliest"
    of_own_text = True

    def item(self, row: Row) -> Item:
        return _document(row)


def _document(row: Row) -> Item:
    fields = Fields(row)
    text = fields.text("text")
    group = str(row.get("group") or "")
    return Item((("", text),), group=group, text=text, name=fields.text("name"))
