"""What a table adapts to: structures of a dataset, with the cases that may be drawn and those that are scored."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from fsseg.config.base import Seed, StrictModel


class Cases(StrictModel):
    """Which cases of the dataset, in the order of their names."""

    first: int | None = Field(default=None, ge=1, description="so many from the start")
    last: int | None = Field(default=None, ge=1, description="so many from the end")
    names: tuple[str, ...] | None = Field(default=None, min_length=1, description="these cases")
    held_out: Literal[True] | None = Field(default=None, description="those that the base's pretraining has held out")

    @model_validator(mode="after")
    def _is_one_of_four(self) -> "Cases":
        if sum(value is not None for value in (self.first, self.last, self.names, self.held_out)) != 1:
            raise ValueError("give one of first, last, names and held_out")
        return self

    @property
    def number(self) -> int | None:
        """How many cases these are, where the table alone says it."""
        return len(set(self.names)) if self.names else self.first or self.last


class Target(StrictModel):
    """Structures that one network is adapted to, and the cases for it.

    Names of cases may be written as their collection has them: `prefix` is what `fsseg assemble` puts in front.
    """

    dataset: str = Field(description="name of the dataset in this table")
    structures: tuple[str, ...] = Field(min_length=1, description="structures to adapt to, together in one network")
    pool: Cases | None = Field(default=None, description="cases that may be drawn; default: all but the test cases")
    test: Cases = Field(description="cases that are scored, and never learned from")
    prefix: str = Field(default="", description="what stands in front of every name below")
    support: dict[Seed, tuple[str, ...]] = Field(
        default_factory=dict, description="seed -> exact support cases in order; k shots take the first k"
    )
    settings: dict[str, Any] = Field(default_factory=dict, description="settings of the runs for this target alone")

    @model_validator(mode="after")
    def _learns_from_no_test_case(self) -> "Target":
        if self.pool is not None and self.pool.held_out:
            raise ValueError("cases that a base has held out are for the test: give the pool first, last or names")
        lists = {"pool": (self.pool.names if self.pool else None) or ()}
        lists |= {f"support of seed {seed}": cases for seed, cases in self.support.items()}
        both = {where: sorted(set(self.test.names or ()) & set(cases)) for where, cases in lists.items()}
        wrong = [f"{where}: {', '.join(cases)}" for where, cases in both.items() if cases]
        if wrong:
            raise ValueError(f"test cases may not be learned from, but they are named in {'; '.join(wrong)}")
        return self

    @property
    def lists(self) -> list[tuple[str, ...]]:
        """The lists of names of this file."""
        lists = [which.names or () for which in (self.pool, self.test) if which is not None]
        return [*lists, *self.support.values()]

    def named(self, cases: Sequence[str]) -> tuple[str, ...]:
        """Return names of this file as the dataset has them, each once."""
        return tuple(dict.fromkeys(f"{self.prefix}{case}" for case in cases))

    def chosen(self, which: Cases, cases: Sequence[str], held_out: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the cases that `which` means.

        Args:
            which: the pool or the test cases.
            cases: all cases of the dataset.
            held_out: those of the base, which may be of other datasets, too.
        """
        ordered = sorted(cases)
        if which.names is not None:
            return self.named(which.names)
        if which.held_out:
            return tuple(case for case in ordered if case in set(held_out))
        return tuple(ordered[: which.first] if which.first else ordered[-(which.last or 0) :])
