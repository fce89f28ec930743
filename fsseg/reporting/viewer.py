"""A viewer in a report: scroll through image, reference and predictions of cases whose volumes are in the page.

Arrays have the axis order z, y, x and RAS orientation, see `slices.py`. What draws in the browser is
`assets/viewer.js`, on top of NiiVue.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from fsseg.reporting.embedded_volumes import base64_text, grey_levels, label_map, nifti_gz, thinner
from fsseg.reporting.slices import PALETTE, Array, Masks, shown_case

PAGE_LIMIT_MIB = 16.0  # of all volumes of a page, as they are written in it
_MAX_VOXELS = 16_000_000  # of a case: more are slow in a browser


@dataclass(frozen=True)
class ViewerCase:
    """One case as the viewer shows it, see `viewer_case`.

    Attributes:
        name: what the case is called on the page.
        image: grey levels, uint8, cropped.
        reference: uint8 integers of the structures, as `image`.
        predictions: name of a method or run -> uint8 integers of the structures.
        spacing_zyx_mm: voxel spacing.
        window: the image's values that are drawn black and white.
        corner_zyx: array index of the first voxel in the image that was cropped.
        indices_zyx: array index, in that image, of the slice that is shown first.
    """

    name: str
    image: Array
    reference: Array
    predictions: Mapping[str, Array]
    spacing_zyx_mm: tuple[float, ...]
    window: tuple[float, float]
    corner_zyx: tuple[int, ...]
    indices_zyx: tuple[int, ...]


@dataclass(frozen=True)
class Viewer:
    """A viewer in a report: cases made by `viewer_case` with the same structures, and a line of text below it."""

    cases: Sequence[ViewerCase]
    structures: Sequence[str]
    caption: str = ""


def viewer_case(
    name: str,
    image: Array,
    reference: Masks,
    predictions: Mapping[str, Masks],
    spacing_zyx_mm: Sequence[float],
    structures: Sequence[str],
    window: tuple[float, float],
) -> ViewerCase:
    """Return a case for the viewer, cropped to all masks and 40 mm around them, without the arrays given.

    Args:
        name: what the case is called on the page.
        image: (D, H, W) in z, y, x and RAS orientation: CT in HU, or another image in its own values.
        reference: per structure a boolean (D, H, W) mask. Leave out a structure that is not annotated in this case.
        predictions: per method or run, in the order of the choice, per structure a boolean (D, H, W) mask.
        spacing_zyx_mm: voxel spacing in z, y, x.
        structures: the structures to show; their order gives the colours, as in `overlay_figure`.
        window: the values drawn black and white, (low, high).

    Raises:
        ValueError: a mask is not boolean or not of the image's shape, `window` is empty, or there are more than 255
            structures.
    """
    if len(structures) > 255:
        raise ValueError(f"a viewer shows at most 255 structures, got {len(structures)}")
    outlined = {each: reference[each] for each in structures if each in reference}
    filled = {run: {each: masks[each] for each in structures if each in masks} for run, masks in predictions.items()}
    case = shown_case(image, outlined, list(filled.values()), spacing_zyx_mm, structures, window)
    grey, _ = grey_levels(image[case.box], window)

    def integers(masks: Masks) -> Array:
        return label_map({each: mask[case.box] for each, mask in masks.items()}, structures, grey.shape)

    return ViewerCase(
        name=name,
        image=grey,
        reference=integers(outlined),
        predictions={run: integers(masks) for run, masks in filled.items()},
        spacing_zyx_mm=tuple(map(float, spacing_zyx_mm)),
        window=(float(window[0]), float(window[1])),
        corner_zyx=tuple(part.start for part in case.box),
        indices_zyx=case.indices_zyx,
    )


def viewer_html(viewer: Viewer, limit_mib: float = PAGE_LIMIT_MIB) -> str:
    """Return the HTML of a viewer whose volumes take `limit_mib` at most; what was reduced for that is said in it.

    Each case gets an equal share of what the cases before it left. A case that is larger shows every second voxel,
    or fewer, of the axes with the finest spacing; one that is too large even so is left out.
    """
    left, shown = int(limit_mib * 2**20), []
    reduced: dict[str, list[str]] = {}  # what was done -> the cases
    for number, case in enumerate(viewer.cases):
        embedded, steps = _embedded(case, left // (len(viewer.cases) - number))
        if embedded:
            shown.append(embedded)
            left -= len(json.dumps(embedded))
        if not embedded or max(steps) > 1:
            done = f"one voxel of {' × '.join(map(str, steps))} (z, y, x)" if embedded else "left out"
            reduced.setdefault(done, []).append(case.name)
    colours = [PALETTE[number % len(PALETTE)] for number in range(len(viewer.structures))]
    content = {"structures": list(zip(viewer.structures, colours, strict=True)), "cases": shown}
    text = " ".join(filter(None, (viewer.caption, _CROPPED, _smaller(reduced, limit_mib))))
    return _HTML.format(text=escape(text), content=json.dumps(content).replace("<", "\\u003c"))


def _embedded(case: ViewerCase, limit: int) -> tuple[dict[str, Any] | None, tuple[int, ...]]:
    """Return what the page holds of a case, in x, y, z, or None if it is larger than `limit` characters at any step."""
    for steps in thinner(case.image.shape, case.spacing_zyx_mm):
        if case.image.size / math.prod(steps) > _MAX_VOXELS:
            continue
        embedded = _with_steps(case, steps)
        if len(json.dumps(embedded)) <= limit:
            return embedded, steps
    return None, steps


def _with_steps(case: ViewerCase, steps: tuple[int, ...]) -> dict[str, Any]:
    part = tuple(slice(None, None, step) for step in steps)
    spacing_zyx_mm = [mm * step for mm, step in zip(case.spacing_zyx_mm, steps, strict=True)]

    def volume(array: Array, *scale: float) -> str:
        return base64_text(nifti_gz(array[part], spacing_zyx_mm, *scale))

    low, high = case.window
    starts = zip(case.indices_zyx, case.corner_zyx, steps, strict=True)
    return {
        "name": case.name,
        "window": case.window,
        "image": volume(case.image, (high - low) / 255, low),
        "reference": volume(case.reference),
        "predictions": [[run, volume(integers)] for run, integers in case.predictions.items()],
        "corner_xyz": case.corner_zyx[::-1],
        "steps_xyz": steps[::-1],
        "start_xyz": [(index - corner) // step for index, corner, step in starts][::-1],
    }


def _smaller(reduced: Mapping[str, Sequence[str]], limit_mib: float) -> str:
    if not reduced:
        return ""
    notes = "; ".join(f"{done}: {', '.join(cases)}" for done, cases in reduced.items())
    return f"So that the volumes take at most {limit_mib:g} MiB and a case 16 million voxels, {notes}."


_CROPPED = (
    "Slices are scrolled by the wheel, the slider or a drag to the side. Volumes are cropped to the structures and 40"
    " mm around them, in 256 grey levels."
)

_HTML = """\
<figure class="viewer">
<p class="notice">The slice viewer needs scripts and WebGL 2, which this browser does not offer here.</p>
<div class="controls" hidden>
<label>case <select data-part="case"></select></label>
<label>prediction <select data-part="prediction"></select></label>
<label>view <select data-part="view"><option>axial</option><option>coronal</option><option>sagittal</option></select>\
</label>
<label><input type="checkbox" data-part="reference" checked> reference: outline</label>
<label><input type="checkbox" data-part="fill" checked> prediction: fill</label>
<label>opacity <input type="range" data-part="opacity" min="0" max="1" step="0.05" value="0.45"></label>
<label class="wide"><output data-part="place"></output> <input type="range" data-part="slice" min="0" step="1"\
 aria-label="slice"></label>
</div>
<div class="screen" hidden><canvas data-part="volume"></canvas><canvas data-part="outline"></canvas></div>
<ul class="legend" hidden></ul>
<figcaption>{text}</figcaption>
<script type="application/json">{content}</script>
</figure>"""
