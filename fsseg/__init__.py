"""fsseg: few-shot adaptation of pretrained 3D segmentation networks on nnU-Net conventions."""

import os

__version__ = "0.1.0"

# Two OpenMP threads that spin while they wait for each other slow a CPU training down several times. The
# runtime reads these variables once, when torch is first imported, so they are set here, before any module of
# the package imports torch. A value that the user has set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
