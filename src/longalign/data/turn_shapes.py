"""What a chat template writes around an assistant's turn, learnt from conversations of a few words.

A turn is put before a user's, a tool's and another assistant's message and at the end of a conversation. What the
template writes behind the turn in all of these belongs to the turn, up to a control token: that is its end. What
differs is the header of what follows (or what closes a whole conversation). In the same way the prompt for a turn is
what the template writes behind a message when asked for an assistant's turn.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from longalign.data.controls import MARK, Controls, controls_of
from longalign.data.render import Message, Renderer, render_row

Kind = Literal["words", "call"]
END = ""
"""What follows the last turn of a conversation, in place of a role."""
_QUESTION, _ANSWER, _REPLY, _NAME, _VALUE = "uqzxk", "aqzxk", "tqzxk", "nqzxk", "vqzxk"
_CALL_ID = "c12345678"
_NAMED = re.compile(r"assistant|model|bot", re.IGNORECASE)
"""What templates call the assistant."""


@dataclass(frozen=True)
class Ending:
    """Behind a turn: `end` belongs to it, `rest` to what follows. `closed`: `end` holds a control token."""

    end: str
    rest: str
    closed: bool


@dataclass(frozen=True)
class Shapes:
    """prompts: by role of the message before, what stands between its words and a turn's, longest first.

    endings: by kind of turn and role of what follows (`END`: nothing).
    """

    prompts: Mapping[str, tuple[str, ...]]
    endings: Mapping[tuple[Kind, str], Ending]


def kind_of_turn(message: Message) -> Kind:
    return "call" if message.get("tool_calls") else "words"


def is_mark(text: str) -> bool:
    """Whether a text looks like a control token."""
    return re.fullmatch(MARK, text) is not None


def shapes_of(render: Renderer) -> Shapes:
    """Those of a template. Learnt once a template and tokenizer."""
    tokenizer = render.tokenizer
    options = tuple(sorted((key, repr(value)) for key, value in render.options.items()))
    names = tuple(sorted((k, str(v)) for k, v in tokenizer.special_tokens_map.items()))
    controls = controls_of(tokenizer)
    key = (render.template, names, controls.added, controls.special, options)
    return _learnt(_Probe(Renderer(tokenizer, None, render.options), key))


@dataclass(frozen=True)
class _Probe:
    render: Renderer
    key: tuple[Any, ...]

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Probe) and self.key == other.key


@lru_cache(maxsize=16)
def _learnt(probe: _Probe) -> Shapes:
    render = Renderer(_WithTemplate(probe.render.tokenizer, probe.key[0]), None, probe.render.options)
    reader = _Reader(render, controls_of(probe.render.tokenizer))
    prompts = {role: reader.prompts(role) for role in ("user", "tool", "system", "assistant")}
    header = next(iter(prompts["user"]), "")
    kinds: tuple[Kind, ...] = ("words", "call")
    return Shapes(
        {role: found for role, found in prompts.items() if found},
        {(kind, role): ending for kind in kinds for role, ending in reader.endings(kind, header).items()},
    )


@dataclass(frozen=True)
class _WithTemplate:
    """A tokenizer whose template is known already (one of several, chosen by tools)."""

    tokenizer: Any
    template: str

    def get_chat_template(self, tools: object = None) -> str:
        return self.template

    @property
    def special_tokens_map(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.tokenizer.special_tokens_map
        return found


@dataclass(frozen=True)
class _Reader:
    render: Renderer
    controls: Controls

    def prompts(self, role: str) -> tuple[str, ...]:
        """What stands between a message of `role` and the assistant's words, as prompted and in conversations."""
        before = _BEFORE[role]
        word = _last_word(before[-1])
        prompted = self._behind(before, word, prompt=True)
        if prompted is None:
            return ()
        told = [
            found
            for answer in ([_said(_ANSWER)], [_said(_ANSWER), _asked("x"), _said("y")], [_thought(_ANSWER)])
            if (found := self._between([*before, *answer], word, _ANSWER)) is not None
        ]
        if told and prompted == self._behind(before, word) and told[0].startswith(prompted):
            rest = told[0][len(prompted) :]
            if _NAMED.search(rest) or any(mark in rest for mark in self._opening()):
                return (told[0],)  # the template has no generation prompt: the header comes with the turn
        shared = {self.shared([prompted, found]) for found in told}
        return tuple(sorted({prompted, *shared} - {""}, key=len, reverse=True))

    def endings(self, kind: Kind, header: str) -> dict[str, Ending]:
        """Endings of this kind of turn by what follows. `header`: what may stand in front of an assistant's words."""
        tails: dict[str, str] = {}
        for role, after in _AFTER.items():
            forms = [form for turn in _TURNS[kind] if (form := self._tail(turn, after)) is not None]
            if forms:
                tails[role] = self.shared(forms, backwards=True)
        if not tails:
            return {}
        question = self._behind([_asked(_QUESTION)], _QUESTION)
        always_header = question == self._behind([_asked(_QUESTION)], _QUESTION, prompt=True)
        end = self._end(self.shared(list(tails.values())), kind, always_header)
        closed = end.endswith(tuple(self.controls.added))
        found = {role: Ending(end, tail[len(end) :], closed) for role, tail in tails.items()}
        return found if closed else found | self._own_endings(tails, question or "", end, header)

    def _end(self, common: str, kind: Kind, always_header: bool) -> str:
        """Of what stands behind a turn in every case, the part that is the turn's: it ends with a control token, or
        with a mark. Where every conversation ends with the next header, that is common too: then only up to the first.
        """
        atoms = self._atoms(common)
        opening = self._opening()
        stop = next((place for place, atom in enumerate(atoms) if atom in opening), len(atoms))
        only_first = always_header and kind == "words" and stop == len(atoms)
        atoms = atoms[:stop]
        for wanted in (self.controls.added.__contains__, self._is_mark):
            places = [place for place, atom in enumerate(atoms) if wanted(atom)]
            if places:
                return "".join(atoms[: 1 + places[0 if only_first else -1]])
        return "".join(atoms)

    def _opening(self) -> frozenset[str]:
        """The mark that conversations begin with, the tokenizer's own BOS and EOS apart: it opens messages."""
        ends = {str(token) for token in self.render.tokenizer.special_tokens_map.values() if isinstance(token, str)}
        found = set()
        for messages in ([_asked(_QUESTION)], [_SYSTEM, _asked(_QUESTION)]):
            try:
                atoms = self._atoms(render_row(self.render, messages)[1].lstrip())
            except Exception:  # a template may refuse such a conversation
                continue
            first = next((atom for atom in atoms if atom.strip() and atom not in ends), "")
            if self._is_mark(first):
                found.add(first)
        return frozenset(found)

    def _own_endings(self, tails: Mapping[str, str], question: str, end: str, header: str) -> dict[str, Ending]:
        """No control token ends every turn: a conversation may close its last one in a way of its own, or not at all.

        What follows a turn in the middle is its end only if a user's message at the end of a conversation has it too,
        and is the next header otherwise.
        """
        starts = {role: self._opening_token(tail[len(end) :]) for role, tail in tails.items()}
        closes_all = self._opening_token(question)
        in_header = header.split(closes_all, 1)[-1] if closes_all else header
        found = {}
        for role, start in starts.items():
            last = role == END and start is not None and start not in in_header
            middle = role != END and starts.get(END) is not None and start is not None and not end
            same = {start} == {other for name, other in starts.items() if name != END} and start == closes_all
            if start is not None and (last or (middle and same)):
                closed = tails[role][: tails[role].find(start, len(end)) + len(start)]
                found[role] = Ending(closed, tails[role][len(closed) :], True)
        return found

    def shared(self, texts: Sequence[str], *, backwards: bool = False) -> str:
        """The beginning (or end) that all texts have, in whole words and marks."""
        atoms = [self._atoms(text)[:: -1 if backwards else 1] for text in texts]
        kept = []
        for column in zip(*atoms, strict=False):
            if len(set(column)) > 1:
                break
            kept.append(column[0])
        return "".join(kept[:: -1 if backwards else 1])

    def _opening_token(self, text: str) -> str | None:
        first = next((atom for atom in self._atoms(text) if atom.strip()), "")
        return first if first in self.controls.added else None

    def _is_mark(self, atom: str) -> bool:
        return atom in self.controls.added or is_mark(atom)

    def _atoms(self, text: str) -> list[str]:
        odd = f"{self.controls.odd.pattern}|" if self.controls.odd else ""
        return re.findall(rf"{odd}{MARK}|\w+|\s|.", text, re.DOTALL)

    def _tail(self, turn: Message, after: Sequence[Message]) -> str | None:
        word = _last_word(turn)
        if not after:
            return self._behind([_asked(_QUESTION), turn], word)
        return self._between([_asked(_QUESTION), turn, *after], word, _last_word(after[0]))

    def _behind(self, messages: Sequence[Message], word: str, *, prompt: bool = False) -> str | None:
        try:
            _, text = render_row(self.render, messages, prompt=prompt)
        except Exception:  # a template may refuse such a conversation
            return None
        at = text.find(word)
        return None if at < 0 else text[at + len(word) :]

    def _between(self, messages: Sequence[Message], word: str, other: str) -> str | None:
        behind = self._behind(messages, word)
        at = -1 if behind is None else behind.find(other)
        return None if behind is None or at < 0 else behind[:at]


