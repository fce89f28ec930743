"""A table as a file: datasets, bases, what is adapted and compared, and how it is scored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from fsseg.config.base import Seed, StrictModel, load_yaml, validated
from fsseg.config.pretraining import PretrainSettings
from fsseg.config.recipes import LEAST_TILE_STEP

Scalar = str | int | float | bool | None
AxisValue = Scalar | list[Any] | dict[str, Any]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]


class Phantoms(StrictModel):
    """Phantom CTs that fsseg makes itself, in place of data under --root."""

    cases_per_source: int = Field(default=10, ge=1, description="phantoms in each of the three source sets")
    target_cases: int = Field(default=11, ge=2, description="phantoms of the target site")
    seed: Seed = Field(default=0, description="decides their anatomy and noise")


class TableDataset(StrictModel):
    """A dataset of a table: what `fsseg assemble` makes it from."""

    specs: tuple[str, ...] = Field(min_length=1, description="names of specs, or paths relative to the table")
    id: int = Field(ge=1, le=999, description="nnU-Net's number of the assembled dataset")
    name: _Name = Field(description="its name")


class PretrainedBase(StrictModel):
    """A base that is pretrained for the table."""

    dataset: str = Field(description="name of the dataset in this table")
    plans: str = Field(description="name of a plans file, or its path relative to the table")
    settings: PretrainSettings = Field(description="as of `fsseg pretrain`")


class ImportedBase(StrictModel):
    """A base that is imported from a public checkpoint."""

    file: str = Field(description="name of the checkpoint file, which lies under --root")
    family: str = Field(default="auto", description="as of `fsseg import`")
    stem: str | None = Field(default=None, description="as of `fsseg import`")
    page: str = Field(description="where a person gets the file")


class Base(StrictModel):
    """A base of a table: pretrained, or imported."""

    pretrained: PretrainedBase | None = Field(default=None, description="how it is pretrained")
    imported: ImportedBase | None = Field(default=None, description="which file it comes from")

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "Base":
        if (self.pretrained is None) == (self.imported is None):
            raise ValueError("a base is either pretrained or imported")
        return self


class Cases(StrictModel):
    """Which cases of the dataset, in the order of their names."""

    first: int | None = Field(default=None, ge=1, description="so many from the start")
    last: int | None = Field(default=None, ge=1, description="so many from the end")
    names: tuple[str, ...] | None = Field(default=None, min_length=1, description="these cases")

    @model_validator(mode="after")
    def _is_one_of_three(self) -> "Cases":
        if sum(value is not None for value in (self.first, self.last, self.names)) != 1:
            raise ValueError("give one of first, last and names")
        return self

    def of(self, cases: Sequence[str]) -> tuple[str, ...]:
        """Return the chosen ones of all cases of a dataset."""
        ordered = sorted(cases)
        if self.names is not None:
            return self.names
        return tuple(ordered[: self.first] if self.first else ordered[-(self.last or 0) :])


class Scoring(StrictModel):
    """How runs predict and are scored, the same for all."""

    tile_step_size: float | None = Field(
        default=None, ge=LEAST_TILE_STEP, le=1, description="step of the sliding window; None takes the recipe's"
    )
    mirroring: bool = Field(default=True, description="average over flips where a run allows them")
    tolerance_mm: float = Field(default=2.0, ge=0, description="surfaces this close agree (NSD)")


class TableFile(StrictModel):
    """What a table compares.

    Every combination of the values of all axes is a cell. A value is a setting of its axis, or a mapping of several
    settings with a `label`. Settings are `base`, `method`, `decoder`, `head`, `shots`, `seed`, `cases`, `recipe` (a
    name), `recipe.KEY` and `options.KEY` of the method.
    """

    title: str = Field(description="heading of the page")
    about: str = Field(default="", description="what the table shows, and how it was made")
    phantoms: Phantoms | None = Field(default=None, description="phantom CTs in place of data under --root")
    datasets: dict[_Name, TableDataset] = Field(min_length=1, description="datasets by name")
    bases: dict[_Name, Base] = Field(min_length=1, description="bases by name")
    dataset: str = Field(description="name of the dataset that is adapted to")
    structures: tuple[str, ...] = Field(min_length=1, description="structures to adapt to, together in one network")
    pool: Cases | None = Field(default=None, description="cases that may be drawn; default: all but the test cases")
    test: Cases = Field(description="cases that are scored, and never learned from")
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of every run")
    axes: dict[str, Annotated[list[AxisValue], Field(min_length=1)]] = Field(min_length=1, description="what is varied")
    leave_out: tuple[dict[str, str], ...] = Field(default=(), description="combinations that are no cells, by label")
    scoring: Scoring = Field(default=Scoring(), description="how runs are scored")
    baselines: tuple[str, ...] = Field(default=(), description="labels of the method axis that others are compared to")

    @property
    def phantoms_key(self) -> str:
        """What tells phantoms of other numbers or seeds apart; "" without phantoms."""
        return "" if self.phantoms is None else "_".join(str(value) for value in self.phantoms.model_dump().values())

    @model_validator(mode="after")
    def _names_what_it_has(self) -> "TableFile":
        named = {f"bases.{name}": base.pretrained.dataset for name, base in self.bases.items() if base.pretrained}
        named["dataset"] = self.dataset
        missing = [f"{where} names {name!r}" for where, name in named.items() if name not in self.datasets]
        if missing:
            raise ValueError(f"{'; '.join(missing)}, but the datasets are {', '.join(self.datasets)}")
        return self


def read_table(path: Path) -> TableFile:
    """Read a table file; raise `UsageError` with all errors at once."""
    return validated(TableFile, load_yaml(path), str(path))
