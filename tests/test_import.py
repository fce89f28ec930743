"""Every family of public checkpoints: recognised, transferred whole, and numerically what its project computes."""

import json
import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import checkpoint_files
import numpy as np
import pytest
import torch
from checkpoint_files import WRITERS, swin_network
from conftest import KNOWN, NOVEL, REPOSITORY, Lab, fsseg, succeed, tree
from monai.networks.nets.swin_unetr import PatchMergingV2
from torch import Tensor
from torch.nn import functional as F

from fsseg.checkpoints.class_lists import FSEFT_29, MULTITALENT_47, UNIVERSAL_32
from fsseg.checkpoints.container import open_checkpoint
from fsseg.checkpoints.registry import FAMILIES, OWN_NETWORKS, load_family
from fsseg.data.plain_pickle import read_plain_pickle
from fsseg.models.networks import set_deep_supervision
from fsseg.models.parts import parts_of
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.stages.import_checkpoint import ImportConfig, plan_import, run_import

ABDOMEN, FULL, ZSCORE = [-175.0, 250.0], [-1000.0, 1000.0], None
# Class of the network, tensors matched, left out and missing, structures, spacing, HU window, axes.
# The first two add up to the entries of the published files, as their model classes have them; aliases count once.
EXPECTED: dict[str, tuple[str, int, int, int, int, list[float], list[float] | None, str]] = {
    "suprem_unet": ("GenesisUNet", 62, 42 + 13, 0, 0, [1.5, 1.5, 1.5], ABDOMEN, "xyz"),
    "suprem_swin": ("SwinUNETR", 157, 13, 0, 0, [1.5, 1.5, 1.5], ABDOMEN, "xyz"),
    "suprem_swin:clip_driven": ("SwinUNETR", 157, 13, 0, 0, [1.5, 1.5, 1.5], ABDOMEN, "xyz"),
    "suprem_segresnet": ("SegResNet", 83, 0, 0, 32, [1.5, 1.5, 1.5], ABDOMEN, "xyz"),
    "fseft": ("SwinUNETR", 159, 0, 0, 29, [1.5, 1.5, 1.5], ABDOMEN, "xyz"),
    "fseft:monai": ("SwinUNETR", 159, 0, 0, 29, [1.5, 1.5, 1.5], ABDOMEN, "xyz"),
    "multitalent_v1": ("PlainConvUNet", 98 + 10, 0, 0, 47, [1.5, 1.0, 1.0], [-927.0, 275.0], "zyx"),
    "multitalent_v2": ("ResidualEncoderUNet", 245, 20, 0, 0, [1.0, 1.0, 1.0], ZSCORE, "zyx"),
    "nnssl": ("ResidualEncoderUNet", 215, 490, 30, 0, [1.0, 1.0, 1.0], ZSCORE, "zyx"),
    "models_genesis": ("GenesisUNet", 62, 44, 0, 0, [1.5, 1.5, 1.5], FULL, "xyz"),
    "nnunet_v1": ("PlainConvUNet", 98, 10, 0, 0, [2.0, 0.8, 0.8], [-900.0, 300.0], "zyx"),
    "swin_ssl": ("SwinUNETR", 126, 5, 31, 0, [1.5, 1.5, 1.5], FULL, "xyz"),
    "swin_btcv": ("SwinUNETR", 159, 0, 0, 13, [1.5, 1.5, 1.5], ABDOMEN, "xyz"),
    "swin_dae": ("SwinUNETR", 126, 4, 31, 0, [1.5, 1.5, 1.5], FULL, "xyz"),
}
ENCODER_ONLY = ("nnssl", "swin_ssl", "swin_dae")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def imported(folder: Path) -> Any:
    """Return a function that writes and imports a file once, and gives the run and what the command printed."""
    made: dict[str, tuple[Path, dict[str, Any]]] = {}

    def run(key: str) -> tuple[Path, dict[str, Any]]:
        if key not in made:
            file, out = written(folder, key), folder / "runs" / key.replace(":", "_")
            made[key] = out, succeed("import", file, "--out", out)
        return made[key]

    return run


def written(folder: Path, key: str) -> Path:
    """Write a file of a family into a folder of its own."""
    file = folder / key.replace(":", "_") / "checkpoint.model"
    file.parent.mkdir(exist_ok=True)
    if not file.exists():
        WRITERS[key](file)
    return file


