"""What dataset.json of nnU-Net holds, in memory: checked where it is read, plain values from there on."""

from typing import Any, TypeAlias

DatasetContent: TypeAlias = dict[str, Any]  # or some of its entries; see dataset_json.py
