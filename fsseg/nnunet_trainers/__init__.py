"""The folder that nnUNet_extTrainer names; nnU-Net imports its modules by themselves, not as a package."""
