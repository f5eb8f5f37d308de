"""Digests of the files beside tokenizer and model that decide tokens, as token stores carry them.

`sutor run`, `train` and `eval` compare them with what is there then: launch/steps/stage_checks.cc.
"""

import hashlib
import os

from .files import read_input

BESIDE_TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json")
TEMPLATES = ("chat_template.jinja", "chat_template.json")


def digest_of(path):
    """Of a file, or "absent"."""
    if not os.path.exists(path):
        return "absent"
    return "sha256:" + hashlib.sha256(read_input(path, 331)).hexdigest()


def digests(tokenizer, model, template):
    """tokenizer, model: folders; template: what the recipe wants, or None where none is used."""
    names = BESIDE_TOKENIZER + (TEMPLATES if template == "auto" else ())
    found = {f"{role}/{name}": digest_of(os.path.join(folder, name))
             for role, folder in (("tokenizer", tokenizer), ("model", model)) for name in names}
    found["model/config.json"] = digest_of(os.path.join(model, "config.json"))
    if template not in (None, "auto", "none"):
        found["data.template"] = digest_of(template)
    return found


def program_digest():
    """Of this program's part that makes tokens."""
    folder = os.path.dirname(os.path.abspath(__file__))
    total = hashlib.sha256()
    for name in sorted(os.listdir(folder)):
        if name.endswith(".py"):
            total.update(read_input(os.path.join(folder, name), 331))
    return "sha256:" + total.hexdigest()
