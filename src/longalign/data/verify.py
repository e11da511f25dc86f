"""Checks of questions and answers: language, refusals, copies, and evidence in the document.

The checks are lexical. They find what is plainly wrong (a refusal, an answer that is truncated or in another language,
words that the document does not have) and where in the document the evidence for an answer is. They do not judge
whether a well-supported answer is right.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from longalign.core.text import HAN, LETTER, Sentence, bags_of_words, sentences, token_f1, words
from longalign.data.language import UNKNOWN, plainly_another

COPY_F1 = 0.9
ALIKE_F1 = 0.6
SPANS_PER_SENTENCE = 3
SPANS_PER_ANSWER = 12
MIN_GAIN = 0.15  # a sentence that covers less of an answer's sentence than this is no evidence
TIE_SHARE = 0.25
REFUSAL = re.compile(
    r"\A\W*(?:(?:i['’]?m|i am) (?:sorry|unable|afraid)|sorry,|my apologies|i apologi[sz]e|"
    r"i can(?:no|['’])?t\b|as an ai\b|"
    r"unfortunately, (?:i|the (?:document|text|article))\b|"
    r"(?:很)?抱歉|对不起|作为(?:一个)?(?:ai|人工智能|语言模型)|我(?:无法|不能)(?:回答|提供))",
    re.IGNORECASE,
)
UNANSWERABLE = re.compile(
    r"the (?:document|text|article|passage) (?:does not|doesn['’]t) (?:mention|say|state|specify|provide)|"
    r"not (?:mentioned|stated|specified) in the (?:document|text)|"
    r"(?:文档|文章|文中|原文)(?:中)?(?:没有|未)(?:提及|提到|说明|提供)",
    re.IGNORECASE,
)
UNANSWERABLE_WORDS = 60
POINTING = re.compile(
    r"\b(?:this|the above|the following|the previous|the next) (?:section|passage|paragraph|example|excerpt|snippet)\b"
    r"|\b(?:output|result|meaning|purpose) of (?:this|the above|the following) (?:code|function|program|command)\b"
    r"|(?:本节|本段|这一段|上述例子|上文中的例子|这段话)",
    re.IGNORECASE,
)
CHOICE = re.compile(
    r"\b(?:or|oder|ou|o|или)\b|还是|或者|それとも|아니면|أم"
    r"|(?:\b(?:which|who|what|welche\w*|wer|quel\w*|qui|cuál\w*|quién)\b|哪|谁).*[,:，：、]",
    re.IGNORECASE,
)
"""The question names what there is to choose from, so its answer has no word of its own."""
FUNCTION_TEXT = """
a an the of to in on at by for from with as and or not no yes is are was were be been being do does did done so
it its this that these those there then than which who whom whose what when where why how he she they them their
his her we our you your i me my has have had will would can could may might must shall should also such only
just very true false correct indeed document text according oui non le la les un une des du de est sont et que
qui ce cette il elle en à au aux pour dans par sí si el los las una es son y del por para se ja nein der die das
ein eine ist sind und den dem im zu von mit auf да нет это и в на не что он она 是的 不是 はい いいえ 네 아니요 نعم لا
"""
FUNCTION_WORDS = frozenset(FUNCTION_TEXT.split())
"""Words that say nothing by themselves, of the languages that have prompts."""
ROLE = re.compile(r"\n\s*\n[^\w\n]*(?:user|human|assistant)\s*[:：]\s*\S", re.IGNORECASE)
"""A further turn of a conversation; `User: www-data` among other lines is none."""
CIRCLE_WORDS, CIRCLE_ADDS = 4, 3
"""An answer goes in a circle (`The value of x in a list is a value of x in a list`) where so many words of the question
in a row come twice in one of its sentences, and all of it adds no more words than that."""
REPEATS, REPEATED_WORDS = 5, 4
"""A sentence of so many words that comes so often. Cells of a table are shorter."""
HYPHEN = re.compile(r"(?<=[^\W\d_])[-\u2010\u00ad]\s*(?=[^\W\d_])")
"""A hyphen inside a word or at the end of a line; no reader can tell which one it was."""
CODE_NAME = re.compile(r"\b\w*[^\W\d_]{2,}_+[^\W\d_]{2,}\w*|\b[^\W\d_]\w*(?=\(\))")
"""`read_all`, `listen()`: nobody writes one of these who has not read it somewhere."""
NUMBER = re.compile(r"\d(?<![\w.]\d)[\d,]*(?:\.\d+)?(?![\w])")


@dataclass(frozen=True)
class Evidence:
    """A stretch of the document that supports an answer. `position`: its middle, 0 start to 1 end of the document."""

    text: str
    start: int
    end: int
    position: float


class Passages:
    """A document's sentences with their words, read once per document."""

    def __init__(self, document: str) -> None:
        self.length = max(len(document), 1)
        self.sentences: list[Sentence] = sentences(document)
        self.bags = bags_of_words([even(sentence.text) for sentence in self.sentences])
        self._places: dict[str, NDArray[np.intp]] = {}
        self._weights: dict[str, float] = {}

    def places(self, word: str) -> NDArray[np.intp]:
        """Sentences that have a word. Few words are ever asked for, so they are looked up and not all indexed."""
        if word not in self._places:
            self._places[word] = np.flatnonzero([word in bag for bag in self.bags])
        return self._places[word]

    def weight(self, word: str) -> float:
        """How telling a word is: rare ones weigh more; a word that the document lacks weighs most."""
        if word not in self._weights:
            self._weights[word] = math.log((len(self.bags) + 1) / (len(self.places(word)) + 0.5)) + 0.1
        return self._weights[word]

    def support(self, answer: str, known: frozenset[str] = frozenset()) -> tuple[float, list[Evidence]]:
        """(share of the answer's word weight that its evidence covers, the evidence in document order).

        Per sentence of the answer, up to three sentences of the document are taken greedily. Words of `known` (the
        question) need no support. An answer without words that need support counts as supported.
        """
        covered = total = 0.0
        chosen: Counter[int] = Counter()
        for sentence in sentences(answer):
            said = set(words(even(sentence.text)))
            open_words = said - known
            wanted = sum((self.weight(word) for word in sorted(open_words)), 0.0)
            total += wanted
            for _ in range(SPANS_PER_SENTENCE):
                best, gain = self._best(open_words, said & known)
                if gain < MIN_GAIN * wanted:
                    break
                chosen[best] += 1
                covered += gain
                open_words -= self.bags[best]
                if not open_words:
                    break
        kept = sorted(index for index, _ in chosen.most_common(SPANS_PER_ANSWER))
        return (covered / total if total else 1.0), [self.evidence(index) for index in kept]

    def _best(self, open_words: set[str], known: set[str]) -> tuple[int, float]:
        """(sentence with most weight of the open words, that weight); words of the question break ties."""
        ranks_S = np.zeros(len(self.bags))
        for word in sorted(open_words | known):  # in one order: the last bits of a sum decide between near ties
            weight = self.weight(word) * (1.0 if word in open_words else TIE_SHARE)
            ranks_S[self.places(word)] += weight
        best = int(ranks_S.argmax()) if len(ranks_S) else 0  # the first of several
        if not len(ranks_S) or ranks_S[best] == 0:
            return 0, -1.0
        return best, sum((self.weight(word) for word in sorted(open_words) if word in self.bags[best]), 0.0)

    def evidence(self, index: int) -> Evidence:
        """One sentence of the document as evidence."""
        found = self.sentences[index]
        middle = (found.start + found.end) / 2 / self.length
        return Evidence(found.text, found.start, found.end, round(middle, 4))


