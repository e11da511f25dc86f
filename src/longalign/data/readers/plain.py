"""Text and source code as they stand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from longalign.data.readers.decode import text_of
from longalign.data.readers.raw import RawDocument
from longalign.data.readers.unpack import inner_name

TEXT_SUFFIXES = ".txt .text .md .markdown .rst .org .adoc .asciidoc .u8 .utf8 .pod .texi .texinfo .wiki .textile"
CODE_SUFFIXES = """
.py .pyi .c .h .cc .cpp .cxx .hpp .hh .cu .java .kt .scala .js .mjs .cjs .jsx .ts .tsx .go .rs .rb .php .cs .swift .m
.sh .bash .zsh .fish .sql .r .jl .lua .pl .pm .hs .ml .mli .clj .ex .exs .erl .f .f90 .v .vhd .proto .toml .ini .cfg
.yaml .yml .cmake .mk .am .in .el .lisp .scm .dart .groovy .gradle .vue .tcl .awk .asm .s .nix .tf .bat .ps1 .feature
"""
CODE_NAMES = frozenset(["makefile", "dockerfile", "cmakelists.txt", "rakefile", "gemfile", "vagrantfile", "justfile"])
TEXT = TEXT_SUFFIXES.split()
CODE = CODE_SUFFIXES.split()


def is_code(path: Path) -> bool:
    """Whether a file is source code, by its name."""
    name = inner_name(path).lower()
    return name in CODE_NAMES or Path(name).suffix in CODE


def plain(path: Path) -> Iterator[RawDocument]:
    """Text, its title left to its first line."""
    yield RawDocument(text_of(path))


def code(path: Path) -> Iterator[RawDocument]:
    """Source code; its title is its name, for its first line is a licence or an import."""
    yield RawDocument(text_of(path), inner_name(path))
