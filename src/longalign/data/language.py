"""The language of a document, as an ISO 639-1 code: its script where that decides, else py3langid's model.

The model (140 languages, 4.6 MB, in the package: nothing is downloaded) is loaded when a text first needs it.
"""

from __future__ import annotations

import re
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from longalign.core.text import HAN, KANA, LATIN, LETTER, detect_language, language_sample

UNKNOWN = "other"
ONE_LANGUAGE = {
    "ko": "가-힣ᄀ-ᇿ㄰-㆏",
    "el": "Ͱ-Ͽἀ-῿",
    "hy": "԰-֏",
    "dv": "ހ-޿",
    "he": "֐-׿",
    "pa": "਀-੿",
    "gu": "઀-૿",
    "or": "଀-୿",
    "ta": "஀-௿",
    "te": "ఀ-౿",
    "kn": "ಀ-೿",
    "ml": "ഀ-ൿ",
    "si": "඀-෿",
    "th": "฀-๿",
    "lo": "຀-໿",
    "bo": "ༀ-࿿",
    "my": "က-႟",
    "ka": "Ⴀ-ჿ",
    "km": "ក-៿",
}
"""Scripts in which (nearly) all texts are in one language."""
SCRIPTS = {code: re.compile(f"[{letters}]") for code, letters in ONE_LANGUAGE.items()}
OF_MANY = re.compile("[Ѐ-ԯ؀-ۿݐ-ݿऀ-ॿঀ-৿ሀ-፿]")
"""Letters of Cyrillic, Arabic, Devanagari, Bengali and Ethiopic: the model tells the languages apart."""
BY_SCRIPT = frozenset({"zh", "ja", *ONE_LANGUAGE})
DIALECTS = {"arz": "ar", "ary": "ar", "pcm": "en", "uzs": "uz", "sdh": "ku", "fuv": "ff", "gug": "gn", "kik": "ki"}
"""Codes of the model that have no code of two letters but belong to a language that has one."""
FEWEST_LETTERS = 60
SURE = 0.4
PLAIN = 0.97
"""So sure of a language that an answer in it is not in another one."""
ALIKE = (
    frozenset({"bs", "hr", "sr"}),
    frozenset({"no", "nn", "da"}),
    frozenset({"id", "ms"}),
    frozenset({"es", "gl", "pt", "ca"}),
    frozenset({"cs", "sk"}),
    frozenset({"ru", "uk", "be", "bg", "mk"}),
)
"""Languages that a model takes for one another too often to refuse an answer for it."""


def document_language(text: str, *, code: bool = False) -> str:
    """The language of a text, judged on its first, middle and last part; "other" where it is not known.

    Latin text too short or too mixed to be sure of counts as English, as do names, tables and source code (`code`):
    prompts are then in English, and they ask for the document's own language.
    """
    text = language_sample(text)
    rest = "" if text.isascii() else text
    letters, latin = (len(pattern.findall(text)) for pattern in (LETTER, LATIN))
    han, kana = (len(pattern.findall(rest)) for pattern in (HAN, KANA))
    if not letters:
        return UNKNOWN
    if kana > 0.1 * (han + kana) and 3 * (han + kana) >= latin:
        return "ja"
    if detect_language(text) == "zh":  # also with much Latin between
        return "zh"
    if 2 * latin >= letters:
        found, sure = ("en", 1.0) if code or letters < FEWEST_LETTERS else identified(text)
        return found if sure >= SURE and found not in BY_SCRIPT and found != UNKNOWN else "en"
    for language, pattern in SCRIPTS.items():
        if 2 * len(pattern.findall(rest)) >= letters:
            return language
    found, sure = identified(text)
    return found if sure >= SURE and 2 * len(OF_MANY.findall(rest)) >= letters else UNKNOWN


def plainly_another(text: str, language: str) -> bool:
    """Whether a text of at least 60 letters is without doubt in another language than this one."""
    if language == UNKNOWN or len(LETTER.findall(text)) < FEWEST_LETTERS:
        return False
    found = document_language(text)
    if found in (language, UNKNOWN) or any({found, language} <= group for group in ALIKE):
        return False
    if found in BY_SCRIPT:
        return True
    name, sure = identified(language_sample(text))
    return name == found and sure >= PLAIN


def identified(text: str) -> tuple[str, float]:
    """(the model's language, how probable it is)."""
    name, probability = _model().classify(text)
    name = DIALECTS.get(name, name)
    return (name if len(name) == 2 else UNKNOWN), probability


@cache
def _model() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
