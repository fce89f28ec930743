"""splits_final.json of nnU-Net: one strict model of its folds, checked before nnU-Net reads it."""

from collections.abc import Iterable
from pathlib import Path

from pydantic import Field, StrictStr

from fsseg.config.base import FileModel, validated
from fsseg.config.bounded_text import MOST_JSON_MIB, parse_json, read_bounded
from fsseg.config.errors import FssegError, UsageError, first_of, shown

_SHOWN = 5


class Fold(FileModel):
    """A fold of nnU-Net's splits_final.json: cases to train on, and cases that are held out."""

    train: list[StrictStr] = Field(min_length=1)
    val: list[StrictStr]


class _Folds(FileModel):
    folds: list[Fold] = Field(min_length=1)


def require_splits(path: Path, cases: Iterable[str], fold: int = 0) -> None:
    """Check a splits_final.json before nnU-Net reads it.

    Args:
        path: the file.
        cases: the preprocessed cases.
        fold: that is asked for; of one that is not in the file, nnU-Net would make a split by chance.

    Raises:
        FssegError: it is no list of folds, or names cases that are not preprocessed.
        UsageError: it has no such fold.
    """
    content = parse_json(read_bounded(path, MOST_JSON_MIB, "JSON", FssegError), str(path))
    if not isinstance(content, list):
        raise FssegError(
            f'{path} must be a list of folds, like [{{"train": ["a", "b"], "val": ["c"]}}], got {shown(content)}.'
        )
    folds = validated(_Folds, {"folds": content}, str(path), FssegError).folds
    if fold >= len(folds):
        raise UsageError(f"{path} has no fold {fold}.\n  allowed: 0 to {len(folds) - 1}, all (train on all cases)")
    known = set(cases)
    unknown = sorted({case for fold in folds for case in (*fold.train, *fold.val)} - known)
    if unknown:
        raise FssegError(
            f"{path} names {len(unknown)} case(s) that are not preprocessed: {first_of(unknown, _SHOWN)}\n"
            "  Correct the file, or preprocess the dataset again: fsseg preprocess"
        )
