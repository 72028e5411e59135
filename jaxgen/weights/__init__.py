"""Trained numbers on disk: weight files, key maps, places, checkpoints.

The names that go together everywhere: reading and writing files, and the key maps between
published weights and ours.
"""

from jaxgen.weights.files import (
    read_metadata,
    read_tensors,
    read_tree,
    write_safetensors,
    write_tensors,
)
from jaxgen.weights.keymap import (
    CONV,
    DENSE,
    NONE,
    Rule,
    Tensors,
    Transform,
    Tree,
    convert,
    dense_after_flatten,
    flatten,
    module_rules,
    scale_rules,
    to_torch,
)

__all__ = [
    "CONV",
    "DENSE",
    "NONE",
    "Rule",
    "Tensors",
    "Transform",
    "Tree",
    "convert",
    "dense_after_flatten",
    "flatten",
    "module_rules",
    "read_metadata",
    "read_tensors",
    "read_tree",
    "scale_rules",
    "to_torch",
    "write_safetensors",
    "write_tensors",
]
