"""The user's cache directory, and XLA's persistent compilation cache in it."""

from __future__ import annotations

import os
from pathlib import Path


def root() -> Path:
    """`$JAXGEN_CACHE`, else `$XDG_CACHE_HOME/jaxgen`, else `~/.cache/jaxgen`."""
    if path := os.environ.get("JAXGEN_CACHE"):
        return Path(path).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "jaxgen"


def enable(switch: bool = True) -> Path | None:
    """Turns the persistent compilation cache on (or off); returns its folder.

    JAX's own setting (`JAX_COMPILATION_CACHE_DIR`) wins where the user gave one. Cached
    executables are code: the folder is the user's own, never a shared one by default. A folder
    that can't be written leaves the cache off rather than stopping the program.
    """
    import jax

    if not switch:
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    folder = Path(given) if given else root() / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    if not os.access(folder, os.W_OK):
        return None
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    # Small helper computations are cheaper to compile than to look up.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder
