#!/usr/bin/env python3
"""`cmake --install` gives a tree that can be moved: after it was, with the sources out of sight,
the verbs of the quickstart run from it.

  .venv/bin/python tests/build/install_test.py BUILD_FOLDER SOURCES [-v]
"""

import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = SOURCES = None  # set by main
SECONDS = 300

RECIPE = """\
model: {{path: {folder}/model, dtype: fp32}}
data:
  train: [{{path: {folder}/train.jsonl, name: train}}]
  eval: [{{path: {folder}/task.jsonl, name: task}}]
  seq_len: 64
  loss_on: all
esft: {{score: {{tokens: 200}}, select: {{method: token, top_p: 0.3}}}}
optim: {{lr: 1e-3}}
schedule: {{steps: 4}}
train: {{global_batch: 4, micro_batch: 2, threads: 1}}
eval: {{every: 0}}
checkpoint: {{every: 0}}
output: {folder}/run
"""

# Hides the sources from the command behind it: an empty file system over them, in a mount
# namespace of its own.
HIDDEN = ["unshare", "--mount", "--propagation", "private", "bash", "-c",
          'mount -t tmpfs none "$0" && cd / && exec "$@"']


def can_hide():
    tried = subprocess.run([*HIDDEN, str(SOURCES), "true"], capture_output=True, check=False)
    return tried.returncode == 0


