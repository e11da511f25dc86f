"""Settings of every stage: frozen, typed, validated. `recipe.py` reads them from YAML.

Keys follow `transformers.TrainingArguments` and the `messages` convention wherever those have a name.
"""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

Strategy = Literal["padded", "sorted", "packed", "balanced"]
Weighting = Literal["token", "sequence", "sqrt", "plain_packing"]
Overlong = Literal["truncate_middle_of_document", "truncate_right", "split", "drop"]


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, values: Any) -> Any:
        """Where several values may stand one may stand alone: `--decontaminate FILE`, `text: books/`."""
        if not isinstance(values, dict):
            return values
        several = {name for name, field in cls.model_fields.items() if get_args(field.annotation)[1:] == (Ellipsis,)}
        return {k: (v,) if k in several and isinstance(v, str | int | float) else v for k, v in values.items()}


def _check_quantised(quantize: str | None, lora_rank: int | None) -> None:
    if quantize and lora_rank is None:
        raise ValueError("quantize: 4-bit weights cannot be trained; add lora_rank to train adapters beside them")


class RopeSettings(Settings):
    """How position encoding is stretched before the model is built (paper section 4.1: base x 200)."""

    method: Literal["base", "auto", "ntk", "linear", "yarn", "llama3"] = Field(
        "base", description="`base` multiplies the base frequency; `auto` derives the base from the window"
    )
    base_factor: float = Field(200.0, gt=0, description="factor on the RoPE base for `base` (paper: 200)")
    factor: float | None = Field(
        None, gt=0, description="window ratio for ntk, linear, yarn and llama3; default: window / trained window"
    )
    trained_window: int | None = Field(
        None, gt=0, description="tokens the model was trained on; default: max_position_embeddings of its config"
    )


class OptimizerSettings(Settings):
    """Optimizer and schedule; the paper's values are the defaults (section 4.1)."""

    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="`muon` = torch.optim.Muon for matrices with AdamW for the rest"
    )
    learning_rate: float = Field(2e-5, gt=0, description="peak learning rate (AdamW part)")
    muon_learning_rate: float = Field(0.02, gt=0, description="peak learning rate of Muon's matrices")
    lr_scheduler_type: Literal["cosine", "linear", "constant", "constant_with_warmup"] = Field(
        "cosine", description="schedule after warm-up"
    )
    warmup_ratio: float = Field(0.03, ge=0, lt=1, description="share of steps spent warming up")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="decay of AdamW's mean of gradients")
    adam_beta2: float = Field(0.95, ge=0, lt=1, description="decay of AdamW's mean of squared gradients")
    weight_decay: float = Field(0.0, ge=0, description="of matrices; norms, biases and embeddings have none")
    max_grad_norm: float = Field(1.0, ge=0, description="gradient clipping; 0 turns it off")


