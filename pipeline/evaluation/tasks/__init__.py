"""The tasks, by name. A new one is a class in a file of its own here, and a line below."""

from pipeline.evaluation.tasks.arc import ArcChallenge, ArcEasy
from pipeline.evaluation.tasks.blimp import Blimp
from pipeline.evaluation.tasks.completions import Completions, EmbeddedCompletions
from pipeline.evaluation.tasks.copa import Copa
from pipeline.evaluation.tasks.embedded import (
    EmbeddedDocstrings,
    EmbeddedGrammar,
    EmbeddedLastWord,
    EmbeddedNextToken,
    EmbeddedPythonText,
)
from pipeline.evaluation.tasks.hellaswag import HellaSwag
from pipeline.evaluation.tasks.lambada import LambadaOpenAI, LambadaStandard
from pipeline.evaluation.tasks.openbookqa import OpenBookQA
from pipeline.evaluation.tasks.own_text import OwnNextToken, OwnText
from pipeline.evaluation.tasks.piqa import Piqa
from pipeline.evaluation.tasks.task import Task
from pipeline.evaluation.tasks.wikitext import WikiText
from pipeline.evaluation.tasks.winogrande import WinoGrande

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        WikiText(),
        LambadaOpenAI(),
        LambadaStandard(),
        HellaSwag(),
        ArcEasy(),
        ArcChallenge(),
        Piqa(),
        WinoGrande(),
        OpenBookQA(),
        Copa(),
        Blimp(),
        EmbeddedPythonText(),
        EmbeddedNextToken(),
        EmbeddedLastWord(),
        EmbeddedDocstrings(),
        EmbeddedGrammar(),
        EmbeddedCompletions(),
        Completions(),
        OwnText(),
        OwnNextToken(),
    )
}
