"""Writes families.json beside this file, and the guide's page of model families from it: `make families`.

Each family is built tiny, with random weights in float64, and tried: is it admitted, in which layout, and is one
gradient that of the definition (one sequence at a time, transformers' own attention and logits)?
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.makers.families import Family  # noqa: E402
from tests.makers.other_families import FAMILIES  # noqa: E402
from tests.oracles.plain_loss import plain_gradients  # noqa: E402
from tests.train.tiny import (  # noqa: E402
    DoubleThroughout,
    gradients_of,
    packed_inputs,
    padded_inputs,
    sequences_of,
    tiny_model,
)

from longalign.errors import ModelError  # noqa: E402
from longalign.train.admit import admit_any, why_not_packed  # noqa: E402
from longalign.train.model import check_supported  # noqa: E402

DATA = Path(__file__).with_name("families.json")
PAGE = ROOT / "docs/guide/families.md"
KERNELS = ("fla", "causal_conv1d", "mamba_ssm")


@dataclass(frozen=True)
class Outcome:
    """One line of the table. `trained`: packed, rows or refused; `exact`: whether the gradient is the definition's."""

    family: str
    model_type: str
    trained: str
    reason: str
    exact: bool


def outcome(family: Family) -> Outcome:
    """Load, check, and compare one gradient in float64."""
    config = family.build()
    try:
        check_supported(config)
        model = tiny_model(config)
        report = admit_any(model)
    except ModelError as error:
        return Outcome(family.name, config.model_type, "refused", str(error), False)
    reason = why_not_packed(model) if report.layout == "rows" else ""
    sequences = sequences_of([13, 1, 22, 9])
    model.train()
    with DoubleThroughout():
        _, expected = plain_gradients(model, sequences)
        _, found = gradients_of(model, (packed_inputs if report.layout == "packed" else padded_inputs)(sequences))
    return Outcome(family.name, config.model_type, report.layout, reason, error_of(found, expected) < 1e-9)


def error_of(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Largest error of a parameter's gradient, relative to its norm; gradients that are zero by nature to all."""
    assert found.keys() == expected.keys(), found.keys() ^ expected.keys()
    least = 1e-6 * max(float(g.norm()) for g in expected.values())
    return max(float((found[n] - g).norm()) / max(float(g.norm()), least) for n, g in expected.items())


def plainly(reason: str) -> str:
    """The reason in fewer words, without the figures of tiny random models."""
    if "can't keep packed sequences apart without" in reason:
        return f"needs the kernels of {reason.split('without `')[1].split('`')[0]} to keep packed segments apart"
    if "segments leak" in reason:
        return "its layers carry something from one packed segment to the next"
    if "attention interface" in reason:
        return "its attention cannot be told where segments start"
    if "carry a state" in reason:
        return "carries a state from token to token"
    return reason.split(" models: ")[-1]


def page(outcomes: list[Outcome], version: str) -> str:
    """The guide's page."""
    counts = {how: sum(o.trained == how for o in outcomes) for how in ("packed", "rows", "refused")}
    words = {"packed": "every strategy", "rows": "`sorted`, `padded`", "refused": "no"}
    rows = "\n".join(
        f"| {o.family} | `{o.model_type}` | {words[o.trained]} | {'yes' if o.exact else '-'} | {plainly(o.reason)} |"
        for o in outcomes
    )
    return TEXT.format(version=version, families=len(outcomes), one_a_row=counts.pop("rows"), **counts, rows=rows)


TEXT = """# Model families

Which models train, and with which [strategies](train.md). Not a list in the code decides this: every run first asks the
model itself, on the device and in the precision of training, whether packed segments keep apart and whether rows padded
on the right do. What neither shows is refused, with the reason and the way out.

- *every strategy*: segments share a row (`balanced`, `packed`), and rows of one sequence work too.
- *`sorted`, `padded`*: one sequence a row, padded on the right, where no real token of a causal model sees it. Held-out
  losses and perplexities are measured in the same layout. `sequence_parallel` must be 1.

Layers of linear attention, state spaces and convolutions keep packed segments apart where the kernels of
`flash-linear-attention`, `causal-conv1d` or `mamba-ssm` run (CUDA): the boundaries are passed to them, and the check at
the start of a run says whether they are honoured. The table is from a CPU without these packages.

Models that join several networks (`...ForConditionalGeneration`): their language model trains on text, everything else
is frozen, and `final/` is the whole model again, processor files included.

Mixtures of experts: with `output_router_logits: true` and a coefficient in config.json the balance loss trains, for
each sequence by itself and weighted as that sequence's loss is, so that no layout changes it. Without, a line says that
none is trained; that is transformers' default. The loss reported of a training step includes it, held-out losses do
not.

Soft caps and attention sinks are computed by the definition on a CPU and by FlexAttention on CUDA, which has been
compared with it on a CPU in the forward pass only.

## {families} families

Made by `make families` with transformers {version}: tiny models with random weights in float64. {packed} train with
every strategy, {one_a_row} with rows of one sequence, {refused} not at all. *Exact*: one gradient of the layout equals
that of one sequence at a time to 1e-9.

| family | `model_type` | trains with | exact | why not packed |
|---|---|---|---|---|
{rows}
"""


def main() -> None:
    if present := [name for name in KERNELS if find_spec(name)]:
        raise SystemExit(f"the table is one without {', '.join(present)}; run this where they are not installed")
    torch.set_num_threads(1)
    outcomes = [outcome(family) for family in FAMILIES.values()]
    data = {"transformers": transformers.__version__, "families": [asdict(o) for o in outcomes]}
    DATA.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(outcomes, transformers.__version__), encoding="utf-8")


if __name__ == "__main__":
    main()
