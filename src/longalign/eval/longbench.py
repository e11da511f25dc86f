"""Task `longbench`: LongBench's questions and summaries, judged as in the paper's Table 2 (S-Doc, M-Doc, Summ)."""

from __future__ import annotations

from longalign.eval.judged import AssumedCases, JudgedTask


class LongBench(JudgedTask):
    """Each data set on its own scale; categories are the paper's groups."""

    name = "longbench"
    title = "LongBench"
    assumed = AssumedCases(200, (2_000, 32_000))
