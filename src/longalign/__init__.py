"""LongAlign: the long-context alignment recipe, as functions. The tutorial is docs/guide/python.md.

A name is imported when it is first used, so `import longalign` costs nothing and planning never loads torch:

plan        `plan_steps`, `replan`, `StepPlan`, `Step`, `load_plan`, `sequence_weights`, `WeightSchedule`
tokens      `tokenize_conversation`, `tokenize_document`, `TokenSequence`, `TokenStore`
train       `prepare_model` and `pack` in a loop of your own; `PackedDataset`, `PackCollator`, `PlanCheck` in your own
            `transformers.Trainer`; the parts: `register_packed_attention`, `PACKED_ATTENTION`, `pack_kwargs`,
            `attach_loss`, `weighted_nll`, `check_isolation`; `model_dir` of a bundled model
stages      `build_rows`, `extend_model`, `train_model`, `plan_run`, `evaluate`, `compare`, `write_report` with their
            settings (`TrainSettings`, ...)
statistics  `mean_interval`, `wilson_interval`, `paired_comparison`, `paired_share_interval`, `paired_share_p`,
            `sign_flip_p`, `mcnemar_p`, `holm`, `rank_correlation`, `minimum_detectable`, `questions_needed`
errors      `LongAlignError` and its subclasses, drawn as a tree in `longalign.errors`

`longalign.train`, `longalign.plan` and `longalign.report` are packages; call the functions above instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longalign.base.sources import model_dir
    from longalign.config import (
        ChatSettings,
        DataSettings,
        EvalSettings,
        ExtendSettings,
        LeaderboardSettings,
        NeedleSettings,
        PlanSettings,
        PositionSettings,
        RopeSettings,
        ShortSettings,
        TrainSettings,
    )
    from longalign.core.batching import plan_steps, replan
    from longalign.core.paired import (
        PairedComparison,
        mcnemar_p,
        paired_comparison,
        paired_share_interval,
        paired_share_p,
        sign_flip_p,
    )
    from longalign.core.power import minimum_detectable, questions_needed
    from longalign.core.stats import (
        Interval,
        RankCorrelation,
        holm,
        mean_interval,
        rank_correlation,
        wilson_interval,
    )
    from longalign.core.step_plan import Step, StepPlan, load_plan
    from longalign.core.weighting import WeightSchedule, sequence_weights
    from longalign.data.store import TokenStore
    from longalign.data.tokenize import TokenSequence, tokenize_conversation, tokenize_document
    from longalign.errors import (
        ConfigError,
        DataError,
        EndpointError,
        LongAlignError,
        ModelError,
        PlanError,
        RunError,
        UnreadableError,
    )
    from longalign.recipe.stages import build_rows, compare, evaluate, extend_model, plan_run, train_model, write_report
    from longalign.train.attention import NAME as PACKED_ATTENTION
    from longalign.train.attention import pack_kwargs
    from longalign.train.attention import register as register_packed_attention
    from longalign.train.check_isolation import check_isolation
    from longalign.train.loss import attach_loss, weighted_nll
    from longalign.train.own_trainer import PackCollator, PackedDataset, PlanCheck, pack, prepare_model

__version__ = "0.1.0"
__all__ = [
    "PACKED_ATTENTION",
    "ChatSettings",
    "ConfigError",
    "DataError",
    "DataSettings",
    "EndpointError",
    "EvalSettings",
    "ExtendSettings",
    "Interval",
    "LeaderboardSettings",
    "LongAlignError",
    "ModelError",
    "NeedleSettings",
    "PackCollator",
    "PackedDataset",
    "PairedComparison",
    "PlanCheck",
    "PlanError",
    "PlanSettings",
    "PositionSettings",
    "RankCorrelation",
    "RopeSettings",
    "RunError",
    "ShortSettings",
    "Step",
    "StepPlan",
    "TokenSequence",
    "TokenStore",
    "TrainSettings",
    "UnreadableError",
    "WeightSchedule",
    "__version__",
    "attach_loss",
    "build_rows",
    "check_isolation",
    "compare",
    "evaluate",
    "extend_model",
    "holm",
    "load_plan",
    "mcnemar_p",
    "mean_interval",
    "minimum_detectable",
    "model_dir",
    "pack",
    "pack_kwargs",
    "paired_comparison",
    "paired_share_interval",
    "paired_share_p",
    "plan_run",
    "plan_steps",
    "prepare_model",
    "questions_needed",
    "rank_correlation",
    "register_packed_attention",
    "replan",
    "sequence_weights",
    "sign_flip_p",
    "tokenize_conversation",
    "tokenize_document",
    "train_model",
    "weighted_nll",
    "wilson_interval",
    "write_report",
]
_MODULES = {
    "base.sources": "model_dir",
    "config": "ChatSettings DataSettings EvalSettings ExtendSettings LeaderboardSettings NeedleSettings PlanSettings "
    "PositionSettings RopeSettings ShortSettings TrainSettings",
    "core.batching": "plan_steps replan",
    "core.paired": "PairedComparison mcnemar_p paired_comparison paired_share_interval paired_share_p sign_flip_p",
    "core.power": "minimum_detectable questions_needed",
    "core.stats": "Interval RankCorrelation holm mean_interval rank_correlation wilson_interval",
    "core.step_plan": "Step StepPlan load_plan",
    "core.weighting": "WeightSchedule sequence_weights",
    "data.store": "TokenStore",
    "data.tokenize": "TokenSequence tokenize_conversation tokenize_document",
    "errors": "ConfigError DataError EndpointError LongAlignError ModelError PlanError RunError UnreadableError",
    "recipe.stages": "build_rows compare evaluate extend_model plan_run train_model write_report",
    "train.attention": "pack_kwargs",
    "train.check_isolation": "check_isolation",
    "train.loss": "attach_loss weighted_nll",
    "train.own_trainer": "PackCollator PackedDataset PlanCheck pack prepare_model",
}
_HOME = {name: (module, name) for module, names in _MODULES.items() for name in names.split()} | {
    "PACKED_ATTENTION": ("train.attention", "NAME"),
    "register_packed_attention": ("train.attention", "register"),
}

if not TYPE_CHECKING:  # a type checker would believe that every name is there

    def __getattr__(name: str) -> Any:
        from importlib import import_module

        if name not in _HOME:
            from longalign.errors import nearest

            raise AttributeError(f"module `longalign` has no attribute `{name}`{nearest(name, __all__)}")
        module, attribute = _HOME[name]
        found = globals()[name] = getattr(import_module(f"longalign.{module}"), attribute)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
