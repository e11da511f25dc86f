"""Manual pages (roff with the man or mdoc macros): text without requests, by their names, not by running roff."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from longalign.data.readers.decode import text_of
from longalign.data.readers.raw import RawDocument

SPECIAL = {
    "(em": "—", "(en": "–", "(bu": "•", "(co": "©", "(rq": "”", "(lq": "“", "(aq": "'", "(dq": '"', "(oq": "‘",
    "(cq": "’",
    "(ti": "~", "(ha": "^", "(rs": "\\", "(ga": "`", "(mi": "-", "(pl": "+", "(mu": "×", "(->": "→", "(<-": "←",
    "(>=": "≥", "(<=": "≤", "(!=": "≠", "(de": "°", "(sc": "§", "(hy": "-", "(or": "|", "*(lq": "“", "*(rq": "”",
    "*(Aq": "'", "*(C`": "", "*(C'": "", "*(--": "–", "*(PI": "π", "*(Tm": "™", "*R": "®", "(rg": "®", "(tm": "™",
}  # fmt: skip
ESCAPE = re.compile(
    r"\\(?:f(?:\(..|\[[^\]]*\]|.)|s[+-]?\d{1,2}|s\[[^\]]*\]|[mMnk](?:\(..|\[[^\]]*\]|.)|[hvwDXxoL]'[^']*'"
    r"|(?P<named>[(*]\(?..)|\[(?P<long>[^\]]*)\]|\*\[(?P<string>[^\]]*)\]|(?P<one>.))"
)
ONE = {"-": "-", "e": "\\", "\\": "\\", "&": "", "|": "", "^": "", "/": "", ",": "", "%": "", ":": "",
       "c": "", "~": " ", " ": " ", "0": " ", "'": "´", "`": "`", "t": "\t", "d": "", "u": "", "p": "", "{": "",
       "}": "", "E": "\\"}  # fmt: skip
HEADINGS = frozenset(["SH", "SS", "Sh", "Ss"])
JOINED = frozenset(["BR", "RB", "IR", "RI", "BI", "IB"])
FONTS = frozenset(["B", "I", "SM", "SB", "R", "CW"])
ITEMS = frozenset(["TP", "TQ", "IP", "HP", "It"])
SILENT_NAMES = """
TH Dd Dt Os ds de nr so ie if el ig rm rn am as hy nh ad na ta tr ps ft ll in ti ne pl po ev cs ss ce mso Bd Ed Bl
El Bk Ek PD UC DT AT ie. TS TE EQ EN UE ME RS RE SY YS fam lf LP PP P Pp HP sp br nf fi EX EE
"""
SILENT = frozenset(SILENT_NAMES.split())
BREAKS_NAMES = """
LP PP P Pp sp Bd Ed Bl El nf fi EX EE RS RE br TS TE SY YS
"""
BREAKS = frozenset(BREAKS_NAMES.split())
QUOTED = {
    "Op": "[{}]",
    "Oo": "[",
    "Oc": "]",
    "Dq": "“{}”",
    "Sq": "‘{}’",
    "Pq": "({})",
    "Qq": '"{}"',
    "Ql": "‘{}’",
    "Aq": "<{}>",
}
MDOC_NAMES = """
Nm Nd Fl Ar Cm Ic Pa Xr Ev Va Vt Fn Fa Ft Fd In Li Em Sy No Ns Ap Op Oo Oc Dq Sq Pq Qq Ql Aq Ad An Er Dv Tn Bx Nx Fx
Ox St Lb Lk Mt Do Dc So Sc Po Pc Qo Qc Xo Xc Bq Bo Bc Brq Bro Brc Ta Ms Tg Rv Ex
"""
MDOC = frozenset(MDOC_NAMES.split())
NO_SPACE_BEFORE = frozenset([".", ",", ":", ";", ")", "]", "?", "!"])


def manual(path: Path) -> Iterator[RawDocument]:
    """A manual page, its title its name and section: `harbour(1)`."""
    source = text_of(path)
    head = re.search(r"^\.(?:TH|Dt)\s+\"?([^\s\"]+)\"?\s+\"?([^\s\"]+)", source, re.MULTILINE)
    yield RawDocument(manual_text(source), f"{unescaped(head[1]).lower()}({head[2]})" if head else "")


def is_manual(text: str) -> bool:
    """Whether a text begins like a manual page."""
    return re.search(r"^[.'](?:TH|Dd|SH|Sh)\b", text[:4000], re.MULTILINE) is not None


def manual_text(source: str) -> str:
    """Text of roff: headings and items on lines of their own, filled paragraphs, listings as they stand."""
    out: list[str] = []
    filled, item, ignored, name = True, False, "", ""
    for line in re.sub(r"\\\n", "", source).split("\n"):
        if ignored:
            ignored = "" if line.rstrip() == f".{ignored}" else ignored
            continue
        match = re.match(r"[.']\s*([A-Za-z][A-Za-z0-9]{0,30}|\\\"|\\#)(?:\s+(.*)|$)", line)
        if match is None:
            if line.startswith((".", "'")) and re.match(r"[.'](?:\s|\\|\.|$)", line):
                continue
            text = unescaped(line)
            if not text.strip():
                out.append("\n\n" if filled else "\n")
            elif filled:
                out.append(text.strip() + ("\n" if item else " "))
            else:
                out.append(text + "\n")
            item = False
            continue
        macro, rest = match[1], match[2] or ""
        if macro in ("de", "ig", "am", "de1"):
            ignored = (
                (rest.split() or ["."])[1 if macro != "ig" and len(rest.split()) > 1 else 0]
                if macro == "ig" and rest
                else "."
            )
            continue
        if macro in ("nf", "EX", "Bd"):
            filled = False
        elif macro in ("fi", "EE", "Ed"):
            filled = True
        if macro in HEADINGS:
            out.append("\n\n" + " ".join(_arguments(rest)) + "\n")
        elif macro in ITEMS:
            out.append("\n")
            label = (
                _mdoc(rest, name) if macro == "It" else (_arguments(rest) or [""])[0] if macro in ("IP", "HP") else ""
            )
            out.append(label + ("\n" if len(label) > 2 else " ") if label else "")
            item = macro == "TP" or macro == "TQ"
        elif macro in SILENT:
            out.append(("\n" if macro in ("br", "nf", "fi") else "\n\n") if macro in BREAKS else "")
        elif macro in JOINED or macro in FONTS:
            text = ("" if macro in JOINED else " ").join(_arguments(rest))
            out.append(text + ("\n" if item or not filled else " ") if text else "")
            item = False
        elif macro in ("UR", "MT"):
            out.append(" ".join(_arguments(rest)) + " ")
        elif macro in MDOC:
            if macro == "Nm" and rest.strip():
                name = name or _arguments(rest)[0]
            text = f"{'— ' if macro == 'Nd' else ''}{_mdoc(f'{macro} {rest}', name)}"
            out.append(text + (" " if filled else "\n"))
    text = re.sub(r"[ \t]+\n", "\n", "".join(out))
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"(?<=\S) {2,}(?=\S)", " ", text) if filled else text).strip()


def unescaped(line: str) -> str:
    """Text of a line's escapes: fonts away, special characters written out."""

    def meant(match: re.Match[str]) -> str:
        if match["named"]:
            return SPECIAL.get(match["named"], "")
        if match["long"] or match["string"]:
            code = match["long"] or match["string"]
            if unicode := re.fullmatch(r"u([0-9A-Fa-f]{4,6})", code):
                return chr(int(unicode[1], 16))
            return SPECIAL.get(f"({code}", "")
        return ONE.get(match["one"] or "", match["one"] or "")

    return ESCAPE.sub(meant, re.sub(r"\\[\"#].*", "", line))


