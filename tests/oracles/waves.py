"""How versions before the continuous flow chose candidates: waves of exactly as many as rows are missing."""

from __future__ import annotations

from itertools import islice


def waves(fates: dict[str, list[str]], quotas: dict[str, int]) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """(accepted, tried) as (group, place). A fate: `n` rejected, `y` accepted, else accepted once a group."""
    queues = {group: iter([(group, place) for place in range(len(fates[group]))]) for group in quotas}
    missing = dict(quotas)
    accepted: list[tuple[str, int]] = []
    tried: list[tuple[str, int]] = []
    asked: set[tuple[str, str]] = set()
    while any(missing.values()):
        wave = [item for group, queue in queues.items() for item in islice(queue, missing[group])]
        for group in queues:
            if (short := missing[group] - sum(item[0] == group for item in wave)) > 0:
                other = next(name for name in queues if name != group)
                missing[group] -= short
                extra = list(islice(queues[other], short))
                missing[other] += len(extra)
                wave += extra
        if not wave:
            break
        for group, place in wave:
            tried.append((group, place))
            fate = fates[group][place]
            if fate == "n" or (fate != "y" and (group, fate) in asked):
                continue
            asked.add((group, fate))
            accepted.append((group, place))
            missing[group] -= 1
    return accepted, tried
