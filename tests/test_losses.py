import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.losses import DiceLoss, TverskyLoss
from torch import Tensor
from torch.nn import functional as F

from fsseg.data.crops import CropPlan, CropSampler
from fsseg.data.structures import CaseAnnotation, Structures
from fsseg.data.volumes import Volume, annotation_zones, foreground_locations
from fsseg.training.losses import (
    PUBLISHED_LOSSES,
    MaskedLoss,
    deep_supervision_loss,
    deep_supervision_weights,
    mean_bce_dice,
    multitalent,
)
from fsseg.training.sigmoid_sums import SigmoidSums
from fsseg.training.targets import TargetTable

SHAPE = (3, 4, 5, 6, 7)  # samples, structures, z, y, x
LOSSES = PUBLISHED_LOSSES | {"mean_bce_dice": MaskedLoss(mean_bce_dice)}
SUM, MEAN = MaskedLoss(multitalent), MaskedLoss(mean_bce_dice)
every_loss = pytest.mark.parametrize("name", LOSSES)


def random_case(seed: int = 0, share: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, target, and a validity that differs voxel by voxel and leaves out whole channels."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(SHAPE, generator=generator)
    target = torch.rand(SHAPE, generator=generator) < share
    valid = torch.rand(SHAPE, generator=generator) < 0.7
    valid &= torch.rand(*SHAPE[:2], 1, 1, 1, generator=generator) < 0.7
    return logits, target, valid


def sums(p: np.ndarray, t: np.ndarray, v: np.ndarray) -> tuple[float, float, float, float]:
    """Return cross-entropy as a mean over all voxels, overlap, sum of p and sum of t, all of annotated voxels."""
    entropy = -np.where(t, np.log(p), np.log(1 - p))
    return entropy[v].sum() / v.size, p[v & t].sum(), p[v].sum(), float(t[v].sum())


def batch_terms(p: np.ndarray, t: np.ndarray, v: np.ndarray) -> tuple[float, int, list[float], list[bool]]:
    """Return the summed cross-entropy, annotated pairs, and per structure the Dice of the batch and if it is shown."""
    entropy, pairs, dice, shown = 0.0, 0, [], []
    for c in range(p.shape[1]):
        found = np.array([sums(p[b, c], t[b, c], v[b, c]) for b in range(len(p))])
        entropy += found[:, 0].sum()
        pairs += sum(v[b, c].any() for b in range(len(p)))
        size = found[:, 2:].sum()
        dice.append(2 * found[:, 1].sum() / size if size else 0.0)
        shown.append(found[:, 3].sum() > 0)
    return entropy, pairs, dice, shown


def crop_terms(p: np.ndarray, t: np.ndarray, v: np.ndarray) -> list[list[tuple[float, float, float, float]]]:
    """Return for every crop the sums of its annotated structures."""
    return [[sums(p[b, c], t[b, c], v[b, c]) for c in range(p.shape[1]) if v[b, c].any()] for b in range(len(p))]


def mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def reference_multitalent(p: np.ndarray, t: np.ndarray, v: np.ndarray) -> float:
    entropy, _, dice, _ = batch_terms(p, t, v)
    return entropy - sum(dice)


def reference_mean_bce_dice(p: np.ndarray, t: np.ndarray, v: np.ndarray) -> float:
    entropy, pairs, dice, shown = batch_terms(p, t, v)
    return entropy / max(pairs, 1) + mean([1 - d for d, s in zip(dice, shown, strict=True) if s])


def reference_fseft(p: np.ndarray, t: np.ndarray, v: np.ndarray) -> float:
    crops = crop_terms(p, t, v)
    return mean([mean([1 - (2 * o + 1) / (a + r + 1) for _, o, a, r in crop]) for crop in crops])


def reference_clip_driven(p: np.ndarray, t: np.ndarray, v: np.ndarray) -> float:
    return mean([mean([e + 1 - 2 * o / (a + r + 1) for e, o, a, r in crop]) for crop in crop_terms(p, t, v)])


def reference_suprem(p: np.ndarray, t: np.ndarray, v: np.ndarray) -> float:
    pairs = [pair for crop in crop_terms(p, t, v) for pair in crop]
    return mean([e for e, *_ in pairs]) + mean([1 - 2 * o / (a + r + 1) for _, o, a, r in pairs if r])


def reference_hermes(p: np.ndarray, t: np.ndarray, v: np.ndarray) -> float:
    terms = []
    for entropy, overlap, predicted, shown in itertools.chain.from_iterable(crop_terms(p, t, v)):
        false_positive, false_negative = predicted - overlap, shown - overlap
        share = np.clip(false_positive / (false_positive + false_negative), 0.2, 0.8)
        terms.append(entropy + 1 - overlap / (overlap + share * false_positive + (1 - share) * false_negative))
    return mean(terms)


def reference_uniseg(z: np.ndarray, t: np.ndarray, v: np.ndarray) -> float:
    """Voxel by voxel: a softmax over background, whose logit is 0, and what is annotated there."""
    entropy, dice = np.zeros(len(z)), np.zeros((z.shape[1], 3))
    for b, *voxel in np.ndindex(len(z), *z.shape[2:]):
        at = (b, slice(None), *voxel)
        known = np.flatnonzero(v[at])
        if not len(known):
            continue
        classes = np.exp(np.array([0.0, *z[at][known]]))
        classes /= classes.sum()
        shown = t[at][known]
        entropy[b] -= np.log(classes[1 + shown.argmax()] if shown.any() else classes[0])
        dice[known] += np.stack([classes[1:] * shown, classes[1:], shown], axis=1)
    missed = [1 - 2 * overlap / (predicted + shown) for overlap, predicted, shown in dice if shown]
    return mean(list(entropy / np.prod(z.shape[2:]))) + mean(missed)


REFERENCES = {name.removeprefix("reference_"): f for name, f in globals().items() if name.startswith("reference_")}


@every_loss
@pytest.mark.parametrize("share", [0.3, 0.02, 0.0])
@pytest.mark.parametrize("seed", range(5))
def test_loss_equals_the_formula(seed: int, share: float, name: str) -> None:
    logits, target, valid = random_case(seed, share)
    activated = logits.numpy().astype(np.float64)
    if LOSSES[name].activation == "sigmoid":
        activated = 1 / (1 + np.exp(-activated))
    else:
        target = target & (target.cumsum(1) == 1)  # one class a voxel
    expected = REFERENCES[name](activated, target.numpy(), valid.numpy())
    assert LOSSES[name](logits, target, valid).item() == pytest.approx(expected, abs=1e-4)


def test_sums_and_their_gradients_are_those_of_autograd() -> None:
    logits, target, valid = (tensor.flatten(2) for tensor in random_case())
    logits = logits.double().requires_grad_()
    p, t, v = torch.sigmoid(logits), target.double(), valid.double()
    entropy = F.binary_cross_entropy_with_logits(logits, t, reduction="none")
    expected = [(entropy * v).sum(-1), (p * t * v).sum(-1), (p * v).sum(-1), (t * v).sum(-1)]
    found = SigmoidSums.apply(logits, target, valid)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs in zip(found[:3], expected[:3], strict=True):
        weights = torch.rand_like(ours)
        gradients = [torch.autograd.grad((s * weights).sum(), logits, retain_graph=True)[0] for s in (ours, theirs)]
        torch.testing.assert_close(*gradients)


def ordinary_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target.float())