def _asked(word: str) -> Message:
    return {"role": "user", "content": word}


def _said(word: str) -> Message:
    return {"role": "assistant", "content": word}


def _thought(word: str) -> Message:
    return {"role": "assistant", "content": "z", "reasoning_content": word}


def _called(arguments: Any) -> Message:
    call = {"id": _CALL_ID, "type": "function", "function": {"name": _NAME, "arguments": arguments}}
    return {"role": "assistant", "tool_calls": [call]}


def _last_word(message: Message) -> str:
    if message.get("tool_calls"):
        return _VALUE if _VALUE in str(message["tool_calls"]) else _NAME
    return str(message["content"])


_TOOL: Message = {"role": "tool", "name": _NAME, "tool_call_id": _CALL_ID, "content": _REPLY}
_SYSTEM: Message = {"role": "system", "content": "sqzxk"}
_TURNS: Mapping[Kind, Sequence[Message]] = {
    "words": [_said(_ANSWER)],
    "call": [
        _called({"k": _VALUE}),
        _called({"k": 1}),
        _called({}),
        _called(_VALUE),
    ],
}
_AFTER: Mapping[str, Sequence[Message]] = {
    END: [],
    "user": [_asked("wqzxk")],
    "tool": [_TOOL],
    "assistant": [_said("bqzxk")],
    "system": [_SYSTEM],
}
_BEFORE: Mapping[str, Sequence[Message]] = {
    "user": [_asked(_QUESTION)],
    "tool": [_asked(_QUESTION), _called({"k": _VALUE}), _TOOL],
    "system": [_SYSTEM],
    "assistant": [_asked(_QUESTION), _said("bqzxk")],
}
