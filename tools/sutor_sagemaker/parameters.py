"""Hyperparameters of a job, which the service hands on as strings -> options of a recipe. Used by
the container, and by the script that submits, so that a mistake is found before a machine is paid
for.

Beside the names below, which are those of the AWS sample for ESFT, every recipe key is one:
`optim.lr`, `train.global_batch`, ...
"""

import difflib
import json

MODES = ("scoring", "training", "both")


class BadParameter(Exception):
    """A hyperparameter that cannot be used; the text says which, what is expected, and where."""


def percent(text):
    """"0.1" -> "10%": the share of a run, where a recipe would take a number for steps."""
    return f"{float(text) * 100:g}%"


def tokens(text):
    return "all" if int(text) < 0 else text


def switch(text):
    if text.lower() not in ("true", "false"):
        raise ValueError("expected true or false")
    return text.lower()


def plain(text):
    return text


# The AWS sample's name -> recipe key, and how its value is written there.
RECIPE_KEYS = {
    "n_sample_tokens": ("esft.score.tokens", tokens),
    "score_function": ("esft.select.method", plain),
    "score_threshold": ("esft.select.top_p", plain),
    "train_shared_experts": ("esft.select.shared_experts", switch),
    "train_non_expert_modules": ("esft.select.non_expert_modules", switch),
    "train_epochs": ("schedule.epochs", plain),
    "warmup_ratio": ("schedule.warmup", percent),
    "min_learning_rate": ("schedule.min_lr", plain),
    "lr_decay_style": ("schedule.name", plain),
    "micro_batch_size": ("train.micro_batch", plain),
    "global_batch_size": ("train.global_batch", plain),
    "learning_rate": ("optim.lr", plain),
    "weight_decay": ("optim.weight_decay", plain),
    "max_length": ("data.seq_len", plain),
    "save_interval": ("checkpoint.every", plain),
    "expert_parallel": ("parallel.ep", plain),
    "pipeline_parallel": ("parallel.pp", plain),
}
# What the container itself reads. `world_size`, the number of processes that score, has no meaning
# here: scoring and training use the same ranks.
OWN = {
    "mode": "scoring, training, or both (the default)",
    "recipe": "a recipe: a file of the channel `config`, or its whole path",
    "model": "the directory of the model, when it is not the channel `model`",
    "train_dataset": "rows for training: a file of the channel, or a whole path",
    "eval_dataset": "rows for evaluation: a file of the channel, or a whole path",
    "expert_config_dir": "an expert config, or its folder: nothing is scored then",
    "gpus_per_process": "ranks on a host; default: its GPUs, or 1",
    "ranks_per_host": "the same",
    "output": "the folder of the run, when it is not that of the checkpoints",
    "tensorboard_dir": "where the service looks for TensorBoard's files",
    "use_wandb": "true: metrics go to Weights & Biases, too",
    "world_size": "of the AWS sample; only 1",
}
SECTIONS = ("model", "parallel", "data", "esft", "lora", "optim", "schedule", "train", "checkpoint",
            "log", "eval", "generate", "export")


def is_recipe_key(name):
    return name.split(".", 1)[0] in SECTIONS and "." in name or name == "device"


def text_of(name, value):
    """The service's own libraries write JSON into the strings: "\\"token\\"", "0.2", "true"."""
    if not isinstance(value, str):
        raise BadParameter(f"hyperparameter {name}: expected a string, found {value!r}")
    if len(value) >= 2 and value[0] == '"':
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadParameter(f"hyperparameter {name}={value}: {error}") from None
    return value.strip()


def check_names(names):
    """Raises BadParameter for the first name that has no meaning."""
    known = [*RECIPE_KEYS, *OWN]
    for name in names:
        if name in known or is_recipe_key(name) or name.startswith("sagemaker_"):
            continue
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(sorted(known))}"
        raise BadParameter(f"hyperparameter `{name}` is not known: {hint} Recipe keys are taken by "
                           "their whole name, such as optim.lr")


class Parameters:
    """own: {name: text} of what the container reads; options: {recipe key: text}."""

    def __init__(self, given):
        check_names(given)
        self.own, self.options = {}, {}
        origins = {}
        for name, value in given.items():
            text = text_of(name, value)
            if name.startswith("sagemaker_") or text == "":
                continue
            if name in OWN:
                self.own[name] = text
                continue
            key, written = RECIPE_KEYS.get(name, (name, plain))
            if key in origins:
                raise BadParameter(f"hyperparameters `{origins[key]}` and `{name}` both set {key}; "
                                   "give one of them")
            try:
                self.options[key], origins[key] = written(text), name
            except ValueError as error:
                raise BadParameter(f"hyperparameter {name}={text}: {error}") from None
        self.check_own()

    def check_own(self):
        if self.own.get("mode", "both") not in MODES:
            raise BadParameter(f"hyperparameter mode={self.own['mode']}: expected one of "
                               f"{', '.join(MODES)}")
        if self.own.get("world_size", "1") != "1":
            raise BadParameter(
                f"hyperparameter world_size={self.own['world_size']}: expected 1. Scoring and "
                "training use the same ranks here: gpus_per_process on each host")
        if "ranks_per_host" in self.own and "gpus_per_process" in self.own:
            raise BadParameter("hyperparameters `ranks_per_host` and `gpus_per_process` mean the "
                               "same; give one of them")
        for name in ("ranks_per_host", "gpus_per_process"):
            if not self.own.get(name, "1").isdigit() or int(self.own.get(name, "1")) < 1:
                raise BadParameter(f"hyperparameter {name}={self.own[name]}: expected a whole "
                                   "number, 1 or more")
        if switch(self.own.get("use_wandb", "false")) == "true":
            self.options.setdefault("log.wandb.project", "sutor")

    def ranks_per_host(self, otherwise):
        return int(self.own.get("ranks_per_host", self.own.get("gpus_per_process", otherwise)))
