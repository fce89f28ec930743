"""When a training was under way, over all the times that it was stopped."""

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Course:
    """The clock of a training.

    Attributes:
        earlier_seconds: wall time before it was stopped last.
        resumed_at: for every time that it went on, the steps that were done then.
        started: when this process began to train, in seconds of the machine's clock.
    """

    earlier_seconds: float = 0.0
    resumed_at: tuple[int, ...] = ()
    started: float = field(default_factory=time.perf_counter)

    @classmethod
    def going_on(cls, state: dict[str, Any] | None, steps_done: int) -> "Course":
        """Return the clock of a training that is resumed from a checkpoint; an old one (None) has kept no seconds."""
        state = state or {"seconds": 0.0, "resumed_at": ()}
        return cls(float(state["seconds"]), (*state["resumed_at"], steps_done))

    @property
    def seconds(self) -> float:
        """Wall time until now."""
        return self.earlier_seconds + time.perf_counter() - self.started

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, as plain values."""
        return {"seconds": self.seconds, "resumed_at": list(self.resumed_at)}
