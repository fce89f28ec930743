"""What the demo compares: the methods, the structures, and the rule of the verdict."""

from dataclasses import dataclass

from fsseg.config.recipes import DecoderChoice


@dataclass(frozen=True)
class DemoMethod:
    """A method that the demo compares: how it is called in the table, and what `fsseg adapt` runs."""

    label: str
    name: str
    decoder: DecoderChoice | None = None

    @property
    def folder(self) -> str:
        """Name of its folders."""
        return self.label.replace(" + ", "_")


METHODS = (
    DemoMethod("from_scratch", "from_scratch"),
    DemoMethod("full", "full"),
    DemoMethod("linear_probe", "linear_probe"),
    DemoMethod("decoder", "decoder"),
    DemoMethod("lora + decoder", "lora", "tuned"),
)
KNOWN, NOVEL = ("liver", "kidney_left"), ("stomach", "pancreas")
STRUCTURES = (*KNOWN, *NOVEL)
