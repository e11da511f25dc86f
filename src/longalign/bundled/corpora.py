"""Bundled corpora and the demo's base model: texts and weights that need no download.

English documents are Python's own: the language reference's topics and the standard library's docstrings.
Chinese documents ship with the package. A fifth of all documents is held out by title: haystacks and
evaluation cases come from there, training text never does. A held-out document that repeats training text
(some topics are parts of others) belongs to neither.
"""

from __future__ import annotations

import ast
import hashlib
import sysconfig
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from longalign.base.sources import BUNDLED, PREFIX, Named
from longalign.errors import ConfigError, nearest

HELDOUT_SHARE = 0.2
REPEATED_SHARE = 0.02
"""A held-out document is left out when more of its 13-word sequences than this stand in training documents."""
SHORTEST_DOCSTRING = 80
SHORTEST_DOCUMENT = 500
CORPORA = ("python-docs", "python-docs-heldout", "chinese", "chinese-heldout")


def corpus(name: str) -> Iterator[tuple[str, str]]:
    """(title, text) of every document of a bundled corpus."""
    short = Named(name).short
    if short not in CORPORA:
        valid = [PREFIX + known for known in CORPORA]
        raise ConfigError(f"`{name}`: no such bundled corpus{nearest(name, valid)}; there are {', '.join(valid)}")
    documents = _chinese() if short.startswith("chinese") else _python_docs()
    if short.endswith("-heldout"):
        return iter(_unseen(documents))
    return (item for item in documents if not _heldout(item[0]))


@cache
def _unseen(documents: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The held-out documents whose text does not stand in training documents."""
    import numpy as np

    from longalign.core.shingles import shingles

    seen = np.unique(np.concatenate([shingles(text) for title, text in documents if not _heldout(title)]))
    held = [(item, shingles(item[1])) for item in documents if _heldout(item[0])]
    return tuple(item for item, own in held if np.isin(own, seen).sum() <= REPEATED_SHARE * len(own))


def _heldout(title: str) -> bool:
    return hashlib.sha256(title.encode()).digest()[0] < HELDOUT_SHARE * 256


@cache
def _chinese() -> tuple[tuple[str, str], ...]:
    return tuple((path.stem, path.read_text(encoding="utf-8")) for path in sorted((BUNDLED / "zh").glob("*.md")))


@cache
def _python_docs() -> tuple[tuple[str, str], ...]:
    from pydoc_data.topics import topics

    found = [(f"topic {name}", text) for name, text in sorted(topics.items())]
    library = Path(sysconfig.get_path("stdlib"))
    skipped = {"test", "tests", "idlelib", "lib2to3", "site-packages", "pydoc_data"}
    for path in sorted([*library.glob("*.py"), *library.glob("*/*.py")]):
        inside = path.relative_to(library)
        if skipped.isdisjoint(inside.parts):
            text = _docstrings(path)
            if len(text) >= SHORTEST_DOCUMENT:
                found.append((f"module {'.'.join(inside.with_suffix('').parts)}", text))
    return tuple(found)


def _docstrings(path: Path) -> str:
    """The docstrings of one module, in order; nothing for a file that this Python cannot parse."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return ""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, kinds)]
    return "\n\n".join(text for text in texts if len(text) >= SHORTEST_DOCSTRING)
