"""Integers and channel order of joined label sets."""

import numpy as np
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from fsseg.data.assembly import paintable, painting_order, region_labels, renumbered
from fsseg.data.structures import CaseAnnotation, Structures
from fsseg.nnunet.softmax_head import with_classes


def structures(integers: dict[str, tuple[int, ...]], z_extent: dict[str, tuple[int, int]]) -> Structures:
    case = CaseAnnotation(source="a", annotated=tuple(integers), z_extent=z_extent)
    return Structures(integers=integers, cases={"case": case})


def test_partly_contoured_structures_are_painted_first() -> None:
    dataset = structures({"brainstem": (1,), "spinal_cord": (2,), "mandible": (3,)}, {"spinal_cord": (3, 9)})
    names = painting_order(dataset.cases.values(), dataset.names)
    assert names == ["spinal_cord", "brainstem", "mandible"]
    rendered = region_labels(renumbered(dataset, dataset.names))
    assert list(rendered["labels"]) == ["background", "spinal_cord", "brainstem", "mandible"]
    # nnU-Net paints in this order, so a voxel that cord and brainstem both claim becomes brainstem.
    assert rendered["regions_class_order"] == [1, 2, 3]


def test_renumbering_makes_integers_of_the_chosen_structures_consecutive() -> None:
    dataset = structures({"liver": (1, 4), "spleen": (2,), "tumour": (4,), "cyst": (7,)}, {})
    assert renumbered(dataset, ("tumour", "liver")) == {"liver": (1, 2), "tumour": (2,)}
    assert renumbered(dataset, ("spleen",)) == {"spleen": (1,)}


def test_a_contained_structure_is_painted_after_the_one_that_contains_it() -> None:
    dataset = structures({"tumour": (2,), "liver": (1, 2)}, {})
    rendered = region_labels(renumbered(dataset, ("tumour", "liver")))
    assert list(rendered["labels"]) == ["background", "liver", "tumour"]
    assert rendered["labels"]["tumour"] == [2, 2]  # a single integer twice: nnU-Net must not fall back to softmax
    assert rendered["regions_class_order"] == [1, 2]


def test_what_lies_in_either_of_two_structures_is_painted_as_itself() -> None:
    """Painted as "tumour of the right kidney", a tumour would turn a part of the left kidney into right kidney."""
    kidneys = {"kidney_right": (1, 3), "kidney_left": (2, 4), "kidney_tumour": (3, 4)}
    integers = paintable(kidneys)
    assert integers == {**kidneys, "kidney_tumour": (3, 4, 5)}
    rendered = region_labels(integers)
    manager = LabelManager(rendered["labels"], rendered["regions_class_order"])
    channels = np.array([[1, 0, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1]], dtype=np.float32)  # kidneys, then with a tumour
    painted = manager.convert_probabilities_to_segmentation(channels[:, :, None, None]).ravel()
    assert painted.tolist() == [1, 2, 5, 5]
    dataset = structures(kidneys, {})
    assert renumbered(dataset, dataset.names)["kidney_tumour"] == (3, 4, 5)


def test_a_union_is_painted_as_no_part_of_it() -> None:
    assert paintable({"kidneys": (1, 2), "right": (1,), "left": (2,)})["kidneys"] == (1, 2, 3)


def test_an_added_integer_leaves_containment_and_taken_integers_alone() -> None:
    body = (1, 2, 3, 4, 5)
    integers = paintable({"body": body, "a": (1, 3), "b": (2, 4), "cyst": (3, 4)}, highest=9)
    assert integers == {"body": (*body, 10), "a": (1, 3), "b": (2, 4), "cyst": (3, 4, 10)}
    assert paintable(integers) == integers


def test_classes_are_numbered_as_the_rows_of_the_head() -> None:
    """Also where painting them as regions would take another order."""
    dataset = structures({"liver": (4,), "spleen": (2,), "cord": (7,)}, {"cord": (3, 9)})
    labels = with_classes({"labels": {}, "regions_class_order": [], "name": "x"}, dataset)
    assert labels == {"name": "x", "labels": {"background": 0, "liver": 1, "spleen": 2, "cord": 3}}


def test_simple_nesting_needs_no_added_integer() -> None:
    nested = {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
    assert paintable(nested) == nested


def test_what_fsseg_0_1_called_twins_is_read_as_duplicates() -> None:
    content = {"integers": {"liver": [1]}, "twins": [["a", "b"]]}

    structures = Structures.model_validate(content)

    assert structures.duplicates == (("a", "b"),)
    assert "duplicates" in structures.model_dump()
