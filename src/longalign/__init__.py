"""LongAlign: the long-context alignment recipe. The public functions are imported when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longalign.core.step_plan import Step, StepPlan


__version__ = "0.1.0"
__all__ = ["Step", "StepPlan", "__version__", "plan_steps", "replan", "sequence_weights"]
_HOME = {
    "plan_steps": "longalign.core.batching",
    "replan": "longalign.core.batching",
    "Step": "longalign.core.step_plan",
    "StepPlan": "longalign.core.step_plan",
    "sequence_weights": "longalign.core.weighting",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module `longalign` has no attribute `{name}`")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
