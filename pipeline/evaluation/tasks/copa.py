"""COPA: which of two sentences is the cause or the effect (Roemmele et al. 2011)."""

from pipeline.evaluation.tasks.task import ChoiceTask, Fields, HubSet, Item, Row, RowError

_CONNECTORS = {"cause": "because", "effect": "therefore"}


class Copa(ChoiceTask):
    name = "copa"
    title = "COPA"
    about = "Which of two sentences is the cause or the effect of a third"
    files = ("copa*.jsonl",)
    hub = HubSet("aps/super_glue", "copa", "validation", "3de24cf8022e94f4ee4b9d55a6f539891524d646")
    chance = 0.5

    def item(self, row: Row) -> Item:
        fields = Fields(row)
        if "premise" in row:
            question = fields.text("question")
            if question not in _CONNECTORS:
                raise RowError("question is neither cause nor effect")
            stem = fields.text("premise").strip()[:-1]  # without its full stop
            answers = [fields.text(name) for name in ("choice1", "choice2")]
            answers = [answer[0].lower() + answer[1:] for answer in answers]
            gold = fields.index("label", 2)
            return self.asked(f"{stem} {_CONNECTORS[question]}", answers, gold)
        return self.asked(*fields.question())