@pytest.mark.parametrize("key", WRITERS)
def test_family_is_found_out_and_transferred(imported: Any, key: str) -> None:
    out, result = imported(key)
    class_name, matched, dropped, missing, structures, spacing, window, axes = EXPECTED[key]
    report = json.loads((out / "transfer.json").read_text(encoding="utf-8"))
    model = ModelFolder.read(out)
    network = model.build_network()
    assert result["family"] == key.partition(":")[0]
    assert type(network).__name__ == class_name
    assert [len(report[name]) for name in ("matched", "dropped", "missing", "reshaped")] == [
        matched,
        dropped,
        missing,
        0,
    ]
    assert report["encoder_share"] == 1.0
    assert all(report["dropped"].values())
    assert len(model.structures.names) == structures
    assert result["expects"]["spacing_mm"] == spacing
    assert result["expects"]["axes"] == axes
    assert result["expects"]["intensities"][0]["window_hu"] == window
    assert result["sha256"] == model.sha256
    assert result["inputs"]
    assert model.dataset_json["licence"] == result["licence"] == load_family(result["family"]).licence


@pytest.mark.parametrize("key", WRITERS)
def test_every_part_but_the_said_ones_comes_from_the_file(imported: Any, key: str) -> None:
    filled = {part: count["filled"] for part, count in imported(key)[1]["transfer"]["parameters"].items()}
    total = {part: count["total"] for part, count in imported(key)[1]["transfer"]["parameters"].items()}
    expected = {**dict.fromkeys(total, 0), "encoder": total["encoder"]} if key in ENCODER_ONLY else total
    assert filled == expected


def test_every_family_has_a_file_here() -> None:
    tested = {key.partition(":")[0] for key in WRITERS} | {"nnunet_v2"}
    assert tested | set(OWN_NETWORKS) == set(FAMILIES)  # of the user's own: test_own_networks.py


@pytest.mark.parametrize(
    ("key", "plans"),
    [("suprem_unet", "genesis_unet"), ("fseft", "swinunetr_fseft"), ("suprem_segresnet", "seg_resnet")],
)
def test_plans_are_those_that_are_shipped(imported: Any, key: str, plans: str) -> None:
    ours = ModelFolder.read(imported(key)[0]).plans
    shipped = json.loads((REPOSITORY / "plans" / f"{plans}.json").read_text(encoding="utf-8"))
    widths = ("feature_size", "base_features", "init_filters")
    for content in (ours, shipped):
        configuration = content["configurations"]["3d_fullres"]
        arguments = configuration["architecture"]["arch_kwargs"]
        configuration["architecture"]["arch_kwargs"] = {k: v for k, v in arguments.items() if k not in widths}
        del configuration["data_identifier"]
        for name in ("description", "plans_name", "experiment_planner_used"):
            del content[name]
    assert ours == shipped


def test_prefixes_of_training_scripts_come_off(tmp_path: Path) -> None:
    weights = {"module._orig_mod.backbone.a.weight": torch.ones(1), "module.b": torch.ones(2)}
    torch.save({"net": weights, "epoch": 3}, tmp_path / "file.pth")
    checkpoint = open_checkpoint(tmp_path / "file.pth")
    assert set(checkpoint.weights) == {"a.weight", "b"}
    assert (checkpoint.wrapper, checkpoint.rest) == ("net", {"epoch": 3})
    assert set(checkpoint.prefixes) == {"module.", "_orig_mod.", "backbone."}


def test_values_that_numpy_1_wrote_are_read(tmp_path: Path) -> None:
    """Its modules have other names than those of numpy 2; both containers write names as plain lines here."""
    values = {"best": np.float64(0.5), "history": np.arange(3)}
    torch.save({"state_dict": {"a": torch.ones(1)}, **values}, tmp_path / "new", _use_new_zipfile_serialization=False)
    (tmp_path / "plans").write_bytes(pickle.dumps(values, protocol=2))
    for name in ("new", "plans"):
        renamed = (tmp_path / name).read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        assert b"numpy.core.multiarray\n" in renamed
        (tmp_path / name).write_bytes(renamed)
    for content in (open_checkpoint(tmp_path / "new").rest, read_plain_pickle(tmp_path / "plans", "")):
        assert content["best"] == 0.5
        assert content["history"].tolist() == [0, 1, 2]


# Numerically what the projects compute


class PublishedMerging(PatchMergingV2):
    """Patch merging in the order of the projects' own copies, spelled as the offsets in z, y, x."""

    ORDER = ("000", "100", "010", "001", "101", "010", "001", "111")

    def forward(self, x: Tensor) -> Tensor:
        parts = [x[:, int(z) :: 2, int(y) :: 2, int(w) :: 2, :] for z, y, w in self.ORDER]
        return self.reduction(self.norm(torch.cat(parts, -1)))


