"""`fsseg import` with other image channels, patches and depths, and what `fsseg adapt` makes of it."""

import json
import shlex
import shutil
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import checkpoint_files
import numpy as np
import pytest
import SimpleITK
import torch
from checkpoint_files import nnunet_file
from conftest import KNOWN, NOVEL, TARGET, Lab, Outcome, fsseg, succeed, tiny_plans, tree
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from fsseg.adaptation.trainer import nnUNetTrainerFewShot
from fsseg.config.errors import UsageError
from fsseg.nnunet.model_folder import ModelFolder

FINAL = Path("fold_0") / "checkpoint_final.pth"


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The target dataset with a second image of every case, in folders of its own."""
    root = tmp_path_factory.mktemp("two_channels")
    two = replace(lab.copy_target(root / "raw"), root=root)
    (root / "preprocessed").mkdir()
    for index in range(4):
        image = SimpleITK.ReadImage(str(two.image(index)))
        second = SimpleITK.GetImageFromArray(np.sqrt(SimpleITK.GetArrayFromImage(image).astype(np.float32) + 2000))
        second.CopyInformation(image)
        SimpleITK.WriteImage(second, str(two.image(index)).replace("_0000.", "_0001."))
    file = root / "raw" / TARGET / "dataset.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content | {"channel_names": {"0": "CT", "1": "PET"}}), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("raw", "preprocessed"):
            patch.setenv(f"nnUNet_{variable}", str(root / variable))
        yield two


def refused(outcome: Outcome, *words: str, code: int = 2) -> None:
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.err, outcome.err


def refused_import(out: Path, file: Path, *words: object) -> Outcome:
    """Import; nothing may come of it."""
    before = tree(out.parent)
    outcome = fsseg("import", file, "--out", out, *words)
    assert not out.exists()
    assert tree(out.parent) == before
    return outcome


def written(plans: dict[str, Any], file: Path) -> Path:
    file.write_text(json.dumps(plans), encoding="utf-8")
    return file


# The whole way


@pytest.fixture(scope="module")
def two_channel_base(site: Lab) -> tuple[Path, dict[str, Any]]:
    out = site.root / "base"
    words = ("--channels", "CT", "PET=CT", "--patch-size", 24, 16, 20)
    return out, succeed("import", site.base / FINAL, *words, "--out", out)


def test_what_was_done_is_reported(site: Lab, two_channel_base: tuple[Path, dict[str, Any]]) -> None:
    out, result = two_channel_base
    model, old = ModelFolder.read(out), ModelFolder.read(site.base)
    expected = {"start": {"CT": "CT / 2", "PET": "CT / 2"}, "left_out": []}
    assert json.loads((out / "transfer.json").read_text(encoding="utf-8"))["channels"] == expected
    assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["transfer"]["channels"] == expected
    assert model.dataset_json["channel_names"] == {"0": "CT", "1": "PET"}
    assert result["expects"]["patch"] == [24, 16, 20]
    assert [entry["scheme"] for entry in result["expects"]["intensities"]] == ["CTNormalization", "ZScoreNormalization"]
    assert model.structures.integers == old.structures.integers
    stem, old_stem = (m.weights["encoder.stages.0.0.convs.0.conv.weight"] for m in (model, old))
    assert torch.equal(stem, torch.cat([old_stem, old_stem], dim=1) / 2)
    assert any("CT, PET start from the weights of 'CT' / 2" in note for note in result["notes"])
    assert any("Patch 24 x 16 x 20 instead of 16 x 16 x 16" in note for note in result["notes"])


def test_two_channels_are_adapted_and_predicted_by_stock_nnunet(
    site: Lab, two_channel_base: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = succeed(*site.adapt_words(run, base=two_channel_base[0], method="full"))
    assert result["structures"] == {NOVEL: "novel", KNOWN: "known"}
    assert not any("IGNORED" in note for note in result["notes"])
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(run), (0,), "checkpoint_final.pth")
    assert list(predictor.configuration_manager.patch_size) == [24, 16, 20]
    files = [str(site.image(3)), str(site.image(3)).replace("_0000.", "_0001.")]
    reader = predictor.plans_manager.image_reader_writer_class()
    image, properties = reader.read_images(files)
    stock = predictor.predict_single_npy_array(image, properties)
    image[1] = np.random.default_rng(0).permuted(image[1])
    assert not np.array_equal(stock, predictor.predict_single_npy_array(image, properties))
    words = ("--input", site.target / "imagesTr", "--cases", site.case(3), "--device", "cpu")
    succeed("predict", "--run", run, *words, "--output", tmp_path / "masks")
    reader.write_seg(stock, str(tmp_path / "stock.nii.gz"), properties)  # as the image was stored
    ours, theirs = (
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(file)))
        for file in (tmp_path / "masks" / f"{site.case(3)}.nii.gz", tmp_path / "stock.nii.gz")
    )
    assert (ours == theirs).mean() > 0.99
    assert theirs.any()


def test_the_refusal_gives_the_import_that_helps(site: Lab, tmp_path: Path) -> None:
    outcome = fsseg(*site.adapt_words(tmp_path / "run", base=site.base))
    refused(outcome, "takes the channels ['CT']", "['CT', 'PET']")
    (line,) = [line.strip() for line in outcome.err.splitlines() if line.strip().startswith("fsseg import")]
    assert line == f"fsseg import {site.base / FINAL} --channels CT PET=CT --out NEW_RUN"
    succeed(*[tmp_path / "new" if word == "NEW_RUN" else word for word in shlex.split(line)[1:]])
    succeed(*site.adapt_words(tmp_path / "run", "--dry-run", base=tmp_path / "new"))


@pytest.mark.parametrize(
    ("ours", "theirs", "words"),
    [
        (["any"], ["T1", "T2"], "--channels T1=any T2=any"),
        (["any", "any"], ["T1"], "--channels T1=0"),
        (["PET", "ct"], ["CT", "PET 2"], "--channels CT 'PET 2=PET'"),
        (["T1", "T2"], ["T2", "T1"], "--channels T2 T1"),
    ],
)
def test_the_import_that_helps_is_spelled_out(
    site: Lab, tmp_path: Path, ours: list[str], theirs: list[str], words: str
) -> None:
    base, raw = tmp_path / "base", tmp_path / "raw"
    shutil.copytree(site.base, base)
    for folder, names in ((base, ours), (shutil.copytree(site.target, raw / TARGET), theirs)):
        content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        content["channel_names"] = {str(index): name for index, name in enumerate(names)}
        (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    plans = json.loads((base / "plans.json").read_text(encoding="utf-8"))
    plans["configurations"]["3d_fullres"] |= {
        "normalization_schemes": ["ZScoreNormalization"] * len(ours),
        "use_mask_for_norm": [False] * len(ours),
    }
    (base / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_raw", str(raw))
        refused(fsseg(*site.adapt_words(tmp_path / "run", base=base)), f"fsseg import {base / FINAL} {words} --out")


def test_runs_of_every_family_are_imported_again(tmp_path: Path) -> None:
    """The advice above holds for them, too: our own runs are of one family, whatever network they hold."""
    for name, write in checkpoint_files.WRITERS.items():
        file = tmp_path / name.replace(":", "_") / "file.model"
        file.parent.mkdir()
        write(file)
        succeed("import", file, "--out", file.parent / "run")
        old = ModelFolder.read(file.parent / "run").dataset_json["channel_names"]["0"]
        words = ("--channels", f"A={old}", f"B={old}", "--dry-run", "--out", tmp_path / "again")
        result = succeed("import", file.parent / "run" / FINAL, *words)
        assert result["family"] == "nnunet_v2"
        assert result["expects"]["channels"] == ["A", "B"]
        assert result["transfer"]["encoder_share"] == 1


# A channel that nothing reads


@pytest.fixture(scope="module")
def zero_base(site: Lab) -> Path:
    out = site.root / "zero"
    result = succeed("import", site.base / FINAL, "--channels", "CT", "PET", "--out", out)
    assert any(note.startswith("IGNORED FOR NOW: 'PET' starts with zero weights") for note in result["notes"])
    return out


@pytest.mark.parametrize(("method", "ignored"), [("linear_probe", True), ("bitfit", True), ("full", False)])
def test_adapt_says_which_channel_it_ignores(
    site: Lab, zero_base: Path, tmp_path: Path, method: str, ignored: bool, caplog: pytest.LogCaptureFixture
) -> None:
    result = succeed(*site.adapt_words(tmp_path / "run", "--shots", 1, base=zero_base, method=method))
    said = [note for note in result["notes"] if "IGNORED IMAGE CHANNEL: PET." in note]
    assert bool(said) == ignored
    assert said == [record.getMessage() for record in caplog.records if "IGNORED" in record.getMessage()]
    assert ("IGNORED IMAGE CHANNEL" in (tmp_path / "run" / "manifest.json").read_text(encoding="utf-8")) == ignored
    network = ModelFolder.read(tmp_path / "run").build_network().eval()
    image = torch.randn(1, 2, 16, 16, 16)
    other = torch.cat([image[:, :1], torch.randn(1, 1, 16, 16, 16)], dim=1)
    with torch.no_grad():
        assert torch.equal(network(image), network(other)) == ignored


def test_adapt_says_it_before_the_training(
    site: Lab, zero_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fsseg.adaptation.fitted.train", stop)
    assert fsseg(*site.adapt_words(tmp_path / "run", base=zero_base, method="decoder")).code == 1
    assert "IGNORED IMAGE CHANNEL: PET" in caplog.text


def test_plans_for_nnunets_commands_say_it_too(site: Lab, zero_base: Path) -> None:
    words = ("nnunet", "plans", "--checkpoint", zero_base, "--dataset", "804", "--method", "linear_probe")
    outcome = fsseg(*words, "--name", "dead")
    assert outcome.code == 0, outcome.err
    assert "IGNORED IMAGE CHANNEL: PET" in outcome.out
    assert succeed(*words[:-1], "full", "--name", "alive")["notes"] == [
        "Paired: kidney_left/kidney_right; so no flips."
    ]
    refused(fsseg(*words[:3], site.base, *words[4:], "--name", "none"), "--channels CT PET=CT --out NEW_RUN")


def test_the_trainer_refuses_other_channels_too(
    site: Lab, zero_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    succeed("nnunet", "plans", "--checkpoint", zero_base, "--dataset", "804", "--method", "full", "--name", "trainer")
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    folder = site.root / "preprocessed" / TARGET
    plans, dataset_json = (
        json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("trainer", "dataset")
    )

    def trainer(channels: dict[str, str]) -> nnUNetTrainerFewShot:
        own = deepcopy(plans) | {"continue_training": False}  # nnU-Net takes the key out
        content = dataset_json | {"channel_names": channels}
        return nnUNetTrainerFewShot(own, "3d_fullres", 0, content, torch.device("cpu"))

    assert list(trainer({"0": "CT", "1": "PET"}).dataset_json["channel_names"].values()) == ["CT", "PET"]
    with pytest.raises(UsageError, match=r"has \['CT', 'MR'\](.|\n)*--channels CT MR=CT(.|\n)*Make the plans again"):
        trainer({"0": "CT", "1": "MR"})


# Channels that cannot be had


def test_channels_that_are_refused(site: Lab, tmp_path: Path) -> None:
    file, out = site.base / FINAL, tmp_path / "out"
    cases = {
        ("T1", "T2"): ("takes nothing from the checkpoint", "0: CT", "--channels T1=CT T2=CT"),
        ("MR=TC",): ("Unknown channel of the checkpoint 'TC'. Did you mean 'CT'?", "MR=OLD"),
        ("CT", "CT"): ("names 'CT' twice",),
        ("CT", "=CT"): ("takes NAME or NAME=OLD, got '=CT'",),
    }
    for words, messages in cases.items():
        refused(refused_import(out, file, "--channels", *words), *messages)


def test_channels_and_plans_together(site: Lab, tmp_path: Path) -> None:
    file, out = site.base / FINAL, tmp_path / "out"
    one = written(tiny_plans(), tmp_path / "one.json")
    words = ("--channels", "CT", "PET=CT", "--plans")
    refused(refused_import(out, file, *words, one), "is for 1 image channel(s)", "takes 2", "--channels")
    two = tiny_plans()
    block = two["configurations"]["3d_fullres"]
    block |= {"normalization_schemes": ["CTNormalization", "NoNormalization"], "use_mask_for_norm": [False, False]}
    two["foreground_intensity_properties_per_channel"]["1"] = {}
    plans = written(two, tmp_path / "two.json")
    refused(refused_import(out, file, "--plans", plans), "is for 2 image channel(s)", "takes 1", "--channels")
    result = succeed("import", file, *words, plans, "--out", out)
    assert [entry["scheme"] for entry in result["expects"]["intensities"]] == block["normalization_schemes"]
    assert not any("is normalised by" in note for note in result["notes"])


def test_a_channel_that_would_need_statistics(site: Lab, tmp_path: Path) -> None:
    plans = tiny_plans()
    plans["configurations"]["3d_fullres"]["normalization_schemes"] = ["ZScoreNormalization"]
    file = nnunet_file(tmp_path / "mr.pth", plans, channel="T1")
    outcome = refused_import(tmp_path / "out", file, "--channels", "T1", "CT")
    refused(outcome, "'CT' would start at zero with CTNormalization", "Write CT=T1", "--plans")


def test_the_head_can_be_tried_on_the_new_channels(site: Lab, tmp_path: Path) -> None:
    words = ("--zero-shot", "804", "--cases", site.case(3), "--device", "cpu", "--out", tmp_path / "out")
    outcome = fsseg("import", site.base / FINAL, *words)
    refused(outcome, "takes the channels ['CT']", "Import with --channels CT PET=CT, or leave --zero-shot out")
    result = succeed("import", site.base / FINAL, "--channels", "CT", "PET", *words)
    assert result["zero_shot"][KNOWN]["dsc"]["n"] == 1


def test_the_report_lists_the_channels(site: Lab, tmp_path: Path) -> None:
    words = ("--out", tmp_path / "out", "--dry-run")
    assert "CT / 2), PET (zero)" in fsseg("import", site.base / FINAL, "--channels", "A=CT", "CT", "PET", *words).out
    assert "any; left out" not in fsseg("import", site.base / FINAL, *words).out
    assert not list(tmp_path.iterdir())


# Patches


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        ((17, 16, 21), ("17 x 16 x 21", "halve an odd number", "z: 17 does not fit, nearest: 16 or 20", "y: 16 fits")),
        ((17, 16, 21), ("x: 21 does not fit, nearest: 20 or 24", "with 16 x 16 x 16 on the others")),
        ((4, 4, 4), ("a single voxel", "with 4 x 4 x 4 on the others", "z: 4 does not fit, nearest: 8")),
        ((1, 16, 16), ("z: 1 does not fit, nearest: 4",)),
        ((0, 16, 16), ("patch_size", "greater than 0")),
    ],
)
def test_patches_that_are_refused(site: Lab, tmp_path: Path, patch: tuple[int, ...], words: tuple[str, ...]) -> None:
    refused(refused_import(tmp_path / "out", site.base / FINAL, "--patch-size", *patch), *words)


@pytest.mark.parametrize(
    ("family", "good", "bad", "nearest"),
    [
        ("suprem_segresnet", (32, 16, 24), (32, 16, 20), "z: 20 does not fit, nearest: 16 or 24"),
        ("fseft", (64, 32, 32), (64, 33, 32), "y: 33 does not fit, nearest: 32 or 64"),
        ("fseft", (64, 32, 32), (32, 32, 32), "a single voxel"),
        ("models_genesis", (16, 16, 24), (16, 16, 20), "z: 20 does not fit, nearest: 16 or 24"),
        ("models_genesis", (16, 8, 8), (8, 8, 8), "a single voxel"),  # a batch can be trained, but not one predicted
    ],
)
def test_patches_of_other_networks(
    tmp_path: Path, family: str, good: tuple[int, ...], bad: tuple[int, ...], nearest: str
) -> None:
    """These read x, y, z, in which their patches are given."""
    file = tmp_path / "file.pth"
    checkpoint_files.WRITERS[family](file)
    refused(refused_import(tmp_path / "out", file, "--patch-size", *bad), nearest, "--patch-size")
    assert succeed("import", file, "--patch-size", *good, "--out", tmp_path / "out")["expects"]["patch"] == list(good)


# Depths


def plans_of(stages: int, **arguments: Any) -> dict[str, Any]:
    plans = tiny_plans()
    plans["configurations"]["3d_fullres"]["patch_size"] = [32, 32, 32]
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] |= {
        "n_stages": stages,
        "features_per_stage": [4, 8, 16, 16, 16][:stages],
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [1] * (stages - 1),
        **arguments,
    }
    return plans


def test_a_shallower_network_keeps_every_level_it_has(tmp_path: Path) -> None:
    file = nnunet_file(tmp_path / "four.pth", plans_of(4))
    plans = plans_of(3)
    plans["configurations"]["3d_fullres"]["spacing"] = [5.0, 4.0, 4.0]
    out = tmp_path / "out"
    result = succeed("import", file, "--plans", written(plans, tmp_path / "three.json"), "--out", out)
    new, old = ModelFolder.read(out).build_network(), torch.load(file, weights_only=False)["network_weights"]
    report = json.loads((out / "transfer.json").read_text(encoding="utf-8"))
    assert report["encoder_share"] == 1
    assert report["missing"] == []
    assert report["reshaped"] == {}
    assert report["head"]
    assert "below the lowest" in report["dropped"]["decoder.stages.0.convs.0.conv.weight"]
    for part in ("stages", "transpconvs", "seg_layers"):
        ours = {name: t for name, t in new.state_dict().items() if name.startswith(f"decoder.{part}.")}
        assert ours
        for name, tensor in ours.items():
            words = name.split(".")
            words[2] = str(int(words[2]) + 1)
            assert torch.equal(tensor, old[".".join(words)]), name
    assert all(torch.equal(t, old[n]) for n, t in new.state_dict().items() if "encoder.stages" in n)
    notes = "\n".join(result["notes"])
    assert "The plans have 3 levels, the checkpoint 4" in notes
    assert "Spacing 5 x 4 x 4 mm (z, y, x); the checkpoint's own plans say 8 x 8 x 8 mm (z, y, x)" in notes


def test_a_deeper_network_is_partly_random(tmp_path: Path) -> None:
    file = nnunet_file(tmp_path / "three.pth", plans_of(3))
    words = ("--plans", written(plans_of(4), tmp_path / "four.json"))
    refused(refused_import(tmp_path / "out", file, *words), "of the encoder come from it", "encoder.stages.3.0.convs")
    result = succeed("import", file, *words, "--allow-partial", "--out", tmp_path / "out")
    new = ModelFolder.read(tmp_path / "out").weights
    old = torch.load(file, weights_only=False)["network_weights"]
    assert torch.equal(new["decoder.stages.2.convs.0.conv.weight"], old["decoder.stages.1.convs.0.conv.weight"])
    assert torch.equal(new["decoder.transpconvs.1.weight"], old["decoder.transpconvs.0.weight"])
    assert torch.equal(new["decoder.seg_layers.2.weight"], old["decoder.seg_layers.1.weight"])
    assert any("The new levels are random" in note for note in result["notes"])
    report = json.loads((tmp_path / "out" / "transfer.json").read_text(encoding="utf-8"))
    assert {name.split(".")[2] for name in report["missing"] if name.startswith("decoder.stages")} == {"0"}
    random = ModelFolder.read(tmp_path / "out").random_tensors
    assert set(random) == {name for name in report["missing"] if "seg_layers" not in name}
    again = tmp_path / "out" / "fold_0" / "checkpoint_final.pth"
    deepest = written(plans_of(5), tmp_path / "five.json")
    succeed("import", again, "--plans", deepest, "--allow-partial", "--out", tmp_path / "again")
    renumbered = {name.replace("decoder.stages.0.", "decoder.stages.1.") for name in random if "decoder.stages" in name}
    assert renumbered <= set(ModelFolder.read(tmp_path / "again").random_tensors)


@pytest.mark.parametrize("stages", [3, 4])
def test_other_strides_at_a_common_level(tmp_path: Path, stages: int) -> None:
    file = nnunet_file(tmp_path / "file.pth", plans_of(4))
    strides = [[1, 1, 1], [1, 2, 2], [2, 2, 2], [2, 2, 2]][:stages]
    plans = written(plans_of(stages, strides=strides), tmp_path / "plans.json")
    outcome = refused_import(tmp_path / "out", file, "--plans", plans, "--allow-partial")
    refused(outcome, "other strides", "checkpoint: [[1, 1, 1], [2, 2, 2]", "plans:      [[1, 1, 1], [1, 2, 2]")


def test_other_kernels_at_a_common_level(tmp_path: Path) -> None:
    file = nnunet_file(tmp_path / "file.pth", plans_of(3))
    plans = written(plans_of(3, kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3]]), tmp_path / "plans.json")
    refused(refused_import(tmp_path / "out", file, "--plans", plans), "other kernel sizes", "[[1, 3, 3], [3, 3, 3]")


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({"norm_op": "torch.nn.BatchNorm3d", "norm_op_kwargs": {}}, "norm_op: checkpoint InstanceNorm3d, plans Batch"),
        ({"nonlin": "torch.nn.ReLU"}, "nonlin: checkpoint LeakyReLU, plans ReLU"),
        ({"nonlin_kwargs": {"negative_slope": 0.2}}, "nonlin_kwargs: checkpoint {'negative_slope': 0.01}, plans"),
    ],
)
def test_arguments_that_no_shape_shows(tmp_path: Path, arguments: dict[str, Any], shown: str) -> None:
    file = nnunet_file(tmp_path / "file.pth", plans_of(3))
    plans = written(plans_of(3, **arguments), tmp_path / "plans.json")
    refused(refused_import(tmp_path / "out", file, "--plans", plans), "another network than the checkpoint's", shown)


def test_arguments_that_change_nothing(tmp_path: Path) -> None:
    file = nnunet_file(tmp_path / "file.pth", plans_of(3))
    same = {"nonlin": "torch.nn.modules.activation.LeakyReLU", "nonlin_kwargs": {"negative_slope": 0.01}}
    dropout = {"dropout_op": "torch.nn.Dropout3d", "dropout_op_kwargs": {"p": 0.1}}
    plans = written(plans_of(3, **same, **dropout), tmp_path / "plans.json")
    succeed("import", file, "--plans", plans, "--out", tmp_path / "out")


def test_strides_of_an_encoder_without_a_decoder(tmp_path: Path) -> None:
    """No shape shows them: these weights used to load, and compute something else."""
    file = tmp_path / "encoder.pth"
    checkpoint_files.nnssl(file)
    succeed("import", file, "--out", tmp_path / "run")
    plans = ModelFolder.read(tmp_path / "run").plans
    succeed("import", file, "--plans", written(plans, tmp_path / "same.json"), "--out", tmp_path / "same")
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["strides"][5] = [1, 2, 2]
    outcome = refused_import(tmp_path / "out", file, "--plans", written(plans, tmp_path / "other.json"))
    refused(outcome, "other strides in the first 6 levels", "Give plans that agree in these; spacing, patch and")


def test_strides_written_as_one_number_are_the_same(tmp_path: Path) -> None:
    file = nnunet_file(tmp_path / "file.pth", plans_of(3))
    plans = written(plans_of(3, kernel_sizes=3, strides=[1, [2, 2, 2], 2]), tmp_path / "plans.json")
    outcome = fsseg("import", file, "--plans", plans, "--out", tmp_path / "out")
    assert "other strides" not in outcome.err
    assert "other kernel sizes" not in outcome.err


def test_another_class_of_network_is_refused_by_its_names(tmp_path: Path) -> None:
    file = nnunet_file(tmp_path / "file.pth", plans_of(3))
    plans = plans_of(3)
    block = plans["configurations"]["3d_fullres"]["architecture"]
    block["network_class_name"] = block["network_class_name"].replace("PlainConvUNet", "ResidualEncoderUNet")
    block["arch_kwargs"]["n_blocks_per_stage"] = block["arch_kwargs"].pop("n_conv_per_stage")
    plans = written(plans, tmp_path / "plans.json")
    refused(refused_import(tmp_path / "out", file, "--plans", plans), "missing: encoder.stem", "not used: encoder")


def test_help_shows_the_options() -> None:
    text = fsseg("import", "--help").out
    assert all(words in text for words in ("--channels T1 T2=T1 FLAIR", "--patch-size 96 128 128", "T1=any T2=any"))
