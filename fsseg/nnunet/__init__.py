"""The bridge to nnU-Net: the only package of fsseg that imports nnunetv2."""

from fsseg.nnunet.process_counts import require_process_counts

require_process_counts()  # before any module here imports nnunetv2
