"""`longalign eval TASK --plan-only`: prompts, tokens, time and money of one evaluation before anything is asked."""

from __future__ import annotations

from typing import Any

from longalign.config import EvalSettings
from longalign.core.hardware import MACHINES
from longalign.errors import LongAlignError
from longalign.eval.cost import plan_eval
from longalign.eval.registry import tasks_of
from longalign.llm.open import expected_cost_usd, is_endpoint
from longalign.plan.known_models import model_shape

ASSUMED_WINDOW = 4096


def plan_of_eval(settings: EvalSettings) -> dict[str, Any]:
    """What the tasks that are set ask of the model: counts, `answer_tokens_at_most`, `cost_usd` (None without a
    price; 0 for a local model), `reading_hours` of a local model by machine, calls to a judge, notes, and `text`.

    Calls no model and writes nothing.
    """
    asks = plan_eval(settings, models=1, window=ASSUMED_WINDOW)
    notes = list(asks.notes)
    prompts = sum(task.questions for task in asks.tasks.values())
    tokens = sum(task.prompt_tokens for task in asks.tasks.values())
    answers = sum(
        asks.tasks[task.name].questions * getattr(task.settings, "max_new_tokens", 0)
        for task in tasks_of(settings)
        if task.name in asks.tasks
    )
    cost_usd = expected_cost_usd(settings.model, settings.price_usd_per_million, tokens, answers)
    if cost_usd is None:
        notes.append('no price: give --price_usd_per_million "[2.5, 10]" (input, output)')
    hours: dict[str, float] = {}
    if not is_endpoint(settings.model) and not settings.model.startswith("offline"):
        try:
            shape = model_shape(settings.model.removeprefix("hf:"))
        except LongAlignError as error:
            notes.append(f"no time: {error}")
        else:
            flops = sum(float(shape.sequence_cost().flops(found).sum()) / 3 for found in asks.prompt_tokens_N.values())
            hours = {
                name: round(flops / (machine.peak_flops * machine.efficiency) / 3600, 9)
                for name, machine in MACHINES.items()
            }
            notes.append(
                "hours are for reading the prompts on one device at half of its peak; writing answers is extra"
            )
    plan = {
        "model": settings.model,
        "prompts": prompts,
        "prompt_tokens": tokens,
        "answer_tokens_at_most": answers,
        "cost_usd": cost_usd,
        "reading_hours": hours,
        **{key: value for key, value in asks.as_dict().items() if key in ("parts", "judge")},
        "notes": notes,
    }
    return plan | {"text": "\n".join(lines_of(plan))}


def lines_of(plan: dict[str, Any]) -> list[str]:
    """The plan for a person."""
    asked = f"{plan['prompts']:,} prompts of {plan['prompt_tokens']:,} tokens, answers of at most "
    lines = [f"{plan['model']}: {asked}{plan['answer_tokens_at_most']:,} tokens"]
    if len(plan["parts"]) > 1:
        lines += [
            f"  {name}: {p['questions']:,} prompts of {p['prompt_tokens']:,} tokens"
            for name, p in plan["parts"].items()
        ]
    if plan["cost_usd"]:
        lines.append(f"  money: about {plan['cost_usd']:,.2f} USD for the model")
    for judge in plan["judge"].values():
        money = "price unknown" if judge["cost_usd"] is None else f"{judge['cost_usd']:,.2f} USD"
        lines.append(f"  judge {judge['judge']}: {judge['calls']:,} calls, {money}")
    if plan["reading_hours"]:
        times = ", ".join(f"{duration(hours)} on {name}" for name, hours in plan["reading_hours"].items())
        lines.append(f"  reading: {times}")
    return lines + [f"- {note}" for note in plan["notes"]]


def duration(hours: float) -> str:
    """`12 s`, `34 min` or `5.6 h`."""
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s" if hours >= 1 / 3600 else "under 1 s"
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:,.1f} h"
