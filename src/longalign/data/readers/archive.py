"""Documents that are zip archives of XML: their members, and XML parsed without network or entities of its own."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lxml import etree

from longalign.data.readers.unpack import inner_name, stream_of
from longalign.errors import UnreadableError

OLE = bytes.fromhex("d0cf11e0a1b11ae1")


class Archive:
    """Members of an opened archive."""

    def __init__(self, file: zipfile.ZipFile, kind: str) -> None:
        self.file = file
        self.kind = kind
        self.names = file.namelist()

    def bytes_of(self, name: str) -> bytes:
        """A member. Raises `UnreadableError`."""
        try:
            return self.file.read(name)
        except (zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError, EOFError, OSError) as error:
            raise UnreadableError(f"damaged or not a {self.kind} file ({error})") from None

    def xml(self, name: str) -> Any:
        """The root of a member. Raises `UnreadableError`."""
        try:
            return parse_xml(self.bytes_of(name))
        except etree.XMLSyntaxError as error:
            raise UnreadableError(f"damaged {self.kind} file ({name}: {error})") from None


@contextmanager
def archive(path: Path) -> Iterator[Archive]:
    """A file opened as a zip archive. Raises `UnreadableError`."""
    kind = Path(inner_name(path)).suffix
    try:
        data = stream_of(path)
        if is_locked(data.getvalue()):
            raise UnreadableError(f"{kind} file with a password")
        with zipfile.ZipFile(data) as file:
            yield Archive(file, kind)
    except zipfile.BadZipFile as error:
        raise UnreadableError(f"damaged or not a {kind} file ({error})") from None


def is_locked(data: bytes) -> bool:
    """Whether bytes are an encrypted file of Office: an OLE container with a part of that name."""
    return data.startswith(OLE) and "EncryptedPackage".encode("utf-16-le") in data


def parse_xml(data: bytes, recover: bool = False) -> Any:
    """The root element; entities of the file's own are not expanded (they can grow without limit)."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, huge_tree=True, recover=recover, remove_comments=True, remove_pis=True
    )
    return etree.fromstring(data, parser)


def local(node: Any) -> str:
    """The name of an element without its namespace; empty for what is no element."""
    return str(node.tag).rpartition("}")[2] if isinstance(node.tag, str) else ""


def attribute(node: Any, name: str) -> str:
    """An attribute by its name without namespace."""
    return next((value for key, value in node.attrib.items() if key.rpartition("}")[2] == name), "")
