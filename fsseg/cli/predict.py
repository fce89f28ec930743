"""Segment images with a run of `fsseg adapt` or `fsseg pretrain`, or with several adapters on one base."""

import argparse
from typing import TYPE_CHECKING

from fsseg.cli.options import add_device_option, add_output_options, emit

if TYPE_CHECKING:
    from fsseg.prediction.plan import PredictPlan

EXAMPLES = """examples:
  fsseg predict --run runs/larynx --input images/ --output predictions/
  fsseg predict --base runs/universal --adapter runs/larynx/adapter.safetensors runs/esophagus/adapter.safetensors \\
      --input images/ --output predictions/
  fsseg predict --run runs/larynx --input $nnUNet_raw/Dataset104_HeadNeckTarget/imagesTr --cases HeadNeckTarget_pt_4 \\
      --output predictions/
  fsseg predict --run runs/larynx --input scan.nii.gz --output predictions/
  fsseg predict --run runs/larynx --input folder_of_dicom_folders/ --output predictions/
  fsseg predict --run nnunet_results/model --folds 0 1 2 --save-probabilities --input images/ --output predictions/

The same command resumes a prediction that was stopped: label maps of the same images, model and settings stay.

stock nnU-Net gives the same result, where fsseg is not installed:
  nnUNetv2_predict_from_modelfolder -i images/ -o predictions/ -m runs/larynx -f 0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--run", help="run folder (an nnU-Net model folder)")
    parser.add_argument("--base", help="instead of --run: the model folder that adapters were trained on")
    parser.add_argument("--adapter", nargs="+", default=[], metavar="FILE", help="with --base: adapters to run")
    parser.add_argument(
        "--folds",
        nargs="+",
        default=[],
        help="of --run, averaged: numbers, or all (default: every number that is there)",
    )
    parser.add_argument(
        "--checkpoint-name",
        metavar="NAME",
        help="of --run, in its folds (default: checkpoint_final.pth, or else checkpoint_best.pth)",
    )
    parser.add_argument(
        "--input",
        required=True,
        help="folder of images named CASE_0000.nii.gz; for models of one channel also an image file, a folder of files"
        " without a number, a DICOM folder, or a folder of DICOM folders",
    )
    parser.add_argument("--output", required=True, help="folder to make")
    parser.add_argument("--cases", nargs="+", help="only these cases")
    parser.add_argument(
        "--tile-step-size", type=float, help="sliding-window step / patch (default: the recipe's, which is mostly 0.5)"
    )
    parser.add_argument(
        "--no-mirroring", dest="mirroring", action="store_false", help="no average over flips: up to 8 times as fast"
    )
    parser.add_argument(
        "--save-probabilities", action="store_true", help="also write the .npz and .pkl that nnUNetv2_ensemble reads"
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="segment the others where a case cannot be used; not_segmented.json says which, and the exit code is 1",
    )
    add_device_option(parser)
    add_output_options(parser, dry_run=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the stage."""
    from fsseg.config.base import validated
    from fsseg.stages.predict import PredictConfig, plan_predict, run_predict

    renamed = {"adapters": arguments.adapter}
    values = renamed | {name: getattr(arguments, name) for name in PredictConfig.model_fields if name not in renamed}
    config = validated(PredictConfig, values, "the options")
    if arguments.dry_run:
        plan = plan_predict(config)
        emit(plan.as_json(), _text("would segment", plan), arguments.json)
    else:
        plan = result = run_predict(config)
        emit(result.manifest, _text("segmented", result), arguments.json)
    return 1 if plan.not_segmented else 0


def _text(verb: str, plan: "PredictPlan") -> str:
    done = f" ({plan.finished_before} of them finished before)" if plan.finished_before else ""
    cases = f"{plan.cases} case{'' if plan.cases == 1 else 's'}"
    lines = [f"{verb} {', '.join(plan.structures)} in {cases}{done}: {plan.out}"]
    lines += [f"  not segmented: {case}: {problem}" for case, problem in plan.not_segmented.items()]
    return "\n".join(lines)
