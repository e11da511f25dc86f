"""What an evaluation comes to is said before it: prompts, tokens, time of a local model, money of an endpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from longalign.config import ChatSettings, EvalSettings, LeaderboardSettings, NeedleSettings
from longalign.recipe.plan_eval import duration, plan_of_eval
from tests.micro import longalign

NEEDLE = NeedleSettings(lengths=(1000, 3000), depths=2, needles=5, max_new_tokens=10)
ENDPOINT = "openai:m@http://localhost:1/v1"


def test_prompts_tokens_and_money_of_an_endpoint() -> None:
    plan = plan_of_eval(EvalSettings(model=ENDPOINT, needle=NEEDLE, price_usd_per_million=(2.0, 10.0)))
    assert (plan["prompts"], plan["prompt_tokens"], plan["answer_tokens_at_most"]) == (20, 40_000, 200)
    assert plan["cost_usd"] == pytest.approx(40_000 * 2e-6 + 200 * 10e-6)
    assert plan["reading_hours"] == {}
    assert "20 prompts of 40,000 tokens" in plan["text"]


def test_an_endpoint_without_price_costs_something_unknown_not_nothing() -> None:
    plan = plan_of_eval(EvalSettings(model=ENDPOINT, needle=NEEDLE))
    assert plan["cost_usd"] is None
    assert "--price_usd_per_million" in plan["text"]


def test_a_local_model_costs_time_that_grows_with_the_model_and_with_length() -> None:
    def hours(model: str, length: int) -> float:
        settings = NEEDLE.model_copy(update={"lengths": (length,)})
        return float(plan_of_eval(EvalSettings(model=model, needle=settings))["reading_hours"]["a100-80g"])

    assert hours("70b", 1000) > 5 * hours("8b", 1000)
    assert hours("8b", 64_000) > 64 * hours("8b", 1000)  # attention grows with the square
    weights = 8.03e9 - 128_256 * 4096  # looking an embedding up costs nothing
    two_8b = 2 * weights * 10 * 1000 / (312e12 / 2) / 3600  # two FLOPs a weight and token; attention is small
    assert hours("8b", 1000) == pytest.approx(two_8b, rel=0.1)


def test_the_judge_is_counted_apart_and_what_is_not_counted_is_said() -> None:
    chat = ChatSettings(questions=3, judge=ENDPOINT, judge_price_usd_per_million=(1.0, 1.0))
    plan = plan_of_eval(EvalSettings(longbench_chat=chat, leaderboard=LeaderboardSettings()))
    assert plan["judge"]["longbench_chat"]["calls"] == 6
    assert any("leaderboard" in note for note in plan["notes"])


def test_the_command_prints_the_plan_and_writes_nothing(tmp_path: Path) -> None:
    done = longalign("eval", "needle", "--lengths", "100,200", "--plan-only", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "20 prompts of 3,000 tokens" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("hours", "said"), [(0.0, "under 1 s"), (0.01, "36 s"), (0.5, "30 min"), (5.6, "5.6 h")])
def test_durations(hours: float, said: str) -> None:
    assert duration(hours) == said