def ordinary_dice_loss(logits: Tensor, target: Tensor, *, batch: bool, smooth: float = 0.0) -> Tensor:
    """Return MONAI's soft Dice loss with its two smoothing terms, or none of the numerator."""
    return DiceLoss(sigmoid=True, batch=batch, smooth_nr=0.0, smooth_dr=smooth)(logits, target.float())


ORDINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "multitalent": lambda x, t: (
        SHAPE[0] * SHAPE[1] * ordinary_entropy(x, t) + SHAPE[1] * (ordinary_dice_loss(x, t, batch=True) - 1)
    ),
    "mean_bce_dice": lambda x, t: ordinary_entropy(x, t) + ordinary_dice_loss(x, t, batch=True),
    "suprem": lambda x, t: ordinary_entropy(x, t) + ordinary_dice_loss(x, t, batch=False, smooth=1.0),
    "clip_driven": lambda x, t: ordinary_entropy(x, t) + ordinary_dice_loss(x, t, batch=False, smooth=1.0),
    "fseft": lambda x, t: DiceLoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0)(x, t.float()),
    "hermes": lambda x, t: ordinary_entropy(x, t) + adaptive_tversky_loss(x, t),
    "uniseg": lambda x, t: softmax_with_background(x, t),
}


def adaptive_tversky_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return MONAI's Tversky loss, crop by crop and structure by structure, with the weights of Hermes."""
    losses = []
    for x, t in zip(logits.flatten(0, 1), target.flatten(0, 1).float(), strict=True):
        p = x.sigmoid()
        wrong = torch.stack([(p * (1 - t)).sum(), ((1 - p) * t).sum()])
        share = float((wrong[0] / wrong.sum()).clamp(0.2, 0.8))
        tversky = TverskyLoss(sigmoid=True, alpha=share, beta=1 - share, smooth_nr=0.0, smooth_dr=0.0)
        losses.append(tversky(x[None, None], t[None, None]))
    return torch.stack(losses).mean()


