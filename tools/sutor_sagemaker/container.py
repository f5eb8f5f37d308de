"""The folders and files that the service lays out in a training container (/opt/ml)."""

import json
import os
import pathlib

from sutor_sagemaker.parameters import BadParameter

FAILURE_LENGTH = 1024  # so much of the file the service shows


class Container:
    """root: /opt/ml, or what stands in for it."""

    def __init__(self, root=None):
        self.root = pathlib.Path(root or os.environ.get("SUTOR_OPT_ML", "/opt/ml"))
        self.config = self.root / "input" / "config"
        self.model = self.root / "model"
        self.checkpoints = self.root / "checkpoints"
        self.output_data = self.root / "output" / "data"

    def read(self, name, otherwise):
        path = self.config / name
        if not path.exists():
            return otherwise
        try:
            value = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise BadParameter(f"{path} cannot be read: {error}") from None
        if not isinstance(value, dict):
            raise BadParameter(f"{path}: expected a JSON object")
        return value

    def hyperparameters(self):
        return self.read("hyperparameters.json", {})

    def hosts(self):
        """The names of all hosts in an order that all agree on, this one's place, the interface."""
        resources = self.read("resourceconfig.json", {})
        hosts = sorted(resources.get("hosts", ["localhost"]))
        current = resources.get("current_host", hosts[0] if hosts else "")
        if current not in hosts:
            path = self.config / "resourceconfig.json"
            raise BadParameter(f"{path}: current_host {current!r} is none of hosts {hosts}")
        return hosts, hosts.index(current), resources.get("network_interface_name")

    def channel(self, *names):
        """The folder of the first of these channels that the job has, or None."""
        folders = [self.root / "input" / "data" / name for name in names]
        return next((folder for folder in folders if folder.is_dir()), None)

    def path(self, text, *channels):
        """A path as a hyperparameter gives it: whole, or within the first of these channels."""
        path = pathlib.PurePosixPath(text)
        if path.is_absolute():
            try:
                return self.root / path.relative_to("/opt/ml")
            except ValueError:
                return pathlib.Path(path)
        folder = self.channel(*channels)
        return (folder or self.root / "input" / "data" / channels[0]) / path

    def fail(self, message):
        """What the service shows as the job's FailureReason."""
        path = self.root / "output" / "failure"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(message[:FAILURE_LENGTH])

    def clear_failure(self):
        (self.root / "output" / "failure").unlink(missing_ok=True)
