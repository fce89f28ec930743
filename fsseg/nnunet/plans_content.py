"""plans.json of nnU-Net: one strict model, for the plans of a trained model as for those that are shipped."""

import inspect
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Annotated, Any

import nnunetv2
from nnunetv2.imageio.base_reader_writer import BaseReaderWriter
from nnunetv2.preprocessing.normalization.default_normalization_schemes import ImageNormalization
from nnunetv2.preprocessing.preprocessors.default_preprocessor import DefaultPreprocessor
from nnunetv2.preprocessing.resampling.utils import recursive_find_resampling_fn_by_name
from nnunetv2.utilities.find_class_by_name import recursive_find_python_class
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from fsseg.config.base import FileModel, validated
from fsseg.config.errors import FssegError, UsageError, shown
from fsseg.models.networks import ArchitectureBlock, total_strides
from fsseg.nnunet.configurations import resolved
from fsseg.nnunet.contents import ConfigurationContent, PlansContent
from fsseg.nnunet.normalization import CT_SCHEME, HU_STATISTICS, STATISTICS

_AXES = 3
_RESAMPLING_PACKAGE = "nnunetv2.preprocessing.resampling."
_FILE_NAME = re.compile(r"\w[\w.+-]{0,199}")


def _numbers(kinds: Any) -> Callable[[Any], Any]:
    """Return a check that a value is a number above 0 for each axis."""

    def check(values: Any) -> Any:
        is_list = isinstance(values, list | tuple) and len(values) == _AXES
        if not is_list or not all(isinstance(v, kinds) and not isinstance(v, bool) and 0 < v < 1e6 for v in values):
            what = "integers" if kinds is int else "numbers"
            raise ValueError(f"must be three {what} above 0, in z, y, x, got {shown(values)}")
        return values

    return check


def _axis_order(values: Any) -> Any:
    if not isinstance(values, list | tuple) or sorted(map(str, values)) != ["0", "1", "2"]:
        raise ValueError(f"must be the axes 0, 1 and 2 in some order, got {shown(values)}")
    return values


def _file_name(name: str) -> str:
    # It becomes a name in the dataset's folder, and plans are input from strangers.
    if not _FILE_NAME.fullmatch(name):
        raise ValueError(f"must be a plain name of letters, digits, '_', '-', '+' and '.', got {shown(name)}")
    return name


def _class_below(package: str, base: type) -> Callable[[str], str]:
    """Return a check that nnU-Net has a class of some kind under a name."""

    def check(name: str) -> str:
        found = _found(package, name)
        if not isinstance(found, type) or not issubclass(found, base) or inspect.isabstract(found):
            raise ValueError(f"names no {base.__name__} of nnU-Net, got {shown(name)}")
        return name

    return check


@cache
def _found(package: str, name: str) -> Any:
    folder = str(Path(nnunetv2.__path__[0], *package.split(".")))
    return recursive_find_python_class(folder, name, f"nnunetv2.{package}") if name.isidentifier() else None


def _resampling(name: str) -> str:
    try:
        found = recursive_find_resampling_fn_by_name(name) if name.isidentifier() else None
    except RuntimeError:
        found = None
    if not isinstance(found, FunctionType) or not found.__module__.startswith(_RESAMPLING_PACKAGE):
        raise ValueError(f"names no resampling function of nnU-Net, got {shown(name)}")
    return name


_FileName = Annotated[StrictStr, AfterValidator(_file_name)]
_AxisOrder = Annotated[list[StrictInt], BeforeValidator(_axis_order)]
_Scheme = Annotated[StrictStr, AfterValidator(_class_below("preprocessing.normalization", ImageNormalization))]
_Resampling = Annotated[StrictStr, AfterValidator(_resampling)]
_Arguments = dict[StrictStr, Any]


class Architecture(FileModel):
    """The network of a configuration."""

    network_class_name: StrictStr  # of the allow-list of fsseg.models.networks, which builds it
    arch_kwargs: _Arguments
    kw_requires_import: list[StrictStr] = Field(alias="_kw_requires_import")


