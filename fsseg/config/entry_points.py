"""What installed packages add to fsseg: their entry points, run when first needed."""

import logging
from functools import cache
from importlib import metadata

logger = logging.getLogger(__name__)


@cache
def run_entry_points(group: str) -> None:
    """Call the functions that installed packages name as entry points of a group, once.

    An entry point is a function without arguments that registers what its package brings. One that cannot be imported
    or fails is left out with a warning: what one package breaks, others keep.
    """
    for point in metadata.entry_points(group=group):
        package = point.dist.name if point.dist is not None else "an unknown package"
        try:
            point.load()()
        except Exception as error:  # noqa: BLE001 - code of strangers fails in any way
            logger.warning(
                "What %s adds is left out: its entry point %s = %s of group %s failed with %s: %s\n"
                "  An entry point is a function without arguments that calls fsseg.register_… itself.",
                package,
                point.name,
                point.value,
                group,
                type(error).__name__,
                error,
            )
