"""Task `longbench_chat`: open questions over long documents (paper section 4.2), or questions made by rule.

Without `cases` a few questions are made over held-out text; they exercise the judged path and need no download.
"""

from __future__ import annotations

from collections.abc import Sequence

from longalign.eval.builtin_cases import builtin_cases
from longalign.eval.cases import Case
from longalign.eval.judged import AssumedCases, JudgedTask
from longalign.eval.needle import DEFAULT_HAYSTACK, read_texts
from longalign.eval.task import Reads


class LongBenchChat(JudgedTask):
    """LongBench-Chat, its LongCite variant, or built-in cases of its kind."""

    name = "longbench_chat"
    title = "LongBench-Chat and its like"
    assumed = AssumedCases(50, (10_000, 100_000))

    def reads(self) -> Reads:
        read = super().reads()
        return read if self.settings.cases else Reads(read.files, {"documents": self.documents})

    @property
    def documents(self) -> Sequence[str]:
        """The documents of built-in cases."""
        return self.settings.documents or (DEFAULT_HAYSTACK["en"],)

    def cases(self) -> list[Case]:
        wanted = self.settings
        if wanted.cases:
            return super().cases()
        texts = read_texts(self.documents)
        return builtin_cases(texts, count=wanted.questions, tokens=wanted.case_tokens, seed=wanted.seed)
