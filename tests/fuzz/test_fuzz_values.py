"""Hostile values and files: each is refused in one line, before any data are opened.

`corpus/` holds those that are known, one JSON object a line; `test_every_key_...` tries values of
every type and size for every key of every family.
"""

from __future__ import annotations

import copy
import pkgutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz import runner
from ml_collections import ConfigDict
from support.benchmark_data import held

import jaxgen.models
from jaxgen import config as configs
from jaxgen.data.captioned import section as captioned
from jaxgen.data.captioned.records import open_records
from jaxgen.data.captioned.tokenizers import make_tokenizer, resolve
from jaxgen.data.sr import section as sr
from jaxgen.errors import UserError
from jaxgen.train import family
from jaxgen.train.sweep import read_space

VALUES = runner.cases("values")
FILES = runner.cases("files")
FAMILIES = sorted(m.name for m in pkgutil.iter_modules(jaxgen.models.__path__))
# What somebody might write, of every type, and as far as numbers go.
EXTREMES = (
    True, 0, 1, 3, -1, 1.5, -0.5, 1e30, float("nan"), float("inf"), float("-inf"), "x", "", "a\0b",
    (), (1,), (1, 2), (2.0, 1.0), (("a",),), [], {}, None, 10**30, 10**5000, b"x",
)  # fmt: skip


def test_impossible_values_are_named():
    wrong = []
    for case in VALUES:
        said = refusal(configs_of(case["config"]), case["set"])
        if case["says"] not in said or "\n" in said or not said:
            wrong.append(f"{case['config']} {case['set']}: {said or 'accepted'}")
    assert not wrong, "\n".join(wrong)


def configs_of(name: str) -> ConfigDict:
    file, _, variant = name.partition(":")
    return configs.load(f"{runner.REPOSITORY}/configs/{file}.py:{variant}")


def refusal(config: ConfigDict, change: str) -> str:
    """What is said of a config with `KEY=TEXT`, as the command line takes it; "" if nothing."""
    key, _, text = change.partition("=")

    def use() -> None:
        configs.set_key(config, key, text)
        check(config)

    return refused(use)


def check(config: ConfigDict) -> None:
    """All checks that come before data are opened."""
    configs.check(config)
    family.check(config)
    if "tokenizer" in config.data:
        captioned.check(config.data)
    elif "blind" in config.data:
        sr.check(config.data)
    elif "prompt_length" in config.data:
        from jaxgen.data.scenes import examples

        examples.check(config.data)


@pytest.mark.parametrize(
    ("name", "every"),
    [("stackgan", 5), *(pytest.param(name, 1, marks=pytest.mark.slow) for name in FAMILIES)],
)
def test_every_key_takes_what_it_may_be_and_refuses_the_rest_in_one_line(name, every):
    """every: of the values, so that the short form still has one of each type over the keys."""
    tiny = configs_of(f"{name}:tiny")
    wrong = []
    for number, key in enumerate(configs.flatten(tiny)):
        tried = EXTREMES[number % every :: every]
        said = [checked(with_value(tiny, key, value)) for value in tried]
        if said.count("") > len(tried) / 2:
            wrong.append(f"{key} takes nearly anything")
        last = key.rpartition(".")[2]
        wrong += [f"{key}: {text}" for text in said if text and not plain(text, last)]
    assert not wrong, "\n".join(wrong)


def checked(config: ConfigDict) -> str:
    """What the checks of the config's keys say; "" if nothing."""
    return refused(lambda: (configs.check(config), family.check(config)))


def plain(text: str, word: str) -> bool:
    """Whether a message is one line of bearable length that names what it is about."""
    return word in text and "\n" not in text and len(text) < 700


def with_value(config: ConfigDict, key: str, value: object) -> ConfigDict:
    """A copy that holds a value of any type, as a file that makes its own dictionary may."""
    tree = copy.deepcopy(config.to_dict())
    *above, last = key.split(".")
    node = tree
    for name in above:
        node = node[name]
    node[last] = value
    return ConfigDict(tree)


@pytest.mark.parametrize("kind", sorted({case["kind"] for case in FILES}))
def test_files_that_cannot_be_used_are_named_in_one_line(kind, tmp_path):
    wrong = []
    for number, case in enumerate(c for c in FILES if c["kind"] == kind):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = folder / case["name"]
        text = "".join(part * count for part, count in case["parts"])
        path.write_bytes(text.encode("utf-8"))
        label = f"{case['name']} {text[:90]!r}"
        said = refused(lambda path=path: READERS[kind](path))
        if not said or not plain(said, case["says"]):
            wrong.append(f"{label}: {said[:300] or 'accepted'}")
    assert not wrong, "\n".join(wrong)


def read_captions(path: Path) -> None:
    for name in ("a.png", "b.png"):
        runner.picture(path.parent / name)
    data = captioned.defaults()
    data.update(source="folder", path=str(path.parent), captions=str(path), size=8)
    resolved = resolve(ConfigDict({"data": data})).data
    for split in ("train", "validation"):
        open_records(resolved, split)


def read_tokenizer(path: Path) -> None:
    data = captioned.defaults()
    data.update(tokenizer="bpe", tokenizer_json=path.read_text())
    make_tokenizer(data).encode("a blue bird")


def read_config(path: Path) -> None:
    check(configs.load(path))


READERS = {
    "config": read_config,
    "space": read_space,
    "json": configs.from_json,
    "captions": read_captions,
    "tokenizer": read_tokenizer,
}


@pytest.mark.parametrize("tokenizer", ["words", "bpe"])
def test_caption_files_that_failed_elsewhere(data_dir, tokenizer, tmp_path):
    """JAXGEN_DATA/cases/captions: inputs of public reports. Read, or refused with file and line."""
    cases = held(data_dir, "cases/captions")
    for name in "abcd":
        runner.picture(tmp_path / f"{name}.png")
    for file in sorted(f for f in cases.iterdir() if f.is_file()):
        data = captioned.defaults()
        data.update(source="folder", path=str(tmp_path), captions=str(file), size=8, holdout=0.0)
        data.update(tokenizer=tokenizer, vocabulary_size=300)
        count = READ.get(file.name, 0)
        said = refused(lambda data=data, count=count: open_training(data, count))
        if count:
            assert not said
        else:
            assert plain(said, f"{file}, line "), f"{file.name}: {said}"


# Pictures of the files that can be read.
READ = {"blank_first_lines.csv": 2, "spreadsheet_empty_rows.csv": 2, "huge_field.csv": 1}


def open_training(data: ConfigDict, count: int) -> None:
    assert len(open_records(resolve(ConfigDict({"data": data})).data, "train")) == count


def refused(use: Callable[[], object]) -> str:
    """What using something says where it is refused; "" where it is not."""
    try:
        use()
    except UserError as error:
        return str(error)
    except SystemExit:
        return "SystemExit"
    return ""
