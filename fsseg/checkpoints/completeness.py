"""Whether enough of a network comes from a file: one that is partly random must not pass for a pretrained one."""

from collections.abc import Sequence

from fsseg.checkpoints.transfer import TransferReport
from fsseg.config.errors import UsageError, first_of

LEAST_SHARE = 0.9
_SHOWN = 5
_WORDS = {"encoder": "the encoder", "decoder": "the decoder", "other": "the other parts"}


def require_enough(report: TransferReport, holds: Sequence[str], *, allow_partial: bool) -> list[str]:
    """Refuse a transfer that would pass for a pretrained network and is none.

    Args:
        report: what the transfer did.
        holds: parts of the network that such a file is to fill: encoder, decoder, other.
        allow_partial: accept it all the same.

    Returns:
        Notes on what is random or left out, where that had to be allowed.

    Raises:
        UsageError: less than 90 % of the parameters of a part come from the file, or not all of them where it has a
            head, whose structures would count as known; tensors have another shape in the network; or the file has
            layers that the network lacks. And that is not allowed.
    """
    parts = [part for part in holds if report.parameters[part][1]]
    enough = not report.missing if report.head else all(report.share(part) >= LEAST_SHARE for part in parts)
    if enough and not report.reshaped and not report.unplaced:
        return []
    if allow_partial:
        return [_note(report, parts)]
    needed = "every tensor, because the structures of its head count as known" if report.head else f"{LEAST_SHARE:.0%}"
    lines = [
        f"The file does not fit the network of the plans: {_shares(report, parts, counts=True)}.",
        *_details(report),
        f"  needed: {needed}, no tensor of another shape, and no layer that the network lacks.\n"
        "  Give a file and plans that belong together; --allow-partial accepts a partly random network.",
    ]
    raise UsageError("\n".join(lines))


def _note(report: TransferReport, parts: Sequence[str]) -> str:
    what = "PARTLY RANDOM" if report.missing or report.reshaped else "LAYERS LEFT OUT"
    lines = [f"{what}, as --allow-partial accepts: {_shares(report, parts)}.", *_details(report)]
    if report.head:
        lines.append(
            "  Structures of its head count as known, but their rows read other features than those they were trained"
            " on: expect noise of them until the network is trained."
        )
    return "\n".join(lines)


def _shares(report: TransferReport, parts: Sequence[str], *, counts: bool = False) -> str:
    """Say how much of each part comes from the file."""
    texts: list[str] = []
    for part in parts:
        filled, total = report.parameters[part]
        verb = "" if texts else " come from it"
        parameters = f", {filled:,} of {total:,} parameters" if counts else ""
        texts.append(f"{filled / total:.1%} of {_WORDS[part]}{verb}{parameters}")
    return "; ".join(texts)


def _details(report: TransferReport) -> list[str]:
    lines = [f"  missing: {first_of(report.missing, _SHOWN)}"] if report.missing else []
    if report.reshaped:
        lines.append(f"  of another shape: {first_of([_shapes(*item) for item in report.reshaped.items()], _SHOWN)}")
    if report.unplaced:
        lines.append(f"  layers that the network lacks: {first_of(report.unplaced, _SHOWN)}")
    others = [name for name in report.dropped if name not in report.unplaced]
    return [*lines, f"  not used: {first_of(others, _SHOWN)}"] if others else lines


def _shapes(name: str, shapes: dict[str, list[int]]) -> str:
    return f"{name} {tuple(shapes['file'])} in the file, {tuple(shapes['network'])} in the network"
