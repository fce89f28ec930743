"""nnU-Net's trainer for partially labelled datasets, and its pieces."""
