"""What nnU-Net's files hold, in memory: checked where they are read, plain values from there on."""

from typing import Any, TypeAlias

PlansContent: TypeAlias = dict[str, Any]  # of plans.json; see plans_content.py
ConfigurationContent: TypeAlias = dict[str, Any]  # one of its configurations, with all that it inherits
CaseProperties: TypeAlias = dict[str, Any]  # of a preprocessed case: spacing, cropping, foreground voxels
CheckpointContent: TypeAlias = dict[str, Any]  # of a checkpoint; see checkpoint_content.py
