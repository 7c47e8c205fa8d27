"""BLiMP: which of two sentences is grammatical (Warstadt et al. 2020)."""

from pipeline.evaluation.tasks.task import Fields, HubSet, Item, PairTask, Row


class Blimp(PairTask):
    name = "blimp"
    title = "BLiMP"
    about = "Which of two sentences is grammatical, by phenomenon"
    files = ("blimp*.jsonl",)
    hub = HubSet("nyu-mll/blimp", "*", "train", "877fba0801ffb7cbd8c39c1ff314a46f053f6036")

    def item(self, row: Row) -> Item:
        fields = Fields(row)
        names = ("sentence_good", "sentence_bad") if "sentence_good" in row else ("good", "bad")
        pair = tuple(fields.text(name) for name in names)
        group = row.get("phenomenon") or row.get("linguistics_term") or ""
        return Item(tuple(("", sentence) for sentence in pair), 0, pair, str(group))
