"""Offline stand-ins for a language model and for a judge: deterministic, without weights, key or network.

`OfflineModel` gets exactly the prompts that an endpoint gets and replies in the same form: numbered questions about the
document, then verbatim sentences of the document as the answer. It makes the recipe runnable anywhere. Its rows do not
have the quality of a real model's, and each carries its name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from longalign.base.files import fingerprint, random_for
from longalign.base.progress import say
from longalign.bundled.register import Fact, find_facts
from longalign.core.text import Sentence, sentences, words
from longalign.llm.base import Outcome, Reply, Request
from longalign.llm.check_prompts import read_check, without_added
from longalign.llm.offline_checks import check_reply
from longalign.llm.offline_forms import FORMS, SUMMARISE
from longalign.llm.prompt import AnswerAsked, QuestionsAsked, Task, read_request

NAME = "offline stand-in 1 (extractive, no language model)"
BLANK = "____"
SUMMARY_PARTS = 3
COMMON_SHARE = 0.05
OTHER_WORD = re.compile(r"[^\W\d_A-Za-z]{3,}")
KANA_RUN = re.compile("(?=[一-鿿]*[぀-ヿ])[぀-ヿ一-鿿]{6,}")
QUOTED = re.compile("“([^”]+)”")


class OfflineModel:
    """See the module; the same request always gets the same reply."""

    name = NAME
    batched = True

    def __init__(self, prompts: str | None = None) -> None:
        """`prompts`: folder of prompts of one's own, which it must read as well."""
        self._prompts = prompts

    def check_extras(self, request: Request) -> None:
        """Say that extras change nothing here, so that a command can be tried offline before it is paid for."""
        if request.extra_body or request.chat_template_kwargs or request.reasoning_effort or request.top_p:
            say("note: the offline stand-in neither thinks nor samples; it passes over the extras of requests")

    def complete(self, requests: Sequence[Request]) -> Iterator[tuple[int, Outcome]]:
        """See `LanguageModel.complete`. Token counts are unknown: there is no tokenizer here."""
        for index, request in enumerate(requests):
            yield index, Reply(text=answer(request, self._prompts), model=NAME)


def answer(request: Request, folder: str | None = None) -> str:
    """The reply to a request for questions or for an answer."""
    users = [message["content"] for message in request.messages if message["role"] == "user"]
    if (checked := check_reply(users, extract_answer, folder)) is not None:
        return checked
    follow_up = read_check(users[-1], folder)
    asked = read_request(without_added(users[-1], folder), folder)
    if follow_up is not None and follow_up.section == "follow_up":
        asked = QuestionsAsked(
            read_request(users[0], folder).document, "general", int(follow_up.values["count"]), follow_up.language
        )
    if isinstance(asked, QuestionsAsked):
        rng = random_for(request.seed or 0, "offline", asked.task, fingerprint(asked.document))
        questions = make_questions(asked.document, asked.task, asked.count, asked.language, rng)
        return "\n".join(f"{number}: {question}" for number, question in enumerate(questions, 1))
    document = asked.document if len(users) == 1 else read_request(users[0], folder).document
    return extract_answer(document, asked)


def make_questions(document: str, task: Task, count: int, language: str, rng: np.random.Generator) -> list[str]:
    """`count` different questions of a task type, spread over the document; fewer where it is too poor."""
    facts = _unique(find_facts(document))
    if task in ("extraction", "reasoning") and len(facts) >= (1 if task == "extraction" else 2):
        return _about_facts(facts, task, count, rng)
    forms = FORMS.get(language, FORMS["en"])
    if task == "extraction":
        return _clozes(document, count, forms["cloze"], rng)
    if task == "summary":
        return [forms["summary"].format(a=subject) for subject in _subjects(document, count, rng)]
    topics = _topics(document, count + 1, rng)
    if task == "reasoning":
        return [forms["both"].format(a=a, b=b) for a, b in pairwise(topics)][:count]
    return [forms["topic"].format(a=topic) for topic in topics][:count]


