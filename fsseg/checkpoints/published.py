"""What tells the published files of a family from networks of others that have the same names."""

from dataclasses import dataclass

from fsseg.checkpoints.container import Checkpoint

# Outputs of the first layer. MONAI's networks are public, and so are their names: anybody's network has them.
WIDTHS = {"genesis_unet": 32, "swin_unetr": 48, "seg_resnet": 16, "multitalent_unet": 30}


@dataclass(frozen=True)
class Trait:
    """A size that all published files of a family have.

    Attributes:
        tensors: names of the tensor; the first that a file holds is looked at.
        axis: of its shape.
        what: what the size is, for messages.
        size: what it is in the published files; 0 takes `width` of WIDTHS.
        width: key of WIDTHS.
    """

    tensors: tuple[str, ...]
    axis: int
    what: str
    size: int = 0
    width: str = ""

    def difference(self, checkpoint: Checkpoint) -> str:
        """Say in what a file differs; empty if it does not."""
        wanted = self.size or WIDTHS[self.width]
        name = next((name for name in self.tensors if name in checkpoint.weights), None)
        if name is None:
            return f"it has no {self.tensors[0]}"
        shape = checkpoint.weights[name].shape
        if len(shape) <= self.axis:  # no weight of any network: the translation says that the file is damaged
            return ""
        found = shape[self.axis]
        return "" if found == wanted else f"it has {found} {self.what}, not {wanted} ({name})"


def differences(checkpoint: Checkpoint, traits: tuple[Trait, ...]) -> list[str]:
    """Return in what a file differs from the published ones."""
    return [found for trait in traits if (found := trait.difference(checkpoint))]
