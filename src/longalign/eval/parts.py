"""Names of the parts of an evaluation: keys of settings, of results and of folders."""

from typing import Literal, get_args

JudgedPart = Literal["chat", "longbench", "mt_bench"]
JUDGED_PARTS: tuple[JudgedPart, ...] = get_args(JudgedPart)
EVAL_PARTS = ("needle", "short", *JUDGED_PARTS, "leaderboard")