@pytest.mark.parametrize("key", ["fseft", "suprem_swin", "swin_btcv", "swin_ssl", "swin_dae"])
def test_swin_features_are_those_of_the_old_merging_order(imported: Any, key: str) -> None:
    reference = swin_network(1, downsample=PublishedMerging).eval()  # the seed of the weights in the file
    current = swin_network(1).eval()
    ours = ModelFolder.read(imported(key)[0]).build_network().eval()
    image = torch.randn(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = [network.swinViT(image, True) for network in (ours, reference, current)]  # type: ignore[operator]
    for stage, (found, expected, newer) in enumerate(zip(*features, strict=True)):
        assert torch.equal(found, expected)
        assert stage == 0 or not torch.allclose(found, newer, atol=1e-2)


def test_fseft_logits_are_those_of_its_head_on_the_old_network(imported: Any, folder: Path) -> None:
    content = torch.load(written(folder, "fseft"), weights_only=True)
    reference = swin_network(29, downsample=PublishedMerging).eval()
    reference.out.conv.conv.weight.data = content["module.classifier.weight"]  # type: ignore[union-attr]
    reference.out.conv.conv.bias.data = content["module.classifier.bias"]  # type: ignore[union-attr]
    ours = ModelFolder.read(imported("fseft")[0]).build_network().eval()
    image = torch.randn(1, 1, 64, 32, 32)  # an instance norm needs more than one voxel at the lowest resolution
    with torch.no_grad():
        assert torch.allclose(ours(image), reference(image), atol=1e-5)


def test_btcv_logits_are_those_of_its_softmax_head_on_the_old_network(imported: Any) -> None:
    reference = swin_network(14, downsample=PublishedMerging).eval()
    model = ModelFolder.read(imported("swin_btcv")[0])
    assert model.activation == "softmax"
    assert model.head_rows()["kidney_right"] == 2  # behind background and spleen
    image = torch.randn(1, 1, 64, 32, 32)
    with torch.no_grad():
        assert torch.allclose(model.build_network().eval()(image), reference(image), atol=1e-5)


def test_multitalent_v1_gives_the_same_logits_at_all_resolutions(imported: Any) -> None:
    reference = checkpoint_files.generic_unet(47)
    ours = ModelFolder.read(imported("multitalent_v1")[0]).build_network()
    set_deep_supervision(ours, True)
    image = torch.randn(1, 1, 32, 64, 64)
    with torch.no_grad():
        found, expected = ours.train()(image), reference(image)
    assert len(found) == len(expected) == 5
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_fine_tuned_unet_is_not_taken_for_models_genesis(folder: Path) -> None:
    checkpoint_files.models_genesis(folder / "tuned.pt", rows=19)
    outcome = fsseg("import", folder / "tuned.pt", "--out", folder / "tuned")
    assert outcome.code == 2
    assert "models_genesis" in outcome.err  # among the families that are known
    assert not (folder / "tuned").exists()


@pytest.mark.parametrize("key", ["suprem_unet", "models_genesis"])
def test_genesis_unet_normalises_by_the_batch_at_hand(imported: Any, folder: Path, key: str) -> None:
    weights = checkpoint_files.genesis_weights()
    ours = ModelFolder.read(imported(key)[0]).build_network().eval()
    image = torch.randn(2, 1, 16, 16, 16)
    expected = image
    for block in ("down_tr64.ops.0", "down_tr64.ops.1"):
        expected = F.conv3d(expected, weights[f"{block}.conv1.weight"], weights[f"{block}.conv1.bias"], padding=1)
        expected = expected - expected.mean((0, 2, 3, 4), keepdim=True)
        expected = expected / (expected.var((0, 2, 3, 4), keepdim=True, unbiased=False) + 1e-5).sqrt()
        scale, shift = (weights[f"{block}.bn1.{name}"].view(1, -1, 1, 1, 1) for name in ("weight", "bias"))
        expected = torch.relu(expected * scale + shift)
    with torch.no_grad():
        found = ours.down_tr64(image)  # type: ignore[operator]
    assert torch.allclose(found, expected, atol=1e-4)


def test_segresnet_logits_are_monais(imported: Any) -> None:
    from monai.networks import nets

    width = checkpoint_files.SEG_RESNET_WIDTH
    reference = nets.SegResNet(init_filters=width, out_channels=32, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1))
    reference.load_state_dict(checkpoint_files.seg_resnet_weights())
    ours = ModelFolder.read(imported("suprem_segresnet")[0]).build_network()
    image = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.allclose(ours.eval()(image), reference.eval()(image), atol=1e-5)