class LoopSettings(OptimizerSettings):
    """What every training loop shares: batching, precision, checkpoints."""

    window: int = Field(65536, gt=1, description="maximum context in tokens")
    strategy: Strategy = Field("balanced", description="how sequences become steps, ranks and microbatches")
    weighting: Weighting = Field(
        "sequence",
        description="what counts once: a sequence (Eq. 2), a token, or between; plain_packing is Eq. 3, to compare",
    )
    token_weighting_steps: int = Field(
        0, ge=0, description="schedule: this many first steps weigh by token, then by `weighting`"
    )
    sequences_per_step: int = Field(96, gt=0, description="sequences in one optimizer step over all ranks")
    token_limit: int | None = Field(
        None, gt=1, description="tokens of a `balanced` microbatch; default: the window, on CPU at least 4096"
    )
    rows_per_microbatch: int = Field(1, gt=0, description="rows a padded or sorted microbatch holds")
    num_train_epochs: int = Field(1, gt=0, description="times every sequence is trained on")
    max_steps: int | None = Field(None, gt=0, description="stop after this many optimizer steps")
    seed: int = Field(0, ge=0, description="of every random choice of the stage")
    dtype: Literal["float32", "bfloat16", "float64"] = Field(
        "bfloat16", description="precision of compute; on CPU float32 is used unless float64 is asked for"
    )
    gradient_checkpointing: bool | None = Field(
        None, description="recompute activations in the backward pass; default: on a GPU"
    )
    activation_offload: bool = Field(False, description="keep checkpointed activations in CPU memory")
    mlp_tile_tokens: int | None = Field(
        None, gt=0, description="tokens of a sequence that pass a layer's MLP at once; default: all of them"
    )
    liger_kernels: bool = Field(False, description="Liger's fused kernels for norms, MLPs and RoPE (CUDA only)")
    loss_chunk_tokens: int | None = Field(
        None, gt=0, description="targets whose logits are held at once; default: by device and vocabulary"
    )
    parallel: Literal["none", "ddp", "fsdp2", "deepspeed"] | None = Field(
        None, description="default: none on one rank, fsdp2 on several GPUs or to offload, ddp on several CPU ranks"
    )
    sequence_parallel: int = Field(1, gt=0, description="ranks that share one pack (Ulysses)")
    cpu_offload: bool = Field(
        False, description="parameters and optimizer states in CPU memory (fsdp2, also on one GPU; deepspeed)"
    )
    save_steps: int = Field(100, gt=0, description="optimizer steps between checkpoints")
    save_total_limit: int = Field(2, gt=0, description="good checkpoints kept")
    logging_steps: int = Field(1, gt=0, description="optimizer steps between rows of metrics.jsonl")
    eval_steps: int | None = Field(None, gt=0, description="steps between held-out losses; default: only at the end")
    report_to: tuple[str, ...] = Field((), description="Trainer trackers: wandb, tensorboard, mlflow")

    @model_validator(mode="after")
    def _only_checkpointed_activations_are_offloaded(self) -> Self:
        if self.activation_offload and self.gradient_checkpointing is False:
            raise ValueError("activation_offload keeps what gradient_checkpointing saves, which is off; turn it on")
        return self

    @model_validator(mode="after")
    def _packs_must_be_fixed_to_weigh_by_them(self) -> Self:
        if self.weighting == "plain_packing" and self.strategy != "packed":
            raise ValueError(
                f"weighting plain_packing needs strategy packed: the packs of {self.strategy!r} depend on the ranks"
            )
        return self


class ExtendSettings(LoopSettings):
    """Stage `extend`: stretch RoPE, continue pretraining on long text (paper section 4.1)."""

    model: str = Field("builtin:tiny-base", description="model directory, hub id or `builtin:tiny-base`")
    text: tuple[str, ...] = Field((), description="files or folders of documents; `builtin:` names a bundled corpus")
    data: dict[str, int | None] = Field(
        {}, description="row files mixed into the text (answers are targets), and how many rows to draw; null = all"
    )
    rope: RopeSettings = Field(RopeSettings(), description="how the position encoding is stretched")
    init: Literal["weights", "random"] = Field("weights", description="`random` builds the model from its config")
    weighting: Weighting = Field("token", description="continual pretraining counts tokens")
    num_train_epochs: int = Field(1, gt=0, description="times every sequence is trained on")


