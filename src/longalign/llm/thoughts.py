"""Takes a reply's text apart: what the model thought, what it answered, and the control tokens of chat templates.

Models and servers mark thoughts in many ways: `<think>...</think>` and its relatives, only the closing mark (the chat
template wrote the opening one), an opening mark that is never closed (the cap was reached), `[THINK]` (Magistral),
`<|channel|>analysis` (gpt-oss), `<|channel>thought` (Gemma). An answer may also talk about such marks. So a mark counts
only where it stands as one: not in code or quotes, an opening one at the start of a line, a lone closing one not within
a running sentence. Where that leaves a doubt it counts: a lost answer costs one row, a thought in an answer is trained.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAMES = r"(?:think|thinking|thoughts?|reasoning|seed:think|antml:thinking)"
_MARK = re.compile(
    rf"(?P<open><{_NAMES}>|\[THINK\]|◁think▷|<\|begin_of_thought\|>|<\|START_THINKING\|>|<\|channel>thought\b|"
    rf"<unused94>thought\b)"
    rf"|</{_NAMES}>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>|<\|END_THINKING\|>|<channel\|>|<unused95>",
    re.IGNORECASE,
)
OPENED = re.compile(rf"(?:<{_NAMES}>|\[THINK\])\s*\Z", re.IGNORECASE)
"""A prompt in which the chat template has opened the thoughts."""
_HARMONY = re.compile(
    r"<\|channel\|>\s*(\w+)[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>(.*?)(?=<\|(?:end|return|call|start|channel)\|>|\Z)",
    re.DOTALL,
)
_HARMONY_START = re.compile(r"(?:<\|start\|>\w*)?<\|channel\|>")
_HARMONY_BARE = re.compile(r"analysis(?=[A-Z])(.*?)(?:assistantfinal(.*))?", re.DOTALL)
"""The same where a server left the control tokens out: `analysisUser asks ...assistantfinalForty-two`."""
_WRAPPED = re.compile(r"\s*<(answer|response|output|final_answer)>(.*)</\1>\s*", re.DOTALL | re.IGNORECASE)

_CONTROL = (
    r"<\|(?:im_(?:start|end|sep)|eo[tm]_id|begin_of_text|end_of_text|endoftext|endofprompt|start_header_id|"
    r"end_header_id|header_(?:start|end)|end|return|start|message|call|eot|eom|user|assistant|system|observation|"
    r"(?:START|END)_OF_TURN_TOKEN|(?:START|END)_RESPONSE|(?:start|end)_of_role|(?:begin|end)_of_solution|turn)\|>"
    r"|<｜[^｜<>\n]{1,40}｜>|<(?:start|end)_of_(?:turn|utterance)>|<\|turn>|<turn\|>|<(?:eos|bos|pad|eod|sop)>"
    r"|\[/?INST\]|\[gMASK\]|</s>"
)
_INNER = re.compile(_CONTROL, re.IGNORECASE)
_START = (
    r"<\|(?:im_start|im_sep|start|message|begin_of_text|start_header_id|end_header_id|header_(?:start|end)|assistant|"
    r"START_(?:OF_TURN_TOKEN|RESPONSE)|(?:start|end)_of_role|begin_of_solution)\|>"
    r"|<｜(?:begin|Assistant)[^｜<>\n]{0,40}｜>|<start_of_turn>|<\|turn>|<(?:bos|sop|s)>|\[/INST\]|\[gMASK\]"
)
_LEADING = re.compile(
    rf"\A(?:\s*(?:{_START})(?!\s*(?:user|human|system|tool)\b)(?:(?:assistant|model)(?=\s*\n|\s*<))?)+(?:\s*\n)?",
    re.IGNORECASE,
)
_LAST = re.compile(rf"(?:{_CONTROL}|<\|[A-Za-z0-9_]{{1,40}}\|>)\Z", re.IGNORECASE)
LONGEST_TOKEN = 48
_FENCE = re.compile(r"^\s*(?:```|~~~)", re.MULTILINE)
_QUOTES = {"`": "`", '"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "「": "」", "『": "』", "„": "“"}

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LINE_ENDS = re.compile("[\x0b\x0c\x85\u2028\u2029]")
_HARMFUL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")
_LONE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Parts:
    """`closed`: the thoughts, where there are any, came to an end."""

    answer: str
    thoughts: str = ""
    closed: bool = True


def take_apart(text: str, *, opened: bool = False) -> Parts:
    """Thoughts and answer of a reply; the answer without control tokens.

    `opened`: the prompt ends with an opening mark, so the reply begins with thoughts. A control token within the
    answer ends it: the model had ended its turn there, and the server went on.
    """
    text = _LEADING.sub("", text, count=1)  # before a mark that opens thoughts
    found = _harmony(text) or _marked(text, opened)
    answer = found.answer
    if found.thoughts and (inner := _WRAPPED.fullmatch(answer)):
        answer = inner[2]
    return Parts(without_control_tokens(answer), found.thoughts.strip(), found.closed)


def marks_thoughts(token: str) -> bool:
    """Whether a special token is one of the marks that are read here."""
    return bool(_MARK.match(token)) or token in ("<|channel|>", "<|message|>", "<|start|>", "<|end|>", "<|channel>")


def _harmony(text: str) -> Parts | None:
    """gpt-oss writes messages into channels; only the one called `final` is the answer."""
    text = text.strip()
    if _HARMONY_START.match(text):
        messages = [(match[1], match[2]) for match in _HARMONY.finditer(text)]
        final = [said for channel, said in messages if channel == "final"]
        thoughts = "\n".join(said for channel, said in messages if channel != "final")
        return Parts(final[-1] if final else "", thoughts, bool(final))
    if bare := _HARMONY_BARE.fullmatch(text):
        return Parts(bare[2] or "", bare[1], bare[2] is not None)
    return None


def _marked(text: str, opened: bool) -> Parts:
    answer: list[str] = []
    thoughts: list[str] = []
    position, inside = 0, opened
    named = -1  # where the last opening mark ended that is only talked about
    for mark in _MARK.finditer(text):
        start, end = mark.span()
        line_start = text.rfind("\n", 0, start) + 1
        first = not text[:start].strip()
        if mark["open"]:
            if first and opened:
                position = end
            elif not inside and (first or (not text[line_start:start].strip() and not _in_code(text, start, end))):
                answer.append(text[position:start])
                position, inside = end, True
            elif not inside:
                named = end
        elif _in_code(text, start, end):
            continue
        elif inside:
            thoughts.append(text[position:start])
            position, inside = end, False
        elif named <= line_start and not _in_sentence(text, start, end):  # all before it was thought, too
            thoughts += [*answer, text[position:start]]
            answer, position = [], end
    (thoughts if inside else answer).append(text[position:])
    kept = "".join(answer)
    return Parts(kept.lstrip() if thoughts else kept, "\n".join(thoughts), not inside)


def _in_code(text: str, start: int, end: int) -> bool:
    """Whether [start, end) stands in quotes, in a code span of its line, or in a fenced block."""
    if start and text[end : end + 1] and _QUOTES.get(text[start - 1]) == text[end]:
        return True
    line_start, line_end = text.rfind("\n", 0, start) + 1, text.find("\n", end)
    if text.count("`", line_start, start) % 2 and "`" in text[end : line_end if line_end >= 0 else None]:
        return True
    fences = [match.start() for match in _FENCE.finditer(text)] if "```" in text or "~~~" in text else []
    # An odd number of fences: one is open, perhaps in the thoughts, and nothing can be told from them.
    return len(fences) % 2 == 0 and sum(fence < start for fence in fences) % 2 == 1


def _in_sentence(text: str, start: int, end: int) -> bool:
    """Whether a mark is a word of a running sentence: `the token </think> ends the thoughts`."""
    before, after = text[:start], text[end:]
    line = before[before.rfind("\n") + 1 :]
    if not line.strip() or not line.endswith((" ", "(")) or not (line.rstrip(" (")[-1:].isalnum() or line[-1] == "("):
        return False
    following = after.lstrip(" ")[:1]
    return following in tuple(",.;:)?!") or (after[:1] == " " and following.isalpha() and not following.isupper())


def without_control_tokens(text: str) -> str:
    """The text before the first control token of a chat template, not counting those in code or quotes."""
    text = _LEADING.sub("", text, count=1)
    while (kept := text.rstrip()) and (last := _LAST.search(kept[-LONGEST_TOKEN:])):
        before = kept[: len(kept) - len(last[0])]
        if last[0] == "</s>" and _strikes_out(before):
            break
        text = before.rstrip()
    for mark in _INNER.finditer(text):
        strikes = mark[0] == "</s>" and _strikes_out(text[: mark.start()])
        if not strikes and not _in_code(text, *mark.span()):
            return text[: mark.start()].rstrip()
    return text


def _strikes_out(before: str) -> bool:
    """Whether a `</s>` after this text closes HTML's `<s>` rather than a reply."""
    return before.count("<s>") > before.count("</s>")


def clean(text: str) -> tuple[str, int]:
    """`text` without what no answer needs and files, terminals and readers stumble over, and how much that was.

    Left out: NUL and other control characters, terminal colours, byte order marks, and the marks that turn the
    direction of writing around (of right-to-left text only the invisible overrides, not its own marks). Other line
    ends than `\\n` become one. Half a surrogate pair, a character that a token limit cut, becomes `?`.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    changed = 0
    for pattern, instead in ((_ESCAPES, ""), (_LINE_ENDS, "\n"), (_HARMFUL, ""), (_LONE, "?")):
        text, count = pattern.subn(instead, text)
        changed += count
    return text, changed
