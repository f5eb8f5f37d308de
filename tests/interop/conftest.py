"""Fixtures of the interop tests: the program, and models made by transformers.

  SUTOR=build/sutor python -m pytest tests/interop

needs the packages of tools/setup-reference.sh in the Python that runs pytest. Every run of the
program has a time limit; no test depends on another one.
"""

import os
import pathlib
import shutil

import pytest
import torch

import models
import runner
import small_tokenizers

ROOT = pathlib.Path(__file__).resolve().parents[2]
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def program():
    path = pathlib.Path(os.environ.get("SUTOR", ROOT / "build" / "sutor")).resolve()
    if not path.exists():
        pytest.fail(f"{path} does not exist: build the program or set SUTOR")
    return runner.Program(path)


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    """model_dir(shape, dtype="fp32", **form) -> a saved model; written once a session."""
    base = tmp_path_factory.mktemp("models")

    def saved(shape, dtype="fp32", **form):
        folder = base / "-".join([shape.name, dtype] + [f"{k}_{v}" for k, v in form.items()])
        if not folder.exists():
            model = models.build(shape)
            models.save(models.to_bf16(model) if dtype == "bf16" else model, folder, **form)
        return folder

    return saved


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """model(kind, template=None) -> a folder with tokenizer.json and its neighbours, no weights."""
    made = {}

    def saved(kind, template=None, bos="<s>"):
        if kind not in made:
            made[kind] = small_tokenizers.KINDS[kind]()
        folder = tmp_path_factory.mktemp("model")
        small_tokenizers.save(made[kind], folder, template, bos)
        return folder

    return saved


@pytest.fixture
def copy_of(tmp_path):
    """copy_of(folder) -> a copy that the test may corrupt."""
    def copy(folder):
        return pathlib.Path(shutil.copytree(folder, tmp_path / "corrupted"))
    return copy
