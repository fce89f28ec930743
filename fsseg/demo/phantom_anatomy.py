"""Schematic abdominal CTs made from a seed: trunk, skeleton and organs, their masks and their HU.

Organs are fields in the standard body of `fsseg.demo.phantom_body`; each case jitters every one of them.
"""

from dataclasses import dataclass

import numpy as np

from fsseg.demo.phantom_body import FAR_MM, Body, Look, Painter, intersect

PHANTOM_STRUCTURES = (
    "liver",
    "spleen",
    "kidney_right",
    "kidney_left",
    "aorta",
    "inferior_vena_cava",
    "gallbladder",
    "stomach",
    "pancreas",
)

_VERTEBRA_PITCH_MM = 34.0
_RIB_PITCH_MM = 27.0
# Centre lines and radii, in mm of the standard body, of the organs that are curved tubes.
_TUBES: dict[str, tuple[list[tuple[float, float, float]], list[float]]] = {
    "aorta": ([(8, 14, -125), (12, 12, -20), (13, 15, 125)], [8.5, 9.5, 11]),
    "inferior_vena_cava": ([(-15, 16, -125), (-20, 13, 10), (-24, 10, 65), (-19, 4, 100)], [9, 11, 12, 11]),
    "pancreas": (
        [(-34, -8, -46), (-32, -16, -26), (-8, -26, -16), (14, -22, -8), (44, -4, -2), (74, 14, 6)],
        [12, 14.5, 9.5, 10.5, 10.5, 8],
    ),
    "stomach": (
        [(54, 4, 58), (62, -12, 34), (58, -36, 6), (34, -52, -16), (6, -50, -24), (-18, -40, -16)],
        [27, 31, 26, 21, 16, 10],
    ),
    "gallbladder": ([(-48, -36, -18), (-56, -52, -44)], [9, 14]),
}
_COLON = (
    ([(-92, 14, -130), (-94, 8, -90), (-86, -6, -62)], [22, 21, 19]),
    ([(-80, -30, -62), (-30, -62, -66), (30, -62, -58), (76, -34, -36)], [19, 17, 17, 18]),
    ([(90, 0, -28), (98, 22, -60), (96, 20, -130)], [17, 16, 16]),
)
_LIVER_VEINS = (
    ([(-24, 0, 58), (-60, 0, 42), (-92, 8, 20)], [6, 5, 2.5]),
    ([(-22, -4, 58), (-44, -36, 46), (-50, -62, 24)], [6, 5, 2.5]),
)
_MUSCLE_HU, _FAT_HU, _FLUID_HU, _LUNG_HU, _GAS_HU = 55, -102, 18, -840, -900


@dataclass(frozen=True)
class Phantom:
    """A CT with its masks; all arrays (D, H, W) in axis order z, y, x.

    Axis 0 runs from inferior to superior, axis 1 from anterior to posterior, axis 2 from the patient's right
    to left: the identity direction matrix in LPS coordinates.

    Attributes:
        image: int16, HU.
        masks: structure -> bool; no voxel belongs to two structures.
        spacing_zyx_mm: voxel size.
    """

    image: np.ndarray
    masks: dict[str, np.ndarray]
    spacing_zyx_mm: tuple[float, float, float]


def make_phantom(seed: int, look: Look) -> Phantom:
    """Make the body of `seed` as it appears with `look`; equal arguments give bit-equal arrays."""
    rng = np.random.default_rng(seed)
    body = Body(rng, look)
    image = Painter(body, rng, look)
    _paint_trunk(body, image)
    _paint_skeleton(body, image)
    organs = _organs(body)
    _paint_bowel(body, image)
    _paint_organs(body, image, organs)
    masks = {name: organs[name] < 0 for name in PHANTOM_STRUCTURES}
    return Phantom(image.scan(), masks, look.spacing_zyx_mm)


