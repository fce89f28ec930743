"""nnU-Net's variables for numbers of processes; nnU-Net reads one of them when it is imported, and fails there."""

import os

from fsseg.config.errors import UsageError, shown

_LEAST = {"nnUNet_n_proc_DA": 0, "nnUNet_def_n_proc": 1}  # 0: the training prepares its crops itself


def require_process_counts() -> None:
    """Raise `UsageError` if a variable holds no number of processes."""
    for variable, least in _LEAST.items():
        value = os.environ.get(variable)
        if value is None:
            continue
        if not (value.strip().isdecimal() and len(value) <= 5 and int(value) >= least):
            raise UsageError(
                f"{variable} is {shown(value)}, which is no number of processes.\n"
                f"  Set it to an integer from {least}, for example: export {variable}=4; or unset {variable}"
            )
