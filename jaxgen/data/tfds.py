"""TFDS datasets without TensorFlow: finding a builder, and downloading and preparing it.

Always as ArrayRecord, which is read at random without TensorFlow; TFDS's default, TFRecord, is not.
"""

from __future__ import annotations

import importlib
import os
import shlex
from pathlib import Path
from typing import Any

from jaxgen.errors import UserError

# Datasets that jaxgen draws itself: TFDS knows them once their module is imported.
DRAWN = ("captioned_shapes", "emoji")


def command(name: str, data_dir: str | os.PathLike) -> str:
    """The command line that prepares a dataset."""
    return f"jaxgen prepare {shlex.quote(name)} --data-dir {shlex.quote(os.fspath(data_dir))}"


def tfds_builder(name: str, data_dir: str = "") -> Any:
    """The builder of a TFDS name such as "div2k/bicubic_x4". Nothing is downloaded.

    Also "photos", and of `DRAWN` any config that their modules can name, such as "emoji/96".

    Raises:
      UserError: unknown dataset or config, or one whose code needs TensorFlow.
    """
    import tensorflow_datasets as tfds

    if name == "photos":
        from jaxgen.data.builders import photos

        return photos.builder(data_dir or None)
    folder = os.path.expanduser(data_dir) if data_dir else None
    dataset, _, config = name.partition("/")
    if dataset in DRAWN:
        module = importlib.import_module(f"jaxgen.data.builders.{dataset}")
        return module.named(config, folder or tfds.core.constants.DATA_DIR)
    try:
        return tfds.builder(name, data_dir=folder)
    except tfds.core.registered.DatasetNotFoundError:
        raise UserError(
            f"TFDS has no dataset {name!r}; see tensorflow.org/datasets/catalog for the names"
        ) from None
    except ImportError as error:
        raise UserError(
            f"the TFDS dataset {name!r} needs a package that is not installed "
            f"({_first_line(error)})"
        ) from None
    except ValueError as error:  # an unknown config of a known dataset
        raise UserError(f"TFDS cannot make {name!r}: {_first_line(error)}") from None


def prepare(name: str, data_dir: str | os.PathLike = "") -> Path:
    """Downloads and prepares a dataset as ArrayRecord; returns its folder. Done before: returns.

    Args:
      name: TFDS name; or "photos" or one of `DRAWN` (offline).
      data_dir: root of TFDS datasets; "": TFDS's default, ~/tensorflow_datasets (for "photos":
        the user's cache).

    Raises:
      UserError: unknown name, no network, a dataset to be downloaded by hand, no disk space.
    """
    builder = tfds_builder(name, os.fspath(data_dir))
    if name == "photos":
        return Path(builder.data_dir)
    import tensorflow_datasets as tfds
    from requests.exceptions import RequestException

    try:
        builder.download_and_prepare(file_format="array_record")
    except (RequestException, ConnectionError, tfds.download.DownloadError) as error:
        raise UserError(
            f"cannot download {name}: no network, or its server does not answer "
            f"({_first_line(error)}); run `{command(name, builder.data_dir_root)}` where there is "
            "a connection and copy that folder here"
        ) from None
    except AssertionError as error:  # how TFDS says "download this by hand"
        raise UserError(f"cannot prepare {name}: {_first_line(error)}") from None
    except ImportError as error:
        raise UserError(
            f"preparing {name} needs a package that is not installed ({_first_line(error)})"
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot write {builder.data_dir_root}: {error.strerror or _first_line(error)}"
        ) from None
    return Path(builder.data_dir)


def _first_line(error: BaseException) -> str:
    lines = [line.strip(" *") for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)[:300]
