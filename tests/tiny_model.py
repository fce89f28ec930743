"""Model folders of untrained tiny networks, and images for them: what prediction does needs no training."""

from collections.abc import Sequence
from pathlib import Path

import SimpleITK
import torch
from conftest import tiny_plans
from phantom_collections import ct, image_of, save

from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.plans_network import network_of_plans

CONFIGURATION = "3d_fullres"
STRUCTURES = ("liver", "stomach")


def write_tiny_model(
    folder: Path, *, folds: Sequence[str] = ("0",), channels: int = 1, reader: str = "SimpleITKIOWithReorient"
) -> Path:
    """Write a model folder with other random weights in each fold; return it."""
    plans = {**tiny_plans(), "image_reader_writer": reader}
    for key in ("normalization_schemes", "use_mask_for_norm"):
        plans["configurations"][CONFIGURATION][key] *= channels
    intensities = plans["foreground_intensity_properties_per_channel"]
    intensities |= {str(channel): intensities["0"] for channel in range(channels)}
    dataset_json = {
        "channel_names": {str(channel): f"CT{channel or ''}" for channel in range(channels)},
        "labels": {"background": 0, **{name: [value, value] for value, name in enumerate(STRUCTURES, start=1)}},
        "regions_class_order": [1, 2],
        "file_ending": ".nii.gz",
        "numTraining": 1,
    }
    for seed, fold in enumerate(folds):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = network_of_plans(plans, CONFIGURATION, dataset_json, output_channels=len(STRUCTURES))
        model = ModelFolder(folder, plans, dataset_json, CONFIGURATION, network.state_dict(), mirroring_axes=(0, 1, 2))
        model.write(folder / "of_one_fold")
        (folder / "of_one_fold" / "fold_0").rename(folder / f"fold_{fold}")
    for file in (folder / "of_one_fold").iterdir():
        file.rename(folder / file.name)
    (folder / "of_one_fold").rmdir()
    return folder


def small_image(seed: int = 0) -> SimpleITK.Image:
    """Return an image in LPS whose left and right half differ."""
    array = ct()
    array[:, 4:9, 4 + seed : 9 + seed] += 150
    return image_of(array)


def write_images(folder: Path, *names: str) -> Path:
    """Write images of these names, each another; return their folder."""
    for seed, name in enumerate(names):
        save(small_image(seed), folder / name)
    return folder
