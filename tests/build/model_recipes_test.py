#!/usr/bin/env python3
"""The recipes for known models (recipes/models): each has a card, holds only keys that exist, and
passes `sutor plan` with the published config.json of its model, without weights.

  .venv/bin/python tests/build/model_recipes_test.py build/sutor [-v] [Class.test]...
"""

import json
import pathlib
import re
import resource
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "recipes" / "models").glob("*.yaml"))
CARDS = (ROOT / "recipes" / "models" / "CARDS.md").read_text()
SUTOR = None  # set by main
# Of processor time, the most that a plan may take (the least of three on a busy machine).
SECONDS = 2
# Models that are computed like a published one with another name.
LIKE = {"ESFT-vanilla-lite": "DeepSeek-V2-Lite", "DeepSeek-V2-Lite-Chat": "DeepSeek-V2-Lite",
        "Qwen1.5-MoE-A2.7B-Chat": "Qwen1.5-MoE-A2.7B",
        "Qwen3-Coder-30B-A3B-Instruct": "Qwen3-30B-A3B",
        "Mixtral-8x7B-Instruct-v0.1": "Mixtral-8x7B"}


def model_of(recipe):
    """The name of the model's folder, where need be from the recipe that this one builds on."""
    text = recipe.read_text()
    found = re.search(r"path: models/([^,}]+)", text)
    if found:
        return found.group(1)
    return model_of(recipe.parent / re.search(r"^base: (\S+)", text, re.MULTILINE).group(1))


def ranks_of(recipe):
    """As its card says."""
    return int(re.search(rf"\({recipe.name}\).*?\| (\d+) \|", CARDS).group(1))


class ModelRecipes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory(prefix="sutor-models-")
        cls.addClassCleanup(temporary.cleanup)
        cls.folder = pathlib.Path(temporary.name)
        published = {entry["name"]: entry["config"] for entry in json.loads(
            (ROOT / "tests" / "golden" / "published_configs.json").read_text())}
        for recipe in RECIPES:
            name = model_of(recipe)
            model = cls.folder / "models" / name
            model.mkdir(parents=True, exist_ok=True)
            (model / "config.json").write_text(json.dumps(published[LIKE.get(name, name)]))

    def run_sutor(self, *command):
        return subprocess.run([SUTOR, *map(str, command)], cwd=self.folder, text=True, timeout=60,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)

    @staticmethod
    def processor_seconds():
        use = resource.getrusage(resource.RUSAGE_CHILDREN)
        return use.ru_utime + use.ru_stime

    def test_every_recipe_has_a_card(self):
        self.assertGreater(len(RECIPES), 10)
        for recipe in RECIPES:
            self.assertIn(f"({recipe.name})", CARDS)
            head = recipe.read_text().split("\n\n")[0]
            self.assertRegex(head, r"# Needs: .*card", recipe)
            self.assertIn(f"recipes/models/{recipe.name}", head)

    def test_every_recipe_holds_only_keys_and_values_that_exist(self):
        for recipe in RECIPES:
            with self.subTest(recipe=recipe.name):
                # Without rows it ends at the data (3); a wrong key would end it before (2).
                result = self.run_sutor("prepare", recipe)
                self.assertEqual(result.returncode, 3, result.stderr)
                self.assertIn("data/train", result.stderr.replace("intent", "train"))

    def test_every_recipe_passes_plan(self):
        for recipe in RECIPES:
            with self.subTest(recipe=recipe.name):
                card = re.search(r"# Needs: .*?of (\d+) GB", recipe.read_text()).group(1)
                seconds = []
                while not seconds or (seconds[-1] >= SECONDS and len(seconds) < 3):
                    before = self.processor_seconds()
                    result = self.run_sutor("plan", recipe, "--set", "device=cuda", "--ranks",
                                            ranks_of(recipe), "--device-memory", f"{card}GB")
                    seconds.append(self.processor_seconds() - before)
                    self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
                self.assertLess(min(seconds), SECONDS, recipe.name)


def main():
    global SUTOR
    SUTOR = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()


if __name__ == "__main__":
    main()
