"""What a run leaves for the service: the folder that becomes model.tar.gz, TensorBoard's files."""

import os
import shutil
import time

# Of the run's folder -> in the model folder.
FILES = ("expert_config.json", "scores.h5", "heat_map.svg", "metrics.jsonl", "eval.jsonl",
         "recipe.resolved.yaml", "data_report.html", "report.html", "receipt.json")
FOLDERS = {"export/adapter": "adapter", "export/merged": "merged", "export/peft": "peft"}
MIRROR_SECONDS = 15


def put(source, target):
    """The same file once more: a link where both are on one disk, else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def deliver(output, model):
    """Returns the names of what is in the model folder now."""
    for name in FILES:
        if (output / name).is_file():
            put(output / name, model / name)
    for name, to in FOLDERS.items():
        folder = output / name
        if not folder.is_dir():
            continue
        shutil.rmtree(model / to, ignore_errors=True)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                put(path, model / to / path.relative_to(folder))
    return sorted(path.name for path in model.iterdir()) if model.is_dir() else []


class TensorboardMirror:
    """Copies the run's event files to where the service takes them from, while they grow."""

    def __init__(self, output, target):
        self.source, self.target = output / "tensorboard", target
        self.sizes, self.next = {}, 0

    def tick(self, at_end=False):
        if not at_end and time.monotonic() < self.next:
            return
        self.next = time.monotonic() + MIRROR_SECONDS
        if not self.source.is_dir():
            return
        for path in self.source.rglob("*"):
            size = path.stat().st_size if path.is_file() else None
            if size is None or self.sizes.get(path) == size:
                continue
            target = self.target / path.relative_to(self.source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            self.sizes[path] = size
