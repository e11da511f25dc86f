"""LaTeX sources, readable: comments, preamble and layout removed; formulas and listings kept as they stand.

A command that is not known gives the text of its last argument, as `\\emph` does; one without arguments gives nothing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from longalign.data.readers.decode import text_of
from longalign.data.readers.raw import RawDocument

ARGUMENT = r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%.*(?:\n[ \t]*(?=\S))?")
HEADING = re.compile(r"\\((?:sub)*section|chapter|part|paragraph|subparagraph)\*?\s*(?:\[[^\]]*\])?\s*" + ARGUMENT)
DROPPED = re.compile(
    r"\\(?:label|index|vspace|hspace|pagestyle|thispagestyle|bibliographystyle|bibliography|includegraphics|setlength"
    r"|renewcommand|newcommand|providecommand|addtolength|setcounter|addtocounter|protect\\label|hypersetup|pdfbookmark"
    r"|addcontentsline|newenvironment|newlength|usepackage|color|rule|fontsize|linespread|cline|cmidrule|nocite)"
    r"(?![a-zA-Z])\*?(?:\s*(?:\[[^\]\n]{0,200}\]\s*)?" + ARGUMENT + r")+"
)
FORMULAS = r"(?:equation|align|alignat|gather|multline|eqnarray|displaymath|math|flalign|dmath)\*?"
"""Environments of their own; matrices and the like stand inside one."""
VERBATIM = re.compile(
    r"\\begin\{(?P<listing>verbatim\*?|lstlisting|minted|alltt|Verbatim)\}(?:\[[^\]]*\])?(?:\{\w*\})?(?P<lines>.*?)"
    r"\\end\{(?P=listing)\}"
    r"|\\verb\*?(?P<mark>[^\w\s*])(?P<inline>[^\n]*?)(?P=mark)",
    re.DOTALL,
)
MATH = re.compile(
    r"(?<!\\)\$\$[^$]+\$\$|(?<!\\)\$(?:[^$\\]|\\.){1,2000}?\$|\\\[.{1,4000}?\\\]|\\\(.{1,2000}?\\\)"
    rf"|\\begin\{{(?P<formula>{FORMULAS})\}}.*?\\end\{{(?P=formula)\}}",
    re.DOTALL,
)
ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{[^{}]*\}(?:\[[^\]\n]*\])?(?:" + ARGUMENT + r")*")
REFERENCE = re.compile(
    r"\\(?:[a-zA-Z]*cite[a-z]*|(?:eq|page|auto|name|v|c|C)?ref)\*?(?:\[[^\]\n]{0,200}\])*\{([^{}\\]*)\}"
)
OPTION = r"(?:\[[^\]\n]{0,200}\][ \t]*)"
SIMPLE = r"\{(?:[^{}\\]|\{[^{}\\]*\})*\}"
COMMAND = re.compile(rf"\\([a-zA-Z]+)\*?[ \t]*{OPTION}*(?:{SIMPLE}[ \t]*\n?[ \t]*(?=\{{))*(?P<last>{SIMPLE})(?!\{{)")
"""With arguments that hold no other command: the innermost ones come first."""
BARE = re.compile(r"\\([a-zA-Z]+)\*?(?:\[[^\]\n]{0,200}\])?(?:\{\}|[ \t]*)")
DEEPEST = 8
LETTERS = {
    "textquotedbl": '"', "textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^", "textbar": "|",
    "textless": "<", "textgreater": ">", "textunderscore": "_", "textdollar": "$", "ldots": "…", "dots": "…",
    "textellipsis": "…", "copyright": "©", "textcopyright": "©", "texttrademark": "™", "textregistered": "®",
    "S": "§", "P": "¶", "dag": "†", "ddag": "‡", "pounds": "£", "euro": "€", "textbullet": "•", "textendash": "–",
    "textemdash": "—", "LaTeX": "LaTeX", "TeX": "TeX", "LaTeXe": "LaTeX", "XeTeX": "XeTeX", "ss": "ß", "ae": "æ",
    "AE": "Æ", "oe": "œ", "OE": "Œ", "aa": "å", "AA": "Å", "o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "i": "ı",
    "quad": " ", "qquad": " ", "newline": "\n", "linebreak": "\n", "tabularnewline": "\n", "par": "\n\n",
}  # fmt: skip
ACCENT = re.compile(
    r"\\([`'\"^~=.])\s*(?:\{\s*(\\i|[A-Za-z])\s*\}|(\\i(?![a-zA-Z])[ \t]*|[A-Za-z]))|\\([cvuHkr])\{([A-Za-z])\}"
)
MARKS = {
    "'": "\u0301", "`": "\u0300", '"': "\u0308", "^": "\u0302", "~": "\u0303", "=": "\u0304", ".": "\u0307",
    "c": "\u0327", "v": "\u030c", "u": "\u0306", "H": "\u030b", "k": "\u0328", "r": "\u030a",
}  # fmt: skip
CHARACTERS = (
    (r"\&", "&"), (r"\%", "%"), (r"\#", "#"), (r"\_", "_"), (r"\$", "$"), (r"\,", " "), (r"\ ", " "), (r"\-", ""),
    (r"\/", ""), (r"\@", ""), ("~", " "), ("---", "—"), ("--", "–"), ("``", "“"), ("''", "”"),
)  # fmt: skip


def latex(path: Path) -> Iterator[RawDocument]:
    """The document's body, or all of a file that is a part of one."""
    source = text_of(path)
    title = re.search(r"\\title\s*(?:\[[^\]]*\])?\s*" + ARGUMENT, source)
    yield RawDocument(latex_text(source), latex_text(title[1].split("\\\\")[0]) if title else "")


