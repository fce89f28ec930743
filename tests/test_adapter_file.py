"""Adapter files that are damaged, or are none: refused with what is wrong, never loaded."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import fsseg
from safetensors.torch import load_file, save_file
from tiny import tiny_network
from torch import Tensor

from fsseg.config.errors import FssegError, UsageError
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.methods.adapter_file import ADAPTER_NAME, AdapterInfo, load_adapter, save_adapter, sealed
from fsseg.methods.registry import create_method

HEADER: dict[str, Any] = {
    "method": "arena",
    "options": {},
    "decoder": "frozen",
    "structures": {"liver": 2, "stomach": None},
    "integers": {"liver": (1,), "stomach": (2, 3)},
    "mirroring_axes": (),
    "tile_step_size": 0.5,
    "base_sha256": "0" * 64,
    "base_settings": {},
    "base_licence": "none",
    "support": ("a", "b"),
}


def state() -> dict[str, Tensor]:
    return {"weight": torch.arange(12.0).reshape(3, 4), "steps": torch.tensor(7)}


def written(folder: Path, tensors: dict[str, Tensor] | None = None, **header: Any) -> Path:
    """Write a file whose hash is right, whatever is in it."""
    tensors = state() if tensors is None else tensors
    full = {**AdapterInfo(**HEADER).model_dump(mode="json"), **header}
    save_file(tensors, folder / ADAPTER_NAME, metadata=sealed(full, tensors))
    return folder / ADAPTER_NAME


def test_what_was_saved_is_loaded_and_equal_content_gives_equal_files(tmp_path: Path) -> None:
    info = AdapterInfo(**HEADER)
    contents = []
    for _ in range(2):
        save_adapter(tmp_path, state(), info)
        contents.append((tmp_path / ADAPTER_NAME).read_bytes())
    tensors, again = load_adapter(tmp_path / ADAPTER_NAME)
    assert again == info
    assert all(torch.equal(tensors[name], tensor) for name, tensor in state().items())
    assert contents[0] == contents[1]


def test_a_flipped_bit_in_header_or_tensors_is_refused(tmp_path: Path) -> None:
    save_adapter(tmp_path, state(), AdapterInfo(**HEADER))
    content = (tmp_path / ADAPTER_NAME).read_bytes()
    path = tmp_path / "flipped.safetensors"
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(FssegError, match=r"flipped\.safetensors"):
            load_adapter(path)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(FssegError, match=r"damaged: its content is not what was written"):
        load_adapter(path)
    assert fsseg("adapter", "show", path).code == 1


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.full((3, 4), float("nan")), "weight holds NaN or infinite values"),
        (torch.tensor([1.0, float("inf")]), "weight holds NaN or infinite values"),
        (torch.ones(3, 4, dtype=torch.int8), "weight is of torch.int8"),
        (torch.ones(3, 4, dtype=torch.float16), "weight is of torch.float16"),
    ],
)
def test_tensors_that_cannot_be_applied_are_neither_written_nor_loaded(
    tmp_path: Path, weight: Tensor, message: str
) -> None:
    with pytest.raises(FssegError, match=message):
        save_adapter(tmp_path, {**state(), "weight": weight}, AdapterInfo(**HEADER))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FssegError, match=message):
        load_adapter(written(tmp_path, {**state(), "weight": weight}))


@pytest.mark.parametrize(("version", "message"), [(0, "Adapt again"), (1, "Adapt again"), (4, "Install a newer fsseg")])
def test_another_format_is_refused(tmp_path: Path, version: int, message: str) -> None:
    with pytest.raises(UsageError, match=rf"has format {version}, this fsseg reads formats 2 to 3\.\n  {message}"):
        load_adapter(written(tmp_path, format_version=version))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"structures": {}, "integers": {}}, "structures: .*at least 1 item"),
        ({"structures": {"liver": -5, "stomach": None}}, r"structures\.liver: .*greater than or equal to 0, got -5"),
        ({"integers": {}}, r"integers: .*the structures are \['liver', 'stomach'\], in this order, got \[\]"),
        ({"integers": {"stomach": [1], "liver": [2]}}, "integers: .*in this order"),
        ({"integers": {"liver": [], "stomach": [2]}}, r"integers\.liver: .*at least 1 item.*got \[\]"),
        ({"integers": {"liver": [0], "stomach": [2]}}, r"integers\.liver\.0: .*greater than or equal to 1, got 0"),
        ({"integers": {"liver": [256], "stomach": [2]}}, r"integers\.liver\.0: .*less than or equal to 255, got 256"),
        ({"activation": "softmax"}, "integers: .*numbered from 1 in the order of its channels"),
        ({"mirroring_axes": [3]}, r"mirroring_axes\.0: .*got 3"),
    ],
)
def test_a_header_whose_fields_do_not_agree_is_refused(tmp_path: Path, header: dict, message: str) -> None:
    with pytest.raises(FssegError, match=message) as refused:
        load_adapter(written(tmp_path, **header))
    assert refused.value.exit_code == 1


# live terms of a low-rank update


@pytest.fixture
def arena(tmp_path: Path) -> tuple[AdaptedNetwork, dict[str, Tensor], str]:
    """An adapted network, its saved state with a term less, and the prefix of that update."""
    adapted = AdaptedNetwork(tiny_network("plain"), create_method("arena", {"rank": 3}), "frozen")
    with torch.no_grad():
        for name, parameter in adapted.trainable().items():
            parameter.fill_(0.5)
            if name.endswith(".gate"):
                parameter[1] = 0.0
    compact = adapted.compact_state()
    return adapted, compact, next(name for name in compact if name.endswith(".live")).removesuffix("live")


def test_terms_go_back_to_their_places(arena: tuple[AdaptedNetwork, dict[str, Tensor], str]) -> None:
    adapted, compact, prefix = arena
    assert compact[prefix + "live"].tolist() == [0, 2]
    full = adapted.state()
    fresh = AdaptedNetwork(tiny_network("plain"), create_method("arena", {"rank": 3}), "frozen")
    fresh.load_state(compact)
    gate = fresh.state()[prefix + "gate"]
    assert gate.tolist() == full[prefix + "gate"].tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize(
    "live",
    [[0, 0], [-1, 0], [0, 3], [[0, 2]], [0.0, 2.0]],
    ids=["twice", "negative", "too large", "not a list", "not integers"],
)
def test_indices_that_name_no_terms_are_refused(
    arena: tuple[AdaptedNetwork, dict[str, Tensor], str], live: list
) -> None:
    adapted, compact, prefix = arena
    with pytest.raises(FssegError, match=r"must list different terms, 0 to 2, as int64"):
        adapted.load_state({**compact, prefix + "live": torch.tensor(live)})


def test_terms_of_another_number_or_kind_than_their_indices_are_refused(
    arena: tuple[AdaptedNetwork, dict[str, Tensor], str],
) -> None:
    adapted, compact, prefix = arena
    one = {prefix + part: compact[prefix + part][:1] for part in ("gate", "left", "right")}
    with pytest.raises(FssegError, match=r"gate is \(1,\), expected \(2,\)"):
        adapted.load_state({**compact, **one})
    with pytest.raises(FssegError, match=r"right: shape .* of torch.int64, expected shape .* of torch.float32"):
        adapted.load_state({**compact, prefix + "right": compact[prefix + "right"].long()})
    with pytest.raises(FssegError, match=r"unexpected nowhere\.live"):
        adapted.load_state({**compact, "nowhere.live": torch.tensor([0])})


# What is no adapter file


def test_what_is_no_adapter_file_is_called_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Adapter file not found"):
        load_adapter(tmp_path / "nowhere.safetensors")
    with pytest.raises(UsageError, match=f"is a folder, not an adapter file.\n  Give .*{ADAPTER_NAME}"):
        load_adapter(tmp_path)
    save_file(state(), tmp_path / "other.safetensors")
    with pytest.raises(FssegError, match=r"other\.safetensors is no adapter file: it has no header of fsseg"):
        load_adapter(tmp_path / "other.safetensors")
    assert load_file(tmp_path / "other.safetensors")
