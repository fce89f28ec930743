"""The tables on head-and-neck CT that come with fsseg: what their files repeat agrees with what they mean."""

import pytest
from conftest import REPOSITORY

from fsseg.config.recipes import Recipe
from fsseg.experiments.definition.grid import Cell, cells_of
from fsseg.experiments.definition.table_file import read_table
from fsseg.methods.registry import method_class


def cells(name: str) -> list[Cell]:
    return cells_of(read_table(REPOSITORY / "scripts" / "tables" / f"{name}.yaml"), name)


def test_every_method_of_the_pool_table_gets_a_multiple_of_its_own_rate() -> None:
    factors = {"as they are": 1, "a third": 1 / 3, "three times": 3, "ten times": 10}
    found = cells("head-neck-pool")
    assert {cell.labels["rates"] for cell in found} == set(factors)
    for cell in found:
        family = method_class(cell.settings.method).family
        expected = factors[cell.labels["rates"]] * Recipe().learning_rates[family]
        assert cell.settings.recipe.learning_rates[family] == pytest.approx(expected, rel=0.02)


def test_the_pool_table_scores_no_case_that_it_may_learn_from() -> None:
    own = read_table(REPOSITORY / "scripts/tables/head-neck-pool.yaml").targets["pool"]
    compared = read_table(REPOSITORY / "scripts/tables/head-neck.yaml").targets["site"]
    assert own.pool is not None
    assert compared.pool is not None
    assert (own.pool.number or 0) + (own.test.number or 0) == compared.pool.number


def test_bases_as_they_are_and_adapted_are_the_same_ones() -> None:
    found = cells("head-neck-pretraining")
    adapted, scored = ({c.base for c in found if c.target == target} for target in ("adapted", "another_site"))
    assert adapted == scored
    assert {base.name for base in adapted} == {"all_sets", "nerve_alone", "glands_alone", "bone_alone"}
    assert sum(cell.is_zero_shot for cell in found) == 2 * 8
    assert sum(not cell.is_zero_shot for cell in found) == 3 * 8