def latex_text(source: str) -> str:
    """Readable text of a LaTeX source."""
    body = re.search(r"\\begin\{document\}(.*?)(?:\\end\{document\}|\Z)", source, re.DOTALL)
    kept: list[str] = []

    def keep(text: str) -> str:
        kept.append(text)
        return f"\0{len(kept) - 1}\0"

    def listing(match: re.Match[str]) -> str:
        return keep(match["inline"] if match["listing"] is None else match["lines"].strip("\n"))

    text = VERBATIM.sub(listing, body[1] if body else source)
    text = DROPPED.sub("", COMMENT.sub(r"\1", text))
    text = _plain(MATH.sub(lambda match: keep(match[0]), text))
    for _ in range(2):  # a listing may stand in what was kept as a formula
        text = re.sub("\0(\\d+)\0", lambda match: kept[int(match[1])], text)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]+\n", "\n", text)).strip()


def _plain(text: str) -> str:
    """Without commands. Formulas and listings are not in it."""
    text = re.sub(r"\s*(?<!\\)&\s*", " | ", text)  # outside formulas only tables have it
    text = HEADING.sub(lambda match: f"\n{match[2]}\n", text)
    text = re.sub(r"\\item\s*\[([^\]]*)\]", r"- \1:", text)
    text = re.sub(r"\\item\b\s*", "- ", text)
    text = ACCENT.sub(_accented, REFERENCE.sub(r"[\1]", ENVIRONMENT.sub("", text)))
    text = (
        re.sub(r"\\\\\*?(?:\[[^\]\n]*\])?", "\n", text).replace(r"\{", "\1").replace(r"\}", "\2").replace("-{}", "-\4")
    )
    text = BARE.sub(lambda match: match[0] if match[1] not in LETTERS else _letter(match), text)
    for _ in range(DEEPEST):
        text, changed = COMMAND.subn(lambda match: match["last"][1:-1], text)
        if not changed:
            text, changed = re.subn(r"(?<!\\)\{([^{}\\]*)\}", r"\1", text)
        if not changed:
            break
    text = BARE.sub("", text).replace("{", "").replace("}", "")
    for written, meant in CHARACTERS:
        text = text.replace(written, meant)
    return text.replace("\1", "{").replace("\2", "}").replace("\3", "\\").replace("\4", "").strip()


def _letter(match: re.Match[str]) -> str:
    return LETTERS[match[1]].replace("\\", "\3")


def _accented(match: re.Match[str]) -> str:
    mark, letter = match[1] or match[4], match[2] or match[3] or match[5]
    return unicodedata.normalize("NFC", letter.removeprefix("\\").rstrip() + MARKS[mark])
