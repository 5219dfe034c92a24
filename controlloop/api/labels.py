"""The labels and annotations by which a workload says what it serves.

An annotation of the same key takes precedence over the label: a model's id may hold "/" and
be longer than a label's value can be.
"""

from __future__ import annotations

from typing import Final

PREFIX: Final = "inferno.server."
MANAGED: Final = PREFIX + "managed"
NAME: Final = PREFIX + "name"
MODEL: Final = PREFIX + "model"
CLASS: Final = PREFIX + "class"
ACCELERATOR: Final = PREFIX + "allocation.accelerator"
MAX_BATCH: Final = PREFIX + "allocation.maxbatchsize"
LOAD_RPM: Final = PREFIX + "load.rpm"
LOAD_INPUT_TOKENS: Final = PREFIX + "load.intokens"
LOAD_OUTPUT_TOKENS: Final = PREFIX + "load.outtokens"
KEEP_ACCELERATOR: Final = PREFIX + "keepaccelerator"
KEEP_BATCH: Final = PREFIX + "keepmaxbatch"
MIN_REPLICAS: Final = PREFIX + "minreplicas"
MAX_REPLICAS: Final = PREFIX + "maxreplicas"
PAUSED: Final = PREFIX + "paused"
PAUSE: Final = PREFIX + "pause"
MANAGED_SELECTOR: Final = f"{MANAGED}=true"
ALLOCATION: Final = PREFIX + "allocation"
"""On pods: accelerator and batch of the template that they are made from."""
CONTAINER: Final = PREFIX + "container"
"""Name of the engine's container; without it the first is."""
SWITCH: Final = PREFIX + "switch"
"""The switch under way; this, `SWITCH_FAILED` and `DISPLACED` are written by the loop itself."""
SWITCH_FAILED: Final = PREFIX + "switch.failed"
DISPLACED: Final = PREFIX + "switch.displaced"
CONDITION: Final = PREFIX + "condition"
"""Why the loop lets the workload be, as JSON; written and removed by the loop itself."""
SIBLING: Final = PREFIX + "sibling"
"""On a sibling and its pods: the sibling's name. No pod of another Deployment has it."""
SIBLING_SOURCE: Final = PREFIX + "sibling.template"
"""On a sibling: digest of its primary's pod template, which it was made from."""
MAINTENANCE: Final = "inferno.platform.ai/maintenance"
"""On the Lease: nothing is written to the fleet, for the reason that it says."""
