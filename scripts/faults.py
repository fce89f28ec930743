"""Faults that the tests must notice: at least one for each package of fsseg, several of them in numerical kernels.

A fault is plausible (a sign, a factor, a mask, a condition), and the program runs on with it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A line of fsseg made wrong.

    Attributes:
        name: a word for it.
        package: where it is, such as "methods".
        text: occurs once in fsseg; it is looked for, so that modules may move.
        replacement: takes its place.
        what: goes wrong then.
        tests: modules that probably notice it; they are run first, to save time.
    """

    name: str
    package: str
    text: str
    replacement: str
    what: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "unknown_as_background",
        "training",
        "shown = target & valid\n        ctx.save_for_backward",
        "shown = target\n        ctx.save_for_backward",
        "a loss counts structures where nothing is annotated",
        ("test_losses",),
    ),
    Fault(
        "loss_gradient",
        "training",
        "gradient.addcmul_(gradient, probability, value=-1)",
        "gradient.addcmul_(gradient, probability, value=1)",
        "the gradient of a loss has a wrong sign in one term",
        ("test_losses",),
    ),
    Fault(
        "low_rank_scale",
        "methods",
        "return weight + self.scale * self.update().view_as(weight)",
        "return weight + self.update().view_as(weight)",
        "alpha of a low-rank update does nothing",
        ("test_method_forms",),
    ),
    Fault(
        "low_rank_blocks",
        "methods",
        "right.chunk(self.blocks), strict=True)",
        "reversed(right.chunk(self.blocks)), strict=True)",
        "query, key and value get each other's updates",
        ("test_method_forms",),
    ),
    Fault(
        "dice",
        "evaluation",
        "return 2 * int((prediction & reference).sum()) / voxels if voxels",
        "return 2 * int((prediction & reference).sum()) / (voxels + 1) if voxels",
        "the DSC is a little too small",
        ("test_metrics",),
    ),
    Fault(
        "hd95",
        "evaluation",
        "percentile=95, spacing=spacing_zyx_mm",
        "percentile=95, spacing=spacing_zyx_mm[::-1]",
        "HD95 takes the spacing in x, y, z",
        ("test_metrics",),
    ),
    Fault(
        "left_out_is_trained_on",
        "adaptation",
        'rest = [volume for volume in volumes if volume.case in split["train"]]',
        "rest = list(volumes)",
        "leave-one-out trains on the case that it holds out",
        ("test_estimate", "test_same_base", "test_pipeline"),
    ),
    Fault(
        "shared_channels",
        "checkpoints",
        "weight[:, c.source] / c.sharers for c",
        "weight[:, c.source] for c",
        "two image channels from one count twice",
        ("test_input_channels",),
    ),
    Fault(
        "exit_code",
        "cli",
        "return error.exit_code",
        "return 1",
        "a wrong command line ends with 1, not 2",
        ("test_bad_input",),
    ),
    Fault(
        "unfinished_is_deleted",
        "config",
        "            if not resumable:\n                shutil.rmtree",
        "            if resumable or True:\n                shutil.rmtree",
        "a run that failed cannot be resumed",
        ("test_run_folder",),
    ),
    Fault(
        "test_cases_are_drawn",
        "data",
        "set(cases) - set(test) - tested_images",
        "set(cases) - tested_images",
        "support cases may be test cases",
        ("test_splits",),
    ),
    Fault(
        "verdict",
        "demo",
        "beats = difference.low > 0",
        "beats = difference.mean > 0",
        "the demo's verdict does not look at the interval",
        ("test_demo",),
    ),
    Fault(
        "background_row",
        "models",
        "head.weight[channel] -= old.weight[minus]",
        "head.weight[channel] += old.weight[minus]",
        "sigmoids out of a softmax add its background",
        ("test_softmax_head",),
    ),
    Fault(
        "left_is_right",
        "nnunet",
        "if sides.of and axes:",
        "if sides.pairs and axes:",
        "a structure on one side alone is predicted with flips",
        ("test_mirroring",),
    ),
    Fault(
        "mean_of_folds",
        "nnunet",
        "return sums.div_(max(1, len(self.folds))).float()",
        "return sums.float()",
        "logits of folds are added, not averaged",
        ("test_prediction_folds",),
    ),
    Fault(
        "stale_label_maps",
        "prediction",
        "entry is not None and entry.images == list(hashes.values()) and",
        "entry is not None and",
        "a resumed prediction keeps label maps of other images",
        ("test_predict_resume",),
    ),
    Fault(
        "another_training",
        "pretraining",
        '_MAY_CHANGE = ("workers", "checkpoint_minutes")',
        '_MAY_CHANGE = ("workers", "checkpoint_minutes", "loss")',
        "--resume goes on with another loss",
        ("test_pretraining", "test_bad_input"),
    ),
    Fault(
        "unescaped",
        "reporting",
        "{html.escape(cell)}</{tag}>",
        "{cell}</{tag}>",
        "a case named <b> breaks the report",
        ("test_reporting",),
    ),
    Fault(
        "folds_are_the_same",
        "stages",
        "make_split(cases, shots=shots, seed=seed).support for seed",
        "make_split(cases, shots=shots, seed=0).support for seed",
        "all of nnU-Net's folds train on the same cases",
        ("test_nnunet_commands",),
    ),
)
