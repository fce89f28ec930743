"""fsseg: few-shot adaptation of pretrained 3D segmentation networks on nnU-Net conventions.

The names in `__all__` are the Python API. They are imported when they are first used, so that `import fsseg` and the
command line import no torch before they need it.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsseg.api import adapt, load_model
    from fsseg.methods.apply import apply_method
    from fsseg.methods.contract import Method, MethodOptions
    from fsseg.methods.network_adapter import NetworkAdapter, adapter_of
    from fsseg.methods.registration import register_method
    from fsseg.models.network_parts import NetworkParts
    from fsseg.models.registration import register_network

__version__ = "0.1.0"

# Two OpenMP threads that spin while they wait for each other slow a CPU training down several times. The
# runtime reads these variables once, when torch is first imported, so they are set here, before any module of
# the package imports torch. A value that the user has set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

# Name -> where it is defined.
_API = {
    "Method": "fsseg.methods.contract:Method",
    "MethodOptions": "fsseg.methods.contract:MethodOptions",
    "NetworkAdapter": "fsseg.methods.network_adapter:NetworkAdapter",
    "NetworkParts": "fsseg.models.network_parts:NetworkParts",
    "adapt": "fsseg.api:adapt",
    "adapter_of": "fsseg.methods.network_adapter:adapter_of",
    "apply_method": "fsseg.methods.apply:apply_method",
    "load_model": "fsseg.api:load_model",
    "register_method": "fsseg.methods.registration:register_method",
    "register_network": "fsseg.models.registration:register_network",
}

__all__ = [
    "Method",
    "MethodOptions",
    "NetworkAdapter",
    "NetworkParts",
    "__version__",
    "adapt",
    "adapter_of",
    "apply_method",
    "load_model",
    "register_method",
    "register_network",
]


def __getattr__(name: str) -> Any:
    """Import a name of the API when it is first asked for."""
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _API[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value  # asked for once
    return value


def __dir__() -> list[str]:
    """Return the names of the module, those of the API among them."""
    return sorted({*globals(), *_API})
