from pathlib import Path
from typing import Any

import pytest

from fsseg.config.errors import UsageError
from fsseg.data.splits import SPLIT_NAME, Split, leave_one_out, make_split, read_case_list

CASES = tuple(f"case_{number:02d}" for number in range(20))
TEST = CASES[12:16]
SEEDS = range(8)


@pytest.mark.parametrize("seed", SEEDS)
def test_fewer_shots_are_contained_in_more(seed: int) -> None:
    supports = [make_split(CASES, shots=shots, seed=seed, test=TEST).support for shots in (1, 5, 10)]
    assert [len(support) for support in supports] == [1, 5, 10]
    assert supports[1][:1] == supports[0]
    assert supports[2][:5] == supports[1]


def test_the_seed_decides_the_split() -> None:
    drawn = [make_split(CASES, shots=5, seed=seed, test=TEST) for seed in SEEDS]
    again = [make_split(CASES, shots=5, seed=seed, test=TEST) for seed in SEEDS]
    assert drawn == again
    assert len({split.support for split in drawn}) == len(SEEDS)


def test_the_order_in_which_cases_are_listed_changes_nothing() -> None:
    for pool in (None, CASES[:12]):
        forward = make_split(CASES, shots=5, seed=3, pool=pool, test=TEST)
        backward = make_split(CASES[::-1], shots=5, seed=3, pool=pool and pool[::-1], test=TEST[::-1])
        assert forward == backward


def test_every_pool_case_is_drawn_by_some_seed_and_no_other_case() -> None:
    drawn = {case for seed in range(60) for case in make_split(CASES, shots=5, seed=seed, test=TEST).support}
    assert drawn == set(CASES) - set(TEST)


@pytest.mark.parametrize("shots", [1, 5, 16])
@pytest.mark.parametrize("seed", SEEDS)
def test_test_cases_are_never_drawn_and_always_the_same(seed: int, shots: int) -> None:
    split = make_split(CASES, shots=shots, seed=seed, test=TEST)
    assert split.test == TEST
    assert not set(split.support) & set(TEST)
    assert not set(split.pool) & set(TEST)
    assert set(split.support) <= set(split.pool)
    assert len(set(split.support)) == shots


def test_a_pool_restricts_the_draw() -> None:
    split = make_split(CASES, shots=3, seed=0, pool=CASES[:3], test=TEST)
    assert set(split.support) == set(CASES[:3])
    assert split.pool == CASES[:3]


def test_support_cases_may_be_named() -> None:
    split = make_split(CASES, shots=1, seed=0, test=TEST, support=["case_05", "case_02"])
    assert split.support == ("case_05", "case_02")
    assert split.shots == 2


@pytest.mark.parametrize("seed", SEEDS)
def test_a_case_that_is_listed_twice_counts_once(seed: int) -> None:
    pool = ["case_01", "case_01", "case_02", "case_01"]
    split = make_split(CASES, shots=2, seed=seed, pool=pool, test=["case_09", "case_09"])
    assert sorted(split.support) == ["case_01", "case_02"]
    assert split.pool == ("case_01", "case_02")
    assert split.test == ("case_09",)
    named = make_split(CASES, shots=2, seed=seed, support=["case_01", "case_01"])
    assert (named.support, named.shots) == (("case_01",), 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shots": 17}, r"17 shots were asked for, but the pool has 16 case\(s\)"),
        ({"shots": 4, "pool": CASES[:3]}, r"the pool has 3 case\(s\)[\s\S]*--shots 1 to 3"),
        ({"test": CASES}, "No case is left to draw: all are test cases"),
        ({"shots": 0}, "0 shots"),
        ({"shots": -1}, "-1 shots"),
        ({"pool": ["case_03x"]}, r"Unknown pool case 'case_03x'\. Did you mean 'case_03'"),
        ({"support": ["case1"]}, "Unknown support case 'case1'. Did you mean 'case_1"),
        ({"test": ["kase_07"]}, "Unknown test case 'kase_07'. Did you mean 'case_07'"),
        ({"pool": ["case_01", TEST[0]]}, f"test cases and training cases at once: {TEST[0]}"),
        ({"support": ["case_01", TEST[1]]}, f"test cases and training cases at once: {TEST[1]}"),
    ],
)
def test_impossible_splits_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_split(CASES, **{"shots": 1, "seed": 0, "test": TEST, **arguments})


def test_the_image_of_a_test_case_is_not_drawn_under_another_name() -> None:
    duplicates = [("case_00", TEST[0]), ("case_01", TEST[1], "case_02"), ("case_03", "case_04")]
    drawn = {
        case
        for seed in range(60)
        for case in make_split(CASES, shots=5, seed=seed, test=TEST, duplicates=duplicates).support
    }
    assert drawn == set(CASES) - set(TEST) - {"case_00", "case_01", "case_02"}


@pytest.mark.parametrize("arguments", [{"pool": CASES[:5]}, {"support": ["case_00", "case_05"]}])
def test_the_image_of_a_test_case_is_refused_in_a_list(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="but the same image as a test case: case_00"):
        make_split(CASES, **{"shots": 1, "seed": 0, "test": TEST, "duplicates": [("case_00", TEST[0])], **arguments})


def test_leave_one_out_leaves_the_image_out() -> None:
    folds = leave_one_out(["a", "b", "c"], [("a", "c", "elsewhere")])
    assert folds == [
        {"train": ["b"], "val": ["a"]},
        {"train": ["a", "c"], "val": ["b"]},
        {"train": ["b"], "val": ["c"]},
    ]
    with pytest.raises(UsageError, match="a, b are the same image"):
        leave_one_out(["a", "b"], [("a", "b")])


def test_a_split_survives_its_file(tmp_path: Path) -> None:
    split = make_split(CASES, shots=5, seed=2, test=TEST)
    split.save(tmp_path)
    assert Split.model_validate_json((tmp_path / SPLIT_NAME).read_text(encoding="utf-8")) == split


def test_case_lists_skip_comments_and_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "cases.txt"
    path.write_text("# pool\ncase_03\n\n  case_01  \r\n#case_02\ncase_07", encoding="utf-8")
    assert read_case_list(path) == ("case_03", "case_01", "case_07")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "names no case"),
        (b"# none yet\n\n", "names no case"),
        ("Fälle".encode("latin-1"), "is no UTF-8 text"),
    ],
)
def test_a_case_list_that_names_nothing_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "cases.txt"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_case_list(path)
    assert str(path) in str(caught.value)


def test_a_case_list_of_windows_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cases.txt"
    path.write_bytes("\ufeffcase_03\r\ncase_01\r\n".encode())
    assert read_case_list(path) == ("case_03", "case_01")


def test_a_missing_case_list_is_reported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Case list not found"):
        read_case_list(tmp_path / "absent.txt")
    with pytest.raises(UsageError, match="Case list not found"):
        read_case_list(tmp_path)
