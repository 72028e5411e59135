"""TFDS datasets without TensorFlow: finding a builder, preparing its dataset, and opening it.

Always as ArrayRecord, which is read at random without TensorFlow; TFDS's default, TFRecord, is not.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shlex
from pathlib import Path
from typing import Any

from jaxgen.errors import UserError, shown

# A module for each dataset that jaxgen makes itself, with `named(config, data_dir)` -> builder.
_OWN = "jaxgen.data.builders"


def command(name: str, data_dir: str | os.PathLike) -> str:
    """The command line that prepares a dataset."""
    return f"jaxgen prepare {shlex.quote(name)} --data-dir {shlex.quote(os.fspath(data_dir))}"


def tfds_builder(name: str, data_dir: str = "") -> Any:
    """The builder of a TFDS name such as "div2k/bicubic_x4". Nothing is downloaded.

    A module of `jaxgen.data.builders` comes before TFDS's dataset of its name, and takes any config
    that it can name, such as "emoji/96".

    Args:
      data_dir: root of TFDS datasets; "": the dataset's default, which is TFDS's but for "photos".

    Raises:
      UserError: unknown dataset or config, or one whose code needs TensorFlow.
    """
    import tensorflow_datasets as tfds

    folder = os.path.expanduser(data_dir)
    dataset, _, config = name.partition("/")
    if dataset.isidentifier() and importlib.util.find_spec(f"{_OWN}.{dataset}"):
        return importlib.import_module(f"{_OWN}.{dataset}").named(config, folder)
    try:
        return tfds.builder(name, data_dir=folder or None)
    except tfds.core.registered.DatasetNotFoundError:
        raise UserError(
            f"TFDS has no dataset {shown(name)}; see tensorflow.org/datasets/catalog for the names"
        ) from None
    except ImportError as error:
        raise UserError(
            f"the TFDS dataset {name!r} needs a package that is not installed "
            f"({_first_line(error)})"
        ) from None
    except ValueError as error:  # an unknown config of a known dataset
        raise UserError(f"TFDS cannot make {shown(name)}: {_first_line(error)}") from None


def prepare_tfds(name: str, data_dir: str | os.PathLike = "") -> Path:
    """Downloads and prepares a dataset as ArrayRecord; returns its folder. Done before: returns.

    Args:
      name, data_dir: as of `tfds_builder`. TFDS's default is ~/tensorflow_datasets, that of
        "photos" the user's cache.

    Raises:
      UserError: unknown name, no network, a dataset to be downloaded by hand, no disk space.
    """
    import tensorflow_datasets as tfds
    from requests.exceptions import RequestException

    builder = tfds_builder(name, os.fspath(data_dir))
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


def open_tfds(builder: Any, spec: str, name: str, data_dir: str, **options: Any) -> Any:
    """The data source of a TFDS split such as "train+test".

    Args:
      name: what `jaxgen prepare` calls the dataset. data_dir: its root, "" for TFDS's default.
      options: of `as_data_source`.

    Raises:
      UserError: not prepared, or prepared as TFRecord; with the command that prepares it.
    """
    try:
        return builder.as_data_source(spec, **options)
    except Exception as error:
        if builder.is_prepared() and "file format" in str(error):
            raise UserError(
                f"{builder.data_dir} holds TFRecords, which need TensorFlow; prepare it again "
                f"elsewhere: {command(name, 'OTHER_FOLDER')}"
            ) from None
        if not builder.is_prepared():
            folder = data_dir or builder.data_dir_root
            raise UserError(f"{name} is not prepared; run: {command(name, folder)}") from None
        raise


def _first_line(error: BaseException) -> str:
    lines = [line.strip(" *") for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)[:300]
