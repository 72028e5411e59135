"""TFDS builders of the datasets that jaxgen makes itself; only the modules import TFDS."""
