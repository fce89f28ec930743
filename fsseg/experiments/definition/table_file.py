"""A table as a file: datasets, bases, what is adapted and compared, how it is scored, and what papers print."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fsseg.config.base import StrictModel, load_yaml, validated
from fsseg.config.errors import UsageError
from fsseg.config.recipes import LEAST_TILE_STEP
from fsseg.config.shipped_files import TABLES, find_file
from fsseg.evaluation.fseft import NATIVE
from fsseg.experiments.definition.paper import Paper
from fsseg.experiments.definition.sources import Base, Name, Phantoms, TableDataset
from fsseg.experiments.definition.targets import Target

Scalar = str | int | float | bool | None
OtherProtocol = Literal["fseft", "fseft_multiclass"]
AxisValue = Scalar | list[Any] | dict[str, Any]
_LIKE = "like"
_MOST_LINKS = 5


class Scoring(StrictModel):
    """How runs predict and are scored, the same for all."""

    tile_step_size: float | None = Field(
        default=None, ge=LEAST_TILE_STEP, le=1, description="step of the sliding window; None takes the recipe's"
    )
    mirroring: bool = Field(default=True, description="average over flips where a run allows them")
    tolerance_mm: float = Field(default=2.0, ge=0, description="surfaces this close agree (NSD)")
    protocols: tuple[OtherProtocol, ...] = Field(
        default=(), description="protocols of `fsseg evaluate` that the same label maps are scored by, too"
    )


class TableFile(StrictModel):
    """What a table compares.

    Every combination of the values of all axes is a cell, for every target. A value is a setting of its axis, or a
    mapping of several settings with a `label`. Settings are `base`, `method`, `decoder`, `head`, `shots`, `seed`,
    `cases`, `transductive`, `recipe` (a name), `recipe.KEY`, `options.KEY` of the method and `pretrain.KEY` of a
    pretrained base.
    The method `zero_shot` scores the base as it is.
    """

    title: str = Field(description="heading of the page")
    about: str = Field(default="", description="what the table shows, and how it was made")
    differs: tuple[str, ...] = Field(default=(), description="what differs from the protocol of the paper, and why")
    phantoms: Phantoms | None = Field(default=None, description="phantom CTs in place of data under --root")
    datasets: dict[Name, TableDataset] = Field(min_length=1, description="datasets by name")
    bases: dict[Name, Base] = Field(min_length=1, description="bases by name")
    targets: dict[Name, Target] = Field(min_length=1, description="what is adapted to, by name")
    columns: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="name -> structures, or columns above, whose mean it shows; default: every structure",
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of every run")
    axes: dict[str, Annotated[list[AxisValue], Field(min_length=1)]] = Field(min_length=1, description="what is varied")
    leave_out: tuple[dict[str, str], ...] = Field(default=(), description="combinations that are no cells, by label")
    scoring: Scoring = Field(default=Scoring(), description="how runs are scored")
    baselines: tuple[str, ...] = Field(default=(), description="labels of the method axis that others are compared to")
    papers: tuple[Paper, ...] = Field(default=(), description="what papers print, beside ours")

    @property
    def structures(self) -> tuple[str, ...]:
        """The structures of all targets."""
        return tuple(dict.fromkeys(name for target in self.targets.values() for name in target.structures))

    @model_validator(mode="after")
    def _names_what_it_has(self) -> "TableFile":
        named = {f"bases.{name}": base.pretrained.dataset for name, base in self.bases.items() if base.pretrained}
        named |= {f"targets.{name}": target.dataset for name, target in self.targets.items()}
        made = {name: base.imported.base for name, base in self.bases.items() if base.imported and base.imported.base}
        pretrained = [name for name, base in self.bases.items() if base.pretrained]
        wrong = [_unknown(where, name, self.datasets, "datasets") for where, name in named.items()]
        wrong += [_unknown(f"bases.{name}", base, pretrained, "pretrained bases") for name, base in made.items()]
        above = list(self.columns)
        for place, (column, names) in enumerate(self.columns.items()):
            known = (*self.structures, *above[:place])
            wrong += [_unknown(f"columns.{column}", name, known, "structures") for name in dict.fromkeys(names)]
        scored = (NATIVE, *self.scoring.protocols)
        wrong += [_unknown("papers.protocol", paper.protocol, scored, "protocols of scoring") for paper in self.papers]
        if problems := [line for line in wrong if line]:
            raise ValueError("; ".join(problems))
        return self


def read_table(path: Path) -> TableFile:
    """Read a table file; with `like: OTHER` it has every key of that table that it does not give itself.

    Raises:
        UsageError: the file or the one that it is like is missing, or there are errors, all of which are told at once.
    """
    return validated(TableFile, _content(path, 0), str(path))


def _content(path: Path, links: int) -> dict[str, Any]:
    own = load_yaml(path)
    other = own.pop(_LIKE, None)
    if other is None:
        return own
    if links == _MOST_LINKS:
        raise UsageError(
            f"{path} is like a table that is like another, {_MOST_LINKS} times over.\n  Shorten the chain."
        )
    beside = path.parent / str(other)
    return {**_content(beside if beside.is_file() else find_file(str(other), TABLES), links + 1), **own}


def _unknown(where: str, name: str, known: Iterable[str], kind: str) -> str:
    return "" if name in known else f"{where} names {name!r}, but the {kind} are {', '.join(known)}"
