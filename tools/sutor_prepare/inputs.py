"""Digests of the files beside tokenizer and model that decide tokens, as token stores carry them.

`sutor run`, `train` and `eval` compare them with what is there then: launch/steps/stage_checks.cc.
"""

import hashlib
import os

from .files import read_input
from .templates import FOLDER, SUFFIX, WITH_TOOLS, template_files

BESIDE_TOKENIZER = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# Also where they are absent: they would be used if they came.
TEMPLATES = ("chat_template.jinja", "chat_template.json", f"{FOLDER}/{WITH_TOOLS}{SUFFIX}")


def digest_of(path):
    """Of a file, or "absent"."""
    if not os.path.exists(path):
        return "absent"
    return "sha256:" + hashlib.sha256(read_input(path, 331)).hexdigest()


def digests(tokenizer, model, template):
    """tokenizer, model: folders; template: what the recipe wants, or None where none is used."""
    is_file = template not in (None, "auto", "none") and os.path.isfile(template)
    own = template is not None and not is_file  # auto, or the name of one of the model's
    found = {}
    for role, folder in (("tokenizer", tokenizer), ("model", model)):
        names = BESIDE_TOKENIZER
        if own:
            names += tuple(sorted({*TEMPLATES, *template_files(folder).values()}))
        found |= {f"{role}/{name}": digest_of(os.path.join(folder, name)) for name in names}
    found["model/config.json"] = digest_of(os.path.join(model, "config.json"))
    if is_file:
        found["data.template"] = digest_of(template)
    return found


def program_digest():
    """Of this program's part that makes tokens."""
    tools = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    total = hashlib.sha256()
    for name in ("sutor_prepare", "sutor_rows", "sutor_store"):
        folder = os.path.join(tools, name)
        for name in sorted(os.listdir(folder)):
            if name.endswith(".py"):
                total.update(read_input(os.path.join(folder, name), 331))
    return "sha256:" + total.hexdigest()
