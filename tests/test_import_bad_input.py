"""`fsseg import` on files that are hostile, damaged, unknown or do not fit: refused, with nothing written."""

import json
import os
import pickle
from argparse import Namespace
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkpoint_files
import pytest
import torch
from conftest import REPOSITORY, Lab, Outcome, fsseg, succeed

from fsseg.config.errors import FssegError
from fsseg.data.plain_pickle import read_plain_pickle
from fsseg.nnunet.checkpoint_file import WEIGHTS_HASH_KEY

PLAN_KEYS = ("configurations", "transpose_forward", "transpose_backward", "image_reader_writer", "plans_name")
LABEL_KEYS = ("labels", "channel_names")


class Bomb:
    """Pickles to something that makes a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def refused(outcome: Outcome, code: int, *words: str) -> None:
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.err


def run_import(file: Path, *words: object) -> Outcome:
    """Import; whatever happens to be wrong, no run may come of it."""
    out = file.parent / "out"
    outcome = fsseg("import", file, "--out", out, *words)
    assert not out.exists()
    assert not list(file.parent.glob("*.partial"))
    return outcome


def changed(file: Path, write: Callable[[Path], None], change: Callable[[dict[str, Any]], Any]) -> Path:
    """Write a file of a family, then change its content."""
    write(file)
    content = torch.load(file, weights_only=False)
    change(content)
    torch.save(content, file)
    return file


# Hostile files


def test_code_in_a_checkpoint_does_not_run(tmp_path: Path) -> None:
    file, trap = tmp_path / "suprem.pth", tmp_path / "trap"
    changed(file, checkpoint_files.suprem_unet, lambda content: content.update(scheduler=Bomb(trap)))
    outcome = run_import(file)
    refused(outcome, 1, "cannot be loaded", "it holds an object of posix.mkdir", "would execute code")
    assert "weights_only" not in outcome.err, "torch's own message says how to execute it"
    assert not trap.exists()


def test_the_options_of_a_training_script_are_no_obstacle(tmp_path: Path) -> None:
    file = tmp_path / "suprem.pth"
    changed(file, checkpoint_files.suprem_unet, lambda content: content.update(args=Namespace(lr=1e-4, epochs=620)))
    succeed("import", file, "--out", tmp_path / "run")


def test_code_among_the_options_of_a_training_script_does_not_run(tmp_path: Path) -> None:
    file, trap = tmp_path / "suprem.pth", tmp_path / "trap"
    changed(file, checkpoint_files.suprem_unet, lambda content: content.update(args=Namespace(lr=Bomb(trap))))
    refused(run_import(file), 1, "it holds an object of posix.mkdir")
    assert not trap.exists()


def test_code_in_the_old_container_does_not_run(tmp_path: Path) -> None:
    file, trap = tmp_path / "old.pth", tmp_path / "trap"
    content = {"state_dict": {"a": torch.zeros(1)}, "epoch": Bomb(trap)}
    torch.save(content, file, _use_new_zipfile_serialization=False)
    refused(run_import(file), 1, "cannot be loaded")
    assert not trap.exists()


def test_a_plain_pickle_does_not_run(tmp_path: Path) -> None:
    file, trap = tmp_path / "plain.pth", tmp_path / "trap"
    file.write_bytes(pickle.dumps({"state_dict": Bomb(trap)}))
    refused(run_import(file), 1, "is no checkpoint: it is a pickle of posix.mkdir", "would execute code")
    assert not trap.exists()


@pytest.mark.parametrize("name", ["model.model.pkl", "plans.pkl"])
def test_code_beside_a_v1_file_does_not_run(tmp_path: Path, name: str) -> None:
    file, trap = tmp_path / "model.model", tmp_path / "trap"
    checkpoint_files.multitalent_v1(file)
    content = {**checkpoint_files.v1_plans(), "plans": checkpoint_files.v1_plans(), "trap": Bomb(trap)}
    (tmp_path / name).write_bytes(pickle.dumps(content))
    refused(run_import(file), 1, name, "mkdir", "move it away")
    assert not trap.exists()


@pytest.mark.parametrize("target", [eval, exec, getattr, __import__, os.system, pickle.loads])
def test_side_pickles_name_values_only(tmp_path: Path, target: Any) -> None:
    file = tmp_path / "plans.pkl"
    file.write_bytes(pickle.dumps(target))
    with pytest.raises(FssegError, match=r"cannot be read: it names"):
        read_plain_pickle(file, "")


def test_side_pickles_of_values_are_read(tmp_path: Path) -> None:
    plans = checkpoint_files.v1_plans()
    (tmp_path / "plans.pkl").write_bytes(pickle.dumps(plans, protocol=2))
    found = read_plain_pickle(tmp_path / "plans.pkl", "")
    assert found["plans_per_stage"][1]["patch_size"].tolist() == [16, 32, 32]
    assert isinstance(found["normalization_schemes"], OrderedDict)


# Damaged and unknown files


def test_missing_file(tmp_path: Path) -> None:
    refused(run_import(tmp_path / "nowhere.pth"), 2, "Checkpoint file not found")


def test_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello", encoding="utf-8")
    refused(run_import(tmp_path / "text.pth"), 1, "is no checkpoint: it is text that starts with 'hello'")


def test_no_tensors(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "state_dict": {"a": 1}}, tmp_path / "empty.pth")
    refused(run_import(tmp_path / "empty.pth"), 1, "holds no tensors", "epoch, state_dict", "network_weights")


def test_truncated_file(tmp_path: Path) -> None:
    file = tmp_path / "half.pth"
    checkpoint_files.models_genesis(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    refused(run_import(file), 1, "cannot be loaded")


def test_unknown_family_says_what_was_seen_and_what_is_known(tmp_path: Path) -> None:
    file = tmp_path / "resnet.pth"
    weights = {
        "module.layer1.0.conv1.weight": torch.zeros(64, 64, 3, 3, 3),
        "module.conv1.weight": torch.zeros(64, 1, 7),
    }
    torch.save({"state_dict": weights, "epoch": 1}, file)
    outcome = run_import(file)
    refused(
        outcome, 2, "no family that is known", "2 tensors under 'state_dict'", "layer1.0.conv1.weight (64, 64, 3, 3, 3)"
    )
    refused(outcome, 2, "beside them: epoch", "suprem_unet", "nnunet_v2", "fsseg/checkpoints/families")


def test_wrong_family(tmp_path: Path) -> None:
    file = tmp_path / "genesis.pt"
    checkpoint_files.models_genesis(file)
    refused(run_import(file, "--family", "fseft"), 2, "no file of the family 'fseft'", "down_tr64")
    refused(run_import(file, "--family", "fsef"), 2, "Unknown family of checkpoints 'fsef'. Did you mean 'fseft'?")


def test_nan(tmp_path: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["state_dict"]["module.down_tr64.ops.0.conv1.weight"][0] = float("nan")

    file = changed(tmp_path / "nan.pt", checkpoint_files.models_genesis, spoil)
    refused(run_import(file), 1, "NaN or infinite", "down_tr64.ops.0.conv1.weight")


def test_two_copies_that_differ(tmp_path: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["network_weights"]["encoder.stem.convs.0.all_modules.0.weight"] = torch.ones(4, 1, 3, 3, 3)

    file = changed(tmp_path / "aliases.pth", checkpoint_files.nnssl, spoil)
    refused(run_import(file), 1, "under two names with different values")


def test_one_name_with_and_without_prefix(tmp_path: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["net"]["module.backbone.module.down_tr64.ops.0.conv1.bias"] = torch.ones(8)

    file = changed(tmp_path / "twice.pth", checkpoint_files.suprem_unet, spoil)
    refused(run_import(file), 1, "holds 'down_tr64.ops.0.conv1.bias' twice")


@pytest.mark.parametrize("plan", ["text", {"pretrain_plan": 3}, {"pretrain_plan": {"configurations": {"a": 5}}}])
def test_damaged_adaptation_plan(tmp_path: Path, plan: Any) -> None:
    file = changed(tmp_path / "plan.pth", checkpoint_files.nnssl, lambda c: c.update(nnssl_adaptation_plan=plan))
    refused(run_import(file), 1, "is damaged", "nnssl_adaptation_plan")


def test_other_architecture_of_nnssl(tmp_path: Path) -> None:
    weights = {"eva.pos_embed": torch.zeros(1, 8, 4), "down_projection.proj.weight": torch.zeros(4, 1, 8, 8, 8)}
    plan = {**checkpoint_files.adaptation_plan([1.0] * 3), "key_to_encoder": "eva", "key_to_stem": "down_projection"}
    torch.save({"network_weights": weights, "nnssl_adaptation_plan": plan}, tmp_path / "primus.pth")
    refused(run_import(tmp_path / "primus.pth"), 2, "cannot be built here", "eva.pos_embed", "ResEncL")


@pytest.mark.parametrize(
    "arguments",
    [
        {"configuration": "3d_fullres", "plans": {"configurations": 3}, "dataset_json": {}},
        {"configuration": "3d_fullres", "plans": 5, "dataset_json": 5},
        {"configuration": "3d_fullres", "plans": dict.fromkeys(PLAN_KEYS, 3), "dataset_json": {}},
        {
            "configuration": "3d_fullres",
            "plans": dict.fromkeys(PLAN_KEYS, 3),
            "dataset_json": dict.fromkeys(LABEL_KEYS),
        },
    ],
)
def test_damaged_nnunet_v2_plans(tmp_path: Path, arguments: dict[str, Any]) -> None:
    file = tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": {"encoder.a": torch.zeros(1)}, "init_args": arguments}, file)
    refused(run_import(file), 1, "is damaged")


def test_a_tensor_of_no_use(tmp_path: Path) -> None:
    def flatten(content: dict[str, Any]) -> None:
        content["state_dict"]["module.down_tr64.ops.0.conv1.weight"] = torch.tensor(1.0)

    file = changed(tmp_path / "flat.pt", checkpoint_files.models_genesis, flatten)
    refused(run_import(file), 1, "is damaged, or of no published form", "down_tr64.ops.0.conv1.weight ()")


# Files that do not fit


@pytest.mark.parametrize(("layers", "share"), [(("down_tr512.",), "25.0%"), (("down_tr512.ops.1.",), "2")])
def test_partial_encoder_is_refused_unless_told(tmp_path: Path, layers: tuple[str, ...], share: str) -> None:
    def spoil(content: dict[str, Any]) -> None:
        kept = {n: t for n, t in content["state_dict"].items() if not n.removeprefix("module.").startswith(layers)}
        content["state_dict"] = kept

    file = changed(tmp_path / "partial.pt", checkpoint_files.models_genesis, spoil)
    refused(run_import(file), 2, "of the encoder come from it", "missing: down_tr512", "90%", "--allow-partial")
    outcome = fsseg("import", file, "--out", tmp_path / "told", "--allow-partial")
    assert outcome.code == 0, outcome.err
    report = json.loads((tmp_path / "told" / "transfer.json").read_text(encoding="utf-8"))
    assert report["encoder_share"] < 0.9
    assert any(name.startswith("down_tr512") for name in report["missing"])


def test_a_hole_in_a_swin_is_no_smaller_network(tmp_path: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        for name in [name for name in content if "layers4.0.blocks.1." in name]:
            del content[name]

    file = changed(tmp_path / "hole.pth", checkpoint_files.fseft, spoil)
    refused(run_import(file), 2, "missing: swinViT.layers4.0.blocks.1.norm1.weight")


def test_other_channel_counts(tmp_path: Path) -> None:
    checkpoint_files.suprem_unet(tmp_path / "two.pth", channels=2)
    refused(run_import(tmp_path / "two.pth"), 2, "takes 2 image channel(s)", "down_tr64.ops.0.conv1.weight", "takes 1")


def test_channels_of_a_stem_and_of_plans(tmp_path: Path) -> None:
    file = tmp_path / "stems.pth"
    checkpoint_files.multitalent_v2(file, stems={"351_5": 2})
    plans = REPOSITORY / "plans" / "resenc_l_zscore.json"
    refused(run_import(file, "--plans", plans), 2, "1 image channel(s)", "takes 2")


def test_plans_of_another_network(tmp_path: Path) -> None:
    file = tmp_path / "genesis.pt"
    checkpoint_files.models_genesis(file)
    plans = REPOSITORY / "plans" / "genesis_unet.json"
    refused(
        run_import(file, "--plans", plans), 2, "does not fit the network of the plans", "of another shape", "(8, 1, 3"
    )
    plans = REPOSITORY / "plans" / "seg_resnet.json"
    refused(run_import(file, "--plans", plans), 2, "does not fit the network of the plans: 0.0%", "not used: down_tr64")


def test_plans_without_statistics(tmp_path: Path) -> None:
    file = tmp_path / "encoder.pth"
    checkpoint_files.nnssl(file)
    refused(run_import(file, "--plans", REPOSITORY / "plans" / "resenc_l.json"), 2, "intensity statistics")
    refused(run_import(file, "--plans", "plans/resenc_m.json"), 2, "Unknown plans file")


def test_v1_file_without_plans(tmp_path: Path) -> None:
    checkpoint_files.nnunet_v1(tmp_path / "model.model")
    (tmp_path / "model.model.pkl").unlink()
    words = ("model.model.pkl", "plans.pkl", "--plans FILE", "the network comes from the weights")
    refused(run_import(tmp_path / "model.model"), 2, *words)
    plans = REPOSITORY / "plans" / "multitalent_unet.json"  # its network has other widths
    imported = fsseg("import", tmp_path / "model.model", "--plans", plans, "--out", tmp_path / "run")
    assert imported.code == 0, imported.err
    assert "The network is read off the weights" in imported.out


def test_damaged_v1_plans(tmp_path: Path) -> None:
    file = tmp_path / "model.model"
    checkpoint_files.nnunet_v1(file)
    side = tmp_path / "model.model.pkl"
    side.write_bytes(pickle.dumps({"plans": {"plans_per_stage": {0: {}}}}))
    refused(run_import(file), 1, "holds no plans of nnU-Net v1 that can be read")
    side.write_bytes(pickle.dumps([1, 2]))
    refused(run_import(file), 1, "lacks plans_per_stage")
    side.write_bytes(pickle.dumps({"plans": checkpoint_files.v1_plans(scheme="CT2")}))
    refused(run_import(file), 1, "unknown normalisation 'CT2', allowed: CT, nonCT, noNorm")


def test_nnunet_v2_head_that_is_not_that_of_its_labels(lab: Lab, tmp_path: Path) -> None:
    def spoil(content: dict[str, Any]) -> None:
        del content[WEIGHTS_HASH_KEY]  # as stock nnU-Net writes it
        weights = content["network_weights"]
        for name in [name for name in weights if "seg_layers" in name]:
            weights[name] = weights[name][:1].clone()

    source = (lab.base / "fold_0" / "checkpoint_final.pth").read_bytes()
    place = tmp_path / "run" / "fold_0"
    place.mkdir(parents=True)
    for name in ("plans.json", "dataset.json"):
        (tmp_path / "run" / name).write_bytes((lab.base / name).read_bytes())
    file = changed(place / "checkpoint_final.pth", lambda path: path.write_bytes(source) and None, spoil)
    refused(run_import(file), 2, "of another shape", "seg_layers")
    refused(run_import(file, "--allow-partial"), 1, "structures, but holds no head")


def test_nnunet_v2_without_its_plans(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "lonely" / "checkpoint_final.pth"
    file.parent.mkdir()
    file.write_bytes((lab.base / "fold_0" / "checkpoint_final.pth").read_bytes())
    refused(run_import(file), 2, "does not hold its plans.json", "fold_X")


def test_nnunet_v2_of_two_dimensions(lab: Lab, tmp_path: Path) -> None:
    def flatten(content: dict[str, Any]) -> None:
        plans = json.loads((lab.base / "plans.json").read_text(encoding="utf-8"))
        plans["configurations"]["2d"] = plans["configurations"]["3d_fullres"]
        labels = json.loads((lab.base / "dataset.json").read_text(encoding="utf-8"))
        content["init_args"] = {"configuration": "2d", "plans": plans, "dataset_json": labels}

    source = (lab.base / "fold_0" / "checkpoint_final.pth").read_bytes()
    file = changed(tmp_path / "flat.pth", lambda path: path.write_bytes(source) and None, flatten)
    refused(run_import(file), 2, "configuration '2d'", "3d_fullres")


# Zero-shot


def test_zero_shot_without_a_head_or_a_common_structure(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "genesis.pt"
    checkpoint_files.models_genesis(file)
    refused(run_import(file, "--zero-shot", "804"), 2, "no head comes with this file")
    refused(run_import(file, "--zero-shot", "7"), 2, "Unknown dataset '7'")
    refused(run_import(file, "--cases", "a"), 2, "--cases chooses the cases of --zero-shot")


def test_zero_shot_of_unknown_cases(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "segresnet.pth"
    checkpoint_files.suprem_segresnet(file)
    words = ("--zero-shot", "804", "--cases", "PhantomTarget_target_9")
    refused(run_import(file, *words), 2, "Unknown case", "PhantomTarget_target_000")


def test_existing_output(tmp_path: Path) -> None:
    file = tmp_path / "genesis.pt"
    checkpoint_files.models_genesis(file)
    (tmp_path / "there").mkdir()
    refused(fsseg("import", file, "--out", tmp_path / "there"), 2, "exists already")
