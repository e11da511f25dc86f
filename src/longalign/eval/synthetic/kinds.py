"""Every kind of synthetic question by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from longalign.errors import ConfigError, nearest
from longalign.eval.synthetic import retrieval, tracing, whole_text
from longalign.eval.synthetic.kind import Kind

KINDS: Mapping[str, Kind] = {**retrieval.KINDS, **tracing.KINDS, **whole_text.KINDS}


def chosen(names: Sequence[str]) -> dict[str, Kind]:
    """The kinds of these names; `all` is every one. Raises `ConfigError` for a name that is none."""
    if tuple(names) == ("all",):
        return dict(KINDS)
    for name in names:
        if name not in KINDS:
            raise ConfigError(
                f"there is no synthetic task `{name}`{nearest(name, list(KINDS))}; there are {', '.join(KINDS)}, or all"
            )
    return {name: KINDS[name] for name in dict.fromkeys(names)}