# Heads


@pytest.mark.parametrize(
    ("key", "names"), [("suprem_segresnet", UNIVERSAL_32), ("fseft", FSEFT_29), ("multitalent_v1", MULTITALENT_47)]
)
def test_rows_of_the_head_are_structures_in_their_order(imported: Any, key: str, names: tuple[str, ...]) -> None:
    model = ModelFolder.read(imported(key)[0])
    assert model.structures.names == names
    assert model.activation == "sigmoid"
    assert model.mirroring_axes is None  # left and right are among them
    order = model.dataset_json["regions_class_order"]
    assert len(set(order)) == len(order) == len(names)
    assert all(number in model.structures.integers[name] for number, name in zip(order, names, strict=True))


def test_nested_regions_share_integers(imported: Any) -> None:
    integers = ModelFolder.read(imported("multitalent_v1")[0]).structures.integers
    assert integers["msd03_liver__liver"] == (1, 2)
    assert integers["msd07_pancreas__pancreas"] == (4, 5)
    assert integers["kits19__kidney"] == (42, 43)
    assert integers["btcv__liver"] == (15,)


def test_a_missing_head_is_zero_and_seeded_parts_are_equal(imported: Any, folder: Path) -> None:
    out, result = imported("swin_ssl")
    again = succeed("import", written(folder, "swin_ssl"), "--out", folder / "runs" / "again")
    other = succeed("import", written(folder, "swin_ssl"), "--out", folder / "runs" / "other", "--seed", 1)
    head = parts_of(ModelFolder.read(out).build_network()).head
    assert not head.weight.any()
    assert again["sha256"] == result["sha256"] != other["sha256"]


def test_btcv_supervision_is_marked(imported: Any, folder: Path) -> None:
    out, _ = imported("swin_btcv")
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["supervised_on"] == ["BTCV"]
    outcome = fsseg("import", written(folder, "swin_btcv"), "--out", folder / "unwritten", "--dry-run")
    assert "SUPERVISED ON BTCV" in outcome.out
    assert imported("models_genesis")[1]["supervised_on"] == []


# Plans beside the file, stems, spacings


def test_plans_beside_a_v1_file_win_over_the_published_ones(folder: Path) -> None:
    place = folder / "fold_0"
    place.mkdir()
    checkpoint_files.multitalent_v1(place / "model_final_checkpoint.model")
    (folder / "plans.pkl").write_bytes(pickle.dumps(checkpoint_files.v1_plans()))
    out = folder / "runs" / "beside"
    result = succeed("import", place / "model_final_checkpoint.model", "--out", out)
    (folder / "plans.pkl").unlink()
    assert result["expects"]["spacing_mm"] == [2.0, 0.8, 0.8]
    assert result["expects"]["intensities"][0]["window_hu"] == [-900.0, 300.0]
    assert any("plans.pkl" in note for note in result["notes"])


@pytest.mark.parametrize(
    ("stage", "spacing"),
    [
        (0, [4.0, 1.6, 1.6]),
        (1, [2.0, 0.8, 0.8]),
        (None, [2.0, 0.8, 0.8]),
        (False, [2.0, 0.8, 0.8]),
        ([], [2.0, 0.8, 0.8]),
    ],
)
def test_v1_weights_have_the_spacing_of_their_own_resolution(tmp_path: Path, stage: Any, spacing: list[float]) -> None:
    """A trainer of nnU-Net v1 keeps its arguments beside the weights, and the stage is among them."""
    file = tmp_path / "model.model"
    checkpoint_files.nnunet_v1(file)
    side = tmp_path / "model.model.pkl"
    arguments = ("plans.pkl", 0, "output", "preprocessed", True, stage, True, False, True)
    side.write_bytes(pickle.dumps({"init": arguments, "plans": checkpoint_files.v1_plans()}))
    result = succeed("import", file, "--out", tmp_path / "run")
    assert result["expects"]["spacing_mm"] == spacing
    assert any("has 2 resolutions" in note for note in result["notes"]) == (type(stage) is not int)


