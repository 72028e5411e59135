"""jaxgen: train and run image-generation systems in JAX."""

__version__ = "0.1.0"


def load(run: str):
    """Opens a trained model: a run's directory, an exported folder, or a bundled model's name.

    See `jaxgen.runs.model.load`; imported on first use so that `import jaxgen` stays light.
    """
    from jaxgen.runs.model import load as _load

    return _load(run)