def _paint_trunk(body: Body, image: Painter) -> None:
    image.fill(body.table, 0)
    image.fill(body.skin, 10)
    image.fill(body.skin + 2.5, _FAT_HU)
    image.fill(body.muscle, _MUSCLE_HU)
    image.fill(body.wall, _FAT_HU)
    image.fill(np.maximum(body.flesh, body.muscle), _MUSCLE_HU)
    image.fill(np.maximum(body.wall, -body.dome - 2), _MUSCLE_HU)
    image.fill(np.maximum(body.wall, 2 - body.dome), _LUNG_HU)
    heart = 38 * (np.sqrt(((body.x - 18) / 58) ** 2 + ((body.y + 28) / 42) ** 2 + ((body.z - 118) / 38) ** 2) - 1)
    image.fill(np.maximum(heart, 2 - body.dome), image.level("heart"))
    mediastinum = np.hypot(body.x, body.y - 35) - 30
    image.fill(np.maximum(mediastinum, 2 - body.dome), _FAT_HU)


def _paint_skeleton(body: Body, image: Painter) -> None:
    x, y, z = body.x, body.y, body.z
    level = np.mod(z + body.rng.uniform(0, _VERTEBRA_PITCH_MM), _VERTEBRA_PITCH_MM) - _VERTEBRA_PITCH_MM / 2
    canal = np.hypot(x, y - 66) - 8.5
    spinous = np.maximum(np.maximum(np.abs(x) - 3.5, np.abs(y - 80) - 8), np.abs(level + 3) - 9)
    transverse = np.maximum(np.maximum(np.abs(y - 64) - 3.5, np.abs(x) - 31), np.abs(level) - 6)
    arch = np.maximum(np.abs(canal - 2.5) - 3, np.abs(level) - 12)
    vertebra = np.maximum(body.spine, np.abs(level) - 13)
    # Each rib follows the muscle wall and descends to the front; lower ribs end further back.
    row = z - 0.75 * y + 0.3 * np.abs(x)
    across = np.mod(row, _RIB_PITCH_MM) - _RIB_PITCH_MM / 2
    ribs = np.hypot(body.muscle + 6, across * 0.6) - 4
    ends = np.maximum(np.maximum(-y - 15 - 0.9 * row, -85 - row), np.where(y > 0, 38 - np.abs(x), -FAR_MM))
    image.fill(body.spine, 80)
    for bone in (vertebra, arch, transverse, spinous, np.maximum(ribs, ends)):
        image.fill(bone, 650)
        image.fill(bone + 3, 210)
    image.fill(canal, 30)


def _organs(body: Body) -> dict[str, np.ndarray]:
    """Return the fields of the organs, most rigid first: later ones give way to earlier ones."""
    return {
        "aorta": _vessel(body, "aorta"),
        "inferior_vena_cava": _vessel(body, "inferior_vena_cava"),
        "kidney_right": body.take(_kidney(body, -1, -30), gap_mm=3.5),
        "kidney_left": body.take(_kidney(body, 1, -20), gap_mm=3.5),
        "pancreas": body.take(body.tube(*_TUBES["pancreas"])),
        "spleen": body.take(_spleen(body)),
        "stomach": body.take(body.tube(*_TUBES["stomach"], jitter_mm=5)),
        "gallbladder": body.take(body.tube(*_TUBES["gallbladder"])),
        "liver": body.take(_liver(body)),
    }


def _vessel(body: Body, name: str) -> np.ndarray:
    # Vessels cross the diaphragm, so only the spine and the muscles beside it limit them.
    tube = body.tube(*_TUBES[name], jitter_mm=2)
    field = np.maximum(tube, 1 - np.minimum(body.spine, body.flesh))
    body.free = np.maximum(body.free, 1 - field)
    return field


def _kidney(body: Body, side: int, height_mm: float) -> np.ndarray:
    # A bent tube makes the bean: its poles lie nearer to the midline and to the front than its middle.
    arc = [(-2, -2, 30), (6, 5, 12), (7, 6, -8), (2, -6, -28)]
    nodes = [(side * (63 + out), 34 + back, height_mm + up) for out, back, up in arc]
    bean = body.tube(nodes, [21, 24.5, 25, 21], jitter_mm=5)
    hilum = np.hypot(np.hypot(body.x - side * 44, body.y - 22), 0.8 * (body.z - height_mm)) - 11
    return intersect(bean, -hilum, 5)