@pytest.mark.parametrize(
    ("scheme", "expected", "mask"),
    [("CT", "CTNormalization", False), ("nonCT", "ZScoreNormalization", True), ("noNorm", "NoNormalization", False)],
)
def test_v1_plans_say_how_images_are_scaled(tmp_path: Path, scheme: str, expected: str, mask: bool) -> None:
    """Images that are cropped bodies are z-scored by the voxels that are not zero, in v1 as in v2."""
    file = tmp_path / "model_final_checkpoint.model"
    checkpoint_files.nnunet_v1(file)
    plans = {"plans": checkpoint_files.v1_plans(scheme=scheme)}
    (tmp_path / f"{file.name}.pkl").write_bytes(pickle.dumps(plans))
    succeed("import", file, "--out", tmp_path / "run")
    block = ModelFolder.read(tmp_path / "run").plans["configurations"]["3d_fullres"]
    assert (block["normalization_schemes"], block["use_mask_for_norm"]) == ([expected], [mask])


def test_a_stem_is_chosen(folder: Path) -> None:
    file = folder / "stems.pth"
    checkpoint_files.multitalent_v2(file, stems={"035": 1, "351_5": 2})
    content = torch.load(file, weights_only=True)["network_weights"]
    outcome = fsseg("import", file, "--out", folder / "no_stem")
    assert outcome.code == 2
    assert "2 stems" in outcome.err
    assert "035 (1 channel(s)), 351_5 (2 channel(s))" in outcome.err
    for stem, channels in {"035": 1, "351_5": 2}.items():
        out = folder / "runs" / f"stem_{stem}"
        result = succeed("import", file, "--out", out, "--stem", stem)
        network = ModelFolder.read(out).build_network()
        found = network.encoder.stem.convs[0].conv.weight  # type: ignore[union-attr, index]
        assert found.shape[1] == channels
        assert torch.equal(found, content[f"encoder.stem.{stem}.convs.0.conv.weight"])
        assert result["transfer"]["encoder_share"] == 1
    assert "Did you mean '035'" in fsseg("import", file, "--out", folder / "no_stem", "--stem", "0355").err
    assert "have one" in fsseg("import", written(folder, "fseft"), "--out", folder / "no_stem", "--stem", "1").err


def test_an_encoder_without_spacing_needs_plans(folder: Path) -> None:
    file = folder / "noresample.pth"
    checkpoint_files.nnssl(file, spacing=None)
    outcome = fsseg("import", file, "--out", folder / "no_spacing")
    assert outcome.code == 2
    assert "noresample" in outcome.err
    assert "--plans FILE" in outcome.err
    plans = json.loads((REPOSITORY / "plans" / "resenc_l_zscore.json").read_text(encoding="utf-8"))
    arguments = plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]
    arguments["features_per_stage"] = [4, 4, 8, 8, 8, 8]
    small = folder / "small.json"
    small.write_text(json.dumps(plans), encoding="utf-8")
    # The network is known: plans for another one, which would load and mean something else, decide only the rest.
    strides = arguments["strides"]
    arguments["strides"] = [*strides[:4], [1, 2, 2], [1, 2, 2]]
    other = folder / "other_strides.json"
    other.write_text(json.dumps(plans), encoding="utf-8")
    succeed("import", file, "--plans", other, "--out", folder / "runs" / "other_strides")
    block = ModelFolder.read(folder / "runs" / "other_strides").plans["configurations"]["3d_fullres"]
    assert block["architecture"]["arch_kwargs"]["strides"] == strides
    result = succeed("import", file, "--plans", small, "--out", folder / "runs" / "with_plans")
    assert result["transfer"]["encoder_share"] == 1
    assert any("small.json" in note for note in result["notes"])


@pytest.mark.parametrize("released", [False, True])
def test_of_two_copies_that_spark_leaves_the_one_that_ran_is_taken(
    imported: Any, folder: Path, tmp_path: Path, released: bool
) -> None:
    file, out = tmp_path / "spark.pth", tmp_path / "run"
    ran = checkpoint_files.nnssl_spark(file, released=released)
    if not released:  # its trainer saves no plan
        outcome = fsseg("import", file, "--out", out)
        assert outcome.code == 2
        assert "--plans FILE" in outcome.err
    plans = () if released else ("--plans", imported("nnssl")[0] / "plans.json")
    result = succeed("import", file, *plans, "--out", out)
    weights = ModelFolder.read(out).weights
    assert result["family"] == "nnssl"
    assert result["transfer"]["encoder_share"] == 1
    assert any("the one that ran is taken" in note for note in result["notes"])
    for name in (name for name in weights if name.startswith("encoder.")):
        assert torch.equal(weights[name], ran[name]), name