def softmax_with_background(logits: Tensor, target: Tensor) -> Tensor:
    """Return MONAI's Dice and cross-entropy over classes, background first and left out of the Dice."""
    logits = torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1)
    target = torch.cat([~target.any(1, keepdim=True), target], dim=1).float()
    dice = DiceLoss(softmax=True, include_background=False, batch=True, smooth_nr=0.0, smooth_dr=0.0)
    return F.cross_entropy(logits, target) + dice(logits, target)


@every_loss
def test_loss_is_the_ordinary_one_where_everything_is_annotated(name: str) -> None:
    logits, target, _ = random_case()
    if LOSSES[name].activation != "sigmoid":
        target = target & (target.cumsum(1) == 1)
    everything = torch.ones(*SHAPE[:2], 1, 1, 1, dtype=torch.bool)
    expected = ORDINARY[name](logits, target)
    torch.testing.assert_close(LOSSES[name](logits, target, everything), expected, rtol=0, atol=1e-4)


@every_loss
def test_validity_may_be_given_by_sample_and_structure(name: str) -> None:
    logits, target, _ = random_case()
    valid = torch.rand(*SHAPE[:2], 1, 1, 1, generator=torch.Generator().manual_seed(2)) < 0.5
    broadcast = LOSSES[name](logits, target, valid)
    torch.testing.assert_close(broadcast, LOSSES[name](logits, target, valid.expand(SHAPE)), rtol=0, atol=1e-6)


@every_loss
def test_gradient_is_exactly_zero_where_nothing_is_annotated_and_nowhere_else(name: str) -> None:
    logits, target, valid = random_case()
    logits.requires_grad_(True)
    LOSSES[name](logits, target, valid).backward()
    assert logits.grad is not None
    assert (~valid).any()
    assert (logits.grad[~valid] == 0).all()
    assert (logits.grad[valid] != 0).all()


@every_loss
def test_a_channel_that_no_sample_annotates_gets_no_gradient(name: str) -> None:
    logits, target, valid = random_case()
    valid[:, 1] = False
    valid[:, 2] = True
    logits.requires_grad_(True)
    LOSSES[name](logits, target, valid).backward()
    assert logits.grad is not None
    assert (logits.grad[:, 1] == 0).all()
    assert (logits.grad[:, 2] != 0).all()


@every_loss
def test_what_the_target_says_where_nothing_is_annotated_changes_nothing(name: str) -> None:
    logits, target, valid = random_case()
    other_target = torch.where(valid, target, ~target)
    other_logits = torch.where(valid, logits, -10 * logits)
    assert not torch.equal(other_target, target)
    expected = LOSSES[name](logits, target, valid)
    assert LOSSES[name](other_logits, other_target, valid).item() == expected.item()


