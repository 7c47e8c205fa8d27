"""Completions of prompts, compared with how the texts went on, by the reference programs
`sacrebleu` and `rouge-score`.

BLEU is a number of a whole set and no mean over texts (K. Papineni et al., BLEU: a method for
automatic evaluation of machine translation, ACL 2002; M. Post, A call for clarity in reporting BLEU
scores, WMT 2018): a penalty for brevity times the geometric mean of the precisions of n-grams, each
a ratio of sums over texts. ROUGE (C.-Y. Lin, ROUGE: a package for automatic evaluation of
summaries, 2004) is a mean of F measures of texts. Its program finds words of a to z and 0 to 9: of
another script nothing is left, and no text would be like any. Where a reference has letters that
are not Latin, the words are those of `words`.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pipeline.evaluation.metrics import CorpusMetric, Metric, Ratio
from pipeline.evaluation.tasks.task import Fields, Item, Ratios, Row, Task

if TYPE_CHECKING:  # see `task`
    from model.generation.batch_scoring import Likelihood

_ROUGE = {
    "rougeL": Metric("rouge_l", "ROUGE-L, F measure"),
    "rouge1": Metric("rouge_1", "ROUGE-1, F measure"),
    "rouge2": Metric("rouge_2", "ROUGE-2, F measure"),
}
_ORDERS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4")  # of n-grams
_LENGTHS = "bleu_lengths"
_UNSPACED = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "THAI", "LAO",
             "KHMER", "MYANMAR")  # fmt: skip
_SIGNS = "\N{MICRO SIGN}"  # a letter to Unicode, and Greek, but part of Latin text


class CompletionTask(Task):
    """A prompt that a model goes on with by the likeliest token each time, compared with how the
    text went on; by as many tokens at most, so that models with other tokenizers write as much."""

    kind = "completions"
    metrics = tuple(_ROUGE.values())
    join = "prompt, a blank, the reference; greedy, at most as many tokens as the reference has"

    @property
    def corpus_metrics(self) -> tuple[CorpusMetric, ...]:
        return (CorpusMetric("bleu", "BLEU of the whole set", (*_ORDERS, _LENGTHS), bleu, 100.0),)

    @property
    def recipe(self) -> dict[str, str]:
        from sacrebleu.metrics.bleu import BLEU

        scorer = BLEU()
        scorer.corpus_score(["a"], [["a"]])  # a signature says how many references there were
        return {
            "bleu": str(scorer.get_signature()),
            "rouge": f"rouge-score {version('rouge-score')}, F measure, without stemming; of "
            "references that are not in Latin letters words of any script, or single letters where "
            "there are no blanks between words",
        }

    def item(self, row: Row) -> Item:
        fields = Fields(row)
        reference = fields.text("reference")
        return Item(((fields.text("prompt"), f" {reference}"),), answers=(reference,))

    def ratios(self, item: Item, found: "Sequence[Likelihood]") -> Ratios:
        raise TypeError("a completion has no likelihood to be scored by")

    def compared(self, item: Item, completion: str) -> Ratios:
        """What a completion adds to every metric: F measures, and for BLEU how many of its n-grams
        stand in the reference, of all of its, and its words, by those of the reference."""
        [reference] = item.answers
        measured = _rouge(latin=is_latin(reference)).score(reference, completion)
        ratios = {m.name: Ratio(float(measured[name].fmeasure)) for name, m in _ROUGE.items()}
        counted = _counter().sentence_score(completion.strip(), [reference.strip()])
        for part, right, total in zip(_ORDERS, counted.counts, counted.totals, strict=True):
            ratios[part] = Ratio(right, total)
        return ratios | {_LENGTHS: Ratio(counted.sys_len, counted.ref_len)}


class Completions(CompletionTask):
    name = "completions"
    title = "Completions"
    about = "How much of what follows a prompt a greedy completion says"
    files = ("completions*.jsonl",)


class EmbeddedCompletions(CompletionTask):
    name = "embedded_completions"
    title = "Python completions"
    about = "The next sentences of a passage of Python's library, compared with a completion"
    embedded = "embedded_completions"


def bleu(sums: Mapping[str, Ratio]) -> float:
    """BLEU, 0 to 100, of sums over texts; smoothed as `sacrebleu` does unless told otherwise."""
    from sacrebleu.metrics.bleu import BLEU

    found = BLEU.compute_bleu(
        correct=[round(sums[order].numerator) for order in _ORDERS],
        total=[round(sums[order].denominator) for order in _ORDERS],
        sys_len=round(sums[_LENGTHS].numerator),
        ref_len=round(sums[_LENGTHS].denominator),
        smooth_method="exp",
    )
    return float(found.score)


@cache
def _counter() -> Any:
    """Counts the n-grams of a text; what it says of BLEU, which is not asked, is that of a sentence
    alone, as it would otherwise warn of."""
    from sacrebleu.metrics.bleu import BLEU  # 0.1 s to load; only completions pay

    return BLEU(effective_order=True)


@cache
def _rouge(*, latin: bool) -> Any:
    from rouge_score.rouge_scorer import RougeScorer  # 0.3 s to load
    from rouge_score.tokenizers import Tokenizer

    class AnyScript(Tokenizer):  # type: ignore[misc]  # which has no types
        def tokenize(self, text: str) -> list[str]:
            return words(text)

    return RougeScorer([*_ROUGE], use_stemmer=False, tokenizer=None if latin else AnyScript())


def is_latin(text: str) -> bool:
    """Whether no letter of a text is of another script."""
    return text.isascii() or all(
        unicodedata.category(character)[0] != "L"
        or "LATIN" in unicodedata.name(unicodedata.normalize("NFKD", character)[0], "LATIN")
        or character in _SIGNS
        for character in text
    )


def words(text: str) -> list[str]:
    """The words of a text, in lower case: runs of letters, marks and digits; of scripts that put no
    blanks between words, every letter with its marks."""
    found: list[str] = []
    in_word = run_goes_on = False
    for character in unicodedata.normalize("NFC", text.lower()):
        kind = unicodedata.category(character)[0]
        alone = kind == "L" and unicodedata.name(character, "").startswith(_UNSPACED)
        if kind == "M" and in_word:
            found[-1] += character
            continue
        in_word = kind in "LN"
        if in_word and run_goes_on and not alone:
            found[-1] += character
        elif in_word:
            found.append(character)
        run_goes_on = in_word and not alone
    return found
