"""LaTeX sources, readable: comments, preamble and layout commands removed; formulas and unknown commands kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from longalign.data.readers.decode import text_of
from longalign.data.readers.raw import RawDocument

ARGUMENT = r"\{((?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*)\}"
UNWRAPPED = re.compile(
    r"\\(?:(?:href|foreignlanguage|textcolor|hyperref)\s*(?:\[[^\]]*\])?\s*\{[^{}]*\}|emph|textbf|textit|texttt|textsc|textrm"
    r"|textsf|textsl|underline|mbox|text|url|path|code|uppercase|title|author|date|subtitle)\s*" + ARGUMENT
)
HEADING = re.compile(r"\\((?:sub)*section|chapter|part|paragraph|subparagraph)\*?\s*(?:\[[^\]]*\])?\s*" + ARGUMENT)
DROPPED = re.compile(
    r"\\(?:label|index|vspace|hspace|pagestyle|thispagestyle|bibliographystyle|bibliography|includegraphics|setlength"
    r"|renewcommand|newcommand|providecommand|addtolength|setcounter|addtocounter|protect\\label)\*?\s*(?:\[[^\]]*\])?(?:"
    + ARGUMENT
    + r")+"
    r"|\\(?:maketitle|tableofcontents|newpage|clearpage|cleardoublepage|noindent|centering|bigskip|medskip|smallskip"
    r"|hfill|vfill|par|small|footnotesize|scriptsize|large|Large|LARGE|normalsize|indent|break|pagebreak|sloppy|raggedright)"
    r"(?![a-zA-Z])\*?"
)
CHARACTERS = (
    (r"\&", "&"), (r"\%", "%"), (r"\#", "#"), (r"\_", "_"), ("~", " "), ("---", "—"), ("--", "–"),
    ("``", "“"), ("''", "”"),
)  # fmt: skip
VERBATIM = re.compile(r"(\\begin\{(verbatim\*?|lstlisting|minted|alltt|Verbatim)\}.*?\\end\{\2\})", re.DOTALL)


def latex(path: Path) -> Iterator[RawDocument]:
    """The document's body, or all of a file that is a part of one."""
    source = text_of(path)
    title = re.search(r"\\title\s*(?:\[[^\]]*\])?\s*" + ARGUMENT, source)
    yield RawDocument(latex_text(source), _plain(title[1].split("\\\\")[0]) if title else "")


def latex_text(source: str) -> str:
    """Readable text of a LaTeX source. Listings are kept as they stand."""
    body = re.search(r"\\begin\{document\}(.*?)(?:\\end\{document\}|\Z)", source, re.DOTALL)
    pieces = VERBATIM.split(body[1] if body else source)
    out = []
    for number in range(0, len(pieces), 3):
        out.append(_plain(pieces[number]))
        if number + 1 < len(pieces):
            out.append(
                re.sub(r"\\(?:begin|end)\{[^}]*\}(?:\[[^\]]*\])?(?:\{[^}]*\})?", "", pieces[number + 1]).strip("\n")
            )
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip()


def _plain(text: str) -> str:
    text = re.sub(r"(?<!\\)((?:\\\\)*)%.*(?:\n[ \t]*(?=\S))?", r"\1", text)
    text = HEADING.sub(lambda match: f"\n{match[2]}\n", DROPPED.sub("", text))
    for _ in range(3):  # nested at most as deep as ARGUMENT
        text = UNWRAPPED.sub(r"\1", text)
    text = re.sub(r"\\(?:begin|end)\{(?:itemize|enumerate|description|center|quote|quotation|figure\*?|abstract"
                  r"|flush\w+)\}"
                  r"(?:\[[^\]]*\])?", "", text)  # fmt: skip
    text = re.sub(r"\\item\s*\[([^\]]*)\]", r"- \1:", text)
    text = re.sub(r"\\item\b\s*", "- ", text)
    for written, meant in CHARACTERS:
        text = text.replace(written, meant)
    return re.sub(r"[ \t]+\n", "\n", text).strip()
