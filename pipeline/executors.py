"""Where tasks run: in this process, or on Ray. Both yield the same results; only their order differs."""

import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

#: One core a task: libraries that would start threads of their own are told not to.
ONE_CORE = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
#: What one task may need at most, asked of Ray so that a small machine does not start too many.
TASK_MEMORY_BYTES = 3 << 29
#: A task whose worker died under it is tried so often in all.
ATTEMPTS = 3


@dataclass(frozen=True)
class Failed:
    """A task that raised, or whose worker died each time.

    Attributes:
        error: one line for people.
        trace: where it was raised, for the log.
    """

    error: str
    trace: str = ""


class RunFailedError(RuntimeError):
    """Tasks failed; the others are done and have receipts, so a rerun does only what failed."""


class Executor(Protocol):
    """Runs `function(shared, item)` for many items."""

    def map(self, function: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Yield (index of the item, result or Failed), in any order."""


class InlineExecutor:
    """One task after another, in this process."""

    def map(self, function: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """See Executor."""
        for index, item in enumerate(items):
            try:
                yield index, function(shared, item)
            except Exception as error:  # a failed task fails by name, and the others go on
                yield index, Failed(f"{type(error).__name__}: {error}", traceback.format_exc())


class RayExecutor:
    """One Ray task an item, a bounded number submitted at a time; tasks pass paths and receipts, never documents."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def map(self, function: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """See Executor."""
        ray = self._ray
        remote = ray.remote(num_cpus=1, max_retries=0, memory=self._memory_bytes())(function)
        shared_ref = ray.put(shared)
        waiting: dict[Any, tuple[int, Any, int]] = {}
        todo = iter(enumerate(items))
        limit = max(4, 2 * int(ray.cluster_resources().get("CPU", 1)))
        while True:
            while len(waiting) < limit and (following := next(todo, None)) is not None:
                waiting[remote.remote(shared_ref, following[1])] = (*following, 1)
            if not waiting:
                return
            done, _ = ray.wait(list(waiting), num_returns=1)
            index, item, attempt = waiting.pop(done[0])
            result = self._result(done[0])
            if result is not None:
                yield index, result
            elif attempt < ATTEMPTS:
                waiting[remote.remote(shared_ref, item)] = (index, item, attempt + 1)
            else:
                yield index, Failed(f"its worker died {ATTEMPTS} times: out of memory, or killed")

    def _result(self, reference: Any) -> Any:
        """The task's result, Failed when it raised, None when its worker died."""
        exceptions = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError, exceptions.NodeDiedError):
            return None
        except exceptions.RayTaskError as error:
            cause = error.cause or error
            return Failed(f"{type(cause).__name__}: {cause}", str(error))

    def _memory_bytes(self) -> int:
        """What a task asks for: never more than one CPU's share of a small machine, or nothing could be scheduled."""
        resources = self._ray.cluster_resources()
        share = resources.get("memory", TASK_MEMORY_BYTES) / max(1.0, resources.get("CPU", 1.0))
        return int(min(TASK_MEMORY_BYTES, share))


@contextmanager
def inline() -> Iterator[Executor]:
    """Tasks run in this process."""
    yield InlineExecutor()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """What is started meanwhile inherits these environment variables."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def on_ray(address: str | None, num_cpus: int | None) -> Iterator[Executor]:
    """Tasks run on Ray: a cluster at `address`, or one started here with `num_cpus` (default: all), stopped after."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    import ray

    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        # "local": none that someone else runs on this machine, which Ray would join otherwise
        settings |= {"address": "local", "num_cpus": num_cpus or os.cpu_count(), "include_dashboard": False}
        with _environment(ONE_CORE):  # workers that inherit it are started at once, not with their first task
            ray.init(**settings)
    else:
        ray.init(**settings, address=address, runtime_env={"env_vars": ONE_CORE})
    try:
        yield RayExecutor(ray)
    finally:
        ray.shutdown()


def open_executor(
    kind: str, address: str | None = None, num_cpus: int | None = None
) -> AbstractContextManager[Executor]:
    """An executor by name: "inline" or "ray"."""
    if kind == "inline":
        return inline()
    if kind == "ray":
        return on_ray(address, num_cpus)
    raise ValueError(f"executor {kind!r} is neither 'inline' nor 'ray'")
