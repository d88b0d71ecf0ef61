"""Which executor a sweep gets, and what its runs may use, from the options of the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from collapselab.config.schema import RunConfig
from collapselab.errors import InputError
from collapselab.rundir.machine import Gpu, available_bytes, gpus, num_cores
from collapselab.sweep.executors.interface import Executor
from collapselab.sweep.resources import GIB, Needs, Share, needs, num_parameters, run_gib, share
from collapselab.sweep.schedule import Task


class Where(Protocol):
    """The options of `collapselab sweep` that say where the runs are executed (`sweeping.Options`)."""

    @property
    def workers(self) -> int | None: ...
    @property
    def executor(self) -> str: ...
    @property
    def cpus_per_run(self) -> int | None: ...
    @property
    def gpus_per_run(self) -> float | None: ...
    @property
    def memory_gib(self) -> float | None: ...
    @property
    def minutes(self) -> int: ...
    @property
    def slurm(self) -> str: ...
    @property
    def address(self) -> str | None: ...
    @property
    def runs_per_gpu(self) -> int | None: ...


@dataclass(frozen=True)
class Chosen:
    """An executor that is not made yet, the share of each run, the job script, and what to tell the user."""

    share: Share
    make: Callable[[Share], Executor]
    script: Callable[[], str] | None = None
    said: str | None = None


def shares(tasks: Sequence[Task], num_workers: int | None) -> Share:
    """The workers of this machine for the tasks that are not done."""
    return share(_configs(tasks), num_workers, num_cores=num_cores(), memory_gib=available_bytes() / GIB)


def _configs(tasks: Sequence[Task]) -> list[RunConfig]:
    """Those of the tasks that are not done; if there are none, one of the others."""
    return [task.run.config for task in tasks if task.state not in ("done", "damaged")] or [tasks[0].run.config]


def local_executor(shared: Share, gpus: tuple[str, ...] = ()) -> Executor:
    """Runs in processes of this machine, which share its GPUs, if any are named."""
    from collapselab.sweep.executors.local import LocalExecutor  # multiprocessing is needed only here

    return LocalExecutor(shared.num_workers, shared.num_threads, gpus)


def _local(options: Where, tasks: Sequence[Task]) -> Chosen:
    _refuse(options, ("cpus_per_run", "gpus_per_run", "memory_gib", "slurm", "address"), "local")
    on_gpu = any(config.device == "cuda" for config in _configs(tasks))
    found = gpus() if on_gpu else []
    if not found:
        if options.runs_per_gpu is not None:
            why = "nvidia-smi lists no GPU" if on_gpu else "no run has --device cuda"
            raise InputError(f"--runs-per-gpu {options.runs_per_gpu}: {why}", "leave it out, or use --device cuda")
        return Chosen(shares(tasks, options.workers), local_executor)
    if (runs_per_gpu := options.runs_per_gpu or 1) < 1:
        raise InputError(f"--runs-per-gpu must be at least 1, received {runs_per_gpu}", "by default it is 1")
    shared = shares(tasks, min(options.workers or len(tasks), runs_per_gpu * len(found)))
    names = tuple(gpu.name for gpu in found)
    return Chosen(shared, lambda shared: local_executor(shared, names), said=_gpu_memory(tasks, runs_per_gpu, found))


def _gpu_memory(tasks: Sequence[Task], runs_per_gpu: int, found: Sequence[Gpu]) -> str:
    """What the runs need of a GPU's memory, and what there is.

    Raises:
        InputError: it cannot be enough.
    """
    sizes = [num_parameters(model) for model in {config.model for config in _configs(tasks)}]
    free_gib, largest = min(gpu.free_gib for gpu in found), max((size or 0 for size in sizes), default=0)
    needed_gib = runs_per_gpu * run_gib(largest)
    there = f"{runs_per_gpu} per GPU, of which the fullest has {free_gib:.1f} GiB free"
    if None in sizes:
        return f"GPU memory per run unknown; {there}"
    if needed_gib > free_gib:
        raise InputError(
            f"{runs_per_gpu} runs need {needed_gib:.1f} GiB of a GPU's memory at least, {free_gib:.1f} GiB are free",
            "use a smaller --runs-per-gpu, or a smaller model",
        )
    return f"at least {run_gib(largest):.1f} GiB of GPU memory per run; {there}"


def _slurm(options: Where, tasks: Sequence[Task]) -> Chosen:
    from collapselab.sweep.executors.slurm import SlurmExecutor, sbatch_options

    _refuse(options, ("address", "runs_per_gpu"), "slurm")
    asked, shared = _on_a_cluster(options, tasks)
    folder, further = tasks[0].path.parent.absolute() / "logs" / "slurm", sbatch_options(options.slurm)

    def make(shared: Share) -> SlurmExecutor:
        return SlurmExecutor(shared.num_workers, shared.num_threads, asked, folder, further)

    return Chosen(shared, make, lambda: make(shared).script(len(_configs(tasks))))


def _ray(options: Where, tasks: Sequence[Task]) -> Chosen:
    from collapselab.sweep.executors.ray import RayExecutor

    _refuse(options, ("slurm", "runs_per_gpu"), "ray")
    asked, shared = _on_a_cluster(options, tasks)
    return Chosen(shared, lambda shared: RayExecutor(shared.num_workers, shared.num_threads, asked, options.address))


EXECUTORS: dict[str, Callable[[Where, Sequence[Task]], Chosen]] = {"local": _local, "slurm": _slurm, "ray": _ray}


def _on_a_cluster(options: Where, tasks: Sequence[Task]) -> tuple[Needs, Share]:
    """What each run needs; as many runs at a time as there are, unless --workers says fewer."""
    if options.minutes < 2:
        raise InputError(f"--minutes must be at least 2, received {options.minutes}", "it is the wall time of a job")
    for name in ("cpus_per_run", "gpus_per_run", "memory_gib"):
        value: Any = getattr(options, name)
        if value is not None and (value < 0 or (value == 0 and name != "gpus_per_run")):
            raise InputError(f"--{name.replace('_', '-')} must be positive, received {value}", "leave it out")
    configs = _configs(tasks)
    asked = needs(
        configs,
        num_cpus=options.cpus_per_run,
        num_gpus=options.gpus_per_run,
        memory_gib=options.memory_gib,
        minutes=options.minutes,
    )
    threads = max(config.threads or 0 for config in configs) or asked.num_cpus
    return asked, Share(min(options.workers or len(configs), len(configs)), threads)


def _refuse(options: Where, names: Sequence[str], executor: str) -> None:
    for name in names:
        if getattr(options, name) not in (None, ""):
            flag = f"--{name.replace('_', '-')}"
            raise InputError(f"{flag} has no meaning for --executor {executor}", "docs/cluster.md lists the options")
