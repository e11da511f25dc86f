"""Low-rank adapters by PEFT: added before training, merged into a plain model after it.

Tied embeddings. A whole copy of the embedding (`lora_modules_to_save`) stays tied to the head: both train as one, and
the merged model is tied like its base. Adapters on the embedding are on the embedding alone, since the head reads the
base's weights: the merged model then has a head of its own.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from longalign.base.sources import Named
from longalign.config import AdapterSettings
from longalign.errors import ModelError
from longalign.train.parallel.ranks import seeded

logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # on a CPU it says at import what it misses
ADAPTER_CONFIG = "adapter_config.json"
OF_PEFT = {
    "lora_rank": "r",
    "lora_alpha": "lora_alpha",
    "lora_target_modules": "target_modules",
    "lora_modules_to_save": "modules_to_save",
    "lora_use_rslora": "use_rslora",
    "lora_use_dora": "use_dora",
}
"""Settings that an adapter on disk decides, and PEFT's names of them."""


def add_adapters(model: nn.Module, settings: AdapterSettings) -> nn.Module:
    """Wrap `model` so that only adapters and modules to save train, in float32 (float64 beside such weights).

    They are new (drawn from the settings' seed), or those in the folder `settings.lora_adapter`. Raises
    `ModelError` for names that the model does not have, for a head with adapters, and for an adapter that does not fit.
    """
    peft = _peft()
    config = _adapter_config(settings) if settings.lora_adapter else _new_config(settings)
    _check_names(model, config)
    config.ensure_weight_tying = bool(cast(Any, model).config.tie_word_embeddings) and _saves_embeddings(model, config)
    try:
        with _quiet(), seeded(settings.seed):  # every rank draws the same adapters
            wrapped = cast(nn.Module, peft.get_peft_model(model, config))
    except ValueError as error:
        raise ModelError(f"{'lora_target_modules' if 'arget' in str(error) else 'lora'}: {error}") from None
    _check_head(wrapped)
    if settings.lora_adapter and not any(p.is_meta for p in wrapped.parameters()):
        _load(wrapped, Path(settings.lora_adapter))
    for parameter in wrapped.parameters():  # PEFT copies modules to save in the precision of the frozen weights
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()
    return wrapped


def describe_adapters(model: nn.Module, settings: AdapterSettings) -> str:
    """One line: how many matrices of the decoder's layers have adapters, which have none, and what else trains."""
    from peft.tuners.lora import LoraLayer

    adapted = {id(_adapted_weight(m)): n for n, m in model.named_modules() if isinstance(m, LoraLayer)}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = {n: p for n, p in model.named_parameters() if n not in trained and ".layers." in n and p.ndim > 1}
    bare = sorted({_last(name.removesuffix(".weight")) for name, p in matrices.items() if id(p) not in adapted})
    with_adapters = sum(id(p) in adapted for p in matrices.values())
    parts = [f"rank {settings.lora_rank} on {with_adapters} of {len(matrices)} matrices of layers"]
    if bare:
        parts.append(f"none on {', '.join(bare)}")
    if others := sorted({_last(name) for name in adapted.values() if ".layers." not in name}):
        parts.append(f"adapters on {', '.join(others)} too")
    if whole := sorted({_last(n.split(".modules_to_save.")[0]) for n in trained if ".modules_to_save." in n}):
        parts.append(f"{', '.join(whole)} whole")
    parts.append(f"{sum(p.numel() for p in trained.values()) / 1e6:,.2f}M weights train")
    return "; ".join(parts)


def _adapted_weight(layer: Any) -> Tensor:
    """The frozen weight beside these adapters; experts are a parameter without a module of their own."""
    return cast(Tensor, layer.get_param() if hasattr(layer, "parameter_name") else layer.get_base_layer().weight)


def _last(name: str) -> str:
    return name.rsplit(".", 1)[-1]


