"""Settings of every stage: frozen, typed, validated. `longalign.config.load` reads them from YAML.

Keys follow `transformers.TrainingArguments` and the `messages` convention wherever those have a name.
"""

from longalign.config.base import Settings
from longalign.config.data import DataSettings
from longalign.config.documents import DocumentSettings
from longalign.config.eval import (
    ChatSettings,
    EvalSettings,
    LeaderboardSettings,
    LongBenchV1Settings,
    LongBenchV2Settings,
    NeedleSettings,
    PositionSettings,
    ShortSettings,
    SyntheticSettings,
    TaskSettings,
)
from longalign.config.execution import (
    AdapterSettings,
    BatchingSettings,
    ExecutionSettings,
    FineTuningSettings,
    OptimizerSettings,
    Overlong,
    Parallel,
    RowSettings,
    StepSettings,
    Strategy,
    Weighting,
)
from longalign.config.executor import ExecutorSettings
from longalign.config.mix import MixSettings, Portion
from longalign.config.plan import PlanSettings
from longalign.config.preferences import PreferenceSettings
from longalign.config.questions import QuestionSettings
from longalign.config.recipe import AssumedLengths, RunSettings, RunTrainSettings
from longalign.config.request import RequestSettings
from longalign.config.train import EarlyStopSettings, ExtendSettings, LoopSettings, RopeSettings, TrainSettings

__all__ = [
    "AdapterSettings",
    "AssumedLengths",
    "BatchingSettings",
    "ChatSettings",
    "DataSettings",
    "DocumentSettings",
    "EarlyStopSettings",
    "EvalSettings",
    "ExecutionSettings",
    "ExecutorSettings",
    "ExtendSettings",
    "FineTuningSettings",
    "LeaderboardSettings",
    "LongBenchV1Settings",
    "LongBenchV2Settings",
    "LoopSettings",
    "MixSettings",
    "NeedleSettings",
    "OptimizerSettings",
    "Overlong",
    "Parallel",
    "PlanSettings",
    "Portion",
    "PositionSettings",
    "PreferenceSettings",
    "QuestionSettings",
    "RequestSettings",
    "RopeSettings",
    "RowSettings",
    "RunSettings",
    "RunTrainSettings",
    "Settings",
    "ShortSettings",
    "StepSettings",
    "Strategy",
    "SyntheticSettings",
    "TaskSettings",
    "TrainSettings",
    "Weighting",
]
