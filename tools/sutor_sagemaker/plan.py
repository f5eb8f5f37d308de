"""What a container is to do: the recipe, its options, the verbs, the ranks."""

import json
import os
import pathlib
import re

from sutor_sagemaker.parameters import BadParameter, Parameters

MASTER_PORT = 29500
# Ways of training that take no expert config.
WITHOUT_SCORES = ("full", "lora")


def gpus():
    given = os.environ.get("SM_NUM_GPUS", "")
    if given.isdigit():
        return int(given)
    return sum(1 for path in pathlib.Path("/dev").glob("nvidia*") if re.search(r"\d$", path.name))


class Plan:
    """Raises BadParameter for what cannot work, before anything is started."""

    def __init__(self, container, mode=None):
        self.container = container
        self.parameters = Parameters(container.hyperparameters())
        own = self.parameters.own
        self.mode = mode or own.get("mode", "both")
        self.hosts, self.host, self.interface = container.hosts()
        self.ranks_here = self.parameters.ranks_per_host(gpus() or 1)
        self.output = self.output_folder()
        self.options = dict(self.parameters.options)
        self.notes = []
        self.choose_expert_config()
        self.recipe = self.make_recipe()
        tensorboard = own.get("tensorboard_dir", "/opt/ml/output/tensorboard")
        self.tensorboard = container.path(tensorboard, "tensorboard")

    @property
    def first_host(self):
        return self.host == 0

    @property
    def world_size(self):
        return self.ranks_here * len(self.hosts)

    def output_folder(self):
        given = self.parameters.own.get("output")
        if given:
            return self.container.path(given, "shared")
        shared = self.container.channel("shared")
        if len(self.hosts) == 1:
            return self.container.checkpoints / "sutor"
        if shared is None:
            raise BadParameter(
                f"{len(self.hosts)} hosts need one folder that all of them write in, and "
                f"{self.container.checkpoints} is of each host alone. Give the job a channel "
                "`shared` (FSx for Lustre or EFS, read-write), or one such path as hyperparameter "
                "`output`")
        return shared / os.environ.get("TRAINING_JOB_NAME", "sutor")

    def choose_expert_config(self):
        given = self.parameters.own.get("expert_config_dir")
        folder = self.container.channel("expert_config")
        path = self.container.path(given, "expert_config") if given else folder
        if path is not None and path.is_dir():
            files = sorted(path.glob("*.json"))
            if len(files) != 1:
                raise BadParameter(f"{path}: expected one expert config (*.json), found "
                                   f"{len(files)}; name it by expert_config_dir")
            path = files[0]
        if path is not None:
            if not path.is_file():
                raise BadParameter(f"expert config {path} does not exist")
            self.options["esft.config"] = str(path)
            if self.mode == "both":
                self.notes.append(f"{path} is given: nothing is scored")
            if self.mode == "scoring":
                raise BadParameter(f"mode=scoring and an expert config ({path}) contradict each "
                                   "other; leave one of them out")
        elif self.mode == "training" and "esft.config" not in self.options and not self.own_way():
            raise BadParameter(
                "mode=training needs an expert config: a channel `expert_config`, hyperparameter "
                "expert_config_dir, or esft.config. mode=both makes one first")

    def own_way(self):
        """Whether the training needs no scores, or the folder holds its expert config already."""
        return (self.options.get("train.method") in WITHOUT_SCORES
                or "recipe" in self.parameters.own
                or (self.output / "expert_config.json").exists())

    def rows(self, parameter, *channels):
        """The rows of a set as a list of sources; empty: the recipe's own count."""
        given = self.parameters.own.get(parameter)
        path = self.container.path(given, *channels) if given else self.container.channel(*channels)
        if path is None:
            return []
        if not path.exists():
            raise BadParameter(f"{parameter} {path} does not exist; the channel is one of "
                               f"{', '.join(channels)}")
        return [{"path": str(path), "name": channels[0]}]

    def model_path(self):
        given = self.parameters.own.get("model")
        folder = self.container.channel("model")
        if folder is not None and not (given or "").startswith("/"):
            return folder
        if given and given.startswith("/"):
            return self.container.path(given, "model")
        if given:
            raise BadParameter(
                f"model {given} is the name of a model and not a folder here. Put its files into "
                "S3 and give them as the channel `model`")
        return None

    def make_recipe(self):
        """A recipe of what the channels hold, on top of the job's own one."""
        recipe = {"output": str(self.output)}
        given = self.parameters.own.get("recipe")
        if given:
            path = self.container.path(given, "config")
            if not path.is_file():
                raise BadParameter(f"recipe {path} does not exist; the channel is `config`")
            recipe["base"] = str(path)
        model = self.model_path()
        if model is not None:
            recipe["model"] = {"path": str(model)}
        data = {kind: rows for kind, rows in
                (("train", self.rows("train_dataset", "train", "training")),
                 ("eval", self.rows("eval_dataset", "eval", "validation", "test"))) if rows}
        if data:
            recipe["data"] = data
        if not given:
            missing = [name for name, there in (("model", model), ("train", data.get("train")))
                       if not there]
            if missing:
                raise BadParameter(f"there is no channel `{missing[0]}` and no recipe that would "
                                   "say what stands in its place; the channels of the job are "
                                   f"{self.channels()}")
        return recipe

    def channels(self):
        folder = self.container.root / "input" / "data"
        names = sorted(path.name for path in folder.glob("*") if path.is_dir())
        return ", ".join(names) or "none"

    def write_recipe(self):
        folder = self.container.output_data
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "recipe.yaml"  # JSON is YAML
        path.write_text(json.dumps(self.recipe, indent=1) + "\n")
        return path

    def command(self, sutor, verb, recipe):
        options = [part for key, value in self.options.items()
                   for part in ("--set", f"{key}={value}")]
        return [sutor, verb, str(recipe), *options]

    def stages(self):
        """(verb, over all ranks?) in order."""
        if self.mode == "scoring":
            return [("prepare", False), ("score", True), ("select", False)]
        return [("run", True)]
