"""Segment images with a run of `fsseg adapt` or `fsseg pretrain`, or with several adapters on one base."""

import argparse

from fsseg.cli.options import add_device_option, add_output_options, emit

EXAMPLES = """examples:
  fsseg predict --run runs/larynx --input images/ --output predictions/
  fsseg predict --base runs/universal --adapter runs/larynx/adapter.safetensors runs/esophagus/adapter.safetensors \\
      --input images/ --output predictions/
  fsseg predict --run runs/larynx --input $nnUNet_raw/Dataset104_HeadNeckTarget/imagesTr --cases HeadNeckTarget_pt_4 \\
      --output predictions/

stock nnU-Net gives the same result, where fsseg is not installed:
  nnUNetv2_predict_from_modelfolder -i images/ -o predictions/ -m runs/larynx -f 0
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--run", help="run folder (an nnU-Net model folder)")
    parser.add_argument("--base", help="instead of --run: the model folder that adapters were trained on")
    parser.add_argument("--adapter", nargs="+", default=[], metavar="FILE", help="with --base: adapters to run")
    parser.add_argument("--input", required=True, help="folder of images named CASE_0000.nii.gz")
    parser.add_argument("--output", required=True, help="folder to make")
    parser.add_argument("--cases", nargs="+", help="only these cases")
    parser.add_argument(
        "--tile-step-size", type=float, help="sliding-window step / patch (default: the recipe's, which is mostly 0.5)"
    )
    parser.add_argument(
        "--no-mirroring", dest="mirroring", action="store_false", help="no average over flips: up to 8 times as fast"
    )
    add_device_option(parser)
    add_output_options(parser, dry_run=True)


def run(arguments: argparse.Namespace) -> int:
    """Run the stage."""
    from fsseg.config.base import validated
    from fsseg.stages.predict import PredictConfig, run_predict

    names = ("run", "base", "input", "output", "cases", "tile_step_size", "mirroring", "device")
    values = {name: getattr(arguments, name) for name in names} | {"adapters": arguments.adapter}
    config = validated(PredictConfig, values, "the options")
    result = run_predict(config, dry_run=arguments.dry_run)
    verb = "would segment" if arguments.dry_run else "segmented"
    emit(
        result, f"{verb} {', '.join(result['structures'])} in {result['cases']} cases: {config.output}", arguments.json
    )
    return 0