def extract_answer(document: str, asked: AnswerAsked) -> str:
    """Verbatim sentences of the document that bear on the question; empty where nothing does."""
    register = "register" in asked.question or "登记" in asked.question
    if register and (facts := _facts_asked(document, asked.question)):
        return " ".join(fact.sentence for fact in facts)
    found = [sentence for sentence in sentences(document) if len(sentence.text) > 1]
    quoted = QUOTED.findall(asked.question)
    if quoted and BLANK in quoted[0]:
        before, _, after = quoted[0].partition(BLANK)
        gap = re.compile(re.escape(before) + r"(\S{1,60}?)" + re.escape(after))
        match = next((m for sentence in found if (m := gap.fullmatch(sentence.text))), None)
        return "" if match is None else f"{match[1]}: {match[0]}"
    summary = any(word in asked.question for word in SUMMARISE)
    bounds = np.linspace(0, len(found), SUMMARY_PARTS + 1 if summary else 2).astype(int)
    parts = [found[begin:end] for begin, end in pairwise(bounds)]  # a summary takes one sentence from each part
    best = [_best(part, topic) for topic in quoted or [asked.question] for part in parts]
    chosen = {sentence.start: sentence.text for sentence in best if sentence}
    lines = dict.fromkeys(" ".join(text.split()) for _, text in sorted(chosen.items()))
    return ("" if asked.language in ("zh", "ja") else " ").join(lines)


def _best(found: list[Sentence], topic: str) -> Sentence | None:
    """The sentence that shares most with the topic, rare words weighing more; ties go to the earlier."""
    bags = [set(words(sentence.text)) for sentence in found]
    frequency = Counter(word for bag in bags for word in bag)
    asked = {word for word in words(topic) if frequency[word]}

    def score(index: int) -> float:
        return sum(1 / frequency[word] for word in asked & bags[index]) / (1 + 0.01 * len(bags[index]))

    best = max(range(len(found)), key=lambda index: (score(index), -index), default=None)
    if best is not None and score(best) == 0:  # a phrase of a script that writes no spaces may cut words
        return next((sentence for sentence in found if topic in sentence.text), None)
    return None if best is None else found[best]


def _prose(document: str) -> tuple[list[Sentence], Counter[str]]:
    """The sentences without register entries, and in how many of them each word occurs."""
    found = [sentence for sentence in sentences(document) if not find_facts(sentence.text)]
    return found, Counter(word for sentence in found for word in set(words(sentence.text)))


def _topics(document: str, count: int, rng: np.random.Generator) -> list[str]:
    """One telling phrase from each of `count` equal parts of the document."""
    found, frequency = _prose(document)
    common = {word for word, times in frequency.items() if times > max(3, COMMON_SHARE * len(found))}
    topics: dict[str, None] = {}
    bounds = np.linspace(0, len(found), count + 1).astype(int)
    for begin, end in pairwise(bounds):
        part = [sentence for sentence in found[begin:end] if len(words(sentence.text)) > 4]
        for position in rng.permutation(len(part))[:8]:
            if (phrase := _phrase(part[position].text, frequency, common)) and phrase not in topics:
                topics[phrase] = None
                break
    for position in rng.permutation(len(found)):  # a short text has parts without a phrase: look anywhere
        if len(topics) < count and (phrase := _phrase(found[position].text, frequency, common)):
            topics.setdefault(phrase)
    return list(topics)


def _phrase(sentence: str, frequency: Counter[str], common: set[str]) -> str | None:
    """The rarest word of a sentence with uncommon neighbours; of Chinese, six characters around the rarest pair."""
    if runs := re.findall(r"[一-鿿]{4,}", sentence) or KANA_RUN.findall(sentence):
        run = max(runs, key=len)
        rarest = min(range(len(run) - 1), key=lambda i: (frequency[run[i : i + 2]], i))
        start = max(0, min(rarest - 1, len(run) - 6))
        return str(run[start : start + 6])
    tokens = sentence.split()
    plain = [bool(re.fullmatch(r"[A-Za-z][a-z]{5,}", token)) and token.lower() not in common for token in tokens]
    if not any(plain):  # a text of few words: any long or numbered one will do
        plain = [bool(re.fullmatch(r"[A-Za-z]{4,}|\d{3,}", token)) for token in tokens]
    if not any(plain):
        found = OTHER_WORD.findall(sentence)  # of another script
        return min(found, key=lambda word: (frequency[word.lower()], -len(word)), default=None)
    first = last = min((i for i, good in enumerate(plain) if good), key=lambda i: (frequency[tokens[i].lower()], i))
    if last + 1 < len(tokens) and plain[last + 1]:
        last += 1
    if first > 0 and plain[first - 1]:
        first -= 1
    return " ".join(tokens[first : last + 1])


