"""Linear probe: the black-box baseline."""

from fsseg.methods.contract import Method


class LinearProbe(Method):
    """Train only the 1x1x1 segmentation head, logit = w z + b: C + 1 parameters a structure on C features z.

    The network is a black box that gives the last decoder features (FSEFT, Silva-Rodriguez et al. 2025). For a known
    structure the head starts from its pretrained row.
    """

    decoder_choices = ("frozen",)
    reads_features_only = True
    family = "head"
