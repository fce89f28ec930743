"""Integers and channel order of joined label sets."""

from fsseg.data.assembly import painting_order, region_labels, renumbered
from fsseg.data.structures import CaseAnnotation, Structures


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
