"""The charset of bytes that declare none: accepted only where all readings that look like a language give one text.

Decision 0009: charset-normalizer's best guess is wrong for a fifth of real texts of 1,000 characters and more.
"""

from __future__ import annotations

import re
from collections.abc import Callable

SAMPLE_BYTES = 8192
LEAST_LETTERS = 10
LEAST_HAN = 2
ALLOWED_SHARE = 0.995
RIVAL_SHARE = 0.9
"""A reading this near to a language is a rival: with two, none is believed."""
Fits = Callable[[str, float], bool]
PUNCTUATION = "«»‹›“”„‘’‚–—…€£°§·•¿¡№©®™\xa0\xad´×½¼²³ªº"
LATIN = {
    "de": "äöüßé", "fr": "éèêëàâçùûüôîïœæ", "es": "áéíóúüñ", "it": "àèéìíòóùú", "pt": "áâãàçéêíóôõú",
    "nordic": "åäöæøéü", "nl": "éèëïöü", "is": "áðéíóúýþæö", "pl": "ąćęłńóśźż", "cs": "áčďéěíňóřšťúůýž",
    "sk": "áäčďéíĺľňóôŕšťúýž", "hu": "áéíóöőúüű", "ro": "ăâîşţșț", "hr": "čćđšž", "tr": "çğıöşüâîİ",
    "lt": "ąčęėįšųūž", "lv": "āčēģīķļņšūž", "et": "äöõüšž", "ca": "àçéèíïóòúü·",
}  # fmt: skip
LATIN_CHARSETS = ("cp1252", "cp1250", "iso8859_2", "cp1254", "cp1257", "iso8859_15")
RUSSIAN = "абвгдеёжзийклмнопрстуфхцчшщъыьэюя"
OTHER = {
    "ru": (RUSSIAN, ("cp1251", "koi8_r", "iso8859_5", "cp866")),
    "uk": ("абвгґдеєжзиіїйклмнопрстуфхцчшщьюя", ("cp1251", "koi8_u", "iso8859_5")),
    "el": ("αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ", ("cp1253", "iso8859_7")),
    "he": ("אבגדהוזחטיךכלםמןנסעףפץצקרשת״׳־\u200e\u200f", ("cp1255", "iso8859_8")),
    "ar": ("ءآأؤإئابةتثجحخدذرزسشصضطظعغـفقكلمنهوىيًٌٍَُِّْ،؛؟", ("cp1256", "iso8859_6")),
    "th": ("".join(map(chr, [*range(0xE01, 0xE3B), *range(0xE40, 0xE5C)])), ("cp874",)),
}
FREQUENT = {
    "ru": "оеаинтсрвл",
    "uk": "оаинвітерс",
    "el": "αοτιεσνηυρ",
    "he": "יוהלאמרתבנ",
    "ar": "اليمنوتربة",
    "th": "านรอกเงมยล",
}
FREQUENT_SHARE = 0.45


def detect(data: bytes) -> tuple[str | None, str]:
    """(text, "") or (None, why not)."""
    sample = _sample(data)
    read = [(charset, text, fits) for charset, fits in _candidates() if (text := _decoded(sample, charset))]
    near = [(charset, text, fits) for charset, text, fits in read if fits(text, RIVAL_SHARE)]
    if len({text for _, text, _ in near}) == 1 and any(fits(text, ALLOWED_SHARE) for _, text, fits in near):
        whole = {text for charset, _, _ in near if (text := _decoded(data, charset))}
        if len(whole) == 1:
            return whole.pop(), ""
    return None, "several charsets fit" if near else "no charset gives text that is surely a language"


def _sample(data: bytes) -> bytes:
    """The first lines that are not ASCII, whole: what decides, at a cost that does not grow with the file."""
    if len(data) <= SAMPLE_BYTES:
        return data
    lines, size = [], 0
    for line in data.split(b"\n"):
        if size < SAMPLE_BYTES and not line.isascii():
            lines.append(line)
            size += len(line)
    return b"\n".join(lines)


def _candidates() -> list[tuple[str, Fits]]:
    wide: list[tuple[str, Fits]] = [
        ("cp932", _japanese), ("euc_jp", _japanese), ("cp949", _korean), ("gb18030", _simplified),
        ("big5hkscs", _traditional),
    ]  # fmt: skip
    latin = [(charset, _latin) for charset in LATIN_CHARSETS]
    other = [(charset, _speaks(name)) for name, (_, charsets) in OTHER.items() for charset in charsets]
    return [*wide, *latin, *other]


