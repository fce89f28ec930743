"""Single cases through nnU-Net's preprocessor into memory, with a cache on disk."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK

from fsseg.config.errors import FssegError
from fsseg.config.manifest import sha256_of_file
from fsseg.data.intensity_scale import OffScale
from fsseg.data.structures import Structures
from fsseg.data.volumes import SourceLabels, Volume, annotated_locations, foreground_locations
from fsseg.nnunet.case_cache import plain, read_entry, write_entry
from fsseg.nnunet.case_zones import case_zones, zone_axis
from fsseg.nnunet.contents import CaseProperties
from fsseg.nnunet.image_readers import reader_of
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.nnunet.normalization import STATISTICS, scale_checks
from fsseg.nnunet.quiet import nnunet_failures, quiet
from fsseg.nnunet.usable_cases import require_usable, require_usable_headers, unnamed_values

# Properties of our own: what the label map holds before it is resampled, and how many voxels of each.
_LABEL_VALUES, _LABEL_VOXELS = "label_values", "label_voxels"
_OFF_SCALE = "off_scale"  # and this: image file -> what is odd about its values
_OF_NNUNET = ("bbox_used_for_cropping", "shape_before_cropping", "spacing")
_KEPT_PROPERTIES = (*_OF_NNUNET, _LABEL_VALUES, _LABEL_VOXELS, _OFF_SCALE)
_CACHE_VERSION = 4  # another number where an entry holds something else, or other files are refused


class CasePreprocessor:
    """Preprocesses single cases as the plans of a model say, with a content-addressed cache on disk.

    Args:
        model: the model whose plans hold (spacing, normalisation, reader).
        cache: folder of the cache; entries are named by the hash of files and plans, so it may be deleted any time.
            None switches the cache off.
        adds: whether what is not in the cache is put there.
    """

    def __init__(self, model: ModelFolder, cache: Path | None, *, adds: bool = True) -> None:
        self.model = model
        self.cache = cache
        self.adds = adds
        self.plans = model.plans_manager()
        self.configuration = model.configuration_manager()
        self.off_scale: dict[str, OffScale] = {}  # image file -> what is odd about its values
        self._hashes: dict[Path, str] = {}
        self._checks = scale_checks(self.configuration.normalization_schemes, model.plans)

    def image(self, files: Sequence[Path]) -> tuple[np.ndarray, CaseProperties]:
        """Return the (channels, D, H, W) float32 image and nnU-Net's properties, for prediction."""
        data, _, properties = self._run(files, None)
        self._note_off_scale(properties)
        return data, properties

    def volume(
        self, case: str, files: Sequence[Path], label: Path, structures: Structures, names: tuple[str, ...]
    ) -> Volume:
        """Return a labelled case as a volume.

        Args:
            case: case identifier.
            files: one image file per channel.
            label: the label map, with the integers of `structures`.
            structures: what all integers of the dataset mean and what the case annotates.
            names: the structures to show, in channel order.

        Raises:
            FssegError: a file cannot be used, or the label map holds an integer that the dataset does not name.
        """
        data, labels, properties = self._cached(files, label)
        self._note_off_scale(properties)
        _require_named(properties[_LABEL_VALUES], structures, label)
        annotation = structures.annotation(case)
        known = tuple(name for name in names if name in annotation.annotated)
        zones, zone_annotated = case_zones(annotation, names, labels.shape[1:], properties, self.plans)
        found, axis = foreground_locations(labels[0], structures, known), zone_axis(self.plans)
        return Volume(
            case=case,
            image=data,
            labels=labels,
            locations=annotated_locations(found, names, zones, axis, zone_annotated),
            zones=zones,
            zone_axis=axis,
            zone_annotated=zone_annotated,
            source=_source(properties),
        )

    def _off_scale(self, files: Sequence[Path], data: np.ndarray) -> dict[str, dict[str, Any]]:
        channels = zip(files, self._checks, data, strict=False)
        return {file.name: asdict(off) for file, check, image in channels if (off := check(image))}

    def _note_off_scale(self, properties: CaseProperties) -> None:
        self.off_scale |= {image: OffScale(**off) for image, off in properties.pop(_OFF_SCALE).items()}

    def source(self, files: Sequence[Path], label: Path, structures: Structures) -> SourceLabels:
        """Return what a label map holds, without resampling; refuse and note what `volume` does of the files."""
        spacings_mm: list[tuple[float, ...]] = []

        def seen(channel: int, file: Path, image: SimpleITK.Image) -> None:  # each file is read once, for its checks
            spacings_mm.append(image.GetSpacing()[::-1])
            if channel < len(self._checks) and (off := self._checks[channel](SimpleITK.GetArrayViewFromImage(image))):
                self.off_scale[file.name] = off

        labels = require_usable(files, label, reader_of(self.model.plans), seen)
        assert labels is not None
        found = _source({"spacing": spacings_mm[0], **_counted(labels)})
        _require_named(list(found.voxels), structures, label)
        return found

    def is_cached(self, files: Sequence[Path], label: Path) -> bool:
        """Return whether a case is in the cache."""
        require_usable_headers(files, label, reader_of(self.model.plans))  # a pipe could not even be hashed
        return self.cache is not None and self._entry(files, label).is_file()

    def _entry(self, files: Sequence[Path], label: Path) -> Path:
        return (self.cache or Path()) / f"{self._key([*files, label])}.npz"

    def _cached(self, files: Sequence[Path], label: Path) -> tuple[np.ndarray, np.ndarray, CaseProperties]:
        if self.cache is None:
            return self._run(files, label)
        require_usable_headers(files, label, reader_of(self.model.plans))  # a pipe could not even be hashed
        entry = self._entry(files, label)
        found = read_entry(entry)
        if found is not None:
            return found
        data, labels, properties = self._run(files, label)
        case = data, labels, {key: properties[key] for key in _KEPT_PROPERTIES}
        if self.adds:
            write_entry(entry, case)
        return case

    def sha256(self, file: Path) -> str:
        """Return the hash of an image or label map, which is read once for it."""
        if file not in self._hashes:
            self._hashes[file] = sha256_of_file(file)
        return self._hashes[file]

    def _key(self, files: Sequence[Path]) -> str:
        block = {key: value for key, value in self.configuration.configuration.items() if key != "architecture"}
        intensities = self.model.plans.get(STATISTICS)
        reader = self.model.plans.get("image_reader_writer")
        decides = [_CACHE_VERSION, block, intensities, reader, self.plans.transpose_forward]
        recipe = json.dumps(decides, sort_keys=True, default=plain)
        digest = hashlib.sha256(recipe.encode())
        for file in files:
            digest.update(self.sha256(file).encode())
        return digest.hexdigest()

    def _run(self, files: Sequence[Path], label: Path | None) -> tuple[np.ndarray, Any, CaseProperties]:
        require_usable(files, label, reader_of(self.model.plans))
        preprocessor = self.configuration.preprocessor_class(verbose=False)
        dataset_json = self.model.dataset_json
        with nnunet_failures(f"Case {files[0].name} cannot be read or preprocessed"), quiet():
            reader = self.plans.image_reader_writer_class()
            data, properties = reader.read_images([str(file) for file in files])
            properties[_OFF_SCALE] = self._off_scale(files, data)
            labels = None if label is None else reader.read_seg(str(label))[0]
            if labels is not None:
                properties |= _counted(labels)
            # The foreground locations that nnU-Net collects here speak of the model's integers and are not used.
            data, labels, properties = preprocessor.run_case_npy(
                data, labels, properties, self.plans, self.configuration, dataset_json
            )
        if not np.isfinite(data).all():
            raise FssegError(f"Image {files[0]} holds NaN or infinite values.\n  Repair or remove the case.")
        return data.astype(np.float32), labels.astype(np.int16), properties


