"""The cells of a paper, which stand beside ours: data with a source, never mixed with ours."""

from pydantic import Field, model_validator

from fsseg.config.base import StrictModel
from fsseg.evaluation.fseft import NATIVE

PRINTED_MEAN = "mean"  # the column that a paper calls its average


class PaperRow(StrictModel):
    """One row of a paper's table."""

    labels: dict[str, str] = Field(min_length=1, description="axis -> label of the row of ours that it belongs to")
    cells: tuple[float | None, ...] = Field(
        default=(), description="a value for every column; null where there is none"
    )
    parameters: str = Field(default="", description="trained parameters, as printed")
    minutes: str = Field(default="", description="minutes of a training, as printed")
    doubt: str = Field(default="", description="what is doubtful about this row")
    absent: str = Field(default="", description="why no row of ours belongs to it; its labels are then free")


class Paper(StrictModel):
    """Rows of a paper's table.

    A column is named as a column of ours, or `mean` for the average that the paper prints. Where that differs from the
    mean of the row's cells, both are shown.
    """

    source: str = Field(description="paper, table or figure, and where it was read")
    protocol: str = Field(default=NATIVE, description="scoring protocol of ours that it is compared to")
    scale: float = Field(default=100, gt=0, description="what a perfect DSC is: 100 for percent, 1 for fractions")
    decimals: int = Field(default=2, ge=0, le=4, description="decimals that are printed")
    columns: tuple[str, ...] = Field(default=(), description="names of the columns")
    rows: tuple[PaperRow, ...] = Field(min_length=1, description="its rows")
    doubts: tuple[str, ...] = Field(default=(), description="what is doubtful about the whole table")

    @model_validator(mode="after")
    def _has_a_cell_for_every_column(self) -> "Paper":
        wrong = [row.labels for row in self.rows if row.cells and len(row.cells) != len(self.columns)]
        if wrong:
            raise ValueError(f"{len(self.columns)} columns, but another number of cells in {wrong}")
        return self
