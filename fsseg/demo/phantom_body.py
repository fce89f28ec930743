"""The body of a phantom CT: where each voxel lies in it, and an image painted structure over structure.

Every shape is a field over the voxels: about the distance in mm to its surface, negative inside. Fields are
written in a standard body whose x runs from the patient's right to left, y from anterior to posterior and z
from inferior to superior, with the origin in the middle of the trunk at the height of the pancreas' tail.
Each case bends, scales and rotates that body.
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
FAR_MM = 99.0  # what a field says where it is not computed

_AIR_HU = -1000
# HU without contrast medium, and what full enhancement adds.
_HU = {
    "liver": (55, 50),
    "spleen": (48, 70),
    "kidney": (35, 110),
    "cortex": (38, 152),
    "aorta": (45, 125),
    "inferior_vena_cava": (42, 75),
    "vein": (42, 110),
    "stomach": (45, 30),
    "pancreas": (40, 50),
    "bowel": (40, 25),
    "heart": (42, 100),
}


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


class Body:
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
        axes_mm = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(self.shape, look.spacing_zyx_mm, strict=True)]
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
        field = np.full(self.shape, FAR_MM)
        points = np.stack([self.x[near], self.y[near], self.z[near]], axis=-1)
        field[near] = (cdist(points, centres) - radii).min(axis=1)
        return field

    def take(self, field: np.ndarray, gap_mm: float = 2.0) -> np.ndarray:
        """Return `field` cut down to what is free, and keep others `gap_mm` away from it."""
        taken = intersect(field, self.free)
        self.free = np.maximum(self.free, gap_mm - taken)
        return taken


class Painter:
    """An image in HU, painted structure over structure with soft edges."""

    def __init__(self, body: Body, rng: np.random.Generator, look: Look) -> None:
        self.hu = np.full(body.shape, float(_AIR_HU))
        self._rng, self._look = rng, look
        self._edge_mm = float(np.mean(look.spacing_zyx_mm))

    def fill(self, field: np.ndarray, hu: float | np.ndarray) -> None:
        """Paint the inside of `field`; a voxel on its surface gets a share of both sides."""
        self.hu += np.clip(0.5 - field / self._edge_mm, 0, 1) * (hu - self.hu)

    def level(self, name: str) -> float:
        """Draw the HU of a tissue for this case."""
        native, uptake = _HU[name]
        return native + self._look.enhancement * uptake * self._rng.uniform(0.92, 1.08) + self._rng.normal(0, 3)

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


def intersect(a: np.ndarray, b: np.ndarray, round_mm: float = 8.0) -> np.ndarray:
    """Return the field of what lies in both, with the edge between them rounded off."""
    return np.maximum(a, b) + np.maximum(round_mm - np.abs(a - b), 0) ** 2 / (4 * round_mm)
