"""Settings of every stage: frozen, typed, validated. `longalign.config.load` reads them from YAML.

Keys follow `transformers.TrainingArguments` and the `messages` convention wherever those have a name.
"""

from longalign.config.base import Settings
from longalign.config.data import DataSettings
from longalign.config.eval import ChatSettings, EvalSettings, LeaderboardSettings, NeedleSettings, ShortSettings
from longalign.config.plan import PlanSettings
from longalign.config.recipe import AssumedLengths, RunSettings, RunTrainSettings
from longalign.config.train import (
    ExtendSettings,
    LoopSettings,
    OptimizerSettings,
    Overlong,
    RopeSettings,
    Strategy,
    TrainSettings,
    Weighting,
)

__all__ = [
    "AssumedLengths",
    "ChatSettings",
    "DataSettings",
    "EvalSettings",
    "ExtendSettings",
    "LeaderboardSettings",
    "LoopSettings",
    "NeedleSettings",
    "OptimizerSettings",
    "Overlong",
    "PlanSettings",
    "RopeSettings",
    "RunSettings",
    "RunTrainSettings",
    "Settings",
    "ShortSettings",
    "Strategy",
    "TrainSettings",
    "Weighting",
]
