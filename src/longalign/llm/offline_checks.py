"""What the offline stand-in replies to the requests of ingredients: by words alone, in the form that is asked for.

It knows nothing without a document, answers from a part only what the part holds, and finds an answer supported whose
sentences stand in the document.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from longalign.core.text import sentences, words
from longalign.llm.check_prompts import ADDED, CheckAsked, read_check
from longalign.llm.prompt import GAP, LANGUAGES, AnswerAsked, PromptLanguage, sections

UNKNOWN: dict[PromptLanguage, str] = {"en": "UNKNOWN", "zh": "未知"}
REFUSAL: dict[PromptLanguage, str] = {
    "en": "The document does not say anything about {about}.",
    "zh": "文档没有提到{about}。",
}
QUOTED = re.compile("“([^”]+)”")
NAME = re.compile(r"[A-Z][\w’'-]+(?: [A-Z][\w’'-]+)*")
SUPPORTED_SHARE = 0.6


def check_reply(users: list[str], extract: Callable[[str, AnswerAsked], str]) -> str | None:
    """The reply to a request of an ingredient; None for any other request. `extract` answers from a text."""
    for language in LANGUAGES:
        if users[-1].endswith(GAP + sections(language)["closed_book"]):
            return UNKNOWN[language]
    asked = read_check(users[-1])
    if asked is None or asked.section in ("follow_up", *ADDED):
        return None
    if asked.section == "check_again":
        return check_reply(users[:-1], extract)
    document = asked.before or users[0].rpartition(GAP)[0]
    return _reply(asked, document, extract)


def _reply(asked: CheckAsked, document: str, extract: Callable[[str, AnswerAsked], str]) -> str:
    question = asked.values["question"]
    if asked.section == "part":
        if not _holds(document, question):
            return UNKNOWN[asked.language]
        return extract(document, AnswerAsked(document, question, asked.language)) or UNKNOWN[asked.language]
    if asked.section == "answerable":
        return f"answerable: {'yes' if _holds(document, question) else 'no'}"
    if asked.section == "refuse":
        about = QUOTED.findall(question) or [question]
        return REFUSAL[asked.language].format(about=f"“{about[0].strip('?？。 ')}”")
    share = _supported(document, asked.values["answer"])
    good = "yes" if share >= SUPPORTED_SHARE else "no"
    lines = [f"{name}: {good}" for name in ("supported", "complete", "correct")]
    if asked.section == "check_scores":
        names = ("helpfulness", "logicality", "faithfulness", "completeness")
        lines += [f"{name}: {round(10 * share)}" for name in names]
    return "\n".join(lines)


def _holds(text: str, question: str) -> bool:
    """Whether a text has everything that a question names: what it quotes, else its names, else its words."""
    flat = " ".join(text.split()).lower()
    named = [part for quoted in QUOTED.findall(question) for part in quoted.split("____") if part.strip()]
    named = named or NAME.findall(question.partition(" ")[2]) or [word for word in words(question) if len(word) > 4]
    return bool(named) and all(" ".join(name.split()).lower() in flat for name in named)


def _supported(document: str, answer: str) -> float:
    """The share of an answer's sentences that stand in the document, word for word or nearly."""
    flat, held = " ".join(document.split()), set(words(document))
    said = sentences(answer)

    def stands(text: str) -> bool:
        mine = set(words(text))
        return " ".join(text.split()) in flat or not mine or len(mine & held) >= 0.9 * len(mine)

    return sum(stands(sentence.text) for sentence in said) / len(said) if said else 0.0