def _subjects(document: str, count: int, rng: np.random.Generator) -> list[str]:
    """Words that come up in several places, but not everywhere: worth a summary."""
    found, frequency = _prose(document)
    limit = max(3, COMMON_SHARE * len(found))
    often = [w for w, times in frequency.items() if 2 <= times <= limit and (len(w) > 4 or "一" <= w[0] <= "鿿")]
    often = sorted(often, key=lambda word: (-frequency[word], word))[: 4 * count]
    chosen = [often[position] for position in rng.permutation(len(often))[:count]]
    spare = [topic for topic in _topics(document, count, rng) if topic not in chosen] if len(chosen) < count else []
    return [*chosen, *spare][:count]


def _clozes(document: str, count: int, form: str, rng: np.random.Generator) -> list[str]:
    """Sentences of the document with their rarest word left out; one from each part."""
    found = [sentence.text for sentence in sentences(document)]
    frequency = Counter(word for text in found for word in set(words(text)))
    seen = Counter(found)
    questions = []
    bounds = np.linspace(0, len(found), count + 1).astype(int)
    for begin, end in pairwise(bounds):
        part = [text for text in found[begin:end] if seen[text] == 1 and not set("\n“”") & set(text)]
        for position in rng.permutation(len(part))[:8]:
            if gapped := _gap(part[position], frequency):
                questions.append(form.format(a=gapped))
                break
    return questions


def _gap(sentence: str, frequency: Counter[str]) -> str | None:
    if len(re.findall(r"[一-鿿]", sentence)) >= 8:
        places = [match.start() for match in re.finditer(r"(?=[一-鿿]{2})", sentence)]
        start = min(places, key=lambda i: (frequency[sentence[i : i + 2]], i))
        return sentence[:start] + BLANK + sentence[start + 2 :]
    spans = [match.span() for match in re.finditer(r"(?<!\S)[A-Za-z]{4,}(?!\S)", sentence)]
    if len(spans) < 4:
        spans = [match.span() for match in re.finditer(rf"(?<!\S){OTHER_WORD.pattern}(?!\S)", sentence)]
    if len(spans) < 4 and len(re.findall(r"[぀-ヿ一-鿿]", sentence)) >= 8:
        spans = [match.span() for match in re.finditer(r"[ァ-ヿ]+|[一-鿿]{2}", sentence)]
    elif len(spans) < 4:
        return None
    if not spans:
        return None
    begin, end = min(spans, key=lambda span: (frequency[sentence[slice(*span)].lower()], span))
    return sentence[:begin] + BLANK + sentence[end:]


def _about_facts(facts: list[Fact], task: Task, count: int, rng: np.random.Generator) -> list[str]:
    order = [facts[position] for position in rng.permutation(len(facts))]
    if task == "extraction":
        return [fact.question for fact in order[:count]]
    pairs = [pair for pair in zip(order, [*order[1:], order[0]], strict=True) if pair[0].language == pair[1].language]
    pairs = pairs[:-1] if len(order) == 2 else pairs  # two entries make one pair, not two
    return [FORMS[a.language]["facts"].format(a=a.name, b=b.name) for a, b in pairs][:count]


def _unique(facts: list[Fact]) -> list[Fact]:
    """Entries whose name occurs once: a name with two values has no one answer."""
    names = Counter(fact.name for fact in facts)
    return [fact for fact in facts if names[fact.name] == 1]


def _facts_asked(document: str, question: str) -> list[Fact]:
    """The entries whose names a question gives, in its order."""
    places = {
        fact: match.start()
        for fact in _unique(find_facts(document))
        if (match := re.search(rf"(?<![a-z]){re.escape(fact.name)}(?![a-z])", question))
    }
    return sorted(places, key=lambda fact: places[fact])
