"""dataset.json of nnU-Net v2: one strict model of what is read of it, checked when it is read."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, StrictInt, StrictStr, field_validator, model_validator

from fsseg.config.base import FileModel, validated
from fsseg.config.errors import FssegError, shown
from fsseg.config.json_files import read_json
from fsseg.data.channels import CHANNELS_KEY, OLD_CHANNELS_KEY, ordered_channels
from fsseg.data.contents import DatasetContent

_V1 = (
    "is of nnU-Net v1 or the Medical Segmentation Decathlon: {}.\n"
    "  Convert the dataset with `nnUNetv2_convert_old_nnUNet_dataset` or `nnUNetv2_convert_MSD_dataset`."
)
BACKGROUND = "background"
HIGHEST_LABEL = 65_535  # of 16-bit label maps; a table of all integers is made


def _integers(value: Any) -> tuple[int, ...]:
    """Return the integers of a label or region in ascending order; old files have them as text."""
    values = value if isinstance(value, list | tuple) else [value]
    if not values or not all(str(each).isdecimal() and len(str(each)) <= 5 for each in values):
        raise ValueError(f"must be an integer from 0, or a list of them, got {shown(value)}")
    if max(map(int, values)) > HIGHEST_LABEL:
        raise ValueError(f"must be at most {HIGHEST_LABEL}, got {shown(value)}")
    return tuple(sorted({int(each) for each in values}))


class LabelsJson(FileModel):
    """What every dataset.json has, that beside predictions included.

    Attributes:
        labels: name -> its integers, in ascending order; several are a region.
        regions_class_order: integers in the order in which nnU-Net writes regions.
        file_ending: of images and label maps.
        support_cases: to which the model that made the folder was adapted.
        random_tensors: of a model, those which neither a checkpoint nor a training has filled.
    """

    labels: dict[StrictStr, Annotated[tuple[int, ...], BeforeValidator(_integers)]]
    regions_class_order: list[StrictInt] | None = None
    file_ending: StrictStr | None = Field(default=None, pattern=r"^\.[A-Za-z0-9]+(\.[A-Za-z0-9]+)*$")
    support_cases: list[StrictStr] = Field(default_factory=list)
    random_tensors: list[StrictStr] = Field(default_factory=list)
    overwrite_image_reader_writer: StrictStr | None = None

    @model_validator(mode="before")
    @classmethod
    def _not_of_v1(cls, values: Any) -> Any:
        if isinstance(values, dict) and is_of_nnunet_v1(values.get("labels")):
            raise ValueError(_V1.format("its labels map integers to names"))
        return values

    @field_validator("labels", mode="before")
    @classmethod
    def _are_a_mapping(cls, labels: Any) -> Any:
        if not isinstance(labels, dict):
            raise ValueError(f"must map names to integers, got {shown(labels)}")
        return labels

    @field_validator("labels")
    @classmethod
    def _background_is_zero(cls, labels: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        if labels.get(BACKGROUND, (0,)) != (0,):
            raise ValueError(f"may call nothing but the integer 0 {BACKGROUND!r}")
        with_zero = [name for name, integers in labels.items() if 0 in integers and len(integers) > 1]
        if with_zero:
            raise ValueError(f"may not give 0, which is background, to {with_zero[0]!r}")
        return labels


class DatasetJson(LabelsJson):
    """What the dataset.json of a dataset or of a trained model has besides.

    Attributes:
        channel_names: image channels by number, in ascending order.
    """

    channel_names: dict[str, str]
    file_ending: StrictStr = Field(pattern=r"^\.[A-Za-z0-9]+(\.[A-Za-z0-9]+)*$")

    @model_validator(mode="before")
    @classmethod
    def _has_its_channels(cls, values: Any) -> Any:
        if isinstance(values, dict) and OLD_CHANNELS_KEY in values and CHANNELS_KEY not in values:
            raise ValueError(_V1.format(f"it names its channels under {OLD_CHANNELS_KEY!r}, not {CHANNELS_KEY!r}"))
        return values

    @field_validator("channel_names", mode="before")
    @classmethod
    def _in_order(cls, names: Any) -> dict[str, str]:
        return ordered_channels(names)


def read_dataset_json(file: Path, model: type[LabelsJson] = DatasetJson) -> DatasetContent:
    """Read and check a dataset.json; its channels are in the order of their numbers.

    Raises:
        FssegError: it is damaged, or of another form; all problems in one message.
    """
    return checked_dataset_json(read_json(file), file, model)


def checked_dataset_json(
    content: DatasetContent, where: Path | str, model: type[LabelsJson] = DatasetJson
) -> DatasetContent:
    """Return the content of a dataset.json, with the channels in the order of their numbers; see `read_dataset_json`.

    Args:
        content: as it was read.
        where: the file, for messages.
        model: LabelsJson where no more than the labels is needed.
    """
    known = validated(model, content, str(where), FssegError)
    return {**content, CHANNELS_KEY: known.channel_names} if isinstance(known, DatasetJson) else content


def named_labels(dataset_json: DatasetContent, file: Path) -> dict[str, tuple[int, ...]]:
    """Return label -> its integers, in ascending order; raise `FssegError` for labels of another form.

    Args:
        dataset_json: the content of `file`.
        file: a name for messages.
    """
    return validated(LabelsJson, dataset_json, str(file), FssegError).labels


def is_of_nnunet_v1(labels: Any) -> bool:
    """Return whether labels map integers to names, as nnU-Net v1 and the Medical Segmentation Decathlon have them."""
    if not isinstance(labels, dict) or not labels:
        return False
    return all(str(name).isdecimal() and isinstance(value, str) for name, value in labels.items())