def _spleen(body: Body) -> np.ndarray:
    """Return a lens that hugs the abdominal wall on the left, at the back."""
    rng = body.rng
    side, back, up = body.x - rng.uniform(92, 102), body.y - rng.uniform(36, 46), body.z - rng.uniform(14, 26)
    depth = (-np.maximum(body.wall, body.dome) - 6) / rng.uniform(36, 46)
    along = (0.8 * back - 0.6 * side) / rng.uniform(50, 60)
    inward = (0.8 * side + 0.6 * back) / 72
    lens = np.sqrt(depth**2 + along**2 + inward**2 + (up / rng.uniform(50, 62)) ** 2)
    return 32 * (lens - 1) + body.wobble(1.5, 6)


def _liver(body: Body) -> np.ndarray:
    """Return what lies under the dome, to the right of two slanting planes and above the visceral surface."""
    x, y, z, rng = body.x, body.y, body.z, body.rng
    left_reach = rng.uniform(-22, 18)
    left_lobe = (x + 0.95 * y - left_reach - 0.9 * (z - 30)) / 1.6
    right_lobe = (x + rng.uniform(26, 36) - 0.45 * (z - 30)) / 1.1
    visceral = 0.85 * (rng.uniform(-62, -42) + 0.5 * (x + 90) + 0.22 * y - z)
    lobes = -intersect(-left_lobe, -right_lobe, 20)
    return intersect(lobes, visceral, 16) + body.wobble(2.8, 7)


def _paint_bowel(body: Body, image: Painter) -> None:
    colon = [body.tube(nodes, radii) for nodes, radii in _COLON]
    starts = body.rng.uniform((-62, -66, -118), (66, -6, -58), (12, 3))
    bends = body.rng.normal(0, 26, (12, 2, 3))
    loops = [body.tube([p, p + a, p + b], [12, 13, 12]) for p, (a, b) in zip(starts, bends, strict=True)]
    for field in colon + loops:
        gut = body.take(field, gap_mm=1.5)
        image.fill(gut, image.level("bowel"))
        image.fill(gut + 3.5, body.rng.uniform(10, 45))
        _fill_gas(body, image, gut, share=body.rng.uniform(0.1, 0.6))


def _fill_gas(body: Body, image: Painter, gut: np.ndarray, share: float) -> None:
    """Paint gas into the front `share` of a hollow organ: it rises in a patient who lies on the back."""
    inside = body.y[gut < -3]
    if inside.size:
        surface = np.quantile(inside, share)
        image.fill(np.maximum(gut + 4, body.y - surface), _GAS_HU)


def _paint_organs(body: Body, image: Painter, organs: dict[str, np.ndarray]) -> None:
    texture = body.wobble(4, 12)
    for name in ("liver", "spleen", "pancreas", "inferior_vena_cava", "aorta"):
        image.fill(organs[name], image.level(name) + texture)
    image.fill(organs["gallbladder"], _FLUID_HU)
    vein_hu = image.level("vein")
    for nodes, radii in _LIVER_VEINS:
        image.fill(np.maximum(body.tube(nodes, radii), organs["liver"] + 4), vein_hu)
    cortex_hu, medulla_hu = image.level("cortex"), image.level("kidney")
    for name in ("kidney_right", "kidney_left"):
        image.fill(organs[name], cortex_hu)
        image.fill(organs[name] + 7, medulla_hu)
        image.fill(organs[name] + 15, 45)
    image.fill(organs["stomach"], image.level("stomach"))
    image.fill(organs["stomach"] + 4.5, body.rng.uniform(15, 45))
    _fill_gas(body, image, organs["stomach"], share=body.rng.uniform(0.08, 0.3))