@pytest.mark.parametrize(("name", "pairs"), [("multitalent", SHAPE[0]), ("mean_bce_dice", 1), ("suprem", 1)])
def test_a_structure_that_is_not_shown_adds_cross_entropy_only(name: str, pairs: int) -> None:
    logits, target, _ = random_case()
    target[:, 0] = False
    valid = torch.zeros(SHAPE, dtype=torch.bool)
    valid[:, 0] = True
    entropy = F.binary_cross_entropy_with_logits(logits[:, 0], torch.zeros_like(logits[:, 0]))
    torch.testing.assert_close(LOSSES[name](logits, target, valid), pairs * entropy, rtol=0, atol=1e-4)


@every_loss
@pytest.mark.parametrize("size", [0.0, 1e4, 1e30])
@pytest.mark.parametrize("foreground", ["none", "some", "all"])
@pytest.mark.parametrize("annotated", [False, True])
def test_loss_and_gradient_are_finite(size: float, foreground: str, annotated: bool, name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (size * torch.randn(SHAPE, generator=generator).sign()).requires_grad_(True)
    share = {"none": 0.0, "some": 0.3, "all": 1.0}[foreground]
    target = torch.rand(SHAPE, generator=generator) < share
    loss = LOSSES[name](logits, target, torch.full(SHAPE, annotated))
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    if not annotated:
        assert loss.item() == 0
        assert not logits.grad.any()


def test_half_precision_logits_give_a_float32_loss() -> None:
    logits, target, valid = random_case()
    half = logits.half()
    loss = SUM(half, target, valid)
    assert loss.dtype == torch.float32
    assert loss.item() == SUM(half.float(), target, valid).item()


def test_mean_of_a_perfect_prediction_is_zero() -> None:
    _, target, valid = random_case()
    perfect = torch.where(target, 50.0, -50.0)
    assert MEAN(perfect, target, valid).item() == pytest.approx(0, abs=1e-6)
    assert MEAN(-perfect, target, valid).item() > 1


def test_mean_does_not_depend_on_how_many_structures_are_annotated() -> None:
    logits, target, _ = random_case()
    one = torch.zeros(SHAPE, dtype=torch.bool)
    one[:, 0] = True
    repeated_logits, repeated_target = logits[:, :1].expand(SHAPE), target[:, :1].expand(SHAPE)
    single = MEAN(logits, target, one)
    many = MEAN(repeated_logits, repeated_target, torch.ones(SHAPE, dtype=torch.bool))
    torch.testing.assert_close(single, many, rtol=0, atol=1e-6)


# From label maps: integers, nested structures, partial extents

STRUCTURES = Structures(
    integers={"liver": (1, 2), "tumour": (2,)},
    cases={
        "both": CaseAnnotation(source="a", annotated=("liver", "tumour")),
        "tumour only": CaseAnnotation(source="b", annotated=("tumour",)),
        "liver in part": CaseAnnotation(source="c", annotated=("liver", "tumour"), z_extent={"liver": (3, 7)}),
    },
)
TABLE = TargetTable(torch.from_numpy(STRUCTURES.table()))


def volume(case: str, slices: int = 10) -> Volume:
    """A liver of integer 1 with a tumour of integer 2 in it; slices are the first axis and not resampled."""
    labels = np.zeros((1, slices, 8, 8), dtype=np.int16)
    labels[:, 2:8, 2:6, 2:6] = 1
    labels[:, 4:6, 3:5, 3:5] = 2
    annotation = STRUCTURES.annotation(case)
    zones, zone_annotated = annotation_zones(annotation, STRUCTURES.names, np.arange(slices))
    rendered = np.random.default_rng(0).normal(size=labels.shape).astype(np.float32)
    locations = foreground_locations(labels[0], STRUCTURES, annotation.annotated)
    return Volume(case, rendered, labels, locations, zones, 0, zone_annotated)


def gradient_of(cases: list[str], corner: tuple[int, int, int], name: str) -> Tensor:
    """Return the gradient of the loss of equal crops of the cases with respect to random logits."""
    size = (14, 8, 8)
    sampler = CropSampler([volume(case) for case in cases], size, crop_size=size, foreground_probability=1.0)
    cut = [sampler.cut(CropPlan(index, None, corner)) for index in range(len(cases))]
    labels = torch.from_numpy(np.stack([crop_labels for _, crop_labels in cut]))
    zones = max(len(v.zone_annotated) for v in sampler.volumes)
    annotated = torch.zeros(len(cases), zones, 2, dtype=torch.bool)
    for index, v in enumerate(sampler.volumes):
        annotated[index, : len(v.zone_annotated)] = torch.from_numpy(v.zone_annotated)
    target, valid = TABLE.expand(labels, annotated)
    logits = torch.randn(target.shape, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    LOSSES[name](logits, target, valid).backward()
    assert logits.grad is not None
    return logits.grad


def test_nested_structures_share_an_integer() -> None:
    labels = torch.tensor([0, 1, 2, -1]).view(1, 1, 1, 1, 4)
    zones = torch.tensor([1, 1, 1, -1]).view(1, 1, 1, 1, 4)
    annotated = torch.tensor([[[True, False], [True, True]]])
    target, valid = TABLE.expand(torch.cat([labels, zones], dim=1), annotated)
    assert target.flatten(2).tolist() == [[[False, True, True, False], [False, False, True, False]]]
    assert valid.flatten(2).tolist() == [[[True, True, True, True], [True, True, True, False]]]


@every_loss
def test_a_case_that_annotates_only_the_tumour_gives_no_liver_gradient(name: str) -> None:
    gradient = gradient_of(["both", "tumour only"], (-2, 0, 0), name)
    liver, tumour = 0, 1
    assert (gradient[1, liver] == 0).all()
    assert (gradient[1, tumour] != 0).all()
    assert (gradient[0] != 0).all()


@every_loss
@pytest.mark.parametrize("first_slice", [-2, 0, 2])
def test_a_structure_contoured_in_part_gives_no_gradient_outside_its_slices(first_slice: int, name: str) -> None:
    gradient = gradient_of(["liver in part"], (first_slice, 0, 0), name)
    contoured = (torch.arange(14) + first_slice >= 3) & (torch.arange(14) + first_slice < 7)
    assert (gradient[0, 0, ~contoured] == 0).all()
    assert (gradient[0, 0, contoured] != 0).all()
    assert (gradient[0, 1] != 0).all()


def test_padding_is_background_of_what_is_annotated_everywhere_and_unknown_for_the_rest() -> None:
    gradient = gradient_of(["liver in part"], (-20, 0, 0), "multitalent")  # slices -20 to -7: all padding
    assert (gradient[0, 0] == 0).all()
    assert (gradient[0, 1] > 0).all()


# Deep supervision


@pytest.mark.parametrize(
    ("levels", "expected"),
    [(1, (1,)), (2, (1, 0)), (3, (2 / 3, 1 / 3, 0)), (4, (4 / 7, 2 / 7, 1 / 7, 0))],
)
def test_deep_supervision_weights(levels: int, expected: tuple[float, ...]) -> None:
    assert deep_supervision_weights(levels) == pytest.approx(expected, abs=1e-12)


def test_deep_supervision_loss_is_the_weighted_sum_and_leaves_the_lowest_stage_out() -> None:
    levels = [random_case(seed) for seed in range(3)]
    logits, targets, valids = (list(column) for column in zip(*levels, strict=True))
    for tensor in logits:
        tensor.requires_grad_(True)
    loss = deep_supervision_loss(MEAN, logits, targets, valids)
    terms = [MEAN(*level).item() for level in levels]
    assert loss.item() == pytest.approx(2 / 3 * terms[0] + 1 / 3 * terms[1], abs=1e-4)
    loss.backward()
    assert logits[1].grad.any()
    assert logits[2].grad is None


def test_deep_supervision_refuses_stages_without_targets() -> None:
    logits, target, valid = random_case()
    for counts in itertools.permutations((1, 2, 2)):
        lists = [[tensor] * count for tensor, count in zip((logits, target, valid), counts, strict=True)]
        with pytest.raises(ValueError, match="zip"):
            deep_supervision_loss(SUM, *lists)