@pytest.mark.parametrize("blocks", [(1, 4, 6, 8, 8, 8), (1, 3, 4, 6, 6), (1, 3, 4, 6, 6, 6, 6)])
@pytest.mark.parametrize("write", [checkpoint_files.nnssl, checkpoint_files.multitalent_v2])
def test_another_residual_encoder_needs_plans_of_its_own(
    imported: Any, tmp_path: Path, blocks: tuple[int, ...], write: Any
) -> None:
    """With those of ResEncL it would lose blocks or stages, and every tensor of the network be filled all the same."""
    file = tmp_path / "file.pth"
    write(file, blocks=blocks)
    outcome = fsseg("import", file, "--out", tmp_path / "run")
    assert outcome.code == 2
    for words in ("ResEncL, whose 6 stages have 1, 3, 4, 6, 6, 6", ", ".join(map(str, blocks)), "--plans FILE"):
        assert words in outcome.err
    assert "damaged" not in outcome.err
    assert ("The file calls it ResEncL" in outcome.err) == (write is checkpoint_files.nnssl)
    plans = ModelFolder.read(imported("nnssl")[0]).plans
    (tmp_path / "own.json").write_text(json.dumps(with_blocks(plans, blocks)), encoding="utf-8")
    (tmp_path / "l.json").write_text(json.dumps(plans), encoding="utf-8")
    words = ("import", file, "--out", tmp_path / "run", "--plans")
    assert "does not fit the network of the plans" in fsseg(*words, tmp_path / "l.json").err
    assert succeed(*words, tmp_path / "own.json")["transfer"]["encoder_share"] == 1


def with_blocks(plans: dict[str, Any], blocks: tuple[int, ...]) -> dict[str, Any]:
    """Return plans of a residual encoder U-Net with other blocks, with the widths of the files here."""
    plans = deepcopy(plans)
    stages = len(blocks)
    plans["configurations"]["3d_fullres"]["patch_size"] = [128, 128, 128]
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] |= {
        "n_stages": stages,
        "features_per_stage": [4, 4, *[8] * (stages - 2)],
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_blocks_per_stage": list(blocks),
        "n_conv_per_stage_decoder": [1] * (stages - 1),
    }
    return plans


# nnU-Net v2


def test_nnunet_v2_checkpoint_comes_out_as_it_was(lab: Lab, tmp_path: Path) -> None:
    result = succeed("import", lab.base / "fold_0" / "checkpoint_final.pth", "--out", tmp_path / "run")
    ours, theirs = ModelFolder.read(tmp_path / "run"), ModelFolder.read(lab.base)
    assert result["family"] == "nnunet_v2"
    assert ours.weights.keys() == theirs.weights.keys()
    assert all(torch.equal(ours.weights[name], theirs.weights[name]) for name in theirs.weights)
    assert ours.structures.integers == theirs.structures.integers
    assert ours.plans == theirs.plans
    assert ours.dataset_json["licence"] == theirs.dataset_json["licence"]


