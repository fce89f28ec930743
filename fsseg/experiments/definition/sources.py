"""What the runs of a table start from: phantoms, datasets and bases, as the table file names them."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from fsseg.config.base import Seed, StrictModel, validated
from fsseg.config.pretraining import PretrainSettings, recipe_settings
from fsseg.data.conflicts import Channels

CASE_MM = (380.0, 330.0, 380.0)  # of a CT of the trunk
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]


class Phantoms(StrictModel):
    """Phantom CTs that fsseg makes itself, in place of data under --root."""

    cases_per_source: int = Field(default=10, ge=1, description="phantoms in each of the three source sets")
    target_cases: int = Field(default=11, ge=2, description="phantoms of the target site")
    seed: Seed = Field(default=0, description="decides their anatomy and noise")

    @property
    def key(self) -> str:
        """What tells phantoms of other numbers or seeds apart."""
        return "_".join(str(value) for value in self.model_dump().values())


class TableDataset(StrictModel):
    """A dataset of a table: what `fsseg assemble` makes it from."""

    specs: tuple[str, ...] = Field(min_length=1, description="names of specs, or paths relative to the table")
    id: int = Field(ge=1, le=999, description="nnU-Net's number of the assembled dataset")
    name: Name = Field(description="its name")
    channels: Channels = Field(default="merged", description="as of `fsseg assemble`")
    case_mm: tuple[float, float, float] = Field(
        default=CASE_MM,
        description="usual extents of an image as x, y, z; costs are told by them before data are there",
    )
    only_named: bool = Field(default=False, description="take those cases alone that targets name in their lists")


class PretrainedBase(StrictModel):
    """A base that is pretrained for the table."""

    dataset: str = Field(description="name of the dataset in this table")
    plans: str = Field(description="name of a plans file, or its path relative to the table")
    recipe: str = Field(default="default", description="as of `fsseg pretrain`")
    fold: str = Field(default="0", description="as of `fsseg pretrain`")
    settings: dict[str, Any] = Field(description="as of `fsseg pretrain`; what the recipe says is left out")

    def changed(self, changes: Mapping[str, Any]) -> "PretrainedBase":
        """Return the base with other settings, such as those of an axis."""
        own = {name: str(changes[name]) for name in ("recipe", "fold", "dataset", "plans") if name in changes}
        settings = {name: value for name, value in changes.items() if name not in own}
        return self.model_copy(update={**own, "settings": {**self.settings, **settings}})

    def all_settings(self, where: str) -> PretrainSettings:
        """Return what is trained; raise `UsageError` for settings that do not exist."""
        return validated(PretrainSettings, {**recipe_settings(self.recipe), **self.settings}, where)


class ImportedBase(StrictModel):
    """A base that is imported from a public checkpoint, or made of another base of the table.

    With other channels and plans, a base takes images of another modality or voxel size than it was trained on.
    """

    file: str | None = Field(default=None, description="name of the checkpoint file, which lies under --root")
    base: str | None = Field(default=None, description="in place of a file: a pretrained base of this table")
    family: str = Field(default="auto", description="as of `fsseg import`")
    stem: str | None = Field(default=None, description="as of `fsseg import`")
    channels: tuple[str, ...] | None = Field(default=None, min_length=1, description="as of `fsseg import`")
    plans: str | None = Field(default=None, description="as of `fsseg import`, or a path relative to the table")
    page: str = Field(default="", description="where a person gets the file")

    @model_validator(mode="after")
    def _comes_from_a_file_or_a_base(self) -> "ImportedBase":
        if (self.file is None) == (self.base is None):
            raise ValueError("give either file or base")
        if self.file is not None and not self.page:
            raise ValueError(f"page must say where a person gets {self.file}")
        return self


class Base(StrictModel):
    """A base of a table: pretrained, or imported."""

    pretrained: PretrainedBase | None = Field(default=None, description="how it is pretrained")
    imported: ImportedBase | None = Field(default=None, description="which file it comes from")

    @model_validator(mode="after")
    def _is_one_of_two(self) -> "Base":
        if (self.pretrained is None) == (self.imported is None):
            raise ValueError("a base is either pretrained or imported")
        return self