class DataSettings(Settings):
    """Stage `data`: long instructions by Self-Instruct from documents (paper section 3.1)."""

    documents: tuple[str, ...] = Field((), description="files, folders, .jsonl, .parquet, or `builtin:` corpora")
    llm: str = Field(
        "offline", description="`offline`, `openai:MODEL@BASE_URL`, `anthropic:MODEL`, or a local model directory"
    )
    rows: int = Field(10_000, gt=0, description="accepted rows wanted (paper: 10,000)")
    tokenizer: str = Field("builtin:tiny-base", description="tokenizer that counts lengths")
    min_length_tokens: int | None = Field(
        None,
        gt=0,
        description="shortest document; default: 8192 (paper), and shorter ones only where longer do not suffice",
    )
    max_length_tokens: int = Field(65536, gt=31, description="longest row (paper: 64k)")
    reserve_tokens: int | None = Field(
        None,
        gt=0,
        description="tokens of a row kept free for questions and answers; default: a sixteenth of the row, "
        "in short rows more (40 a turn and 12 a register entry, at most half)",
    )
    longer_documents: Literal["cut", "skip"] = Field(
        "cut", description="documents above the limit: cut into parts of evenly drawn length, or leave out"
    )
    length_exponent: float = Field(
        1.0, description="a document is drawn with a chance proportional to length ** this (upsampling; 0: all alike)"
    )
    chinese_share: float | None = Field(
        None, ge=0, le=1, description="share of Chinese rows; default: 0.1 (paper) where there are both languages"
    )
    tasks: tuple[Literal["general", "summary", "reasoning", "extraction"], ...] = Field(
        ("general", "summary", "reasoning", "extraction"), description="task types, drawn evenly per document"
    )
    questions_per_call: int = Field(5, gt=0, le=50, description="questions asked for in one call (paper: 5)")
    turns: int = Field(1, gt=0, description="question-answer pairs kept in one row (paper: 1)")
    max_rows_per_document: int = Field(
        4, gt=0, description="a document is used again, for another task type, where others do not suffice"
    )
    duplicate_share: float = Field(
        0.8, gt=0, le=1, description="leave a document out when this share of its 13-grams stands in longer ones"
    )
    decontaminate: tuple[str, ...] = Field((), description="evaluation files whose texts must not be in documents")
    contaminated_share: float = Field(
        0.5, gt=0, le=1, description="share of an evaluation text's 13-grams in a document that leaves it out"
    )
    min_support: float = Field(
        0.3, ge=0, le=1, description="share of an answer's words that its evidence in the document must cover"
    )
    register_entries: int = Field(
        0, ge=0, description="entries planted per document, for answers that can be checked exactly (the demo's)"
    )
    closed_book: bool = Field(False, description="also ask without the document; leave out what is answered alike")
    question_temperature: float = Field(0.7, ge=0, description="temperature of the call for questions")
    answer_temperature: float = Field(0.0, ge=0, description="temperature of the call for the answer")
    max_new_tokens: int = Field(2048, gt=0, description="cap of one answer; an answer cut by it is rejected")
    concurrency: int = Field(8, gt=0, description="calls under way at once")
    timeout_s: float = Field(600.0, gt=0, description="longest wait for one reply")
    max_cost_usd: float | None = Field(None, ge=0, description="stop before spending more (over resumes)")
    price_usd_per_million: tuple[float, float] | None = Field(None, description="price of input, output tokens")
    seed: int = Field(0, ge=0, description="of every random choice of the stage")


class TrainSettings(LoopSettings):
    """Stage `train`: supervised fine-tuning with exact per-sequence weighting (paper section 3.2)."""

    model: str = Field("builtin:tiny-base", description="model directory or hub id")
    data: dict[str, int | None] = Field(
        {}, description="row files (`messages`, ShareGPT, LongAlpaca) and how many rows to draw; null = all"
    )
    eval_data: tuple[str, ...] = Field((), description="held-out rows for learning curves (Figure 6)")
    num_train_epochs: int = Field(2, gt=0, description="times every sequence is trained on")
    overlong: Overlong = Field("truncate_middle_of_document", description="what happens to rows above the window")
    train_on: Literal["all", "last"] = Field("all", description="assistant turns that are targets")
    chat_template: str | None = Field(
        None, description="Jinja file that renders conversations; default: the tokenizer's own (base models have none)"
    )
    thinking: Literal["keep", "strip"] = Field("keep", description="thinking blocks in assistant turns")
    lora_rank: int | None = Field(None, gt=0, description="train adapters of this rank instead of all weights")
    lora_alpha: float = Field(32.0, gt=0, description="adapters are scaled by this over their rank")
    lora_dropout: float = Field(0.0, ge=0, lt=1, description="dropout before the adapters")
    lora_target_modules: str | tuple[str, ...] = Field("all-linear", description="layers that get adapters")
    quantize: Literal["4bit"] | None = Field(
        None, description="keep the frozen weights under LoRA in 4 bits (QLoRA, bitsandbytes NF4)"
    )

    @model_validator(mode="after")
    def _only_frozen_weights_are_quantised(self) -> Self:
        _check_quantised(self.quantize, self.lora_rank)
        return self


