"""CLIP (Radford et al., ICML 2021): published weights, recognised and converted both ways.

It has no task and no verb yet: nothing here trains it, and converted weights are a frozen net,
`jaxgen.models.clip.networks.make_clip(config)`.
"""

from typing import Any

from ml_collections import ConfigDict


def verbs(config: ConfigDict) -> dict[str, Any]:
    """None so far."""
    del config
    return {}
