"""Load a causal language model for packed training, chosen by what its config says, never by its name.

    model, report = load_model("Qwen/Qwen3-8B", rope=RopeSettings(), window=65536, dtype="bfloat16")
    attach_loss(model)

RoPE parameters go into the config before the model is built: transformers 5 computes frequencies in the constructor and
ignores later changes. What no layout can honour is refused here, from the config alone, so that `--plan-only` on a
laptop already says no. Whether segments can share a row is not for a config to say: `admit.py` runs the model.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn

from longalign.base.sources import missing
from longalign.config import RopeSettings
from longalign.errors import ModelError, first_line
from longalign.train import attention as packed_attention
from longalign.train.parallel import ranks
from longalign.train.parallel.ranks import seeded
from longalign.train.stretch import check_rope, last_line, rope_entries, stretch_rope
from longalign.train.wrapper import freeze_other_parts, is_wrapper, loader_of, with_text_config

_DROPOUT = "is not 0, so that a packed and a separate run differ; set it to 0.0 in config.json"


@dataclass(frozen=True)
class ModelReport:
    """A description of the loaded model, for the console and for stage.json."""

    source: str
    model_class: str
    parameters: int
    layers: int
    vocabulary: int
    dtype: str
    trained_window: int | None
    window: int | None
    rope: tuple[str, ...]
    """How RoPE was stretched and what that covers; empty when it was left alone."""


def load_model(
    path_or_id: str | Path,
    *,
    rope: RopeSettings | None = None,
    window: int | None = None,
    dtype: str | torch.dtype = "float32",
    attention: str = packed_attention.NAME,
    init: Literal["weights", "random", "meta"] = "weights",
    seed: int = 0,
    quantize: Literal["4bit"] | None = None,
    splittable: bool = False,
) -> tuple[nn.Module, ModelReport]:
    """Build a transformers causal LM with packed attention; returns it with a report.

    `rope` stretches RoPE to `window` tokens (both are needed together). `init`: the stored `weights`; `random` from the
    config, keyed by `seed`; `meta` for planning, without memory. `quantize` reads matrices of layers into 4 bits
    (embedding, norms and head stay as they are) on this rank's device; `splittable`: kept in tensors of `dtype`, which
    FSDP2 gathers without converting them. Raises `ModelError` for what cannot be loaded or trained exactly: see
    `check_supported`.
    """
    packed_attention.register()
    config = load_config(path_or_id)
    check_supported(config, needs_rope=rope is not None)
    trained_window = getattr(config.get_text_config(), "max_position_embeddings", None)
    lines: tuple[str, ...] = ()
    if rope is not None:
        if window is None:
            raise ModelError("stretching RoPE needs a target window in tokens")
        text, lines = stretch_rope(config.get_text_config(), rope, window)
        config = with_text_config(config, text)
        trained_window = rope.trained_window or trained_window
    if attention == packed_attention.NAME:
        attention = attention_of(config)
    options: dict[str, Any] = {"dtype": _dtype(dtype), "attn_implementation": attention}
    if _dtype(dtype) == torch.float64:
        options["experts_implementation"] = "eager"  # grouped matrix products exist up to float32
    if quantize:
        options |= _in_4_bits(_dtype(dtype), storage=_dtype(dtype) if splittable else torch.uint8)
    if init == "weights":
        model = _with_weights(path_or_id, config, options)
        if quantize:
            _keep_differentiable(model)
    elif init == "random":
        with seeded(seed):
            model = loader_of(config).from_config(config, **options)
    else:
        with torch.device("meta"):
            model = loader_of(config).from_config(config, **options)
    freeze_other_parts(model)
    shape = config.get_text_config()
    report = ModelReport(
        source=str(path_or_id),
        model_class=type(model).__name__,
        parameters=model.num_parameters(),
        layers=int(shape.num_hidden_layers),
        vocabulary=int(shape.vocab_size),
        dtype=str(_dtype(dtype)).removeprefix("torch."),
        trained_window=trained_window,
        window=getattr(shape, "max_position_embeddings", None),
        rope=lines,
    )
    return cast(nn.Module, model), report


def load_config(path_or_id: str | Path) -> Any:
    """The model's transformers config. Raises `ModelError` for unknown paths, broken configs and remote code."""
    from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig

    path = Path(path_or_id)
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        raise ModelError(
            f"{path}: an adapter; give the model it belongs to, and --lora_adapter {path} --lora_rank RANK"
        )
    if not path.exists() and path.is_absolute():
        raise ModelError(missing(str(path_or_id)))
    if path.is_dir() and not (path / "config.json").is_file():
        raise ModelError(f"{path}: no config.json in this folder; point at a Hugging Face model directory")
    try:
        raw, _ = PreTrainedConfig.get_config_dict(str(path_or_id))
        kind = raw.get("model_type")
        if kind not in CONFIG_MAPPING:
            reason = (
                "it needs code shipped with its weights" if "auto_map" in raw else "this transformers does not know it"
            )
            raise ModelError(
                f"{path_or_id}: model_type {kind!r}: {reason}, and such code is not run here; "
                "use a model that is part of transformers (for ChatGLM3: its successor GLM-4)"
            )
        return AutoConfig.from_pretrained(str(path_or_id))
    except (OSError, ValueError, TypeError, KeyError, StrictDataclassError) as error:
        if not path.exists():
            raise ModelError(missing(str(path_or_id))) from error
        raise ModelError(f"{path_or_id}: cannot read the model's config: {last_line(error)}") from error


