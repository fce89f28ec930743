"""Stage: segment images with a run of `fsseg adapt` or `fsseg pretrain`."""

import shutil
from pathlib import Path
from typing import Any

from pydantic import Field
from tqdm import tqdm

from fsseg.config.base import StrictModel
from fsseg.config.errors import require_known
from fsseg.config.manifest import Manifest, write_json
from fsseg.config.run_folder import new_run_folder, require_new
from fsseg.nnunet.model_folder import read_model_folder
from fsseg.nnunet.prediction import Predictor
from fsseg.nnunet.raw_dataset import images_by_case
from fsseg.training.seeding import resolve_device


class PredictConfig(StrictModel):
    """What to predict.

    Attributes:
        run: model folder.
        input: folder of images named CASE_0000.nii.gz.
        output: folder to make: one label map a case, and dataset.json with the meaning of the integers.
        cases: only these cases of the input folder; None means all.
        tile_step_size: step of the sliding window as a share of the patch; smaller is slower and smoother.
        device: auto, cpu, cuda or mps.
    """

    run: Path
    input: Path
    output: Path
    cases: tuple[str, ...] | None = None
    tile_step_size: float = Field(default=0.5, gt=0, le=1)
    device: str = "auto"


def run_predict(config: PredictConfig, *, dry_run: bool = False) -> dict[str, Any]:
    """Predict; the output folder is complete or absent.

    Raises:
        UsageError: the run is no model folder, the input holds no images, the output exists.
        FssegError: an image cannot be read.
    """
    require_new(config.output, resume=True)
    model = read_model_folder(config.run)
    images = images_by_case(config.input, model.dataset_json)
    if config.cases is not None:
        require_known("case", config.cases, images, f"{config.input} holds the allowed ones.")
        images = {case: images[case] for case in config.cases}
    facts = {"run": str(config.run), "cases": len(images), "structures": list(model.structures.names)}
    if dry_run:
        return {**facts, "out": str(config.output)}
    manifest = Manifest("predict", config.model_dump(mode="json"))
    manifest.add_inputs([file for files in images.values() for file in files])
    device = resolve_device(config.device)
    predictor = Predictor(model.build_network(), model, device, config.tile_step_size)
    ending = model.dataset_json["file_ending"]
    with new_run_folder(config.output) as staging:
        for case, files in tqdm(images.items(), desc="predict", unit="case", disable=None):
            predictor.predict_file(files, staging / f"{case}{ending}")
        write_json(staging / "dataset.json", model.dataset_json)
        shutil.copyfile(config.run / "plans.json", staging / "plans.json")
        manifest.add(**facts)
        return manifest.write(staging)
