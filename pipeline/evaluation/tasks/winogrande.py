"""WinoGrande: whom or what a sentence means (Sakaguchi et al. 2019), scored by what follows the
filled blank (Trinh & Le 2018)."""

from pipeline.evaluation import metrics
from pipeline.evaluation.tasks.task import (
    ChoiceTask,
    Fields,
    HubSet,
    Item,
    Row,
    RowError,
    check_gold,
)


class WinoGrande(ChoiceTask):
    name = "winogrande"
    title = "WinoGrande"
    about = "Whom or what a sentence means, scored by the words after it"
    join = "the sentence up to the filled blank, a blank, the rest of the sentence"
    files = ("winogrande*.jsonl",)
    hub = HubSet(
        "allenai/winogrande",
        "winogrande_xl",
        "validation",
        "01e74176c63542e6b0bcb004dcdea22d94fb67b5",
    )
    chance = 0.5
    metrics = (metrics.ACC,)

    def item(self, row: Row) -> Item:
        fields = Fields(row)
        if "sentence" in row:
            before, blank, after = fields.text("sentence").partition("_")
            if not blank:
                raise RowError("the sentence has no blank")
            contexts = [before + fields.text(name) for name in ("option1", "option2")]
            continuation, gold = after.strip(), fields.index("answer", 3) - 1
        else:
            contexts = fields.texts("context_options")
            continuation = fields.text("continuation")
            gold = fields.index("gold", len(contexts))
        check_gold(gold, len(contexts))
        if not continuation:
            raise RowError("nothing follows the blank")
        requests = tuple((context, f" {continuation}") for context in contexts)
        return Item(requests, gold, (continuation,) * len(contexts))
