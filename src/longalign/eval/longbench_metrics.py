"""LongBench's own metrics (Bai et al. 2023, arXiv 2308.14508), as its published scorer computes them.

Each takes an answer and one accepted answer and gives a share from 0 to 1; of several accepted ones the best counts.
Words of Chinese come from jieba, ROUGE-L from `rouge`, edit similarity from `rapidfuzz` (extra `longbench`).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from longalign.errors import ConfigError

CHINESE_PUNCTUATION = (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃》「」『』【】"
    "〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."
)
FIRST_LINE = ("trec", "triviaqa", "samsum", "lsht")
"""Sets of which only the first line of an answer counts."""
NO_TEMPLATE = (*FIRST_LINE, "lcc", "repobench-p")
"""Sets whose prompts LongBench gives to a model without a chat template."""
Metric = Callable[[str, str, Sequence[str]], float]


def word_f1(answer: str, right: str, classes: Sequence[str] = ()) -> float:
    """F1 of words without case, punctuation and articles."""
    return _f1(_english(answer).split(), _english(right).split())


def word_f1_zh(answer: str, right: str, classes: Sequence[str] = ()) -> float:
    """F1 of Chinese words without punctuation."""
    return _f1(*([word for part in _jieba(text) if (word := _chinese(part))] for text in (answer, right)))


def rouge_l(answer: str, right: str, classes: Sequence[str] = ()) -> float:
    """F of ROUGE-L; 0 where one of the texts has no sentence."""
    rouge = _library("rouge").Rouge()
    try:
        return float(rouge.get_scores([answer], [right], avg=True)["rouge-l"]["f"])
    except (ValueError, RecursionError):  # an empty text; one too long for its recursion
        return 0.0


def rouge_l_zh(answer: str, right: str, classes: Sequence[str] = ()) -> float:
    """ROUGE-L of Chinese words."""
    return rouge_l(" ".join(_jieba(answer)), " ".join(_jieba(right)))


def classification(answer: str, right: str, classes: Sequence[str] = ()) -> float:
    """One divided by the number of classes that the answer names, if the right one is among them."""
    named = [name for name in classes if name in answer]
    for name in named:  # as published: removing while going through it passes over the next one
        if name in right and name != right:
            named.remove(name)
    return 1 / len(named) if right in named else 0.0


def paragraph(answer: str, right: str, classes: Sequence[str] = ()) -> float:
    """Share of the numbers in the answer that are the right paragraph's."""
    number = re.search(r"(?:Paragraph |段落)(\d+)", right)
    return count(answer, number[1] if number else "")


def count(answer: str, right: str, classes: Sequence[str] = ()) -> float:
    """Share of the numbers in the answer that are the right one."""
    numbers = re.findall(r"\d+", answer)
    return sum(number == right for number in numbers) / len(numbers) if numbers else 0.0


def edit_similarity(answer: str, right: str, classes: Sequence[str] = ()) -> float:
    """Similarity of the first line of code with the right one, in whole percents."""
    lines = answer.lstrip("\n").split("\n")
    code = next((line for line in lines if not any(mark in line for mark in ("`", "#", "//"))), "")
    return round(float(_library("rapidfuzz.fuzz").ratio(code, right))) / 100


METRICS: dict[str, Metric] = {
    "narrativeqa": word_f1,
    "qasper": word_f1,
    "multifieldqa_en": word_f1,
    "multifieldqa_zh": word_f1_zh,
    "hotpotqa": word_f1,
    "2wikimqa": word_f1,
    "musique": word_f1,
    "dureader": rouge_l_zh,
    "gov_report": rouge_l,
    "qmsum": rouge_l,
    "multi_news": rouge_l,
    "vcsum": rouge_l_zh,
    "trec": classification,
    "triviaqa": word_f1,
    "samsum": rouge_l,
    "lsht": classification,
    "passage_retrieval_en": paragraph,
    "passage_count": count,
    "passage_retrieval_zh": paragraph,
    "lcc": edit_similarity,
    "repobench-p": edit_similarity,
}
"""By data set; `qasper_e` of LongBench-E belongs to `qasper`."""


def metric_of(dataset: str) -> str | None:
    """The data set whose metric scores this one; None where there is none."""
    name = dataset.removesuffix("_e")
    return name if name in METRICS else None


def longbench_score(dataset: str, answer: str, accepted: Sequence[str], classes: Sequence[str]) -> float:
    """The best score over the accepted answers, 0 to 1."""
    if dataset in FIRST_LINE:
        answer = answer.lstrip("\n").split("\n")[0]
    return max((METRICS[dataset](answer, str(right), classes) for right in accepted), default=0.0)


def check_libraries(datasets: Sequence[str]) -> None:
    """Raise `ConfigError` where a metric's library is not installed."""
    for dataset in datasets:
        metric = METRICS[dataset]
        if metric in (rouge_l, rouge_l_zh):
            _library("rouge")
        if metric in (word_f1_zh, rouge_l_zh):
            _library("jieba")
        if metric is edit_similarity:
            _library("rapidfuzz.fuzz")


def _f1(said: Sequence[str], right: Sequence[str]) -> float:
    same = sum((Counter(said) & Counter(right)).values())
    if not same:
        return 0.0
    precision, recall = same / len(said), same / len(right)
    return 2 * precision * recall / (precision + recall)


def _english(text: str) -> str:
    plain = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", plain).split())


def _chinese(text: str) -> str:
    plain = "".join(letter for letter in text.lower() if letter not in string.punctuation + CHINESE_PUNCTUATION)
    return "".join(plain.split())


def _jieba(text: str) -> list[str]:
    return list(_library("jieba").cut(text, cut_all=False))


def _library(name: str) -> Any:
    import importlib
    import logging
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a library's own source
            module = importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"LongBench's metrics need {name.split('.')[0]}: pip install 'longalign[longbench]'"
        ) from None
    if name == "jieba":
        module.setLogLevel(logging.WARNING)  # it says otherwise that it loads its dictionary
    return module