class PlanSettings(Settings):
    """Verb `plan`: what a training run would do, before it runs."""

    lengths: str | None = Field(None, description=".npy of sequence lengths in tokens")
    targets: str | None = Field(None, description=".npy of target tokens per sequence; default: every token")
    data: tuple[str, ...] = Field((), description="row files, or one token store folder of an earlier run")
    tokenizer: str | None = Field(None, description="tokenizer for `data`; default: the rows' `length_tokens`")
    window: int = Field(65536, gt=1, description="maximum context in tokens")
    overlong: Overlong = Field("truncate_middle_of_document", description="what happens to rows above the window")
    ranks: int = Field(1, gt=0, description="accelerators over all nodes")
    sequences_per_step: int = Field(96, gt=0, description="sequences in one optimizer step over all ranks")
    strategy: Strategy = Field("balanced", description="how sequences become steps, ranks and microbatches")
    weighting: Weighting = Field("sequence", description="what counts once; the report shows all of them")
    token_limit: int | None = Field(
        None, gt=1, description="`balanced`: tokens of a microbatch on one rank; default: the window, or what fits"
    )
    packs_per_step: int | None = Field(None, gt=0, description="`packed`: default from sequences_per_step")
    packing: Literal["best_fit", "next_fit"] = Field("best_fit", description="`packed`: next_fit is the paper's")
    rows_per_microbatch: int = Field(1, gt=0, description="rows of a padded or sorted microbatch")
    epochs: int = Field(1, gt=0, description="times every sequence is trained on")
    layout: str = Field(
        "auto",
        pattern="^(auto|sp[1-9][0-9]*)$",
        description="ranks that share a microbatch: sp1, sp2, sp4, ... or `auto`, the shortest step of `balanced`",
    )
    model_shape: str = Field(
        "7b", description="a named shape (tiny, 7b, qwen3-8b, ...), a model directory, a config.json or a hub id"
    )
    machine: str = Field("a100-80g", description="a100-80g (the paper's), h100-80g, h200 or cpu")
    sharding: Literal["full", "none"] = Field("full", description="full: FSDP2 or ZeRO-3; none: whole copies (DDP)")
    dtype: Literal["float32", "bfloat16", "float64"] = Field("bfloat16", description="precision of compute")
    gradient_checkpointing: bool = Field(True, description="recompute activations in the backward pass")
    activation_offload: bool = Field(False, description="keep checkpointed activations in CPU memory")
    mlp_tile_tokens: int | None = Field(
        None, gt=0, description="tokens of a sequence that pass a layer's MLP at once; default: all of them"
    )
    cpu_offload: bool = Field(False, description="parameters and optimizer states in CPU memory")
    optimizer: Literal["adamw", "muon"] = Field("adamw", description="`muon` keeps one moment of matrices, not two")
    thinking: Literal["keep", "strip"] = Field("keep", description="thinking blocks in assistant turns")
    lora_rank: int | None = Field(None, gt=0, description="train adapters of this rank instead of all weights")
    quantize: Literal["4bit"] | None = Field(None, description="frozen weights under LoRA in 4 bits (QLoRA)")
    loss_chunk_tokens: int | None = Field(
        None, gt=0, description="targets whose logits are held at once; default: by device and vocabulary"
    )
    seed: int = Field(0, ge=0, description="of every random choice of the stage")

    @model_validator(mode="after")
    def _only_frozen_weights_are_quantised(self) -> Self:
        _check_quantised(self.quantize, self.lora_rank)
        return self


