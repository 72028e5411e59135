"""What the benchmark data hold; a copy of them may lack a part."""

from __future__ import annotations

from pathlib import Path

import pytest


def held(data_dir: Path, place: str) -> Path:
    """A file or folder of the benchmark data; skips the test where these lack it."""
    path = data_dir / place
    if not path.exists():
        pytest.skip(f"JAXGEN_DATA has no {place}")
    return path