class Configuration(FileModel):
    """A configuration for 3D images, with what it inherits; axes in z, y, x, spacing in mm."""

    architecture: Architecture
    data_identifier: _FileName
    preprocessor_name: Annotated[StrictStr, AfterValidator(_class_below("preprocessing", DefaultPreprocessor))]
    patch_size: Annotated[list[int], BeforeValidator(_numbers(int))]
    spacing: Annotated[list[float], BeforeValidator(_numbers((int, float)))]
    batch_size: StrictInt = Field(ge=1)
    normalization_schemes: list[_Scheme] = Field(min_length=1)
    use_mask_for_norm: list[StrictBool]
    resampling_fn_data: _Resampling
    resampling_fn_data_kwargs: _Arguments
    resampling_fn_seg: _Resampling
    resampling_fn_seg_kwargs: _Arguments
    resampling_fn_probabilities: _Resampling
    resampling_fn_probabilities_kwargs: _Arguments

    @model_validator(mode="after")
    def _fits_together(self) -> "Configuration":
        if len(self.use_mask_for_norm) != len(self.normalization_schemes):
            raise ValueError("use_mask_for_norm and normalization_schemes must have an entry for each image channel")
        problem = patch_problem(self.architecture.model_dump(by_alias=True), self.patch_size)
        if problem:
            raise ValueError(problem)
        return self


class Plans(FileModel):
    """Plans, with the one configuration that is used."""

    plans_name: _FileName
    transpose_forward: _AxisOrder
    transpose_backward: _AxisOrder
    image_reader_writer: Annotated[StrictStr, AfterValidator(_class_below("imageio", BaseReaderWriter))]
    configurations: dict[StrictStr, Configuration]
    foreground_intensity_properties_per_channel: dict[StrictStr, dict[StrictStr, StrictFloat]] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "Plans":
        if [self.transpose_forward[axis] for axis in self.transpose_backward] != list(range(_AXES)):
            raise ValueError("transpose_backward must undo transpose_forward")
        statistics = self.foreground_intensity_properties_per_channel
        for configuration in self.configurations.values() if statistics else ():
            for channel, scheme in enumerate(configuration.normalization_schemes):
                missing = [key for key in HU_STATISTICS if key not in (statistics or {}).get(str(channel), {})]
                if scheme == CT_SCHEME and missing:
                    raise ValueError(f"{CT_SCHEME} of channel {channel} needs {', '.join(missing)} in {STATISTICS}")
        return self


def checked_plans(
    plans: PlansContent, configuration: str, where: Path | str, error: type[FssegError] = FssegError
) -> ConfigurationContent:
    """Return a configuration of plans, with all that it inherits; raise `error` for what nnU-Net could not use.

    Args:
        plans: content of a plans.json.
        configuration: name of the configuration that is used; the others may be of any kind.
        where: the file, for messages.
        error: what to raise.

    Raises:
        UsageError: the plans have no such configuration.
        FssegError: `error`: something is missing or wrong; all problems in one message.
    """
    try:
        block = resolved(plans, configuration, str(where))
    except UsageError:
        raise
    except FssegError as damage:
        raise error(str(damage)) from None
    validated(Plans, {**plans, "configurations": {configuration: block}}, str(where), error)
    return block


def require_statistics(plans: PlansContent, block: ConfigurationContent, where: Path | str) -> None:
    """Raise `FssegError` if plans of a model leave out what they normalise CT by; plans that are shipped may.

    Args:
        plans: content of its plans.json, which `checked_plans` has read.
        block: the configuration that is used.
        where: the file, for messages.
    """
    if CT_SCHEME in block["normalization_schemes"] and not plans.get(STATISTICS):
        raise FssegError(
            f"{where} normalises by {CT_SCHEME}, but holds no statistics of intensities ({STATISTICS}).\n"
            "  Copy it again from where the model was trained."
        )


def patch_problem(architecture: ArchitectureBlock, patch_size: list[int]) -> str:
    """Return why a network cannot halve a patch often enough; "" if it can."""
    try:
        factors = total_strides(architecture)
    except UsageError as error:
        return str(error)
    fits = len(factors) == len(patch_size) and all(isinstance(factor, int) and factor > 0 for factor in factors)
    if fits and not any(size % factor for size, factor in zip(patch_size, factors, strict=True)):
        return ""
    return f"patch_size {list(patch_size)} must be divisible by the product of the strides, {factors}"


def require_patch_fits(configuration: ConfigurationContent, where: Path | str) -> None:
    """Raise `UsageError` if the network of a configuration cannot halve its patch often enough."""
    problem = patch_problem(configuration["architecture"], configuration["patch_size"])
    if problem:
        raise UsageError(f"{where} does not fit its network: {problem}.")
