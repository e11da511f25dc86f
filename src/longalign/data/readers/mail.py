"""Mail: one message (.eml), or a mailbox (.mbox) as one document in its order."""

from __future__ import annotations

import mailbox
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from tempfile import NamedTemporaryFile

from longalign.data.readers.decode import decode
from longalign.data.readers.html import html_text
from longalign.data.readers.raw import RawDocument
from longalign.data.readers.unpack import bytes_of
from longalign.errors import UnreadableError

HEADERS = ("From", "Date", "Subject")


def mail(path: Path) -> Iterator[RawDocument]:
    """A message: sender, date and subject, then its text; attachments are left out."""
    text, subject = _message(bytes_of(path))
    yield RawDocument(text, subject)


def mbox(path: Path) -> Iterator[RawDocument]:
    """The messages of a mailbox, one after the other."""
    with NamedTemporaryFile(suffix=".mbox") as copy:
        copy.write(bytes_of(path))
        copy.flush()
        box = mailbox.mbox(copy.name, create=False)
        texts = [_message(box.get_bytes(key))[0] for key in box.keys()]  # noqa: SIM118 (a mailbox yields messages)
        box.close()
    if not texts:
        raise UnreadableError("mailbox without messages")
    yield RawDocument("\n\n".join(texts), path.name)


def _message(data: bytes) -> tuple[str, str]:
    message = message_from_bytes(data, policy=policy.default)
    assert isinstance(message, EmailMessage)
    head = []
    for name in HEADERS:
        try:
            value = str(message.get(name, ""))
        except Exception:  # malformed headers raise almost anything
            value = ""
        if value:
            head.append(f"{name}: {value}")
    body = message.get_body(("plain", "html"))
    text = ""
    if body is not None:
        payload = body.get_payload(decode=True)
        try:
            text = decode(payload if isinstance(payload, bytes) else b"", body.get_content_charset() or "")
        except UnreadableError:
            text = ""
        if body.get_content_type() == "text/html":
            text = html_text(text)[0]
    subject = next((line.removeprefix("Subject: ") for line in head if line.startswith("Subject: ")), "")
    inner = [_message(inside.as_bytes())[0] for inside in _messages_inside(message)]
    return "\n\n".join(["\n".join(head), text.replace("\r\n", "\n").strip(), *inner]), subject


def _messages_inside(part: EmailMessage) -> Iterator[EmailMessage]:
    """The messages of a digest; those that a notice returns or a person attaches are attachments."""
    if part.is_multipart() and part.get_content_maintype() == "multipart":
        for sub in part.iter_parts():
            if part.get_content_subtype() == "digest" and sub.get_content_type() == "message/rfc822":
                inside = sub.get_payload(0)
                if isinstance(inside, EmailMessage):
                    yield inside
            elif isinstance(sub, EmailMessage):
                yield from _messages_inside(sub)
