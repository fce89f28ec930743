"""Tensors of a base that its import found no weights for: random ones, which an adaptation may leave as they are."""

from fsseg.config.errors import first_of
from fsseg.methods.adapted_network import AdaptedNetwork
from fsseg.nnunet.model_folder import ModelFolder

_SHOWN = 3


def left_random(base: ModelFolder, adapted: AdaptedNetwork) -> list[str]:
    """Return the random tensors of a base that an adaptation of it does not train."""
    return adapted.untouched(base.random_tensors) if adapted.method.uses_pretrained else []


def left_random_notes(base: ModelFolder, adapted: AdaptedNetwork) -> list[str]:
    """Say loudly which random tensors of a base an adaptation leaves as they are."""
    names = left_random(base, adapted)
    if not names:
        return []
    return [
        f"RANDOM AND FROZEN: {first_of(names, _SHOWN)}. The import of the base found no weights for them, and nothing"
        " here trains them: features pass through random layers.\n  Use full or l2_sp, which train everything, or"
        " --decoder tuned if all are in the decoder, or train the base first with `fsseg pretrain --checkpoint`."
    ]


def trained_random_notes(base: ModelFolder, adapted: AdaptedNetwork) -> list[str]:
    """Say which tensors of a base start at random values and are trained."""
    if not adapted.method.uses_pretrained:
        return []
    left = set(left_random(base, adapted))
    names = [name for name in base.random_tensors if name not in left]
    if not names:
        return []
    return [f"Random at the start, as the import of the base found no weights for them: {first_of(names, _SHOWN)}."]