class InstalledTree(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-install-")  # 0.9 GB
        cls.folder = pathlib.Path(cls.temporary.name)
        first, cls.tree = cls.folder / "first", cls.folder / "moved" / "here"
        done = subprocess.run(["cmake", "--install", str(BUILD), "--prefix", str(first)],
                              capture_output=True, text=True, timeout=SECONDS, check=False)
        if done.returncode != 0:
            raise AssertionError(f"cmake --install: {done.stdout[-2000:]}{done.stderr}")
        cls.tree.parent.mkdir()
        first.rename(cls.tree)
        cls.program = cls.tree / "bin/sutor"
        cls.hidden = can_hide()

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def sutor(self, *words):
        command = [str(self.program), *map(str, words)]
        if self.hidden:
            command = [*HIDDEN, str(SOURCES), *command]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS,
                              stdin=subprocess.DEVNULL, cwd=self.folder, check=False,
                              env={name: value for name, value in os.environ.items()
                                   if name != "SUTOR_PYTHON"} | {"OMP_NUM_THREADS": "1"})
        self.assertEqual(done.returncode, 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.stdout

    def test_its_program_loads_from_the_tree_and_from_the_system_alone(self):
        dynamic = subprocess.run(["readelf", "-d", self.program], capture_output=True, text=True,
                                 check=True).stdout
        self.assertEqual(re.findall(r"R(?:UN)?PATH.*\[(.*)\]", dynamic), ["$ORIGIN/../lib"])
        loaded = subprocess.run(["ldd", self.program], capture_output=True, text=True,
                                check=True).stdout
        self.assertNotIn("not found", loaded)
        ours = re.compile(r"lib(torch|c10|cu(?!rl)|nccl|boost_program|yaml-cpp|fmt|isal|xxhash)")
        left = (self.tree / "share/sutor/system_libraries.txt").read_text().split()
        self.assertFalse([name for name in left if ours.match(name)])
        for name, path in re.findall(r"(\S+) => (\S+)", loaded):
            self.assertNotIn(str(SOURCES), path, name)
            if ours.match(name):
                self.assertIn(str(self.tree), path, name)
            elif str(self.tree) not in path and not re.match(
                    r"lib(c|m|dl|rt|pthread|util|resolv)\.so", name):
                self.assertIn(name, left)
        self.assertIn("libtorch_cpu.so", loaded)

    def test_the_verbs_of_the_quickstart_run_with_the_sources_out_of_sight(self):
        numbers = random.Random(5)
        for name, count in (("train", 24), ("task", 6)):
            rows = [{"input_ids": [numbers.randrange(3, 200) for _ in range(24)]}
                    for _ in range(count)]
            (self.folder / f"{name}.jsonl").write_text(
                "".join(json.dumps(row) + "\n" for row in rows))
        recipe, run = self.folder / "recipe.yaml", self.folder / "run"
        recipe.write_text(RECIPE.format(folder=self.folder))
        self.sutor("init-model", "--family", "deepseek_v2", "--out", self.folder / "model")
        self.sutor("convert", "--from", self.folder / "model", "--to", self.folder / "base")
        for verb in ("prepare", "score", "select"):
            self.sutor(verb, recipe)
        self.assertIn("frozen tensors unchanged", self.sutor("train", recipe))
        self.sutor("eval", recipe, "--checkpoint", "latest")
        self.sutor("export", recipe, "--checkpoint", "latest", "--verify")
        self.sutor("verify", self.folder / "base", run / "checkpoints", run / "export/adapter",
                   run / "export/merged")
        (self.folder / "ids.json").write_text("[[5, 6, 7]]")
        self.sutor("generate", recipe, "--checkpoint", "latest", "--ids", self.folder / "ids.json",
                   "--out", self.folder / "out.json", "--set", "generate.max_new_tokens=3")
        self.assertEqual(len(json.loads((self.folder / "out.json").read_text())), 1)
        self.assertIn("E0201", self.sutor("help", "E0201"))
        if not self.hidden:
            self.skipTest("the verbs ran, but the sources could not be hidden (unshare --mount "
                          "needs root); its libraries are checked by readelf and ldd")

    def test_it_has_pages_and_completion_that_were_made_from_the_program(self):
        verbs = re.findall(r"^  ([a-z-]+) +\S", self.sutor("--help").split("\nexit codes")[0],
                           re.MULTILINE)
        self.assertGreater(len(verbs), 10)
        for verb in verbs:
            page = (self.tree / f"share/man/man1/sutor-{verb}.1").read_text()
            self.assertIn(".SH EXAMPLES", page)
        self.assertIn("\\-\\-top\\-p", (self.tree / "share/man/man1/sutor-select.1").read_text())
        script = self.tree / "share/bash-completion/completions/sutor"
        ask = (f'source "{script}"; COMP_WORDS=($1); COMP_CWORD=$2; _sutor; '
               'printf "%s\\n" "${COMPREPLY[@]}"')

        def complete(line, at):
            return subprocess.run(["bash", "-c", ask, "bash", line, str(at)], capture_output=True,
                                  text=True, check=True).stdout.split()
        self.assertEqual(complete("sutor trai", 1), ["train"])
        self.assertIn("--overwrite", complete("sutor train --o", 2))
        self.assertEqual(complete("sutor train --res", 2), ["--resume"])
        self.assertTrue((self.tree / "share/zsh/site-functions/_sutor").read_text().startswith(
            "#compdef sutor"))
        if shutil.which("zsh"):
            subprocess.run(["zsh", "-n", self.tree / "share/zsh/site-functions/_sutor"], check=True)

    def test_without_its_venv_the_message_says_how_to_make_one(self):
        venv = self.tree / "share/sutor/venv"
        aside = venv.with_name("aside")
        venv.rename(aside)
        try:
            (self.folder / "empty.yaml").write_text(RECIPE.format(folder=self.folder))
            done = subprocess.run([self.program, "eval", "--completions", os.devnull, "--scorer",
                                   "exact"], capture_output=True, text=True, check=False,
                                  env={name: value for name, value in os.environ.items()
                                       if name != "SUTOR_PYTHON"})
        finally:
            aside.rename(venv)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("E0232", done.stderr)
        self.assertIn("requirements.txt", done.stderr)


def main():
    global BUILD, SOURCES
    BUILD, SOURCES = (pathlib.Path(path).resolve() for path in sys.argv[1:3])
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])


if __name__ == "__main__":
    main()
