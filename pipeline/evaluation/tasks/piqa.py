"""PIQA: which of two ways reaches an everyday goal (Bisk et al. 2020)."""

from pipeline.evaluation.tasks.task import ChoiceTask, Fields, HubSet, Item, Row


class Piqa(ChoiceTask):
    name = "piqa"
    title = "PIQA"
    about = "Which of two ways reaches an everyday goal"
    files = ("piqa*.jsonl",)
    hub = HubSet("baber/piqa", None, "validation", "142f6d7367fd9877f0fb3b5734ea6a545f54cdd1")
    chance = 0.5

    def item(self, row: Row) -> Item:
        fields = Fields(row)
        if "goal" in row:
            answers = [fields.text("sol1"), fields.text("sol2")]
            query, gold = fields.text("goal"), fields.index("label", 2)
            return self.asked(f"Question: {query}\nAnswer:", answers, gold)
        query, answers, gold = fields.question()
        return self.asked(f"Question: {query}\nAnswer:", answers, gold)
