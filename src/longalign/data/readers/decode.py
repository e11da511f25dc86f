"""Bytes to text: marks and UTF-8 first, then what the file declares, then a detector; the unsure is refused.

Declarations follow the WHATWG Encoding Standard where names and practice differ: `iso-8859-1` is read as
windows-1252, `shift_jis` with Microsoft's extensions.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from pathlib import Path

from longalign.data.readers.charset import detect
from longalign.data.readers.unpack import bytes_of
from longalign.errors import UnreadableError

PROBE_BYTES = 8192
MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
IN_PRACTICE = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "tis-620": "cp874",
}
DECLARED = (
    re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([\w.:-]+)""", re.IGNORECASE),
    re.compile(rb"""^\s*<\?xml[^>]{0,100}?encoding\s*=\s*["']([\w.:-]+)"""),
    re.compile(rb"""^[^\n]{0,200}?(?:-\*-|\bvim?:)?[^\n]{0,200}?\b(?:file)?(?:en)?coding[:=]\s*([\w.-]+)"""),
    re.compile(rb"""^[^\n]*\n[^\n]{0,200}?\b(?:file)?(?:en)?coding[:=]\s*([\w.-]+)"""),
    re.compile(rb"""^\s*@charset\s+["']([\w.-]+)"""),
    re.compile(rb"""\\usepackage\[([\w-]+)\]\{inputenc\}"""),
    re.compile(rb"""["\\]?Content-Type:[^\n]{0,80}?charset=([\w.-]+)""", re.IGNORECASE),
)
LATEX_NAMES = {"latin1": "cp1252", "latin9": "iso8859-15", "ansinew": "cp1252", "applemac": "mac-roman"}


def decode(data: bytes, declared: str = "") -> str:
    """The text of bytes; `declared` is a charset named outside of them (a mail's header). Raises `UnreadableError`."""
    for mark, name in MARKS:
        if data.startswith(mark):
            try:
                return data.decode(name)
            except UnicodeDecodeError:
                raise UnreadableError(f"begins like {name.removesuffix('-sig').upper()} but is not") from None
    if b"\0" in data[:PROBE_BYTES]:
        text = _utf16_without_mark(data)
        if text is None:
            raise UnreadableError("binary file")
        return text
    named = _codec(declared) or _declared(data[:PROBE_BYTES])
    if b"\x1b" not in data:  # ISO-2022 is seven-bit: valid UTF-8 that is not UTF-8
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as error:
            where = f"byte {data[error.start]:#04x} at {error.start}"
            if error.start > PROBE_BYTES and error.start >= len(data) - 3:
                return data[: error.start].decode("utf-8")  # cut in the middle of its last character
    elif b"\x1b$" in data and named is None:
        named, where = "iso2022_kr" if b"\x1b$)C" in data else "iso2022_jp_2", "escape sequences"
    else:
        where = "an escape character"
        if named is None and data.isascii():
            return data.decode("ascii")
    if named and named != "utf-8":
        try:
            return data.decode(named)
        except UnicodeDecodeError:
            if named == "cp1252":  # five bytes are unassigned there and controls in ISO 8859-1
                return data.decode("latin-1")
    text, reason = detect(data)
    if text is None:
        said = f"declared as {named}, which it is not; " if named else ""
        raise UnreadableError(f"{said}not UTF-8 ({where}), and {reason}; convert it first")
    return text


def text_of(path: Path) -> str:
    """The whole text of a file, unpacked and decoded. Raises `UnreadableError`."""
    return decode(bytes_of(path))


def _declared(head: bytes) -> str | None:
    for pattern in DECLARED:
        if match := pattern.search(head):
            name = match[1].decode("ascii", "replace")
            if codec := _codec(LATEX_NAMES.get(name, name)):
                return codec
    return None


def _codec(name: str) -> str | None:
    try:
        found = codecs.lookup(name.strip().strip("\"'")).name if name else ""
    except (LookupError, ValueError):
        return None
    if found in ("idna", "punycode", "utf-7", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"):
        return None
    try:
        "a".encode(found)  # rot13, hex and the like are not charsets
    except (LookupError, ValueError, TypeError):
        return None
    return IN_PRACTICE.get(found, found) or None


def _utf16_without_mark(data: bytes) -> str | None:
    """Text whose zero bytes all stand in one half of its pairs, and whose characters are all assigned."""
    if len(data) % 2:
        return None
    even, odd = data[0:PROBE_BYTES:2].count(0), data[1:PROBE_BYTES:2].count(0)
    if bool(even) == bool(odd):
        return None
    try:
        text = data.decode("utf-16-be" if even else "utf-16-le")
    except UnicodeDecodeError:
        return None
    bad = sum(unicodedata.category(char) in ("Cn", "Co", "Cc") and char not in "\t\n\r\f" for char in text)
    return text if bad == 0 else None
