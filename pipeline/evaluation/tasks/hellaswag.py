"""HellaSwag: how a described scene goes on (Zellers et al. 2019)."""

import re

from pipeline.evaluation.tasks.task import ChoiceTask, Fields, HubSet, Item, Row


class HellaSwag(ChoiceTask):
    name = "hellaswag"
    title = "HellaSwag"
    about = "How a described scene goes on"
    files = ("hellaswag*.jsonl",)
    hub = HubSet("Rowan/hellaswag", None, "validation", "218ec52e09a7e7462a5400043bb9a69a41d06b76")
    chance = 0.25

    def item(self, row: Row) -> Item:
        fields = Fields(row)
        if "query" in row:
            return self.asked(*fields.question())
        answers = [_readable(ending) for ending in fields.texts("endings")]
        gold = fields.index("label", len(answers))
        label = fields.text("activity_label")
        if isinstance(row.get("ctx_a"), str):
            second = str(row.get("ctx_b") or "")  # empty in scenes of WikiHow
            context = f"{row['ctx_a']} {second.capitalize()}"
        else:  # derived files hold the context as it is asked
            context = fields.text("ctx")
        return self.asked(_readable(f"{label}: {context}"), answers, gold)


def _readable(text: str) -> str:
    """Without the marks of WikiHow pages."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")
