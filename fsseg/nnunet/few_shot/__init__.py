"""nnU-Net's side of a few-shot adaptation: folds, folders and training log."""
