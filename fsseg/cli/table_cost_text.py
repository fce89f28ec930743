"""What a table costs, as text for a person."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsseg.experiments.costs.runs import Disk
    from fsseg.experiments.costs.table_cost import TableCost

_GIB = 1024.0


def table_cost_lines(cost: "TableCost") -> list[str]:
    """Return the hours of each kind of runs and of all, the disk, and what the numbers rest on."""
    width = max(len("kind of run"), *(len(line.name) for line in cost.kinds))
    lines = [f"{'kind of run':<{width}}  runs  done  hours each   hours"]
    for line in cost.kinds:
        left = line.runs > line.done
        each, hours = (_hours(line.hours_each), _hours(line.hours if line.hours_each else None)) if left else ("", "")
        lines.append(f"{line.name:<{width}}  {line.runs:>4}  {line.done:>4}  {each:>10}  {hours:>6}")
    lines += [f"pretraining of {line.name}: {_hours(line.hours)} hours" for line in cost.pretrainings]
    at_once = f"{cost.jobs} run{'s' if cost.jobs > 1 else ''} at a time"
    unknown = any(line.note for line in cost.kinds) or any(line.note for line in cost.pretrainings)
    without = ", without what is not known" if unknown else ""
    total = f"in all at most {_hours(cost.hours)} hours{without}, {at_once}; disk: {_disk(cost.disk_mib)}"
    return [*lines, total, *cost.notes]


def _hours(hours: float | None) -> str:
    if hours is None:
        return "?"
    return f"{hours:.3f}" if hours < 0.1 else f"{hours:.1f}"


def _disk(mib: "Disk") -> str:
    parts = {"models": mib.models, "predictions": mib.predictions, "features": mib.features}
    listing = ", ".join(f"{name} {_size(size)}" for name, size in parts.items())
    return f"{_size(sum(parts.values()))} ({listing})"


def _size(mib: float) -> str:
    return f"{mib / _GIB:.1f} GiB" if mib > _GIB else f"{mib:.0f} MiB"