def check_supported(config: Any, *, needs_rope: bool = False) -> None:
    """Raise `ModelError`, naming the config field, when this model cannot be trained exactly in any layout."""
    name, text = f"{config.model_type} models", config.get_text_config()
    if loader_of(config) is None:
        if is_wrapper(config):
            raise ModelError(f"{name} join several networks in a way that is not known here; train their text part")
        raise ModelError(f"{name} are not causal language models in transformers")
    if needs_rope and not rope_entries(text):
        raise ModelError(f"{name} have no rotary position encoding (rope_parameters), so there is nothing to stretch")
    refusals = {
        "attention_dropout": _DROPOUT,
        "attn_pdrop": _DROPOUT,
        "router_jitter_noise": _DROPOUT,
        "input_jitter_noise": _DROPOUT,
        "use_bidirectional_attention": "asks for attention to later tokens",
    }
    for field, reason in refusals.items():
        value = getattr(text, field, None)
        if value and not (field == "use_bidirectional_attention" and value == "vision"):
            raise ModelError(f"{name}: {field}={value} {reason}")
    for parameters in rope_entries(text).values():
        check_rope(name, parameters)


def attention_of(config: Any) -> str:
    """The attention to build with: ours, or transformers' own where the model does not go through its interface."""
    packed_attention.register()
    loader = loader_of(config)
    model_class = loader._model_mapping[type(config)]
    if model_class._supports_attention_backend:
        return packed_attention.NAME
    if not model_class._can_set_attn_implementation():
        return own_attention(model_class)
    try:
        with torch.device("meta"):
            loader.from_config(config, attn_implementation=packed_attention.NAME)
    except (KeyError, ValueError):  # a table of its own, without ours
        return own_attention(model_class)
    return packed_attention.NAME


def own_attention(model_class: Any) -> str:
    """What transformers itself runs this model with."""
    return "sdpa" if model_class._supports_sdpa else "eager"


def check_vocabulary(config: Any, tokenizer: Any) -> None:
    """Raise `ModelError` when the tokenizer can produce ids that the embedding does not have."""
    embedded = config.get_text_config().vocab_size
    if len(tokenizer) > embedded:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} tokens but the model embeds {embedded}; "
            "they do not belong together, or the embedding must be resized and saved first"
        )


def _with_weights(path_or_id: str | Path, config: Any, options: dict[str, Any]) -> Any:
    try:
        model, loaded = loader_of(config).from_pretrained(
            str(path_or_id), config=config, output_loading_info=True, **options
        )
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(f"{path_or_id}: cannot load the weights: {first_line(error)}") from error
    absent = sorted({*loaded["missing_keys"], *(str(key[0]) for key in loaded["mismatched_keys"])})
    if absent:  # transformers would draw them at random and only log it
        shown = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        raise ModelError(f"{path_or_id}: {len(absent)} weights are missing or of another shape ({shown})")
    return model


def _in_4_bits(compute: torch.dtype, *, storage: torch.dtype) -> dict[str, Any]:
    """Options of `from_pretrained` for QLoRA's weights: NF4, its constants quantised too, computed in `compute`."""
    if find_spec("bitsandbytes") is None:
        raise ModelError("quantize needs the `bitsandbytes` package: pip install 'longalign[qlora]'")
    from transformers import BitsAndBytesConfig

    how = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute,
        bnb_4bit_quant_storage=storage,
    )  # fmt: skip
    return {"quantization_config": how, "device_map": {"": ranks.this_device()}}


def _keep_differentiable(model: nn.Module) -> None:
    """On a CPU with bfloat16 bitsandbytes would pack weights for inference at the first evaluation, and from then on
    pass no gradient through them, with a mere warning.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            cast(Any, module).support_avx512bf16_for_cpu = False


def _dtype(dtype: str | torch.dtype) -> torch.dtype:
    found = dtype if isinstance(dtype, torch.dtype) else getattr(torch, dtype, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ModelError(f"dtype {dtype!r} is unknown; use float32, bfloat16, float16 or float64")
    return found
