"""A task whose score depends on every character of an answer, so that equal curves mean equal models."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterable
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from pydantic import Field

from longalign.config import Settings
from longalign.eval.task import ExactTask, Question
from longalign.eval.token_view import TokenView


class HashSettings(Settings):
    questions: int = 5
    dies_beside: str | None = Field(None, description="a file that is removed before the process kills itself")


class Hash(ExactTask[HashSettings, Question]):
    name = "hash"
    title = "Hash"
    settings_class = HashSettings
    graded = True

    def questions(self, view: TokenView) -> Iterable[Question]:
        for number in range(self.settings.questions):
            asked = "the register gives " * (number + 1)  # of unlike lengths: batches are padded on the left
            yield Question.of(str(number), asked, "", max_new_tokens=6)

    def score(self, question: Question, answer: str) -> float:
        torch.rand(3), np.random.rand(3), random.random()  # whoever draws disturbs nobody
        if self.settings.dies_beside and Path(self.settings.dies_beside).exists():
            Path(self.settings.dies_beside).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return crc32(answer.encode()) / 2**32