def source_labels(label: Path, plans: Any) -> SourceLabels:
    """Return what a label map holds before it is resampled.

    Args:
        label: file with integers that the dataset names.
        plans: nnU-Net's PlansManager.
    """
    with nnunet_failures(f"Label map {label} cannot be read"), quiet():
        labels, properties = plans.image_reader_writer_class().read_seg(str(label))
    return _source({**properties, **_counted(labels)})


def _source(properties: CaseProperties) -> SourceLabels:
    values, voxels = map(int, properties[_LABEL_VALUES]), properties[_LABEL_VOXELS]
    return SourceLabels(dict(zip(values, voxels, strict=True)), tuple(properties["spacing"]))


def _counted(labels: np.ndarray) -> dict[str, list]:
    values, counts = np.unique(labels, return_counts=True)
    return {_LABEL_VALUES: values.tolist(), _LABEL_VOXELS: counts.tolist()}


def _require_named(values: Sequence[float], structures: Structures, label: Path) -> None:
    unnamed = unnamed_values(values, structures)
    if unnamed:
        raise FssegError(
            f"Label map {label} {unnamed}.\n"
            "  Correct the label map, or assemble the dataset again. nnU-Net's ignore label is not supported: list\n"
            "  what such a case annotates in structures.json instead."
        )