class NeedleSettings(Settings):
    """Needle retrieval over lengths x depths (paper section 4.2)."""

    lengths: tuple[int, ...] = Field((1024, 4096, 16384, 32768, 65536), description="prompt lengths in tokens")
    depths: int = Field(10, gt=0, description="depths from the start (0) to the end (1) of the haystack")
    needles: int = Field(1, gt=0, description="needles per length and depth")
    distractors: int = Field(3, ge=0, description="other register entries in the same haystack")
    haystack: tuple[str, ...] = Field((), description="documents to hide needles in; default: bundled text")
    language: Literal["en", "zh"] = Field("en", description="language of entries, question and bundled text")
    max_new_tokens: int = Field(32, gt=0, description="cap of one answer")
    forced_tokens: bool = Field(
        False, description="also token accuracy with the right answer fed in (local models; one more reading a prompt)"
    )
    seed: int = Field(0, ge=0, description="of every random choice of the stage")


class ShortSettings(Settings):
    """Short skills: held-out short instructions, scored exactly, so that a loss of skill shows."""

    rows: str | None = Field(None, description="held-out short rows (.jsonl); default: the bundled generator")
    questions: int = Field(140, gt=0, description="questions asked; the generator's kinds take turns")
    language: Literal["en", "zh"] = Field("en", description="language of the bundled generator")
    max_new_tokens: int = Field(48, gt=0, description="cap of one answer")
    seed: int = Field(0, ge=0, description="of every random choice of the stage")


