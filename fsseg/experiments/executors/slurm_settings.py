"""What a run asks of a Slurm cluster, as `--slurm KEY=VALUE` says it."""

import re
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator

from fsseg.config.base import StrictModel

_Name = Annotated[str, StringConstraints(pattern=r"^[\w.,:@/+=&|*()\[\]-]+$")]
_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
_MEMORY = re.compile(r"\d+[MGT]")
_SECONDS_BEFORE_THE_END = 120  # Slurm warns a job so long before its time is over: a training keeps its step


class SlurmSettings(StrictModel):
    """Of each run."""

    partition: _Name | None = Field(default=None, description="where it waits; None for the cluster's choice")
    account: _Name | None = Field(default=None, description="who pays")
    qos: _Name | None = Field(default=None, description="quality of service")
    constraint: _Name | None = Field(default=None, description="features of the node")
    time: str = Field(default="1-00:00:00", description="the most that it takes: minutes, H:M:S, D-H or D-H:M:S")
    mem: str | None = Field(default=None, description="memory of the host such as 16G; None for the cluster's choice")
    gpus: int = Field(default=0, ge=0, description="GPUs")
    cpus: int = Field(default=1, ge=1, description="cores")

    @field_validator("time")
    @classmethod
    def _is_a_time(cls, time: str) -> str:
        if _minutes(time) < 1:
            raise ValueError("write minutes, H:M:S, D-H or D-H:M:S, such as 90, 1:30:00 or 2-12")
        return time

    @field_validator("mem")
    @classmethod
    def _is_memory(cls, mem: str | None) -> str | None:
        if mem is not None and not _MEMORY.fullmatch(mem):
            raise ValueError("write a number with M, G or T behind it, such as 16G")
        return mem

    def parameters(self, threads: int, at_once: int) -> dict[str, Any]:
        """Return what submitit's Slurm executor takes.

        A job is never put back into the queue by Slurm itself: who submitted it sees its end, and decides.

        Args:
            threads: of a run.
            at_once: how many jobs may run at a time.
        """
        named = {name: getattr(self, name) for name in ("partition", "account", "qos", "constraint", "mem")}
        return {
            **{name: value for name, value in named.items() if value is not None},
            **({"gpus_per_node": self.gpus} if self.gpus else {}),
            "cpus_per_task": max(self.cpus, threads),
            "time": _minutes(self.time),
            "job_name": "fsseg",
            "array_parallelism": at_once,
            "signal_delay_s": _SECONDS_BEFORE_THE_END,
            "setup": [f"export OMP_NUM_THREADS={threads}"],
            "additional_parameters": {"no-requeue": True},
        }


def _minutes(time: str) -> int:
    """Return a time as Slurm reads it in minutes, rounded up; 0 for what is none."""
    found = _TIME.fullmatch(time)
    if not found:
        return 0
    days, first, second, third = (int(part) if part else 0 for part in found.groups())
    if found[1] is not None:
        seconds = ((days * 24 + first) * 60 + second) * 60 + third
    elif found[4] is not None:
        seconds = (first * 60 + second) * 60 + third
    else:
        seconds = first * 60 + second
    return -(-seconds // 60)
