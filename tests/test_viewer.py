"""The volumes of a report's slice viewer: what is in them, how large they are, and what the page says of it."""

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK

import fsseg.reporting.html as html
from fsseg.reporting.embedded_volumes import label_map, nifti_gz
from fsseg.reporting.html import Section, report_html
from fsseg.reporting.slices import PALETTE
from fsseg.reporting.viewer import Viewer, ViewerCase, viewer_case, viewer_html

SHAPE_ZYX = (20, 40, 60)
SPACING_ZYX_MM = (5.0, 2.0, 2.0)
WINDOW_HU = (-100.0, 155.0)
ASSETS = Path(html.__file__).parent / "assets"


def block(*corner_zyx: int, size: int = 4) -> np.ndarray:
    mask = np.zeros(SHAPE_ZYX, dtype=bool)
    mask[tuple(slice(start, start + size) for start in corner_zyx)] = True
    return mask


def case(name: str = "case_0", noise: bool = False) -> ViewerCase:
    image = np.full(SHAPE_ZYX, 20.0)
    if noise:
        image = np.random.default_rng(0).uniform(*WINDOW_HU, SHAPE_ZYX)
    predictions = {"LoRA": {"a": block(9, 29, 1)}, "</script>": {}}
    return viewer_case(name, image, {"a": block(9, 30, 0)}, predictions, SPACING_ZYX_MM, ["a", "b"], WINDOW_HU)


def content_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def read(volume: str, folder: Path) -> SimpleITK.Image:
    file = folder / "volume.nii.gz"
    file.write_bytes(base64.b64decode(volume))
    return SimpleITK.ReadImage(str(file))


def test_a_volume_has_geometry_and_nothing_else_in_its_header(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    image = read(base64.b64encode(nifti_gz(array, (5, 2, 1.5), 0.5, -10)).decode(), tmp_path)
    np.testing.assert_allclose(SimpleITK.GetArrayFromImage(image), array * 0.5 - 10)
    assert image.GetSpacing() == (1.5, 2.0, 5.0)
    # SimpleITK's axes point to the left and to the back; in NIfTI, and here, x grows to the right, y to the front.
    assert image.GetDirection() == (-1, 0, 0, 0, -1, 0, 0, 0, 1)
    texts = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    assert {texts[key] for key in ("descrip", "aux_file", "intent_name")} == {""}
    assert nifti_gz(array, (5, 2, 1.5)) == nifti_gz(array, (5, 2, 1.5)), "no date in the bytes"
    with pytest.raises(ValueError, match="is uint8, got int64"):
        nifti_gz(array.astype(int), (1, 1, 1))


def test_the_smaller_of_two_overlapping_structures_is_on_top() -> None:
    masks = {"tumour": block(5, 5, 5, size=2), "kidney": block(4, 4, 4)}
    integers = label_map(masks, ["tumour", "not there", "kidney"], SHAPE_ZYX)
    assert {value: np.count_nonzero(integers == value) for value in (1, 2, 3)} == {1: 8, 2: 0, 3: 64 - 8}


def test_a_case_is_cropped_and_says_where_it_starts(tmp_path: Path) -> None:
    shown = content_of(viewer_html(Viewer([case()], ["a", "b"])))
    assert shown["structures"] == [["a", PALETTE[0]], ["b", PALETTE[1]]]
    (only,) = shown["cases"]
    assert (only["corner_xyz"], only["steps_xyz"], only["start_xyz"]) == ([0, 9, 1], [1, 1, 1], [0, 21, 8])
    assert [name for name, _ in only["predictions"]] == ["LoRA", "</script>"]
    image = SimpleITK.GetArrayFromImage(read(only["image"], tmp_path))
    assert image.shape == (19, 31, 25)
    np.testing.assert_allclose(image, 20, atol=0.01)
    reference = SimpleITK.GetArrayFromImage(read(only["reference"], tmp_path))
    np.testing.assert_array_equal(reference, block(9, 30, 0)[1:, 9:, :25])


def test_volumes_are_thinned_out_until_they_fit_and_the_page_says_so() -> None:
    viewer = Viewer([case("small"), case("large", noise=True)], ["a", "b"], "Two cases.")
    page = viewer_html(viewer, limit_mib=0.016)
    large = content_of(page)["cases"][1]
    assert (large["steps_xyz"], large["start_xyz"]) == ([2, 2, 1], [0, 10, 8])
    assert len(json.dumps(content_of(page)["cases"])) < 0.016 * 2**20
    assert "at most 0.016 MiB and a case 16 million voxels, one voxel of 1 × 2 × 2 (z, y, x): large." in page
    assert "at most" not in viewer_html(viewer)
    tiny = viewer_html(viewer, limit_mib=0.003)
    assert [shown["name"] for shown in content_of(tiny)["cases"]] == ["small"]
    assert "left out: large." in tiny


def test_a_page_has_the_scripts_of_its_viewers_once_with_their_licence() -> None:
    viewer = Viewer([case("<b>")], ["a", "b"], "<b>")
    page = report_html("", [Section("one", viewers=[viewer]), Section("two", viewers=[viewer])])
    script = (ASSETS / "niivue.umd.js").read_text(encoding="utf-8")
    assert page.count(script) == 1
    assert page.count("Copyright (c) 2021, Niivue") == 1
    assert page.count("</script>") == 4
    assert "<b>" not in page.replace(script, "")
    assert len(report_html("", [Section("none")])) < 10_000


def test_niivue_is_the_file_that_its_note_names() -> None:
    content = (ASSETS / "niivue.umd.js").read_bytes()
    assert hashlib.sha256(content).hexdigest() in (ASSETS / "README.md").read_text(encoding="utf-8")
    assert b"</script" not in content


def test_bad_cases_are_refused() -> None:
    image = np.zeros(SHAPE_ZYX)
    with pytest.raises(ValueError, match="masks must be bool"):
        viewer_case("case", image, {"a": image}, {}, SPACING_ZYX_MM, ["a"], WINDOW_HU)
    with pytest.raises(ValueError, match="at most 255 structures, got 256"):
        viewer_case("case", image, {}, {}, SPACING_ZYX_MM, [str(number) for number in range(256)], WINDOW_HU)