class ChatSettings(Settings):
    """Judged answers, LongBench-Chat's way: open questions, each answer judged twice (paper section 4.2)."""

    cases: tuple[str, ...] = Field(
        (), description="LongBench-Chat, LongCite, LongBench or MT-Bench files (.json, .jsonl); default: built-in cases"
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
    judge_max_new_tokens: int = Field(512, gt=0, description="cap of one verdict")
    judge_concurrency: int = Field(8, gt=0, description="verdicts asked for at once")
    judge_price_usd_per_million: tuple[float, float] | None = Field(None, description="price of input, output tokens")
    judge_max_cost_usd: float | None = Field(None, ge=0, description="stop judging before spending more")
    scorings: int = Field(2, gt=0, description="times each answer is judged; examples are shuffled each time")
    max_new_tokens: int = Field(1024, gt=0, description="cap of one answer")
    window: int | None = Field(
        None, gt=1, description="longer inputs are cut in the middle, with room for the answer; default: the model's"
    )
    seed: int = Field(0, ge=0, description="of every random choice of the stage")


class LeaderboardSettings(Settings):
    """ARC, HellaSwag, TruthfulQA and MMLU by lm-evaluation-harness (extra `leaderboard`; it fetches its own data)."""

    tasks: dict[str, int | None] = Field(
        {"arc_challenge": 25, "hellaswag": 10, "truthfulqa_mc2": 0, "mmlu": 5},
        description="task -> examples shown (Open LLM Leaderboard, as in the paper)",
    )
    limit: int | None = Field(
        None, gt=0, description="only so many questions of each task: for trials, not for results"
    )
    batch_size: int = Field(8, gt=0, description="sequences a batch")
    dtype: str = Field("auto", description="precision the model is loaded in")
    include_path: str | None = Field(None, description="folder of task files of your own")
    seed: int = Field(0, ge=0, description="of every random choice of the stage")


class EvalSettings(Settings):
    """Stage `eval`: which parts run on which model."""

    model: str = Field(
        "builtin:tiny-base", description="model directory, hub id, `openai:MODEL@BASE_URL` or `anthropic:MODEL`"
    )
    label: str | None = Field(None, description="what tables call the model; default: its directory or name")
    model_seed: int | None = Field(
        None, description="seed the model was trained with; models of one label are averaged"
    )
    tokenizer: str | None = Field(None, description="tokenizer for an endpoint; default: characters / 4, stated")
    chat_template: str | None = Field(
        None, description="Jinja file that renders conversations; default: the tokenizer's own (base models have none)"
    )
    batch_tokens: int = Field(16384, gt=0, description="prompt tokens a local model takes at once")
    concurrency: int = Field(8, gt=0, description="calls under way at once (endpoints)")
    price_usd_per_million: tuple[float, float] | None = Field(None, description="price of input, output tokens")
    max_cost_usd: float | None = Field(None, ge=0, description="stop asking the model before spending more")
    trust_remote_code: bool = Field(False, description="run code that ships with the model; only if you trust it")
    needle: NeedleSettings | None = Field(None, description="needles over lengths and depths")
    short: ShortSettings | None = Field(None, description="held-out short instructions, scored exactly")
    chat: ChatSettings | None = Field(None, description="LongBench-Chat, or built-in cases of its kind")
    longbench: ChatSettings | None = Field(None, description="LongBench's questions and summaries")
    mt_bench: ChatSettings | None = Field(None, description="MT-Bench: short questions of two turns")
    leaderboard: LeaderboardSettings | None = Field(None, description="ARC, HellaSwag, TruthfulQA, MMLU")

    @model_validator(mode="after")
    def _only_chat_has_questions_of_its_own(self) -> EvalSettings:
        for part in ("longbench", "mt_bench"):
            judged: ChatSettings | None = getattr(self, part)
            if judged is not None and not judged.cases:
                raise ValueError(f"{part} needs `cases`, the files of its questions; only chat has built-in ones")
        return self


class RunTrainSettings(TrainSettings):
    """`train` in a recipe: common settings, and the arms that are compared."""

    arms: dict[str, dict[str, Any]] = Field(
        {}, description="name -> settings that differ; `data` keys may name sets of the `data` section"
    )


class AssumedLengths(Settings):
    """What a file that is not here yet is taken to hold, for `--plan-only`: a count, and how long its rows are."""

    rows: int | None = Field(None, gt=0, description="rows or documents it holds; give this or `tokens`")
    tokens: int | None = Field(None, gt=0, description="tokens it holds")
    lengths: tuple[int, int] | None = Field(
        None, description="shortest and longest row in tokens, spread evenly; default: chats, log-normal, median 900"
    )


class RunSettings(Settings):
    """One recipe: the five stages over one model."""

    name: str = Field(description="name of the run; default folder is runs/NAME")
    model: str = Field("builtin:tiny-base", description="the short-context model everything starts from")
    seeds: tuple[int, ...] = Field((0,), description="every arm is trained and evaluated once per seed")
    extend: ExtendSettings | None = Field(None, description="leave out when the model already has the window")
    data: dict[str, DataSettings] = Field({}, description="row sets to build, by name")
    train: RunTrainSettings = Field(RunTrainSettings(), description="what all arms share, and the arms")
    eval: EvalSettings = Field(EvalSettings(), description="what every model is measured on")
    processes_per_node: int = Field(
        1, gt=0, description="processes that extend and train run in, one an accelerator; started through torchrun"
    )
    machine: str = Field(
        "a100-80g", description="what `--plan-only` times: a100-80g (the paper's), h100-80g, h200 or cpu"
    )
    ranks: int | None = Field(
        None, gt=0, description="accelerators over all nodes that `--plan-only` counts on; default: processes_per_node"
    )
    assume: dict[str, AssumedLengths] = Field(
        {}, description="for `--plan-only`: what files and folders hold that are not here yet"
    )
    throughput_rows: int = Field(
        0, ge=0, description="rows of the last arm to time every batching strategy on; 0: do not"
    )
    full: dict[str, Any] = Field({}, description="dotted overrides that `--full` applies")

    @model_validator(mode="before")
    @classmethod
    def _rows_are_counted_by_the_models_tokenizer(cls, values: Any) -> Any:
        """Unless a set names another: a bundled tokenizer would count a real model's rows wrongly."""
        if not isinstance(values, dict) or not isinstance(values.get("data"), dict) or "model" not in values:
            return values
        default = {"tokenizer": values["model"]}
        return values | {"data": {k: default | v if isinstance(v, dict) else v for k, v in values["data"].items()}}
