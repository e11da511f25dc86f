"""The text of one file, by its kind. `READERS` is the table; `read_file` reads."""

from longalign.data.readers.decode import decode, text_of
from longalign.data.readers.html import html_text
from longalign.data.readers.plain import is_code
from longalign.data.readers.raw import RawDocument, Reader
from longalign.data.readers.rows import FIELDS, parsed_lines, row_documents
from longalign.data.readers.table import READERS, is_known, needs_parser, read_file, reads_elsewhere

__all__ = [
    "FIELDS",
    "READERS",
    "RawDocument",
    "Reader",
    "decode",
    "html_text",
    "is_code",
    "is_known",
    "needs_parser",
    "parsed_lines",
    "read_file",
    "reads_elsewhere",
    "row_documents",
    "text_of",
]
