"""The bridge to nnU-Net: the only package of fsseg that imports nnunetv2."""
