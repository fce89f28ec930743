"""An adapted network from files: the base's model folder and an adapter file."""

import logging
from pathlib import Path
from typing import Any

from torch import nn

from fsseg.config.errors import FssegError
from fsseg.config.results import JsonObject
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.adapter_file import AdapterInfo, load_adapter
from fsseg.methods.registry import create_method
from fsseg.models.heads import RowSource, replace_heads, row_sources
from fsseg.nnunet.mirroring import kept_flips
from fsseg.nnunet.model_folder import ModelFolder
from fsseg.training.seeding import seeded

log = logging.getLogger(__name__)

_MOST_LINES = 10
_ANY_FREQUENCY = 0.5  # a new head row is overwritten by the adapter's at once


def load_adapted(base: ModelFolder, adapter: Path) -> tuple[AdaptedNetwork, AdapterInfo]:
    """Rebuild the network that an adapter file was saved from; it is not merged.

    Its header allows no flips of structures with a side, whatever the file says.

    Raises:
        FssegError: the adapter was made on another base, names a method or options that this fsseg does not have or
            head rows that the base lacks, or is damaged.
    """
    state, info = load_adapter(adapter)
    if info.base_sha256 != base.sha256:
        raise FssegError(
            f"{adapter} was made on another base than {base.path}.\n"
            f"{base_differences(base, info.base_sha256, info.base_settings)}\n"
            "  Give the model folder that the adapter was trained on."
        )
    flips = kept_flips(info.structures, info.mirroring_axes)
    if flips.reason:
        log.warning("%s: %s", adapter, flips.reason)
    info = info.model_copy(update={"mirroring_axes": flips.axes})
    _require_rows(info, base, adapter)
    try:
        with seeded(0):  # what is not in the adapter must not depend on the caller
            network = base_with_heads(base, info)
            adapted = AdaptedNetwork(network, create_method(info.method, info.options), info.decoder)
        adapted.load_state(state)
    except FssegError as error:
        advice = "Was it made with another version of fsseg?"
        raise FssegError(f"{adapter} cannot be applied. {error}\n  {advice}") from None
    return adapted, info


def base_differences(base: ModelFolder, sha256: str, settings: JsonObject) -> str:
    """Return lines that say in what a base differs from the one with this hash and these settings."""
    lines = [f"  its base: {sha256}", f"  this one: {base.sha256}"]
    differing = _differing(settings, base.settings)
    lines += [f"  - {line}" for line in differing[:_MOST_LINES]] or ["  - the weights; the plans agree"]
    return "\n".join(lines)


def _differing(theirs: Any, ours: Any, where: str = "") -> list[str]:
    if not (isinstance(theirs, dict) and isinstance(ours, dict)):
        return [] if theirs == ours else [f"{where}: {theirs} in its base, {ours} here"]
    keys = list(dict.fromkeys([*theirs, *ours]))
    return [
        line for key in keys for line in _differing(theirs.get(key), ours.get(key), f"{where}.{key}".removeprefix("."))
    ]


def _require_rows(info: AdapterInfo, base: ModelFolder, adapter: Path) -> None:
    rows = sorted(base.head_rows().values())
    wrong = {name: row for name, row in info.structures.items() if row is not None and row not in rows}
    if wrong:
        listed = ", ".join(f"{name} from row {row}" for name, row in wrong.items())
        allowed = f"{rows[0]} to {rows[-1]}" if rows else "none"
        raise FssegError(
            f"{adapter} starts {listed}, which the head of {base.path} does not have.\n  its rows: {allowed}"
        )


def base_with_heads(base: ModelFolder, info: AdapterInfo) -> nn.Module:
    """Build the base with heads for an adapter's structures: rows from the base where they started from it, or new."""
    network = base.build_network()
    replace_heads(network, *head_of(info, base))
    return network


def head_of(info: AdapterInfo, base: ModelFolder) -> tuple[list[RowSource], int | None]:
    """Return where each row of an adapter's head starts, as `replace_heads` takes it."""
    rows = list(info.structures.values())
    frequencies = [_ANY_FREQUENCY] * len(rows)
    return row_sources(rows, frequencies, base=base.activation, activation=info.activation)