def _arguments(rest: str) -> list[str]:
    found = re.findall(r'"((?:[^"]|"")*)"?|((?:\\ |\S)+)', rest)
    return [unescaped(quoted.replace('""', '"') or bare) for quoted, bare in found]


def _mdoc(rest: str, name: str) -> str:
    words: list[str] = []
    wraps: list[str] = []
    raw = re.findall(r'"[^"]*"?|\S+', rest)
    flag = glue = False
    for number, word in enumerate(raw):
        if word in MDOC:
            flag = word in ("Fl", "Cm") and word == "Fl"
            glue = glue or word in ("Ns", "Ap")
            if word == "Nm" and (number + 1 == len(raw) or raw[number + 1] in MDOC) and name:
                words.append(name)
            elif word == "Ar" and (number + 1 == len(raw) or raw[number + 1] in MDOC):
                words.append("file ...")
            elif word in QUOTED:
                opened, _, closed = QUOTED[word].partition("{}")
                words.append(opened)
                glue = bool(opened) and word != "Oc"
                wraps += [closed] if closed else []
            continue
        text = unescaped(word.strip('"'))
        text = f"-{text}" if flag and not text.startswith("|") else text
        if words and (glue or text in NO_SPACE_BEFORE):
            words[-1] += text
        else:
            words.append(text)
        glue = False
    out = " ".join(words)
    return re.sub(r"(?<=[(\[]) | (?=[)\]])", "", out + "".join(reversed(wraps)))