def _decoded(data: bytes, charset: str) -> str:
    try:
        return data.decode(charset)
    except UnicodeDecodeError:
        return ""


def _foreign(text: str) -> str:
    return "".join(re.findall(r"[^\x00-\x7f]", text))


def _share(text: str, allowed: str) -> float:
    known = frozenset(allowed)
    return sum(char in known for char in text) / max(1, len(text))


def _printable(text: str) -> bool:
    return re.search(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]", text) is None


def _latin(text: str, share: float) -> bool:
    """Nearly all letters beside ASCII belong to one language, and stand among letters."""
    foreign = _foreign(text)
    letters = [char for char in foreign if char not in PUNCTUATION]
    if not _printable(text) or len(letters) < LEAST_LETTERS or not _cased(text):
        return False
    if len(re.findall(r"[A-Za-z]", text)) < 2 * len(letters):
        return False
    low = "".join(letters).lower() if "İ" not in letters else "".join(letters).replace("İ", "i̇").lower()
    return any(_share(low, alphabet + "̇i") >= share for alphabet in LATIN.values())


def _speaks(language: str) -> Fits:
    alphabet, _ = OTHER[language]

    def fits(text: str, share: float) -> bool:
        foreign = _foreign(text).lower()
        letters = "".join(char for char in foreign if char not in PUNCTUATION)
        if not _printable(text) or len(letters) < 2 * LEAST_LETTERS or not _cased(text):
            return False
        return _share(letters, alphabet) >= share and _share(letters, FREQUENT[language]) >= FREQUENT_SHARE

    return fits


def _cased(text: str) -> bool:
    """Capitals begin words: another charset of the same script swaps them."""
    inside = len(re.findall(r"(?<=[^\W\d_])[^\W\d_A-Za-z]", text)) or 1
    pairs = re.findall(r"(?=([^\W\d_][^\W\d_]))", text)
    odd = sum(a.islower() and b.isupper() and b > "\x7f" for a, b in pairs)
    return bool(odd <= max(1, 0.02 * inside))


def _japanese(text: str, share: float) -> bool:
    foreign = _foreign(text)
    kana = len(re.findall("[\u3041-\u30ff]", foreign))
    half = len(re.findall("[\uff61-\uff9f]", foreign))
    strange = len(
        re.findall("[^\u3000-\u30ff\u4e00-\u9fff\uff00-\uff5e\u2010-\u2026\u25a0-\u25ff\u00d7\u2190-\u2193]", foreign)
    )
    return len(foreign) >= LEAST_LETTERS and kana > 0.2 * len(foreign) and half + strange < 0.02 * len(foreign)


def _korean(text: str, share: float) -> bool:
    letters = re.findall("[\uac00-\ud7a3\u4e00-\u9fff\uf900-\ufaff\u3041-\u30ff]", text)
    common = sum("\uac00" <= char <= "\ud7a3" and _encodable(char, "euc_kr") for char in letters)
    return len(letters) >= LEAST_LETTERS and bool(common >= 0.97 * len(letters)) and _wide(text)


def _simplified(text: str, share: float) -> bool:
    return _han(text, "gb2312", lambda data: 0xB0 <= data[0] <= 0xD7) and not _korean(
        _decoded(text.encode("gb18030"), "cp949"), share
    )


def _traditional(text: str, share: float) -> bool:
    return _han(text, "big5", lambda data: 0xA4 <= data[0] <= 0xC6)


def _han(text: str, charset: str, frequent: Callable[[bytes], bool]) -> bool:
    letters = re.findall("[\u3041-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff]", text)
    common = sum(_encodable(char, charset) and frequent(char.encode(charset)) for char in letters)
    # half of real text are particles and the like, far from what wrong readings give
    usual = sum(
        char in "的一是不了在有人我他這这個个們们中大為为上和國国地到以說说時时要就出會会可也你生能而子那得于於请請"
        for char in letters
    )
    return len(letters) >= LEAST_HAN and common >= 0.93 * len(letters) and usual >= 0.04 * len(letters) and _wide(text)


def _wide(text: str) -> bool:
    """What stands beside ASCII is East Asian writing and its punctuation."""
    foreign = _foreign(text)
    east = len(re.findall("[\u2010-\u2026\u00b7\u3000-\u30ff\u3400-\u9fff\uac00-\ud7a3\uff00-\uffef]", foreign))
    return east >= 0.97 * len(foreign)


def _encodable(char: str, charset: str) -> bool:
    try:
        char.encode(charset)
    except UnicodeEncodeError:
        return False
    return True
