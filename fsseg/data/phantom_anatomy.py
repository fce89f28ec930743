"""Schematic abdominal CTs made from a seed: the geometry of body and organs, their masks and their HU.

Every shape is a field over the voxels: about the distance in mm to its surface, negative inside. Fields are
written in a standard body whose x runs from the patient's right to left, y from anterior to posterior and z
from inferior to superior, with the origin in the middle of the trunk at the height of the pancreas' tail.
Each case bends, scales and rotates that body and jitters each organ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.fft import idctn
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

FIELD_OF_VIEW_ZYX_MM = (240.0, 250.0, 340.0)
PHANTOM_STRUCTURES = ("liver", "spleen", "kidney_right", "kidney_left", "aorta", "stomach", "pancreas")

_FAR_MM = 99.0
_VERTEBRA_PITCH_MM = 34.0
_RIB_PITCH_MM = 27.0
# HU without contrast medium, and what full enhancement adds.
_HU = {
    "liver": (55, 50),
    "spleen": (48, 70),
    "kidney": (35, 110),
    "cortex": (38, 152),
    "aorta": (45, 125),
    "cava": (42, 75),
    "vein": (42, 110),
    "stomach": (45, 30),
    "pancreas": (40, 50),
    "bowel": (40, 25),
    "heart": (42, 100),
}
# Centre lines and radii, in mm of the standard body, of the organs that are curved tubes.
_TUBES: dict[str, tuple[list[tuple[float, float, float]], list[float]]] = {
    "aorta": ([(8, 14, -125), (12, 12, -20), (13, 15, 125)], [8.5, 9.5, 11]),
    "cava": ([(-15, 16, -125), (-20, 13, 10), (-24, 10, 65), (-19, 4, 100)], [9, 11, 12, 11]),
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
_MUSCLE_HU, _FAT_HU, _FLUID_HU, _LUNG_HU, _GAS_HU, _AIR_HU = 55, -102, 18, -840, -900, -1000


@dataclass(frozen=True)
class Look:
    """How a scanner and a site make a body look.

    Attributes:
        spacing_zyx_mm: voxel size; the field of view is fixed, so it decides the number of voxels.
        noise_hu: standard deviation of the noise, which is correlated between neighbouring voxels.
        blur_mm: standard deviation of the point spread function.
        enhancement: uptake of contrast medium, 0 native, 1 portal venous.
        pose_degrees: the largest rotation of the body about each axis.
    """

    spacing_zyx_mm: tuple[float, float, float] = (4.5, 4.0, 4.0)
    noise_hu: float = 10.0
    blur_mm: float = 1.2
    enhancement: float = 1.0
    pose_degrees: float = 3.0


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
    body = _Body(rng, look)
    image = _Painter(body, rng, look)
    _paint_trunk(body, image)
    _paint_skeleton(body, image)
    organs = _organs(body)
    _paint_bowel(body, image)
    _paint_organs(body, image, organs)
    masks = {name: organs[name] < 0 for name in PHANTOM_STRUCTURES}
    return Phantom(image.scan(), masks, look.spacing_zyx_mm)


class _Body:
    """Where each voxel lies in the standard body, and the fields that the organs have to respect.

    Attributes:
        x, y, z: coordinates of each voxel in the standard body, mm, each (D, H, W).
        table: the CT table, which does not turn with the patient.
        skin, muscle, wall: outlines of the skin, of the muscle wall and of the cavity inside it.
        spine: the column of vertebral bodies and discs.
        flesh: the muscles beside the spine.
        dome: the diaphragm; positive above it.
        free: the part of the abdomen that no structure has taken yet, negative where free.
    """

    def __init__(self, rng: np.random.Generator, look: Look) -> None:
        self.rng = rng
        extents = zip(FIELD_OF_VIEW_ZYX_MM, look.spacing_zyx_mm, strict=True)
        self.shape = tuple(round(extent / spacing) for extent, spacing in extents)
        axes_mm = [
            (np.arange(n) - (n - 1) / 2) * s for n, s in zip(self.shape, look.spacing_zyx_mm, strict=True)
        ]
        scanner_zyx = np.stack(np.meshgrid(*axes_mm, indexing="ij"), axis=-1)
        self._place(scanner_zyx, look.pose_degrees)
        self._enclose()

    def _place(self, scanner_zyx: np.ndarray, pose_degrees: float) -> None:
        rng = self.rng
        turn = Rotation.from_euler("zyx", rng.uniform(-pose_degrees, pose_degrees, 3), degrees=True)
        size_zyx = rng.uniform(0.93, 1.02) * rng.uniform(0.97, 1.02, 3)
        back_mm = 107 * size_zyx[1]
        height = scanner_zyx[..., 1] - back_mm - 7 + (scanner_zyx[..., 2] / 60) ** 2
        self.table = np.abs(height) - 4
        turned = (scanner_zyx + np.array((0.0, 3.0, 0.0))) @ turn.as_matrix() / size_zyx
        self.z, self.y, self.x = (turned[..., axis] + self.wobble(2.5) for axis in range(3))

    def _enclose(self) -> None:
        x, y, z, rng = self.x, self.y, self.z, self.rng
        self.skin = _oval(x, y, 156, 110 - 4 * np.tanh(y / 30))
        fat_mm = rng.uniform(10, 20) + 5 * np.clip(y / 90, -1, 1) * rng.uniform(0, 1)
        self.muscle = self.skin + fat_mm
        self.wall = self.muscle + rng.uniform(10, 13)
        self.spine = _oval(x, y - 41, 23, 17)
        back = np.hypot((np.abs(x) - 33) / 1.5, y - 73) - 17
        psoas = np.hypot(np.abs(x) - 33, y - 47) - np.clip(13 - 0.07 * (z + 30), 0, 18)
        self.flesh = np.minimum(back, psoas)
        rim_mm = rng.uniform(52, 68) * np.clip(1 + self.wall / 62, 0, 1) ** 2
        self.dome = 0.7 * (z - rng.uniform(72, 84) + 8 * np.tanh(x / 40) + rim_mm)
        cavity = np.maximum(self.wall, -np.minimum(self.spine, self.flesh))
        self.free = np.maximum(cavity, self.dome) + 2.5

    def wobble(self, amplitude_mm: float, waves: int = 4) -> np.ndarray:
        """Return a smooth random field of a given standard deviation, up to `waves` / 2 periods per axis."""
        spectrum = np.zeros(self.shape)
        spectrum[:waves, :waves, :waves] = self.rng.normal(size=(waves, waves, waves))
        spectrum[0, 0, 0] = 0
        field = idctn(spectrum)
        return field * (amplitude_mm / field.std())

    def tube(
        self, nodes_xyz: Sequence[Sequence[float]], radii_mm: Sequence[float], jitter_mm: float = 4.0
    ) -> np.ndarray:
        """Return the field of a curved tube.

        Args:
            nodes_xyz: points of its centre line, mm of the standard body, each moved at random.
            radii_mm: radius at each node, scaled at random.
            jitter_mm: how far the whole tube may move along each axis.
        """
        nodes = np.asarray(nodes_xyz, dtype=float) + self.rng.normal(0, 0.5 * jitter_mm, (len(radii_mm), 3))
        length_mm = np.linalg.norm(np.diff(nodes, axis=0), axis=1).sum()
        steps = np.arange(len(radii_mm))
        fine = np.linspace(0, steps[-1], 8 + int(length_mm / 4))
        centres = PchipInterpolator(steps, nodes)(fine) + self.rng.uniform(-jitter_mm, jitter_mm, 3)
        radii = PchipInterpolator(steps, radii_mm)(fine) * self.rng.uniform(0.9, 1.12)
        reach = radii.max() + 10
        low, high = centres.min(axis=0) - reach, centres.max(axis=0) + reach
        near = np.ones(self.shape, dtype=bool)
        for axis, coordinate in enumerate((self.x, self.y, self.z)):
            near &= (coordinate > low[axis]) & (coordinate < high[axis])
        field = np.full(self.shape, _FAR_MM)
        points = np.stack([self.x[near], self.y[near], self.z[near]], axis=-1)
        field[near] = (cdist(points, centres) - radii).min(axis=1)
        return field

    def take(self, field: np.ndarray, gap_mm: float = 2.0) -> np.ndarray:
        """Return `field` cut down to what is free, and keep others `gap_mm` away from it."""
        taken = _intersect(field, self.free)
        self.free = np.maximum(self.free, gap_mm - taken)
        return taken


class _Painter:
    """An image in HU, painted structure over structure with soft edges."""

    def __init__(self, body: _Body, rng: np.random.Generator, look: Look) -> None:
        self.hu = np.full(body.shape, float(_AIR_HU))
        self._rng, self._look = rng, look
        self._edge_mm = float(np.mean(look.spacing_zyx_mm))

    def fill(self, field: np.ndarray, hu: float | np.ndarray) -> None:
        """Paint the inside of `field`; a voxel on its surface gets a share of both sides."""
        self.hu += np.clip(0.5 - field / self._edge_mm, 0, 1) * (hu - self.hu)

    def level(self, name: str) -> float:
        """Draw the HU of a tissue for this case."""
        native, uptake = _HU[name]
        return (
            native + self._look.enhancement * uptake * self._rng.uniform(0.92, 1.08) + self._rng.normal(0, 3)
        )

    def scan(self) -> np.ndarray:
        """Return the image as the scanner records it: blurred, with noise, int16."""
        sigma = [self._look.blur_mm / spacing for spacing in self._look.spacing_zyx_mm]
        noise = gaussian_filter(self._rng.normal(size=self.hu.shape), 0.6)
        noisy = gaussian_filter(self.hu, sigma) + noise * (self._look.noise_hu / noise.std())
        return np.clip(np.rint(noisy), -1024, 3071).astype(np.int16)


def _oval(x: np.ndarray, y: np.ndarray, half_x: float, half_y: float | np.ndarray) -> np.ndarray:
    """Return the field of a cylinder along z whose section is between an ellipse and a rectangle."""
    radius = np.maximum((np.abs(x / half_x) ** 2.4 + np.abs(y / half_y) ** 2.4) ** (1 / 2.4), 1e-3)
    return np.hypot(x, y) * (1 - 1 / radius)


def _intersect(a: np.ndarray, b: np.ndarray, round_mm: float = 8.0) -> np.ndarray:
    """Return the field of what lies in both, with the edge between them rounded off."""
    return np.maximum(a, b) + np.maximum(round_mm - np.abs(a - b), 0) ** 2 / (4 * round_mm)


def _paint_trunk(body: _Body, image: _Painter) -> None:
    image.fill(body.table, 0)
    image.fill(body.skin, 10)
    image.fill(body.skin + 2.5, _FAT_HU)
    image.fill(body.muscle, _MUSCLE_HU)
    image.fill(body.wall, _FAT_HU)
    image.fill(np.maximum(body.flesh, body.muscle), _MUSCLE_HU)
    image.fill(np.maximum(body.wall, -body.dome - 2), _MUSCLE_HU)
    image.fill(np.maximum(body.wall, 2 - body.dome), _LUNG_HU)
    heart = 38 * (
        np.sqrt(((body.x - 18) / 58) ** 2 + ((body.y + 28) / 42) ** 2 + ((body.z - 118) / 38) ** 2) - 1
    )
    image.fill(np.maximum(heart, 2 - body.dome), image.level("heart"))
    mediastinum = np.hypot(body.x, body.y - 35) - 30
    image.fill(np.maximum(mediastinum, 2 - body.dome), _FAT_HU)


def _paint_skeleton(body: _Body, image: _Painter) -> None:
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
    ends = np.maximum(np.maximum(-y - 15 - 0.9 * row, -85 - row), np.where(y > 0, 38 - np.abs(x), -_FAR_MM))
    image.fill(body.spine, 80)
    for bone in (vertebra, arch, transverse, spinous, np.maximum(ribs, ends)):
        image.fill(bone, 650)
        image.fill(bone + 3, 210)
    image.fill(canal, 30)


def _organs(body: _Body) -> dict[str, np.ndarray]:
    """Return the fields of the organs, most rigid first: later ones give way to earlier ones."""
    return {
        "aorta": _vessel(body, "aorta"),
        "cava": _vessel(body, "cava"),
        "kidney_right": body.take(_kidney(body, -1, -30), gap_mm=3.5),
        "kidney_left": body.take(_kidney(body, 1, -20), gap_mm=3.5),
        "pancreas": body.take(body.tube(*_TUBES["pancreas"])),
        "spleen": body.take(_spleen(body)),
        "stomach": body.take(body.tube(*_TUBES["stomach"], jitter_mm=5)),
        "gallbladder": body.take(body.tube(*_TUBES["gallbladder"])),
        "liver": body.take(_liver(body)),
    }


def _vessel(body: _Body, name: str) -> np.ndarray:
    # Vessels cross the diaphragm, so only the spine and the muscles beside it limit them.
    tube = body.tube(*_TUBES[name], jitter_mm=2)
    field = np.maximum(tube, 1 - np.minimum(body.spine, body.flesh))
    body.free = np.maximum(body.free, 1 - field)
    return field


def _kidney(body: _Body, side: int, height_mm: float) -> np.ndarray:
    # A bent tube makes the bean: its poles lie nearer to the midline and to the front than its middle.
    arc = [(-2, -2, 30), (6, 5, 12), (7, 6, -8), (2, -6, -28)]
    nodes = [(side * (63 + out), 34 + back, height_mm + up) for out, back, up in arc]
    bean = body.tube(nodes, [21, 24.5, 25, 21], jitter_mm=5)
    hilum = np.hypot(np.hypot(body.x - side * 44, body.y - 22), 0.8 * (body.z - height_mm)) - 11
    return _intersect(bean, -hilum, 5)


def _spleen(body: _Body) -> np.ndarray:
    """Return a lens that hugs the abdominal wall on the left, at the back."""
    rng = body.rng
    side, back, up = body.x - rng.uniform(92, 102), body.y - rng.uniform(36, 46), body.z - rng.uniform(14, 26)
    depth = (-np.maximum(body.wall, body.dome) - 6) / rng.uniform(36, 46)
    along = (0.8 * back - 0.6 * side) / rng.uniform(50, 60)
    inward = (0.8 * side + 0.6 * back) / 72
    lens = np.sqrt(depth**2 + along**2 + inward**2 + (up / rng.uniform(50, 62)) ** 2)
    return 32 * (lens - 1) + body.wobble(1.5, 6)


def _liver(body: _Body) -> np.ndarray:
    """Return what lies under the dome, to the right of two slanting planes and above the visceral surface."""
    x, y, z, rng = body.x, body.y, body.z, body.rng
    left_reach = rng.uniform(-22, 18)
    left_lobe = (x + 0.95 * y - left_reach - 0.9 * (z - 30)) / 1.6
    right_lobe = (x + rng.uniform(26, 36) - 0.45 * (z - 30)) / 1.1
    visceral = 0.85 * (rng.uniform(-62, -42) + 0.5 * (x + 90) + 0.22 * y - z)
    lobes = -_intersect(-left_lobe, -right_lobe, 20)
    return _intersect(lobes, visceral, 16) + body.wobble(2.8, 7)


def _paint_bowel(body: _Body, image: _Painter) -> None:
    colon = [body.tube(nodes, radii) for nodes, radii in _COLON]
    starts = body.rng.uniform((-62, -66, -118), (66, -6, -58), (12, 3))
    bends = body.rng.normal(0, 26, (12, 2, 3))
    loops = [body.tube([p, p + a, p + b], [12, 13, 12]) for p, (a, b) in zip(starts, bends, strict=True)]
    for field in colon + loops:
        gut = body.take(field, gap_mm=1.5)
        image.fill(gut, image.level("bowel"))
        image.fill(gut + 3.5, body.rng.uniform(10, 45))
        _fill_gas(body, image, gut, share=body.rng.uniform(0.1, 0.6))


def _fill_gas(body: _Body, image: _Painter, gut: np.ndarray, share: float) -> None:
    """Paint gas into the front `share` of a hollow organ: it rises in a patient who lies on the back."""
    inside = body.y[gut < -3]
    if inside.size:
        surface = np.quantile(inside, share)
        image.fill(np.maximum(gut + 4, body.y - surface), _GAS_HU)


def _paint_organs(body: _Body, image: _Painter, organs: dict[str, np.ndarray]) -> None:
    texture = body.wobble(4, 12)
    for name in ("liver", "spleen", "pancreas", "cava", "aorta"):
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