def test_nnunet_v2_with_plans_inside_and_a_softmax(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "checkpoint_best.pth"
    stock_checkpoint(ModelFolder.read(lab.base), file)
    succeed("import", file, "--out", tmp_path / "run")
    model = ModelFolder.read(tmp_path / "run")
    assert model.activation == "softmax"
    assert model.build_network()(torch.zeros(1, 1, 16, 16, 16)).shape[1] == len(model.structures.names) + 1


def stock_checkpoint(base: ModelFolder, file: Path) -> None:
    """A checkpoint as stock nnU-Net leaves it: plans and dataset.json in it, plain labels, numpy values in the log."""
    names = base.structures.names[:-1]
    labels = {"background": 0, **{name: index + 1 for index, name in enumerate(names)}}
    arguments = {"plans": base.plans, "configuration": "3d_fullres", "fold": 0, "device": torch.device("cpu")}
    arguments["dataset_json"] = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    weights = {f"_orig_mod.{name}": tensor for name, tensor in base.weights.items()}
    content = {"network_weights": weights, "init_args": arguments, "_best_ema": np.float64(0.5)}
    torch.save({**content, "optimizer_state": {}, "logging": {"loss": [np.float32(1)]}, "current_epoch": 9}, file)


# From the command line to an adaptation


@pytest.fixture(scope="module")
def small_plans(lab: Lab, folder: Path) -> Any:
    """Return a function that writes plans of an imported network for the phantoms, with voxels of 8 mm."""

    def make(run: Path, patch: tuple[int, ...] = (16, 16, 16)) -> Path:
        plans = ModelFolder.read(run).plans
        plans["configurations"]["3d_fullres"] |= {"spacing": [8.0, 8.0, 8.0], "patch_size": patch}
        file = folder / f"{run.name}_small.json"
        file.write_text(json.dumps(plans), encoding="utf-8")
        return file

    return make


def test_adapt_from_a_run_without_a_head(lab: Lab, imported: Any, folder: Path, small_plans: Any) -> None:
    plans = small_plans(imported("models_genesis")[0])
    base, out = folder / "runs" / "headless", folder / "runs" / "adapted_headless"
    succeed("import", written(folder, "models_genesis"), "--plans", plans, "--out", base)
    result = succeed(*lab.adapt_words(out, base=base))
    assert result["structures"] == {NOVEL: "novel", KNOWN: "novel"}
    assert ModelFolder.read(out).structures.names == (NOVEL, KNOWN)
    scratch = succeed(*lab.adapt_words(folder / "runs" / "scratch", base=base, method="from_scratch"))
    assert scratch["steps"] == 3
    outcome = fsseg("predict", "--run", base, "--input", lab.target / "imagesTr", "--output", folder / "predicted")
    assert outcome.code == 2
    assert "has no head" in outcome.err
    assert "fsseg adapt" in outcome.err


def test_adapt_from_any_modality(lab: Lab, imported: Any, folder: Path, small_plans: Any) -> None:
    """A z-scored encoder says "any" where others say "CT"; the number of channels must agree all the same."""
    plans, base = small_plans(imported("nnssl")[0], patch=(64, 32, 32)), folder / "runs" / "any"
    succeed("import", written(folder, "nnssl"), "--plans", plans, "--out", base)
    assert ModelFolder.read(base).dataset_json["channel_names"] == {"0": "any"}
    assert succeed(*lab.adapt_words(folder / "unwritten", "--dry-run", base=base))["structures"][KNOWN] == "novel"
    file = base / "plans.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    block = content["configurations"]["3d_fullres"]
    file.write_text(json.dumps(content).replace("[64, 32, 32]", "[32, 32, 32]"), encoding="utf-8")
    outcome = fsseg(*lab.adapt_words(folder / "unwritten", "--dry-run", base=base))
    assert outcome.code == 2
    assert "Patches of [32, 32, 32] are too small for this network" in outcome.err
    file = base / "dataset.json"
    dataset_json = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(dataset_json | {"channel_names": {"0": "any", "1": "any"}}), encoding="utf-8")
    file = base / "plans.json"
    for key in ("normalization_schemes", "use_mask_for_norm"):
        block[key] = 2 * block[key]
    file.write_text(json.dumps(content), encoding="utf-8")
    outcome = fsseg(*lab.adapt_words(folder / "unwritten", "--dry-run", base=base))
    assert outcome.code == 2
    assert "takes the channels ['any', 'any']" in outcome.err


def test_an_import_makes_what_its_plan_says(folder: Path, tmp_path: Path) -> None:
    config = ImportConfig(file=written(folder, "suprem_segresnet"), out=tmp_path / "run")
    plan = plan_import(config)
    assert list(tmp_path.iterdir()) == []
    result = run_import(config)
    assert result.plan == plan
    assert result.zero_shot is None
    assert ModelFolder.read(result.out).sha256 == plan.sha256
    assert plan.facts().keys() <= result.manifest.keys()


def test_zero_shot_and_adapt_from_a_run_with_a_head(lab: Lab, imported: Any, folder: Path, small_plans: Any) -> None:
    plans = small_plans(imported("suprem_segresnet")[0])
    base = folder / "runs" / "with_head"
    words = ("--plans", plans, "--zero-shot", "804", "--cases", lab.case(0), lab.case(3), "--device", "cpu")
    result = succeed("import", written(folder, "suprem_segresnet"), "--out", base, *words)
    assert KNOWN in result["zero_shot"]
    assert result["zero_shot"][KNOWN]["dsc"]["n"] == 2
    assert (base / "zero_shot.csv").is_file()
    assert (base / "zero_shot" / f"{lab.case(0)}.nii.gz").is_file()
    assert ModelFolder.read(base).structures.names == UNIVERSAL_32  # the reduced head is not what is saved
    adapted = succeed(*lab.adapt_words(folder / "runs" / "adapted_head", base=base))
    assert adapted["structures"][KNOWN] == "known"


