"""What nnU-Net's readers take without a word is refused: truncated files, NaN, constant images, other geometries."""

from collections.abc import Callable, Iterable, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import SimpleITK

from fsseg.config.errors import FssegError, first_of, listed_problems
from fsseg.config.progress import Progress
from fsseg.data.case_checks import checked_channel, checked_labels, header_problems
from fsseg.data.channels import channel_names
from fsseg.data.image_header import Reader, check_header
from fsseg.data.images import UnreadableImageError
from fsseg.data.intensity_scale import OffScale, checks_of_channels, scale_notes
from fsseg.data.structures import Structures
from fsseg.nnunet.raw_dataset import RawDataset

_MOST_VALUES = 10
Seen = Callable[[int, Path, SimpleITK.Image], None]  # of the number of a channel, its file and its image


def require_usable_dataset(dataset: RawDataset, workers: int, reader: Reader) -> list[str]:
    """Read every case of a raw dataset, several at once, and raise one `FssegError` with all that is wrong.

    Args:
        dataset: the dataset.
        workers: number of cases read at once.
        reader: who will read them for nnU-Net.

    Returns:
        Sentences on images whose values are hardly those of their modality.
    """
    checks, off_scale = checks_of_channels(channel_names(dataset.dataset_json)), dict[str, OffScale]()

    def seen(channel: int, file: Path, image: SimpleITK.Image) -> None:
        if channel < len(checks) and (off := checks[channel](SimpleITK.GetArrayViewFromImage(image))):
            off_scale[file.name] = off

    images = dataset.images_of_cases()
    problems = [f"{file.name}: not named CASE_0000{dataset.file_ending}" for file in dataset.ignored_images()]
    cases = sorted(images.keys() | dataset.structures.cases.keys())
    # Threads, not processes: nearly all the time goes into unpacking and comparing, outside of Python.
    with ThreadPool(workers) as pool, Progress("check", len(cases), "case") as progress:
        checked = pool.imap(
            lambda case: _dataset_case_problems(dataset, case, images.get(case, []), reader, seen), cases
        )
        for case, found in progress.over(zip(cases, checked, strict=True)):
            problems += [f"{case}: {problem}" for problem in found]
    if problems:
        raise FssegError(
            f"{listed_problems(problems, f'{len(cases)} cases of {dataset.path}')}\n"
            "  Correct the files, or remove what belongs to the case from imagesTr, labelsTr and structures.json."
        )
    return scale_notes(dict(sorted(off_scale.items())))


def require_usable(
    files: Sequence[Path], label: Path | None, reader: Reader, seen: Seen | None = None
) -> np.ndarray | None:
    """Return the label map of a case in z, y, x; raise `FssegError` if a file cannot be used; see `case_problems`."""
    problems, labels = case_problems(files, label, reader, seen)
    _refuse(files[0].name, problems)
    return labels


def require_usable_headers(files: Sequence[Path], label: Path, reader: Reader) -> None:
    """Raise `FssegError` if the headers of a case tell that it cannot be used; no voxel is read."""
    problems = header_problems(files, reader)
    try:
        check_header(label, reader)
    except UnreadableImageError as error:
        problems.append(f"labels {error}")
    _refuse(files[0].name, problems)


def _refuse(case: str, problems: Sequence[str]) -> None:
    if problems:
        raise FssegError(
            f"Case {case} cannot be used:\n  - " + "\n  - ".join(problems) + "\n  Repair or remove the case."
        )


def case_problems(
    files: Sequence[Path], label: Path | None, reader: Reader, seen: Seen | None = None
) -> tuple[list[str], np.ndarray | None]:
    """Return what is wrong with the files of a case, and its label map in z, y, x order.

    Args:
        files: one image file per channel.
        label: the label map, if the case has one; it must lie on the grid of the image.
        reader: who will read them.
        seen: is given every image that can be used.
    """
    first: SimpleITK.Image | None = None
    problems = []
    for channel, file in enumerate(files):
        image, found = checked_channel(file, first, reader)
        problems += found
        if image is not None and seen is not None:
            seen(channel, file, image)
        first = first or image
    if label is None:
        return problems, None
    array, found = checked_labels(label, first, reader=reader)
    return problems + found, array


def unnamed_values(values: Iterable[float], structures: Structures) -> str:
    """Return what to say of values of a label map that its dataset does not name; nothing if it names all."""
    named = sorted({0, *(integer for integers in structures.integers.values() for integer in integers)})
    unnamed = sorted(set(values).difference(named))
    if not unnamed:
        return ""
    return f"holds {_listing('integer', unnamed)}, but its dataset names {_listing('integer', named)}"


def _dataset_case_problems(dataset: RawDataset, case: str, images: list[Path], reader: Reader, seen: Seen) -> list[str]:
    label = dataset.label_path(case)
    if case not in dataset.structures.cases and label.is_file():
        return ["not listed in structures.json, so what it annotates is unknown"]
    problems, labels = case_problems(images, label, reader, seen)
    if not images:
        problems.insert(0, f"no image in {dataset.path / 'imagesTr'}")
    unnamed = "" if labels is None else unnamed_values(np.unique(labels).tolist(), dataset.structures)
    return [*problems, *([f"labels {label.name} {unnamed}{dataset.ignore_remark()}"] if unnamed else [])]


def _listing(what: str, values: Sequence[float]) -> str:
    text = first_of([f"{value:g}" for value in values], _MOST_VALUES)
    return f"the {what}{'s' if len(values) > 1 else ''} {text}"
