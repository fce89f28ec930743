"""Faults that the tests must notice: at least one for each package of fsseg, several of them in numerical kernels.

A fault is plausible (a sign, a factor, a mask, a condition), and the program runs on with it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A line of fsseg made wrong.

    Attributes:
        name: a word for it.
        text: occurs once in fsseg; it is looked for, so that modules may move.
        replacement: takes its place.
        what: goes wrong then.
        tests: some that probably notice it, "test_module" or "test_module::test_function"; they are run first, to save
            time.
    """

    name: str
    text: str
    replacement: str
    what: str
    tests: tuple[str, ...]


FAULTS = (
    Fault(
        "unknown_as_background",
        "shown = target & valid\n        ctx.save_for_backward",
        "shown = target\n        ctx.save_for_backward",
        "a loss counts structures where nothing is annotated",
        ("test_losses::test_loss_equals_the_formula",),
    ),
    Fault(
        "loss_gradient",
        "gradient.addcmul_(gradient, probability, value=-1)",
        "gradient.addcmul_(gradient, probability, value=1)",
        "the gradient of a loss has a wrong sign in one term",
        ("test_losses::test_sums_and_their_gradients_are_those_of_autograd",),
    ),
    Fault(
        "low_rank_scale",
        "return weight + self.scale * self.update().view_as(weight)",
        "return weight + self.update().view_as(weight)",
        "alpha of a low-rank update does nothing",
        ("test_method_options::test_lora_alpha_over_rank_scales_the_update",),
    ),
    Fault(
        "low_rank_blocks",
        "right.chunk(self.blocks), strict=True)",
        "reversed(right.chunk(self.blocks)), strict=True)",
        "query, key and value get each other's updates",
        ("test_method_forms::test_separate_projections_are_three_updates_beside_each_other",),
    ),
    Fault(
        "dice",
        "return 2 * int((prediction & reference).sum()) / voxels if voxels",
        "return 2 * int((prediction & reference).sum()) / (voxels + 1) if voxels",
        "the DSC is a little too small",
        ("test_metrics",),
    ),
    Fault(
        "hd95",
        "percentile=95, spacing=spacing_zyx_mm",
        "percentile=95, spacing=spacing_zyx_mm[::-1]",
        "HD95 takes the spacing in x, y, z",
        ("test_metrics",),
    ),
    Fault(
        "left_out_is_trained_on",
        'rest = [volume for volume in volumes if volume.case in split["train"]]',
        "rest = list(volumes)",
        "leave-one-out trains on the case that it holds out",
        ("test_estimate::test_a_stopped_leave_one_out_goes_on_to_the_same_result",),
    ),
    Fault(
        "shared_channels",
        "weight[:, c.source] / c.sharers for c",
        "weight[:, c.source] for c",
        "two image channels from one count twice",
        ("test_input_channels::test_equal_images_give_what_the_old_network_gave",),
    ),
    Fault(
        "exit_code",
        "return error.exit_code",
        "return 1",
        "a wrong command line ends with 1, not 2",
        ("test_demo::test_existing_folder_is_refused",),
    ),
    Fault(
        "unfinished_is_deleted",
        "            if not resumable:\n                shutil.rmtree",
        "            if resumable or True:\n                shutil.rmtree",
        "a run that failed cannot be resumed",
        ("test_estimate::test_a_stopped_leave_one_out_goes_on_to_the_same_result",),
    ),
    Fault(
        "test_cases_are_drawn",
        "set(cases) - set(test) - tested_images",
        "set(cases) - tested_images",
        "support cases may be test cases",
        ("test_splits",),
    ),
    Fault(
        "verdict",
        "beats = difference.low > 0",
        "beats = difference.mean > 0",
        "the demo's verdict does not look at the interval",
        ("test_demo::test_difference_that_varies_around_zero_is_not_better",),
    ),
    Fault(
        "background_row",
        "head.weight[channel] -= old.weight[minus]",
        "head.weight[channel] += old.weight[minus]",
        "sigmoids out of a softmax add its background",
        ("test_softmax_head::test_classes_become_sigmoids_against_background",),
    ),
    Fault(
        "left_is_right",
        "if sides.of and axes:",
        "if sides.pairs and axes:",
        "a structure on one side alone is predicted with flips",
        ("test_mirroring",),
    ),
    Fault(
        "mean_of_folds",
        "return sums.div_(max(1, len(self.folds))).float()",
        "return sums.float()",
        "logits of folds are added, not averaged",
        ("test_prediction_folds::test_the_logits_of_folds_are_those_of_nnunet_to_the_bit_with_one_network",),
    ),
    Fault(
        "stale_label_maps",
        "entry is not None and entry.images == list(hashes.values()) and",
        "entry is not None and",
        "a resumed prediction keeps label maps of other images",
        ("test_predict_resume::test_only_label_maps_of_the_same_image_model_and_settings_are_kept",),
    ),
    Fault(
        "another_training",
        '_MAY_CHANGE = ("workers", "checkpoint_minutes")',
        '_MAY_CHANGE = ("workers", "checkpoint_minutes", "loss")',
        "--resume goes on with another loss",
        ("test_pretraining::test_resume_refuses_another_training",),
    ),
    Fault(
        "unescaped",
        "text = html.escape(cell)",
        "text = cell",
        "a case named <b> breaks the report",
        ("test_reporting",),
    ),
    Fault(
        "leftovers",
        "(config.output / FINISHED_NAME).unlink()",
        "(config.output / FINISHED_NAME).exists()",
        "a finished prediction keeps the record of its work",
        ("test_predict_resume::test_a_stopped_prediction_goes_on_to_the_same_label_maps",),
    ),
    Fault(
        "differences_turned_round",
        "value - theirs[pair] for pair",
        "theirs[pair] - value for pair",
        "a run that is behind the baseline looks ahead of it",
        ("test_compare::test_differences_are_paired_and_a_mean_counts_structures_alike",),
    ),
    Fault(
        "scoring_is_shared",
        '"scoring": table.scoring.model_dump(exclude_none=True, exclude={"protocols"}),',
        "",
        "runs that are scored in two ways count as one",
        ("test_table::test_runs_are_known_by_what_decides_them",),
    ),
    Fault(
        "folds_are_the_same",
        "make_split(cases, shots=shots, seed=seed).support for seed",
        "make_split(cases, shots=shots, seed=0).support for seed",
        "all of nnU-Net's folds train on the same cases",
        ("test_nnunet_commands::test_folds_of_shots_are_nested_and_those_of_adapt",),
    ),
)