def test_zero_shot_of_rows_of_collections(lab: Lab, imported: Any, folder: Path, small_plans: Any) -> None:
    plans = small_plans(imported("multitalent_v1")[0], patch=(32, 64, 64))
    words = ("--plans", plans, "--zero-shot", "804", "--cases", lab.case(0), "--device", "cpu")
    result = succeed("import", written(folder, "multitalent_v1"), "--out", folder / "runs" / "groups", *words)
    assert {f"btcv__{KNOWN}", f"btcv2__{KNOWN}", f"msd03_liver__{KNOWN}"} <= set(result["zero_shot"])
    assert (folder / "runs" / "groups" / "zero_shot_btcv.csv").is_file()
    left_out = [note for note in result["notes"] if "Zero-shot leaves out the rows" in note]
    assert len(left_out) == 1
    assert "kits19__kidney," in left_out[0]  # the dataset has kidney_left
    assert f"btcv__{KNOWN}," not in left_out[0]


def test_zero_shot_of_a_dataset_with_a_channel_per_dataset(
    lab: Lab, imported: Any, folder: Path, small_plans: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its structures have the full names of the rows; a row of another collection is none of them."""
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    copy = lab.copy_target(tmp_path / "raw")
    for name in ("structures.json", "dataset.json"):
        text = (copy.target / name).read_text(encoding="utf-8")
        for structure in (KNOWN, NOVEL, "kidney_left", "pancreas"):
            text = text.replace(f'"{structure}"', f'"btcv__{structure}"')
        (copy.target / name).write_text(text, encoding="utf-8")
    plans = small_plans(imported("multitalent_v1")[0], patch=(32, 64, 64))
    words = ("--plans", plans, "--zero-shot", "804", "--cases", lab.case(0), "--device", "cpu")
    full = succeed("import", written(folder, "multitalent_v1"), "--out", tmp_path / "full", *words)
    monkeypatch.setenv("nnUNet_raw", str(lab.root / "raw"))
    short = succeed("import", written(folder, "multitalent_v1"), "--out", tmp_path / "short", *words)
    assert len(full["zero_shot"]) == 4
    assert full["zero_shot"] == {n: row for n, row in short["zero_shot"].items() if n.startswith("btcv__")}
    assert f"btcv2__{KNOWN}" in next(note for note in full["notes"] if "leaves out" in note)


def test_zero_shot_reports_what_predict_and_evaluate_would(lab: Lab, tmp_path: Path) -> None:
    words = ("--zero-shot", "804", "--cases", lab.case(3), "--device", "cpu")
    result = succeed("import", lab.base / "fold_0" / "checkpoint_final.pth", "--out", tmp_path / "run", *words)
    images = ("--input", lab.target / "imagesTr", "--cases", lab.case(3))
    succeed("predict", "--run", lab.base, *images, "--output", tmp_path / "predicted", "--device", "cpu")
    words = ("--prediction", tmp_path / "predicted", "--reference", lab.target / "labelsTr", "--cases", lab.case(3))
    evaluated = succeed("evaluate", *words, "--out", tmp_path / "metrics.csv")
    assert result["zero_shot"].keys() == evaluated["structures"].keys()


def test_dry_run_reports_and_writes_nothing(folder: Path, tmp_path: Path) -> None:
    file = written(folder, "nnssl")
    before = tree(folder)
    result = succeed("import", file, "--out", tmp_path / "out", "--dry-run")
    assert result["transfer"]["missing"]
    assert tree(folder) == before
    assert not list(tmp_path.iterdir())


def test_the_report_is_printed(folder: Path, tmp_path: Path) -> None:
    text = fsseg("import", written(folder, "nnssl"), "--out", tmp_path / "out", "--dry-run").out
    for words in ("nnssl: residual", "nothing: self-supervised", "1 x 1 x 1 mm (z, y, x)", "100.0%", "random now: 30"):
        assert words in text


def test_help_lists_the_families() -> None:
    text = fsseg("import", "--help").out
    assert all(name in text for name in FAMILIES)


# Full size


@pytest.mark.slow
def test_full_swin_has_the_published_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_files, "WIDTH", 48)
    checkpoint_files.fseft(tmp_path / "fseft.pth")
    result = succeed("import", tmp_path / "fseft.pth", "--out", tmp_path / "run")
    counts = result["transfer"]["parameters"]
    assert sum(count["total"] for count in counts.values()) == 62_188_031 - 29 * 49
