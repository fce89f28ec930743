"""How large the demo is, and so what it does."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from fsseg.config.base import StrictModel
from fsseg.config.pretraining import PretrainSettings
from fsseg.config.recipes import Recipe
from fsseg.config.results import Result
from fsseg.demo.methods import METHODS, STRUCTURES


class DemoSizes(StrictModel):
    """How large the demo is; the defaults take a few minutes on two CPU cores.

    Attributes:
        cases_per_source: phantoms in each of the three source sets.
        shots: support cases of the target site.
        test_cases: further cases of the target site, which nothing is learned from.
        pretraining: steps and learning rate of the pretraining; the seed is the demo's.
        recipe: learning rates, stop rule and cap on the steps, the same for every method.
    """

    cases_per_source: int = Field(default=10, ge=1)
    shots: int = Field(default=5, ge=1)
    test_cases: int = Field(default=6, ge=2)
    pretraining: PretrainSettings = PretrainSettings(
        steps=1200, steps_per_epoch=60, validation_crops=12, learning_rate=3e-3
    )
    recipe: Recipe = Recipe(
        learning_rates={"whole_network": 2e-3, "scratch": 1e-3, "decoder": 3e-3, "head": 3e-2, "low_rank": 3e-3},
        decoder_learning_rate=3e-3,
        head_learning_rate=3e-2,
        max_steps=150,
        plateau_window=40,
        plateau_patience=50,
    )

    def steps(self) -> list[str]:
        """Return what the demo does, a line each."""
        structures = ", ".join(STRUCTURES)
        return [
            f"phantoms: {self.phantoms}",
            f"pretrain: one network for all source structures, {self.pretraining.steps} steps",
            *(
                f"{method.label}: adapt to {structures}, at most {self.recipe.max_steps} steps; predict, evaluate"
                for method in METHODS
            ),
            "report: results.json and report.html",
        ]

    @property
    def phantoms(self) -> str:
        """Numbers of phantoms, in words."""
        return f"3 source sets of {self.cases_per_source} cases, {self.shots} + {self.test_cases} target cases"


@dataclass(frozen=True)
class DemoPlan(Result):
    """What a demo would do.

    Attributes:
        out: folder to make.
        steps: what it does, a line each.
    """

    out: Path
    steps: list[str]
