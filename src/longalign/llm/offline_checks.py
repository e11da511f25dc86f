"""What the offline stand-in replies to the requests of ingredients: by words alone, in the form that is asked for.

It knows nothing without a document, answers from a part only what the part holds, and finds an answer supported whose
sentences stand in the document.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from longalign.core.text import sentences, words
from longalign.llm.check_prompts import ADDED, CheckAsked, read_check
from longalign.llm.prompt import GAP, LANGUAGES, AnswerAsked, language_of, sections, wordings

UNKNOWN = {"zh": "未知"}
"""What a language's prompts ask for instead of the word UNKNOWN."""
REFUSAL = {
    "en": "The document does not say anything about {about}.",
    "zh": "文档没有提到{about}。",
    "ja": "文書は{about}について何も述べていません。",
    "ko": "문서는 {about}에 대해 아무것도 말하지 않습니다.",
    "es": "El documento no dice nada sobre {about}.",
    "fr": "Le document ne dit rien de {about}.",
    "de": "Das Dokument sagt nichts über {about}.",
    "ru": "В документе ничего не сказано о {about}.",
    "ar": "لا تذكر الوثيقة شيئًا عن {about}.",
}
QUOTED = re.compile("“([^”]+)”")
NAME = re.compile(r"[A-Z][\w’'-]+(?: [A-Z][\w’'-]+)*")
SUPPORTED_SHARE = 0.6


def check_reply(users: list[str], extract: Callable[[str, AnswerAsked], str], folder: str | None = None) -> str | None:
    """The reply to a request of an ingredient; None for any other request. `extract` answers from a text. `folder`: of
    prompts of one's own."""
    for wording in (*wordings(folder), *LANGUAGES):
        if users[-1].endswith(GAP + sections(wording)["closed_book"]):
            return UNKNOWN.get(language_of(wording), "UNKNOWN")
    asked = read_check(users[-1], folder)
    if asked is None or asked.section in ("follow_up", *ADDED):
        return None
    if asked.section == "check_again":
        return check_reply(users[:-1], extract, folder)
    document = asked.before or users[0].rpartition(GAP)[0]
    return _reply(asked, document, extract)


def _reply(asked: CheckAsked, document: str, extract: Callable[[str, AnswerAsked], str]) -> str:
    question = asked.values["question"]
    unknown = UNKNOWN.get(asked.language, "UNKNOWN")
    if asked.section == "part":
        if not _holds(document, question):
            return unknown
        return extract(document, AnswerAsked(document, question, asked.language)) or unknown
    if asked.section == "answerable":
        return f"answerable: {'yes' if _holds(document, question) else 'no'}"
    if asked.section == "refuse":
        about = QUOTED.findall(question) or [question]
        return REFUSAL.get(asked.language, REFUSAL["en"]).format(about=f"“{about[0].strip('?？。 ')}”")
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
