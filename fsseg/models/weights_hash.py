"""A hash of weights that does not depend on the file they come from."""

import hashlib

import torch
from torch import Tensor


def hash_of_weights(weights: dict[str, Tensor]) -> str:
    """Return the SHA-256 over names, shapes and values of a state dict, independent of the file's container."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu()
        values = tensor.flatten().view(torch.uint8).numpy().data if tensor.ndim else str(tensor.item()).encode()
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(values)
    return digest.hexdigest()
