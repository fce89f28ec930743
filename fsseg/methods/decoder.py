"""Decoder tuning."""

from fsseg.methods.contract import Method


class Decoder(Method):
    """Train decoder and head on a frozen encoder (the "decoder fine-tuning" of FSEFT, Silva-Rodriguez et al. 2025)."""

    decoder_choices = ("tuned",)
    family = "decoder"
