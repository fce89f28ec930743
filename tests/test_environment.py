"""nnU-Net's folder variables: nnU-Net takes them as they are, so they must say what their user means."""

from pathlib import Path

import pytest

from fsseg.config.errors import UsageError
from fsseg.nnunet.environment import (
    dataset_folder,
    nnunet_folders,
    preprocessed_folder,
    raw_folder,
    require_full_paths,
)


@pytest.mark.parametrize(
    ("value", "said", "meant"),
    [
        ('"/data/raw"', "quotes", "/data/raw"),
        ("'/data/raw'", "quotes", "/data/raw"),
        ("\u201c/data/raw\u201d", "quotes", "/data/raw"),
        ("/data/my raw'", "quotes", "'/data/my raw'"),
        ("/data/raw\r", "line end", "/data/raw"),
        (" /data/raw", "blanks", "/data/raw"),
        ("~/raw", "home folder", "/home/ana/raw"),
        ('"~/raw"', "quotes", "/home/ana/raw"),
        ("$HOME/raw", "variable", "/home/ana/raw"),
        ("/scratch/${JOB}/raw", "variable", "/scratch/17/raw"),
        ("nnUNet/raw", "relative", "HERE/nnUNet/raw"),
        ("./raw", "relative", "HERE/raw"),
        ("../raw", "relative", "PARENT/raw"),
        ("~nobody_of_this_name/raw", "relative", "$HOME/nnUNet/raw"),
        ("$SURELY_NOT_SET/raw", "relative", "$HOME/nnUNet/raw"),
    ],
)
def test_a_folder_that_nnunet_would_misread_is_refused_with_the_line_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, said: str, meant: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, of_test in (("HOME", "/home/ana"), ("JOB", "17"), ("nnUNet_raw", value)):
        monkeypatch.setenv(name, of_test)
    meant = meant.replace("HERE", str(tmp_path)).replace("PARENT", str(tmp_path.parent))
    with pytest.raises(UsageError) as error:
        raw_folder()
    assert f"nnUNet_raw is {value!r}" in str(error.value)
    assert said in str(error.value)
    assert str(error.value).endswith(f"export nnUNet_raw={meant}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["raw", "O'Brien", "with blank", "price in $", "a~b"])
def test_a_full_path_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / name))
    assert preprocessed_folder() == tmp_path / name


def test_blanks_alone_are_not_set_and_a_file_is_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_raw", " ")
    with pytest.raises(UsageError, match=r"not set.*\n.*export nnUNet_raw=\$HOME"):
        raw_folder()
    (tmp_path / "raw").write_text("")
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    with pytest.raises(UsageError, match="a file"):
        raw_folder()
    with pytest.raises(UsageError, match="gone does not exist"):
        dataset_folder(tmp_path / "gone", "104")


def test_folders_that_fsseg_sets_for_itself_may_be_relative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_raw", "~/raw")
    with nnunet_folders(raw=Path("nnUNet_raw"), preprocessed=Path("nnUNet_preprocessed")):
        assert raw_folder() == Path("nnUNet_raw")
    with pytest.raises(UsageError, match="home folder"):
        raw_folder()


def test_trainers_check_where_nnunet_writes_their_results(monkeypatch: pytest.MonkeyPatch) -> None:
    from fsseg.nnunet.few_shot.trainer import FewShotTrainer
    from fsseg.nnunet.pretraining.trainer import nnUNetTrainerPartialLabel

    for variable in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.delenv(variable, raising=False)
    require_full_paths()
    monkeypatch.setenv("nnUNet_results", '"/data/results"')
    for trainer in (FewShotTrainer, nnUNetTrainerPartialLabel):
        with pytest.raises(UsageError, match="export nnUNet_results=/data/results"):
            trainer({}, "3d_fullres", 0, {})
