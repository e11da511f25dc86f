"""A Ray cluster (extra `ray`): joining one or starting Ray here, leaving it, and work spread over it in order.

Ray is joined when it is first needed and left at the end of `ray_session`. It prints nothing, serves no dashboard and
sends no usage statistics.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from longalign.base.progress import say
from longalign.errors import ConfigError, LongAlignError, RunError, first_line

T = TypeVar("T")
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # a dead worker is announced on stdout, where results belong
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Read by Ray when it is imported; what a person has set stays."""
ANSWER_S = 10.0
"""Longest wait for a connection to a cluster: Ray itself tries for minutes."""
TASKS_PER_CPU = 2
_joined = False


def connect(address: str | None) -> Any:
    """The `ray` module, connected to the cluster at `address`, or to a new one on this machine (None).

    A connection that this process has already is used. Raises `ConfigError` without Ray or for an address of a wrong
    form, `RunError` where no cluster answers.
    """
    global _joined
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise ConfigError("executor ray needs the `ray` package: pip install 'longalign[ray]'") from None
    if ray.is_initialized():
        return ray
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is None:
            ray.init(address="local", num_cpus=_cpus(), include_dashboard=False, **quiet)
        else:
            _check_answers(address)
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        where = "Ray cannot be started here" if address is None else f"ray_address {address}: no cluster can be joined"
        token = "; give its token: RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH=FILE" if _refused(error) else ""
        raise RunError(f"{where} ({first_line(error)[:300]}){token}") from None
    _joined = True
    say(f"Ray: {'started here' if address is None else address}, {amounts(ray.cluster_resources())}")
    return ray


def leave() -> None:
    """Leave the cluster, and end it if it was started here, if `connect` did the joining."""
    global _joined
    if _joined:
        import ray

        _joined = False
        ray.shutdown()


@contextmanager
def ray_session() -> Iterator[None]:
    """Around work that may join Ray: it is left at the end."""
    try:
        yield
    finally:
        leave()


def amounts(resources: Mapping[str, float]) -> str:
    """`16 CPUs, 4 GPUs`."""
    return ", ".join(f"{resources.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU"))


def spread(function: Callable[..., T], calls: Iterable[tuple[Any, ...]], address: str | None, what: str) -> Iterator[T]:
    """`function(*call)` of every call, each a task on one CPU, in the order of the calls.

    As many run as the cluster has CPUs, as many more wait for one; `calls` is read that far ahead. A task whose node
    or process dies is run again by Ray. Raises what the function raises if it is a `LongAlignError`, else `RunError`.
    """
    ray = connect(address)
    remote = ray.remote(num_cpus=1)(function)
    most = TASKS_PER_CPU * max(1, int(ray.cluster_resources().get("CPU", 1)))
    running: deque[Any] = deque()
    try:
        for call in calls:
            running.append(remote.remote(*call))
            if len(running) >= most:
                yield _result(ray, running.popleft(), what)
        while running:
            yield _result(ray, running.popleft(), what)
    finally:
        for task in running:
            ray.cancel(task, force=True)


def _result(ray: Any, task: Any, what: str) -> Any:
    try:
        return ray.get(task)
    except ray.exceptions.RayError as error:
        raise own_error(error, what) from None


def own_error(error: Any, what: str) -> LongAlignError:
    """What a task or actor raised, if it is for the user, else one line on what went wrong there."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, LongAlignError):
        return cause
    if isinstance(cause, ModuleNotFoundError) or "No module named" in str(error):
        return RunError(
            f"Ray: {what} failed ({first_line(cause or error)[:200]}); all nodes need the installation that this "
            "process has"
        )
    name = type(cause if isinstance(cause, Exception) else error).__name__
    return RunError(f"Ray: {what} failed ({name}: {first_line(cause or error)[:300]})")


def _refused(error: BaseException | None) -> bool:
    """Whether a cluster that asks for a token got none, or a wrong one."""
    return error is not None and ("AuthToken" in str(error) or _refused(error.__cause__ or error.__context__))


def _cpus() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def _check_answers(address: str) -> None:
    """Raise where nothing listens at HOST:PORT."""
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdigit() or "/" in host:
        raise ConfigError(f"ray_address {address}: write HOST:PORT of the head node (Ray's port is 6379), or `auto`")
    try:
        socket.create_connection((host, int(port)), timeout=ANSWER_S).close()
    except OSError as error:
        raise RunError(
            f"ray_address {address}: nothing answers there ({error}); start the cluster with "
            f"`ray start --head --port {port}` on that node, or leave ray_address out to start Ray on this machine"
        ) from None
