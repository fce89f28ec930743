"""What the prediction of a case takes beside the network: reading, resampling there and back, and writing."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import SimpleITK
import torch

from fsseg.experiments.costs.cases import ImageSize
from fsseg.nnunet.label_map_file import write_label_map
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.preprocessing import CasePreprocessor
from fsseg.training.placement import cpu_threads


def handling_seconds(model: ModelFolder, size: ImageSize, threads: int) -> float:
    """Measure it on an image of noise; with one thread the time of this process counts.

    Args:
        model: whose plans say the spacing; it needs no weights.
        size: of the image.
        threads: of a run.

    Raises:
        FssegError: the image does not fit into memory, or cannot be written.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    with TemporaryDirectory(prefix="fsseg_") as folder, cpu_threads(threads):
        files = [_noise(size, Path(folder) / f"noise_{n:04d}.nii.gz") for n in range(len(model.channel_names))]
        started = clock()
        image, properties = CasePreprocessor(model, cache=None).image(files)
        logits = torch.from_numpy(np.broadcast_to(image[:1], (model.output_channels, *image.shape[1:])).copy())
        write_label_map(
            logits,
            properties,
            Path(folder) / "labels.nii.gz",
            configuration=model.configuration_manager(),
            plans=model.plans_manager(),
            dataset_json=model.dataset_json,
            save_probabilities=False,
        )
        return round(clock() - started, 3)


def _noise(size: ImageSize, file: Path) -> Path:
    voxels = np.random.default_rng(0).integers(-200, 300, size=size.size_xyz[::-1], dtype=np.int16)
    image = SimpleITK.GetImageFromArray(voxels)
    image.SetSpacing(size.spacing_mm)
    SimpleITK.WriteImage(image, file)
    return file
