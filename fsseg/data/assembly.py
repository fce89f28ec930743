"""Joining label sets: one integer per occurring combination of structures, regions for nnU-Net."""

from collections.abc import Iterable, Mapping, Sequence

from fsseg.config.errors import FssegError
from fsseg.config.recipes import Activation
from fsseg.data.contents import DatasetContent
from fsseg.data.layouts import FILE_ENDING
from fsseg.data.specs import SIDES, DatasetSpec
from fsseg.data.structures import CaseAnnotation, Structures

# nnU-Net's SimpleITKIOWithReorient writes predictions as 8-bit integers, so a higher one would wrap around.
HIGHEST_INTEGER = 255


class Combinations:
    """Numbers the combinations of structures from 1 in the order in which they are met; 0 is no structure."""

    def __init__(self) -> None:
        self._integers: dict[frozenset[str], int] = {}

    def integer(self, structures: Iterable[str]) -> int:
        """Return the integer of a combination, a new one when it is met for the first time."""
        combination = frozenset(structures)
        if not combination:
            return 0
        return self._integers.setdefault(combination, len(self._integers) + 1)

    def listing(self) -> dict[int, tuple[str, ...]]:
        """Return integer -> its structures in alphabetical order."""
        return {integer: tuple(sorted(combination)) for combination, integer in self._integers.items()}

    def integers_of(self, names: Iterable[str]) -> dict[str, tuple[int, ...]]:
        """Return structure -> all integers that belong to it, which may be none."""
        return {
            name: tuple(sorted(integer for combination, integer in self._integers.items() if name in combination))
            for name in names
        }

    def members(self, integers: Iterable[int]) -> frozenset[str]:
        """Return all structures that at least one of the integers belongs to."""
        wanted = set(integers)
        return frozenset().union(*(names for names, integer in self._integers.items() if integer in wanted))

    def __len__(self) -> int:
        return len(self._integers)

    def regions(self, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Return structure -> its integers, a containing structure before the ones it contains.

        Args:
            names: the structures in their wished order; one that no integer belongs to is left out.
        """
        return containing_first({name: integers for name, integers in self.integers_of(names).items() if integers})


def register_spec(combinations: Combinations, spec: DatasetSpec, names: Mapping[str, str]) -> None:
    """Number the combinations that a spec names itself, so that they do not depend on the data."""
    if spec.has_label_maps:
        for label in sorted(spec.meanings, key=int):
            for side in range(len(SIDES)):
                parts = (spec.parts(structure) for structure in spec.meanings[label])
                combinations.integer(names[sides[side % len(sides)]] for sides in parts)


def containing_first(integers: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Put structures that contain others before these; otherwise keep the order."""
    depth = {name: sum(set(own) < set(other) for other in integers.values()) for name, own in integers.items()}
    return {name: integers[name] for name in sorted(integers, key=depth.__getitem__)}


def require_representable(count: int) -> None:
    """Raise `FssegError` if there are more integers than a prediction file of nnU-Net can hold."""
    if count > HIGHEST_INTEGER:
        raise FssegError(
            f"The structures overlap in {count} different combinations, but nnU-Net writes "
            f"predictions as 8-bit integers: at most {HIGHEST_INTEGER} are possible.\n"
            "  Take structures that overlap much out of the specs, or assemble fewer datasets."
        )


def paintable(integers: dict[str, tuple[int, ...]], highest: int = 0) -> dict[str, tuple[int, ...]]:
    """Add an integer to each structure that nnU-Net could only paint as another structure, too.

    nnU-Net paints all voxels of a region with one integer. It must stand for the structure and what always contains
    it, and for nothing else: a tumour that occurs in either kidney, painted as "tumour in the right kidney", would
    turn a part of the left kidney into right kidney. No label map needs to have the added integers.

    Args:
        integers: structure -> its integers.
        highest: integers up to this one are taken.
    """
    result = dict(integers)
    for name, own in integers.items():
        containing = {other for other, values in integers.items() if set(own) <= set(values)}
        owners = [{other for other, values in result.items() if integer in values} for integer in result[name]]
        if containing not in owners:
            highest = max([highest, *(max(values) for values in result.values())]) + 1
            result |= {other: (*result[other], highest) for other in containing}
    return result


def class_order(regions: dict[str, tuple[int, ...]]) -> list[int]:
    """Return nnU-Net's `regions_class_order`: a member integer of each region, shared by the fewest.

    nnU-Net paints the regions one after the other with these integers, so a contained region must come after
    the containing one and carry an integer of its own.
    """
    shared: dict[int, int] = {}
    for integers in regions.values():
        for integer in integers:
            shared[integer] = shared.get(integer, 0) + 1
    return [min(integers, key=lambda integer: (shared[integer], integer)) for integers in regions.values()]


def region_labels(integers: dict[str, tuple[int, ...]]) -> DatasetContent:
    """Return the keys `labels` and `regions_class_order` of a region-based dataset.json."""
    # A region of one integer names it twice: without a list of two entries nnU-Net falls back to softmax.
    regions = {name: list(values) if len(values) > 1 else [values[0]] * 2 for name, values in integers.items()}
    return {"labels": {"background": 0, **regions}, "regions_class_order": class_order(integers)}


def head_labels(integers: dict[str, tuple[int, ...]], activation: Activation) -> DatasetContent:
    """Return what dataset.json says of a head: regions for a sigmoid, plain labels for a softmax.

    The integers of a softmax are those of its channels: 0 for background, then one a structure in order.
    """
    if activation == "sigmoid":
        return region_labels(integers)
    assert list(integers.values()) == [(channel,) for channel in range(1, len(integers) + 1)]
    return {"labels": {"background": 0, **{name: value for name, (value,) in integers.items()}}}


def painting_order(annotations: Iterable[CaseAnnotation], names: Iterable[str]) -> list[str]:
    """Put structures that some case contours only on part of their extent first; otherwise keep the order.

    Outside its z-extent nothing teaches a channel to stay silent. nnU-Net paints regions one over the other in channel
    order, so where such a channel claims a voxel that a fully contoured structure claims too, the latter must win.
    """
    partial = {name for annotation in annotations for name in annotation.z_extent}
    return sorted(names, key=lambda name: name not in partial)


def renumbered(structures: Structures, names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Return integers from 1 for some structures of a dataset alone, as a network that segments only them writes.

    Combinations that differ only in other structures become one integer. Channels come in painting order, and a
    containing structure before those it contains.
    """
    members: dict[int, list[str]] = {}
    for name in names:
        for integer in structures.integers[name]:
            members.setdefault(integer, []).append(name)
    names = painting_order(structures.cases.values(), names)
    combinations = Combinations()
    for integer in sorted(members, key=lambda i: (len(members[i]), [names.index(name) for name in members[i]])):
        combinations.integer(members[integer])
    return paintable(combinations.regions(names))


def dataset_json(structures: Structures, specs: Sequence[DatasetSpec], name: str) -> DatasetContent:
    """Render nnU-Net's dataset.json, always region-based (one sigmoid channel per structure)."""
    return {
        "channel_names": {"0": specs[0].modality},
        **region_labels(structures.integers),
        "numTraining": len(structures.cases),
        "file_ending": FILE_ENDING,
        # Reads every case in RAS and writes it back in its own orientation, so left stays left.
        "overwrite_image_reader_writer": "SimpleITKIOWithReorient",
        "name": name,
        "licence": "; ".join(f"{spec.name}: {spec.licence}" for spec in specs),
        "reference": "; ".join(dict.fromkeys(spec.citation.strip() for spec in specs if spec.citation)),
    }