def merge_adapters(base: nn.Module, adapter: Path) -> nn.Module:
    """`base` with the saved adapters added into its weights: a plain model again, of what the adapters' model computes.

    An embedding with adapters is no longer that of the head, so that the two are untied.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    with _quiet():
        wrapped = cast(Any, _peft().PeftModel.from_pretrained(base, str(adapter)))
        plain: Any = wrapped.get_base_model()
        embedding, head = plain.get_input_embeddings(), plain.get_output_embeddings()
        if isinstance(embedding, BaseTunerLayer) and embedding.base_layer.weight is head.weight:
            head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
            plain.config.tie_word_embeddings = False
        return cast(nn.Module, wrapped.merge_and_unload())


def save_adapter(model: nn.Module, folder: Path, state: Mapping[str, Tensor], *, base: str) -> None:
    """Write what plain PEFT loads on `base`: no weights of the base; a tied copy under both names, as PEFT reads it.

    `state` holds what trains, whole, under parameter names. The config names the base by hub id or absolute path.
    """
    from peft import get_peft_model_state_dict

    (config,) = cast(Any, model).peft_config.values()
    named = Named(base)
    config.base_model_name_or_path = str(named.path.resolve()) if named.path.exists() else base
    first: dict[int, str] = {}
    every = {}  # PEFT asks for tied copies by each of their names
    for name, parameter in model.named_parameters(remove_duplicate=False):
        original = first.setdefault(id(parameter), name)
        if original in state:
            every[name] = state[original]
    with _quiet():
        found = get_peft_model_state_dict(model, state_dict=every, save_embedding_layers=False)
    seen: set[int] = set()
    for name, tensor in found.items():
        found[name] = tensor.clone() if id(tensor) in seen else tensor.contiguous()
        seen.add(id(tensor))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(found, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    inference_mode, config.inference_mode = config.inference_mode, True
    config.save_pretrained(str(folder))
    config.inference_mode = inference_mode


def has_adapters(model: nn.Module) -> bool:
    return hasattr(model, "peft_config")


def _new_config(settings: AdapterSettings) -> Any:
    targets = settings.lora_target_modules
    return _peft().LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
        modules_to_save=list(settings.lora_modules_to_save) or None,
        use_rslora=settings.lora_use_rslora,
        use_dora=settings.lora_use_dora,
        task_type="CAUSAL_LM",
    )


def _adapter_config(settings: AdapterSettings) -> Any:
    """That of the adapter to go on with. Raises `ModelError` where a setting was given that says something else."""
    folder = Path(str(settings.lora_adapter))
    if not (folder / ADAPTER_CONFIG).is_file():
        raise ModelError(f"lora_adapter: {folder} has no {ADAPTER_CONFIG}; give the folder of a PEFT adapter")
    config = _peft().PeftConfig.from_pretrained(str(folder))
    if config.peft_type != "LORA":
        raise ModelError(f"lora_adapter: {folder} is {config.peft_type.value}, not LORA; only LoRA goes on here")
    for name, theirs in OF_PEFT.items():
        found, given = getattr(config, theirs), getattr(settings, name)
        default = type(settings).model_fields[name].default
        same = set(found or ()) == set(given) if isinstance(given, tuple) else found == given
        if given != default and not same:
            shown = sorted(found) if isinstance(found, set) else found
            raise ModelError(f"{name}: {given} but the adapter in {folder} has {shown}; give that, or start anew")
    config.inference_mode = False
    config.init_lora_weights = True  # whatever it began with is in its weights
    config.lora_dropout = settings.lora_dropout
    return config


def _load(model: nn.Module, folder: Path) -> None:
    """Set adapters and modules to save from `folder`; everything that trains must be there, and nothing else."""
    from peft import set_peft_model_state_dict
    from peft.utils import load_peft_weights

    try:
        weights = load_peft_weights(str(folder), device="cpu")
        with _quiet():
            found = set_peft_model_state_dict(model, weights)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise ModelError(f"lora_adapter: {folder} does not fit this model: {str(error).splitlines()[-1]}") from error
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    if wrong := sorted({*found.unexpected_keys, *(trained & set(found.missing_keys))}):
        raise ModelError(f"lora_adapter: {folder} does not fit this model: {wrong[0]} and {len(wrong) - 1} more")


def _check_names(model: nn.Module, config: Any) -> None:
    names = [name for name, _ in model.named_modules()]
    targets = set() if isinstance(config.target_modules, str) else set(config.target_modules or ())
    for wanted in config.modules_to_save or ():
        if not any(name.endswith(wanted) for name in names):  # PEFT's rule
            ends = sorted({name.rsplit(".", 1)[-1] for name in names if not name.rsplit(".", 1)[-1].isdigit()} - {""})
            raise ModelError(f"lora_modules_to_save: this model has no `{wanted}`; it has {', '.join(ends)}")
        parameters = (p for name, m in model.named_modules() if name.endswith(wanted) for p in m.parameters())
        if any(not p.is_floating_point() or hasattr(p, "quant_state") for p in parameters):
            raise ModelError(f"lora_modules_to_save: `{wanted}` is in 4 bits, which cannot be trained; leave it out")
        if wanted in targets:
            raise ModelError(f"lora_modules_to_save: `{wanted}` is in lora_target_modules too; name it in one of them")


def _saves_embeddings(model: nn.Module, config: Any) -> bool:
    plain = cast(Any, model)
    ends = [plain.get_input_embeddings(), plain.get_output_embeddings()]
    names = [name for name, module in model.named_modules() if any(module is end for end in ends)]
    return any(name.endswith(wanted) for wanted in config.modules_to_save or () for name in names)


def _check_head(model: nn.Module) -> None:
    """The loss reads the head's weight itself: it may be a whole copy, which then computes the loss as the original."""
    head = cast(Any, model).get_base_model().get_output_embeddings()
    if hasattr(head, "base_layer"):
        raise ModelError(
            "lora_target_modules: the head cannot have adapters, since its loss is computed without all logits; leave "
            "`lm_head` out, or let it train whole: --lora_modules_to_save lm_head"
        )
    if hasattr(head, "modules_to_save"):
        for copied in head.modules_to_save.values():
            copied.__class__ = head.original_module.__class__


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft reads a property that transformers renamed
        warnings.filterwarnings("ignore", r"The following (rank|alpha)_pattern", RuntimeWarning)  # of fused experts
        warnings.simplefilter("ignore", UserWarning)  # and warns of tied embeddings, which are taken care of here
        yield


def _peft() -> Any:
    try:
        import peft
    except ImportError:
        raise ModelError("lora_rank needs the `peft` package: pip install 'longalign[lora]'") from None
    return peft
