"""ARC: questions of school science with three to five answers (Clark et al. 2018)."""

from pipeline.evaluation.tasks.task import ChoiceTask, Fields, HubSet, Item, Row, RowError


class ArcEasy(ChoiceTask):
    name = "arc_easy"
    title = "ARC easy"
    about = "Questions of school science that word statistics can answer"
    files = ("arc_easy*.jsonl", "ARC-Easy*.jsonl")
    hub = HubSet("allenai/ai2_arc", "ARC-Easy", "test", "210d026faf9955653af8916fad021475a3f00453")
    chance = 0.25

    def item(self, row: Row) -> Item:
        fields = Fields(row)
        if "query" in row:
            query, answers, gold = fields.question()
            return self.asked(f"{query}\nAnswer:", answers, gold)
        answers, gold = labelled(row)
        return self.asked(f"Question: {fields.text('question')}\nAnswer:", answers, gold)


class ArcChallenge(ArcEasy):
    name = "arc_challenge"
    title = "ARC challenge"
    about = "Questions of school science that word statistics get wrong"
    files = ("arc_challenge*.jsonl", "ARC-Challenge*.jsonl")
    hub = HubSet(
        "allenai/ai2_arc", "ARC-Challenge", "test", "210d026faf9955653af8916fad021475a3f00453"
    )


def labelled(row: Row) -> tuple[list[str], int]:
    """Answers and the right one of a row as ARC and OpenBookQA publish it: `choices` with `text`
    and `label`, and `answerKey`.

    Raises:
        RowError: it is none.
    """
    choices = row.get("choices")
    if not isinstance(choices, dict):
        raise RowError("choices is neither a list of texts nor text and label")
    answers, labels = Fields(choices).texts("text"), Fields(choices).texts("label")
    key = Fields(row).text("answerKey").strip()
    if key not in labels or len(labels) != len(answers):
        raise RowError(f"the right answer is {key}, of {', '.join(labels)}")
    return answers, labels.index(key)