def even(text: str) -> str:
    """A text as it is compared: without what scanning, typesetting and keyboards add (ligatures, full width, curly
    apostrophes, hyphens)."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).replace("’", "'").replace("ʼ", "'")
        return HYPHEN.sub("", text).replace("\u00ad", "")
    return HYPHEN.sub("", text) if "-" in text else text


def question_fault(question: str, language: str) -> str | None:
    """Why a question is no data, or None."""
    if len(question) < (4 if language in ("zh", "ja", "ko") else 8):
        return "question too short"
    if wrong_language(question, language):
        return "question in another language"
    if POINTING.search(question):
        return "question points at a place"
    return None


def unknown_name(question: str, document: str) -> str | None:
    """A name of code in the question that the document lacks, however it writes it; None if none."""
    names = CODE_NAME.findall(question)
    known = _letters(document) if names else ""
    return next((str(name) for name in names if _letters(name) not in known), None)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()


def answer_fault(answer: str, question: str, language: str) -> str | None:
    """Why an answer is no data whatever its document says, or None."""
    given, asked = words(answer), words(question)
    if not given:
        return "empty answer"
    if REFUSAL.search(answer):
        return "refused"
    if len(given) <= UNANSWERABLE_WORDS and UNANSWERABLE.search(answer):
        return "not in the document, says the model"
    if token_f1(given, asked) >= COPY_F1:
        return "copy of the question"
    added = set(given) - set(asked) - FUNCTION_WORDS
    if not CHOICE.search(question) and (not added or (len(added) <= CIRCLE_ADDS and _in_a_circle(answer, asked))):
        return "nothing beyond the question"
    if ROLE.search(answer):
        return "speaks for the user"
    said = Counter(s.text for s in sentences(answer) if len(words(s.text)) >= REPEATED_WORDS)
    if max(said.values(), default=0) >= REPEATS:
        return "repeats itself"
    if wrong_language(answer, language):
        return "answer in another language"
    return None


def _in_a_circle(answer: str, asked: Sequence[str]) -> bool:
    """Whether a sentence repeats words of the question that the question itself has once."""
    in_question = _runs(asked)
    return any(
        count > 1 == in_question[run]
        for sentence in sentences(answer)
        for run, count in _runs(words(sentence.text)).items()
    )


def _runs(said: Sequence[str]) -> Counter[tuple[str, ...]]:
    """Every `CIRCLE_WORDS` words in a row, with how often they come."""
    return Counter(tuple(said[start : start + CIRCLE_WORDS]) for start in range(len(said) - CIRCLE_WORDS + 1))


def unsupported_number(answer: str, document: str, question: str) -> str | None:
    """A number of three digits or more, or with decimals, that neither document nor question has; None if none."""
    known = {number.replace(",", "") for number in NUMBER.findall(f"{document} {question}")}
    for number in NUMBER.findall(answer):
        plain = number.replace(",", "")
        if (len(plain) >= 3 or "." in plain) and plain not in known:
            return str(number)
    return None


def wrong_language(text: str, language: str) -> bool:
    """Whether a text of some length is plainly not in a document's language (Chinese or not: from 8 letters on)."""
    letters = len(LETTER.findall(text))
    if letters < 8 or language == UNKNOWN:
        return False
    han = len(HAN.findall(text))
    share = 3 * han / (3 * han + letters - han)
    if language != "ja" and (share < 0.2 if language == "zh" else share > 0.5):
        return True
    return plainly_another(text, language)


def alike(answer: str, other: str) -> bool:
    """Whether two answers say the same in much the same words; what a closed book gives away."""
    return token_f1(words(answer), words(other)) >= ALIKE_F1


def position_balance(positions: Sequence[float]) -> dict[str, int]:
    """Evidence by tenth of the document, from start to end."""
    counts = Counter(min(int(position * 10), 9) for position in positions)
    return {f"{tenth / 10:.1f}-{(tenth + 1) / 10:.1f}": counts[tenth] for tenth in range(10)}
