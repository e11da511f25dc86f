"""Settings of stage `eval` and of the tasks (evaluations) of this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from longalign.base.decides import EXECUTION, REPORTING
from longalign.config.base import Alias, Settings
from longalign.config.request import RequestSettings


class NeedleSettings(Settings):
    """Needle retrieval by length and depth (paper section 4.2)."""

    lengths: tuple[int, ...] = Field((1024, 4096, 16384, 32768, 65536), description="prompt lengths in tokens")
    form: Literal["number", "sentence", "register", "uuid"] = Field(
        "number",
        description="what is hidden: `number`, `uuid` (of a city), `sentence` (of needle_file), `register` (two words "
        "after two words, which the demo's models are trained on)",
    )
    needle_file: str | None = Field(None, description="form `sentence`: .jsonl of needle, question, answer")
    depths: int = Field(10, gt=0, description="depths from the start (0) to the end (1) of the haystack")
    needles: int = Field(1, gt=0, description="needles per length and depth")
    distractors: int = Field(3, ge=0, description="other needles of the same form in the same haystack")
    haystack: tuple[str, ...] = Field((), description="documents to hide needles in; default: bundled text")
    language: Literal["en", "zh"] = Field("en", description="language of entries, question and bundled text")
    max_new_tokens: int = Field(32, gt=0, description="longest answer in tokens")
    forced_tokens: bool = Field(
        False,
        description="form `register`: also score token by token with the right answer fed in (local models)",
    )
    seed: int = Field(0, ge=0, description="random seed of the stage")


class SyntheticSettings(Settings):
    """Kinds of long-context questions made here, by length, and the effective window."""

    tasks: tuple[str, ...] = Field(("all",), description="kinds of questions (docs/guide/eval.md), or `all`")
    lengths: tuple[int, ...] = Field((1024, 4096, 16384, 32768, 65536), description="prompt lengths in tokens")
    questions: int = Field(10, gt=0, description="questions of each kind and length")
    threshold: float = Field(
        0.85, gt=0, le=1, description="score that a length must reach to count for the effective window"
    )
    haystack: tuple[str, ...] = Field((), description="documents to plant sentences in; default: bundled text")
    language: Literal["en", "zh"] = Field("en", description="language of questions and bundled text")
    max_new_tokens: int | None = Field(None, gt=0, description="longest answer in tokens; default: by the kind")
    seed: int = Field(0, ge=0, description="random seed of the stage")


class ShortSettings(Settings):
    """Short skills: held-out short instructions, scored exactly, to detect a loss of skill."""

    rows: str | None = Field(None, description="held-out short rows (.jsonl); default: the bundled generator")
    questions: int = Field(140, gt=0, description="questions asked; the generator's kinds take turns")
    language: Literal["en", "zh"] = Field("en", description="language of the bundled generator")
    max_new_tokens: int = Field(48, gt=0, description="longest answer in tokens")
    seed: int = Field(0, ge=0, description="random seed of the stage")


class ChatSettings(Settings):
    """Judged answers to open questions, as in LongBench-Chat: each answer is judged twice (paper section 4.2)."""

    cases: tuple[str, ...] = Field(
        (), description="LongBench-Chat, LongCite, LongBench or MT-Bench files; `longbench_chat` has built-in ones"
    )
    references: str | None = Field(None, description="MT-Bench: reference answers (reference_answer/gpt-4.jsonl)")
    few_shots: str | None = Field(None, description="human-scored examples, aligned with the cases (few_shots.json)")
    rubric: Literal["auto", "chat", "qa", "summary"] = Field(
        "auto", description="scale: chat 1-10, qa 1-3, summary 1-5; `auto` goes by the case's data set"
    )
    questions: int = Field(20, gt=0, description="built-in cases made")
    case_tokens: int = Field(1024, gt=0, description="length of a built-in case's document, at 4 characters a token")
    documents: tuple[str, ...] = Field((), description="held-out documents for built-in cases; default: bundled text")
    judge: str = Field("offline", description="`offline`, `openai:MODEL@BASE_URL`, or `anthropic:MODEL`")
    judge_prompt: str | None = Field(None, description="judge prompt of your own, or LongBench-Chat's prompt_fs.txt")
    protocol: Literal["own", "fastchat"] = Field(
        "own", description="mt_bench: `fastchat` judges as FastChat does, with its prompts (judge_prompts)"
    )
    judge_prompts: str | None = Field(None, description="protocol fastchat: FastChat's data/judge_prompts.jsonl")
    judge_max_new_tokens: int = Field(
        512, gt=0, description="longest verdict in tokens, thoughts included; protocol fastchat: at least 2048"
    )
    judge_reasoning_effort: str | None = Field(None, description="how much the judge thinks: low, medium, high, ...")
    judge_chat_template_kwargs: dict[str, Any] = Field(
        {}, description="given to the judge's chat template: `'{\"enable_thinking\": false}'`"
    )
    judge_extra_body: dict[str, Any] = Field({}, description="further fields of the body of the judge's requests")
    judge_finish_reasons: tuple[str, ...] = Field(
        (), description="finish reasons that also mean a complete verdict; `none`: for a server that gives none"
    )
    judge_concurrency: int = Field(8, gt=0, description="verdicts in flight at once", json_schema_extra=EXECUTION)
    judge_price_usd_per_million: tuple[float, float] | None = Field(
        None, description="price of input, output tokens", json_schema_extra=EXECUTION
    )
    judge_max_cost_usd: float | None = Field(
        None, ge=0, description="stop judging before spending more", json_schema_extra=EXECUTION
    )
    scorings: int = Field(2, gt=0, description="times each answer is judged; examples are shuffled each time")
    max_new_tokens: int = Field(1024, gt=0, description="longest answer in tokens")
    window: int | None = Field(
        None, gt=1, description="longer inputs are cut in the middle, with room for the answer; default: the model's"
    )
    seed: int = Field(0, ge=0, description="random seed of the stage")


class LongBenchV1Settings(Settings):
    """LongBench by its own prompts, caps and metrics (extra `longbench`)."""

    cases: tuple[str, ...] = Field(description="LongBench's data sets, named as there: qasper.jsonl, trec_e.jsonl")
    prompts: str = Field(description="LongBench's config/dataset2prompt.json")
    max_lengths: str = Field(description="LongBench's config/dataset2maxlen.json: longest answers in tokens")
    window: int | None = Field(None, gt=1, description="longer prompts are cut in the middle to this many tokens")
    limit: int | None = Field(None, gt=0, description="questions per data set: for trial runs, not for results")


class LongBenchV2Settings(Settings):
    """LongBench v2: one right answer of four."""

    cases: tuple[str, ...] = Field(description="LongBench v2's data.json")
    context: bool = Field(True, description="show the text; without it, only what is known or guessed is right")
    prompt: str | None = Field(
        None, description="prompt file with $DOC$, $Q$, $C_A$ to $C_D$; LongBench's work as they are"
    )
    max_new_tokens: int = Field(128, gt=0, description="longest answer in tokens")
    window: int | None = Field(None, gt=1, description="longer prompts are cut in the middle, with room for the answer")
    limit: int | None = Field(None, gt=0, description="questions asked: for trial runs, not for results")


class PositionSettings(Settings):
    """How a local model uses the text before: loss by position, and of answers with and without their document."""

    documents: tuple[str, ...] = Field((), description="held-out long documents; default: bundled text")
    lengths: tuple[int, ...] = Field(
        (1024, 2048, 4096, 8192, 16384, 32768),
        description="lengths in tokens: bins of the position end there, and losses behind so much text are compared",
    )
    most_documents: int = Field(16, ge=0, description="documents read, the longest first; 0: none")
    scored_tokens: int = Field(
        256, gt=0, description="tokens at the end of a document whose loss is compared behind more and less text"
    )
    rows: str | None = Field(
        None, description="held-out rows of conversations about documents (.jsonl); default: built-in questions"
    )
    questions: int = Field(20, ge=0, description="rows whose answers are scored, the first ones; 0: none")
    row_tokens: int = Field(1024, gt=0, description="length of a built-in row's document, at 4 characters a token")
    seed: int = Field(0, ge=0, description="random seed of the stage")

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if not self.lengths or min(self.lengths) <= self.scored_tokens:
            raise ValueError(f"each of `lengths` must be more than scored_tokens ({self.scored_tokens}); give some")
        return self


class LeaderboardSettings(Settings):
    """ARC, HellaSwag, TruthfulQA and MMLU by lm-evaluation-harness (extra `leaderboard`; it fetches its own data)."""

    tasks: dict[str, int | None] = Field(
        {"arc_challenge": 25, "hellaswag": 10, "truthfulqa_mc2": 0, "mmlu": 5},
        description="task -> examples shown (Open LLM Leaderboard, as in the paper)",
    )
    limit: int | None = Field(None, gt=0, description="questions per task: for trial runs, not for results")
    batch_size: int = Field(8, gt=0, description="sequences a batch", json_schema_extra=EXECUTION)
    dtype: str = Field("auto", description="precision the model is loaded in")
    include_path: str | None = Field(None, description="folder of task files of your own")
    seed: int = Field(0, ge=0, description="random seed of the stage")


class TaskSettings(Settings):
    """Which tasks a model is measured on, and how a local one reads them."""

    aliases: ClassVar[Mapping[str, Alias]] = {"chat": Alias("longbench_chat")}

    chat_template: str | None = Field(
        None, description="Jinja file that renders conversations; default: the tokenizer's own (base models have none)"
    )
    batch_tokens: int = Field(
        16384, gt=0, description="prompt tokens a local model takes at once", json_schema_extra=EXECUTION
    )
    share_prefixes: bool = Field(
        True,
        description="a local model reads the common beginning of several prompts once; in bf16 last bits may differ",
        json_schema_extra=EXECUTION,
    )
    needle: NeedleSettings | None = Field(None, description="needles over lengths and depths")
    synthetic: SyntheticSettings | None = Field(None, description="kinds of long questions by length; effective window")
    short: ShortSettings | None = Field(None, description="held-out short instructions, scored exactly")
    longbench_chat: ChatSettings | None = Field(None, description="LongBench-Chat, or built-in cases of its kind")
    longbench: ChatSettings | None = Field(None, description="LongBench's questions and summaries")
    longbench_v1: LongBenchV1Settings | None = Field(None, description="LongBench by its own metrics")
    longbench_v2: LongBenchV2Settings | None = Field(None, description="LongBench v2: one of four choices")
    mt_bench: ChatSettings | None = Field(None, description="MT-Bench: short questions of two turns")
    position: PositionSettings | None = Field(None, description="loss by position, and of answers without document")
    leaderboard: LeaderboardSettings | None = Field(None, description="ARC, HellaSwag, TruthfulQA, MMLU")
    tasks: dict[str, dict[str, Any] | None] = Field(
        {}, description="tasks of your own: name -> its settings, and `task`: my_package.my_task:MyTask"
    )

    @model_validator(mode="after")
    def _require_cases(self) -> Self:
        for name in ("longbench", "mt_bench"):
            judged: ChatSettings | None = getattr(self, name)
            if judged is not None and not judged.cases:
                raise ValueError(f"{name} needs `cases`, the files of its questions; only longbench_chat has its own")
        return self


class EvalSettings(TaskSettings, RequestSettings):
    """Stage `eval`: which tasks run on which model, and what goes to it with every request."""

    model: str = Field(
        "builtin:tiny-base", description="model directory, hub id, `openai:MODEL@BASE_URL` or `anthropic:MODEL`"
    )
    label: str | None = Field(
        None, description="what tables call the model; default: its directory or name", json_schema_extra=REPORTING
    )
    model_seed: int | None = Field(
        None,
        description="seed the model was trained with; results of one label with different seeds are averaged",
        json_schema_extra=REPORTING,
    )
    tokenizer: str | None = Field(None, description="tokenizer for an endpoint; default: characters / 4, stated")
    concurrency: int = Field(8, gt=0, description="calls in flight at once (endpoints)", json_schema_extra=EXECUTION)
    price_usd_per_million: tuple[float, float] | None = Field(
        None, description="price of input, output tokens", json_schema_extra=EXECUTION
    )
    max_cost_usd: float | None = Field(
        None, ge=0, description="stop asking the model before spending more", json_schema_extra=EXECUTION
    )
    thinking_tokens: int = Field(
        0, ge=0, description="room for a model's thoughts, on top of the `max_new_tokens` of every task"
    )
    trust_remote_code: bool = Field(False, description="run code that ships with the model; only if you trust it")
