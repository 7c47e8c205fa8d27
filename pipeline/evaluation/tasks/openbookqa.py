"""OpenBookQA: elementary facts of science put to use (Mihaylov et al. 2018)."""

from pipeline.evaluation.tasks.arc import labelled
from pipeline.evaluation.tasks.task import ChoiceTask, Fields, HubSet, Item, Row


class OpenBookQA(ChoiceTask):
    name = "openbook_qa"
    title = "OpenBookQA"
    about = "Elementary facts of science put to use"
    files = ("openbook_qa*.jsonl", "openbookqa*.jsonl")
    hub = HubSet("allenai/openbookqa", "main", "test", "388097ea7776314e93a529163e0fea805b8a6454")
    chance = 0.25

    def item(self, row: Row) -> Item:
        fields = Fields(row)
        if "query" in row:
            return self.asked(*fields.question())
        answers, gold = labelled(row)
        return self.asked(fields.text("question_stem"), answers, gold)
