"""Folds of nnU-Net's commands: made of the pool's cases; a test case, or its image under another name, is in none."""

import itertools
import os
from pathlib import Path

import pytest

from fsseg.config.errors import FssegError, UsageError
from fsseg.config.few_shot import FewShotSettings
from fsseg.nnunet.environment import trainers_folder, with_trainers_folder
from fsseg.nnunet.few_shot.folds import fold_of_pool, pool_cases, restricted

CASES = [f"case_{index:02d}" for index in range(12)]
TWINS = [("case_00", "case_11"), ("case_01", "case_02")]
TEST = ("case_10", "case_11")


def settings(pool: list[str] | None = None, test: tuple[str, ...] = TEST) -> FewShotSettings:
    lists = {"pool": pool, "test": test}
    return FewShotSettings(checkpoint=Path("base"), base_sha256="0", structures=("a",), shots=2, method="lora", **lists)


def test_the_pool_is_all_but_the_test_cases_and_their_images() -> None:
    assert pool_cases(CASES, settings(), TWINS) == CASES[1:10]
    assert pool_cases(CASES, settings(pool=["case_05", "case_03"]), TWINS) == ["case_03", "case_05"]
    assert pool_cases(CASES, settings(test=()), TWINS) == CASES


def test_a_pool_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(FssegError, match=r"1 case\(s\) of the pool are not preprocessed: case_77"):
        pool_cases(CASES, settings(pool=["case_01", "case_77"]), TWINS)
    with pytest.raises(FssegError, match="all are test cases"):
        pool_cases(CASES, settings(test=tuple(CASES)), TWINS)


@pytest.mark.parametrize("size", [2, 4, 5, 9])
def test_folds_hold_every_pool_case_out_once(size: int) -> None:
    pool = [case for case in CASES if case not in ("case_02", "case_11")][:size]
    folds = [fold_of_pool(pool, fold, TWINS) for fold in range(min(size, 5))]
    assert sorted(itertools.chain(*(held_out for _, held_out in folds))) == pool
    assert all(sorted(training + held_out) == pool for training, held_out in folds)
    with pytest.raises(UsageError, match=f"got fold {len(folds)}"):
        fold_of_pool(pool, len(folds), TWINS)


def test_folds_of_a_file_lose_what_is_not_of_the_pool() -> None:
    pool = pool_cases(CASES, settings(), TWINS)
    training, held_out = restricted(CASES[1:8], [*CASES[8:], "case_00"], pool, TWINS)
    assert (training, held_out) == (CASES[1:8], ["case_08", "case_09"])
    training, held_out = restricted(["case_02", "case_03", "case_11"], ["case_01", "case_10"], pool, TWINS)
    assert (training, held_out) == (["case_03"], ["case_01"])  # case_02 is the image of case_01
    with pytest.raises(UsageError, match="no training case in the pool"):
        restricted(["case_10", "case_11"], ["case_03"], pool, TWINS)


def test_trainers_of_others_stay() -> None:
    ours = str(trainers_folder())
    assert with_trainers_folder("") == ours
    both = with_trainers_folder(os.pathsep.join(["/home/me/my trainers", "/others", ""]))
    assert both.split(os.pathsep) == ["/home/me/my trainers", "/others", ours]
    assert with_trainers_folder(both) == both
    assert with_trainers_folder(f"{ours}/") == f"{ours}/"
