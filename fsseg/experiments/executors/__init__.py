"""Where runs run: processes of this machine, its GPUs, or a Slurm cluster."""
