"""One question alone, without what models write around it: labels, marks, its answer, a hint, closing words."""

from __future__ import annotations

import re

LABEL = (
    r"(?:question|q|problem|问题|問題|质问|質問|问|問|第|질문|문제|pregunta|frage|вопрос|السؤال|سؤال)"
    r"\s*(?:no\.?|nr\.?|n[°º]|#)?"
)
ASKS = re.compile(r"[?？؟]\W*$")
ANSWER_WORDS = (
    r"(?:sample |suggested |correct |expected |model )?answer|solution|答案|回答|解答|答え|答|답변|정답|답|"
    r"respuesta|réponse|antwort|ответ|الإجابة|الجواب"
)
NOTES = (
    r"response|evidence|explanation|rationale|reason(?:ing)?|hint|reference|source|type|kind|difficulty|category|"
    r"level|note|依据|解析|解释|理由|提示|来源|出处|类型|难度|注"
)
"""Labels of what may stand beside a question, besides its answer."""
BESIDE = re.compile(
    rf"^[\s>*_#(（-]*(?:(?:{ANSWER_WORDS}|{NOTES}|ans|a)\s*\d*\s*[*_]*[:：]|ans\.|(?:{ANSWER_WORDS})[*_\s]*$)",
    re.IGNORECASE,
)
CLOSING = re.compile(
    r"^\s*#{2,6}\s|^\s*(?:[-*_]\s*){3,}$|^\W*(?:i hope|hope (?:this|these)|let me know|feel free|"
    r"please (?:let|feel)|(?:these|all(?: of)?(?: the| these)?|each) questions?\b|would you like|do you (?:want|need)|"
    r"(?:shall|should) i\b|if you (?:need|want|would|have)|happy to|enjoy\W*$|end of\b|note that\b|"
    r"希望|如果您|如需|以上(?:问题|是)|这些问题|これらの質問|이 질문|espero que|j['’]espère|ich hoffe|надеюсь|آمل)"
    r"|^\s*<\|",
    re.IGNORECASE,
)
GOES_ON = re.compile(r"^\s*(?:```|~~~|[-*•]\s|\d|[(（]?[A-Za-z]\s?[.)）])")
"""A line that belongs to the question above it, though that ends with its mark: code, a choice, a number."""
KINDS = (
    r"fact(?:ual)?|general|summary|summari[sz]ation|reasoning|multi-?hop|inference|extraction|detail|analysis|"
    r"easy|medium|hard"
)
TYPED = re.compile(
    rf"^(?:\*\*(?:{KINDS}|{LABEL})(?::\*\*|\*\*\s*[:：])"
    r"|\*\*[^\W\d][\w /&-]{2,30}(?::\*\*|\*\*\s*:)(?-i:(?!\s*[a-zß-ÿ]))"
    rf"|[(（\[](?:{KINDS})[)）\]]:?|(?:{KINDS}):|(?:question|q|问题|問題|質問|질문|问|問)\s*[:：])\s*",
    re.IGNORECASE,
)
TITLE = re.compile(r"\A\*\*[^*\n?？]{2,60}\*\*(?:[ \t]*\n|\s*[-–—]\s+(?![a-zß-ÿ]))(?=[^\n]*[?？]\W*\Z)")
"""A bold heading of one question, above it or before it."""
BEHIND = re.compile(
    rf"(?<=[?？؟.。\"”*])\s*[\[(（]?[*_]*(?:{ANSWER_WORDS})[*_]*\s*[:：].*$"
    rf"|(?<=[?？؟])[*_]*\s*(?:(?:→|->|=>|⇒)|[*_]*a[*_]*[:：]).*$"
    rf"|(?<=[?？؟.。])\s*[(（\[](?:{KINDS})[)）\]]\s*$",
    re.IGNORECASE | re.DOTALL,
)
QUOTES = {'"': '"', "“": "”", "«": "»", "„": "“", "「": "」", "『": "』", "`": "`"}


def is_beside(line: str, above: str) -> bool:
    """Whether a line below a line of a question is no part of it. Where the question has ended with its mark, only a
    further question, code, a choice or a number goes on with it; everything else is an answer or talk."""
    if BESIDE.match(line) or CLOSING.match(line):
        return True
    return bool(ASKS.search(above)) and not ASKS.search(line) and not GOES_ON.match(line)


def question_alone(item: str) -> str:
    """The question of an item of a list."""
    text = BEHIND.sub("", item.strip()).strip()
    if text.count("```") % 2:
        text = text.rstrip("`").rstrip() if text.endswith("```") else text
    text = TITLE.sub("", TYPED.sub("", text, count=1))
    text = _without_bold(text)
    if _is_quoted(text):
        text = text[1:-1].strip()
    return re.sub(r"\n\s*\n+", "\n", text)


def _without_bold(text: str) -> str:
    """Without the stars around the whole, and those whose other half the number took."""
    while len(text) > 2 and text[0] in "*_" and text[-1] == text[0]:
        text = text[1:-1].strip()
    while text.endswith(("**", "__")) and text.count(text[-2:]) % 2:
        text = text[:-2].rstrip()
    return text


def _is_quoted(text: str) -> bool:
    """Whether quotation marks stand around the whole; a mark inside that follows a space opens another quotation."""
    close = QUOTES.get(text[:1])
    if close is None or len(text) < 3 or not text.endswith(close):
        return False
    inner = text.find(close, 1)
    return inner == len(text) - 1 or text[inner - 1].isspace()
