"""Prompts of ingredients are read back as they were written, verdicts leniently, and checks go to the checker."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longalign.llm.base import Reply, Request, complete_all
from longalign.llm.check_prompts import ADDED, FIELD, SECTIONS, Section, read_check, write
from longalign.llm.ledger import request_key
from longalign.llm.offline import answer
from longalign.llm.prompt import LANGUAGES, PromptLanguage, QuestionsAsked, questions_request, read_request, sections
from longalign.llm.team import CheckRequest, Team
from longalign.llm.verdict import SCORES, read_scores, read_verdict, read_yes

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40)


@given(st.sampled_from(SECTIONS), st.sampled_from(LANGUAGES), TEXT, TEXT, TEXT)
def test_what_is_written_is_read_back(
    section: Section, language: PromptLanguage, document: str, first: str, second: str
) -> None:
    names = dict.fromkeys(FIELD.findall(re.escape(sections(language)[section])))
    values = dict(zip(names, (first, second), strict=False))
    asked = read_check(write(section, language, before=document, **values))
    assert asked is not None
    assert (asked.section, asked.before) == (section, document)
    if first.strip() and second.strip():
        assert (dict(asked.values), asked.language) == (values, language) or not values


@given(st.sampled_from(ADDED), TEXT)
def test_the_stand_in_reads_through_what_is_added(section: Section, document: str) -> None:
    plain = questions_request(document, "general", 5, "en")
    values = {"reader": "a reader", "intent": "why", "compare": "2"}
    name = {"compare": "documents"}.get(section, section)
    request = write(section, "en", before=plain, **{name: values[section]})
    seed = 3
    said = [answer(Request(messages=({"role": "user", "content": text},), seed=seed)) for text in (plain, request)]
    assert said[0] == said[1]
    assert isinstance(read_request(plain), QuestionsAsked)


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("supported: yes\ncomplete: no\ncorrect: yes", (True, False, True)),
        ("Supported – see: Yes\n", None),
        ("supported: yes or no\ncomplete: yes or no\ncorrect: yes or no", None),
        ("supported: yes\ncomplete: partly\ncorrect: yes", None),
        ("First thought: supported: no.\n\nsupported: yes\ncomplete: yes\ncorrect: yes", (True, True, True)),
        ("supported: yesterday\ncomplete: yes\ncorrect: yes", None),
        ('```json\n{"supported": false,\n"complete": true, "correct": true}\n```', (False, True, True)),
        ("| supported | yes |\n| complete | yes |\n| correct | yes |", None),
        ("", None),
    ],
)
def test_a_verdict_is_read_where_all_of_it_is_clear(reply: str, found: tuple[bool, ...] | None) -> None:
    verdict = read_verdict(reply)
    assert (verdict and (verdict.supported, verdict.complete, verdict.correct)) == found


@given(
    st.lists(st.integers(0, 10), min_size=4, max_size=4), st.sampled_from(["{}", "[[{}]]", "**{}**", "{}/10", "{}.0"])
)
def test_scores_are_read_as_they_were_given(scores: list[int], form: str) -> None:
    reply = "\n".join(f"{name}: {form.format(score)}" for name, score in zip(SCORES, scores, strict=True))
    assert read_scores(reply, SCORES) == dict(zip(SCORES, map(float, scores), strict=True))


def test_a_score_that_is_not_there_or_out_of_range_is_missing_and_not_zero() -> None:
    reply = "helpfulness: 0 to 10\nlogicality: 11\nfaithfulness: high\ncompleteness: 0"
    assert read_scores(reply, SCORES) == {"completeness": 0.0}
    assert read_yes("Yes.", "answerable") is True
    assert read_yes("否", "answerable") is False
    assert read_yes("It depends: yes and no", "answerable") is None


@pytest.mark.parametrize(
    ("yes", "no", "either"),
    [
        ("はい", "いいえ", "または"), ("예", "아니요", "또는"), ("Sí", "No", "o"), ("Oui", "Non", "ou"),
        ("Ja", "Nein", "oder"), ("Да", "Нет", "или"), ("نعم", "لا", "أو"),
    ],
)  # fmt: skip
def test_a_verdict_in_the_documents_language_is_read_too(yes: str, no: str, either: str) -> None:
    assert read_yes(f"supported: {yes}\n", "supported") is True
    assert read_yes(f"**supported**: {no}.", "supported") is False
    assert read_yes(f"supported: {yes} {either} {no}", "supported") is None
    assert read_yes(f"{yes}。", "answerable") is True


class Named:
    batched = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen: list[Request] = []

    def complete(self, requests):  # type: ignore[no-untyped-def]
        for index, request in enumerate(requests):
            self.seen.append(request)
            yield index, Reply(text=self.name, model=self.name)


@given(st.lists(st.booleans(), max_size=12))
def test_a_team_sends_checks_to_the_checker_and_keeps_the_order(checks: list[bool]) -> None:
    team = Team(Named("writer"), Named("checker"))
    message = ({"role": "user", "content": "?"},)
    requests = [CheckRequest(messages=message) if check else Request(messages=message) for check in checks]
    said = [outcome.text for outcome in complete_all(team, requests)]
    assert said == ["checker" if check else "writer" for check in checks]
    assert request_key("m", CheckRequest(messages=message)) == request_key("m", Request(messages=message))
