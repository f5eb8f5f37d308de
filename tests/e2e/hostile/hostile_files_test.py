#!/usr/bin/env python3
"""Whatever stands in the place of an input, and whatever a file says: the program ends in 10 s and
1 GiB with one error and a documented exit code.

  hostile_files_test.py SUTOR [unittest options]
"""

import json
import pathlib
import random
import shutil
import sys
import tempfile
import unittest

import tokenizers

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from recipes import Folder
from trials import attempt, place

KINDS = ("pipe", "device")  # of every file, and one of these in turn
MORE_KINDS = ("folder", "socket", "circle", "huge")

CONFIG = {"experts": {"1": [0, 2]}, "shared_experts": False, "non_expert_modules": False}
TRAINING = ["--set", "esft.config={folder}/experts.json"]

# What replaces which file, and who reads it: (file, arguments). {folder} holds the copy.
READERS = [
    ("model/config.json", ["inspect", "{folder}/model"]),
    ("model/config.json", ["verify", "{folder}/model"]),
    ("model/config.json", ["prepare", "{folder}/recipe.yaml"]),
    ("model/config.json", ["logits", "--model", "{folder}/model", "--ids", "{folder}/ids.json",
                           "--out", "{folder}/out.safetensors"]),
    ("model/model.safetensors", ["verify", "{folder}/model"]),
    ("model/model.safetensors", ["convert", "--from", "{folder}/model", "--to", "{folder}/store"]),
    ("sharded/model.safetensors.index.json", ["verify", "{folder}/sharded"]),
    ("sharded/model-00001-of-00002.safetensors", ["verify", "{folder}/sharded"]),
    ("model/generation_config.json", ["generate", "--model", "{folder}/model", "--ids",
                                      "{folder}/ids.json", "--out", "{folder}/out.json"]),
    ("model/tokenizer.json", ["prepare", "{folder}/texts.yaml"]),
    ("model/tokenizer_config.json", ["prepare", "{folder}/texts.yaml"]),
    ("model/chat_template.jinja", ["prepare", "{folder}/chats.yaml"]),
    ("train.jsonl", ["prepare", "{folder}/recipe.yaml"]),
    ("recipe.yaml", ["params", "{folder}/recipe.yaml"]),
    ("recipe.yaml", ["run", "{folder}/texts.yaml"]),  # the base of texts.yaml
    ("experts.json", ["params", "{folder}/recipe.yaml", *TRAINING]),
    ("experts.json", ["inspect", "{folder}/experts.json"]),
    ("ids.json", ["logits", "--model", "{folder}/model", "--ids", "{folder}/ids.json",
                  "--out", "{folder}/out.safetensors"]),
    ("summary.json", ["select", "{folder}/recipe.yaml", "--scores", "{folder}/summary.json"]),
    ("records/expert_weights_1.txt", ["select", "{folder}/recipe.yaml", "--scores",
                                      "{folder}/records"]),
    ("run/scores.h5", ["select", "{folder}/recipe.yaml"]),
    ("run/scores.h5", ["inspect", "{folder}/run/scores.h5"]),
    ("run/tokens/train.tokens.h5", ["train", "{folder}/recipe.yaml", "--resume"]),
    ("run/tokens/train.tokens.h5", ["inspect", "{folder}/run/tokens/train.tokens.h5"]),
    ("run/expert_config.json", ["params", "{folder}/recipe.yaml"]),
    ("run/export/adapter/expert_cfg.json", ["verify", "{folder}/run/export/adapter"]),
    ("run/export/adapter/sutor_adapter.json", ["verify", "{folder}/run/export/adapter"]),
    ("run/export/adapter/model.safetensors", ["inspect", "{folder}/run/export/adapter"]),
    ("run/export/merged/config.json", ["verify", "{folder}/run/export/merged"]),
    ("completions.jsonl", ["eval", "--completions", "{folder}/completions.jsonl", "--scorer",
                           "exact"]),
]
STEP = "run/checkpoints/step-00000006"
READERS += [(f"{STEP}/{name}", ["verify", "{folder}/" + STEP])
            for name in ("MANIFEST.json", "state.h5", "w0000.h5", "w0000.idx")]
# What may be passed over: the verb may also do its work.
OPTIONAL = [
    ("run/stages.json", ["run", "{folder}/recipe.yaml"]),
    ("run/metrics.jsonl", ["train", "{folder}/recipe.yaml", "--resume"]),
    ("run/checkpoints/LATEST", ["export", "{folder}/recipe.yaml", "--overwrite", "--checkpoint",
                                "latest"]),
    ("run/checkpoints/BEST", ["export", "{folder}/recipe.yaml", "--overwrite"]),
]

# Changes of config.json that must be refused by name.
CONFIGS = [
    {"n_routed_experts": 10**9}, {"num_hidden_layers": 10**6}, {"vocab_size": 2**63},
    {"hidden_size": 10**12}, {"n_routed_experts": 2.5}, {"num_hidden_layers": 0},
    {"num_experts_per_tok": 100}, {"first_k_dense_replace": 9}, {"rope_theta": 0},
    {"rms_norm_eps": -1}, {"kv_lora_rank": True}, {"v_head_dim": "16"}, {"num_attention_heads": -4},
    {"routed_scaling_factor": 0}, {"rope_scaling": {"type": "yarn", "factor": 0}},
    {"model_type": "x" * 10**6},
]

ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
TEMPLATES = {
    "endless": ENDLESS,
    "doubling": "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}"
                "{% endfor %}",
    "long product": "{{ 'a' * 10 ** 11 }}",
    "large power": "{{ 10 ** (10 ** 10) }}",
    "wide": "{{ 'a' | center(10 ** 11) }}",
    "many letters": "{% for a in range(99999) %}{{ 'a' * 9999 }}{% endfor %}",
    "brackets": "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "division": "{{ 1 / 0 }}",
    "attribute": "{{ messages.x.y }}",
    "not closed": "{% if",
    "half surrogate": "{{ '\\ud800' }}",
}
ROWS = {
    "deep": b'{"messages": ' + b"[" * 100000 + b"]" * 100000 + b"}",
    "deep but closed": b'{"text": ' + b'{"a": ' * 50000 + b"1" + b"}" * 50000 + b"}",
    "no object": b"[]",
    "half surrogate": b'{"text": "\\ud800"}',
    "zero byte": b'{"text": "a\0b"}',
    "other bytes": b'{"text": "caf\xe9"}',
    "many lists": b'{"text": [' + b"[]," * 15_000_000 + b"0]}",
    "long number": b'{"input_ids": [' + b"9" * 100000 + b"]}",
    "only blanks": b"\n" * 5_000_000,
}
RECIPES = {
    "comma": b",",
    "alias of itself": b"esft: {also_train: &a [x, *a]}\n",
    "Latin-1": b"output: caf\xe9\n",
    "long variable": b"output: ${" + b"A" * 60000 + b"}\n",
    "many variables": b"output: " + b"${}" * 20000 + b"\n",
    "long name": b"data: {train: [{path: a, name: " + b"a" * 60000 + b"}]}\n",
    "large scalar": b"output: " + b"a" * (10 << 20) + b"\n",
    "deep": b"a: " + b"[" * 100000,
    "long base": b"base: " + b"b" * 60000 + b"\n",
    "itself": b"base: hostile.yaml\n",
}
PATTERNS = ["(" * 20000, "a" * 60000, "(((.{1000}){1000}){1000})", "(.*.*)*x", "["]


def chats(count=1):
    turns = [{"role": role, "content": "x y"} for role in ("user", "assistant")]
    return json.dumps({"messages": turns * count})


class HostileFiles(unittest.TestCase):
    sutor = ""

    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-hostile-")
        cls.root = pathlib.Path(cls.temporary.name)
        cls.good = cls.root / "good"
        cls.good.mkdir()
        folder = Folder(cls.sutor, cls.good)
        cls.count = 0
        good = cls.good
        model = good / "model"
        words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"x": 0, "y": 1}, unk_token="x"))
        words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
        words.save(str(model / "tokenizer.json"))
        (model / "tokenizer_config.json").write_text("{}")
        (model / "chat_template.jinja").write_text("{{ messages[-1].content }}")
        if not (model / "generation_config.json").exists():
            (model / "generation_config.json").write_text("{}")
        recipe = folder.recipe.read_text().replace(str(good) + "/", "").replace("seq_len: 64",
                                                                              "seq_len: 32")
        folder.recipe.write_text(recipe)
        for name in ("texts", "chats"):
            (good / f"{name}.yaml").write_text(
                f"base: recipe.yaml\ndata: {{train: [{{path: {name}.jsonl}}], eval: []}}\n"
                f"output: run-{name}\n")
        (good / "texts.jsonl").write_text('{"text": "x y"}\n')
        (good / "chats.jsonl").write_text(chats() + "\n")
        (good / "experts.json").write_text(json.dumps(CONFIG))
        (good / "ids.json").write_text("[[5, 6, 7]]")
        (good / "summary.json").write_text(
            json.dumps({"token_scores": {"1": {str(e): 0.125 for e in range(8)},
                                         "2": {str(e): 0.125 for e in range(8)}}}))
        (good / "records").mkdir()
        for layer in (1, 2):
            (good / "records" / f"expert_weights_{layer}.txt").write_text(
                "0\t1\t2\t\t0.5\t0.25\t0.25\n")
        (good / "completions.jsonl").write_text(json.dumps(
            {"example": {"prompt": "p", "raw_prediction": "x", "raw_answers": "x"}}) + "\n")
        shards = attempt([cls.sutor, "init-model", "--family", "mixtral", "--shard-size", "500KB",
                          "--out", good / "sharded"], good)
        assert shards.code == 0, shards.text
        done = attempt([cls.sutor, "run", "recipe.yaml"], good)
        assert done.code == 0, done.text
        names = sorted(path.name for path in (good / "sharded").glob("*.safetensors"))
        cls.first_shard = names[0]

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def copy(self):
        """A copy of everything, to be spoiled."""
        self.__class__.count += 1
        copy = self.root / f"copy-{self.count}"
        shutil.copytree(self.good, copy)
        self.addCleanup(shutil.rmtree, copy, ignore_errors=True)
        return copy

    def expect(self, name, copy, arguments, allowed=frozenset(), words="", env=None):
        command = [self.sutor, *(str(each).format(folder=copy) for each in arguments)]
        outcome = attempt(command, copy, env)
        with self.subTest(name):
            problem = outcome.problem(allowed, words)
            self.assertEqual(problem, "", f"{name}: exit {outcome.code}, {outcome.text[-1500:]}")
        return outcome

    def spoil(self, readers, more_kinds=MORE_KINDS, allowed=frozenset()):
        for number, (file, arguments) in enumerate(readers):
            kinds = (*KINDS, *more_kinds[number % 4:][:1])
            copy = self.copy()
            if file.startswith("sharded/model-"):
                file = f"sharded/{self.first_shard}"
            self.assertTrue((copy / file).exists(), file)
            whole = (copy / file).read_bytes()
            for kind in kinds:
                place(copy / file, kind)
                self.expect(f"{kind} for {file}: {arguments[0]}", copy, arguments, allowed)
            place(copy / file, "folder")
            (copy / file).rmdir()
            (copy / file).write_bytes(whole)
            shutil.rmtree(copy)

    def test_whatever_stands_in_place_of_a_file_is_refused_at_once(self):
        self.spoil(READERS[: len(READERS) // 2])

    def test_whatever_stands_in_place_of_an_output_that_is_read_again_is_refused_at_once(self):
        self.spoil(READERS[len(READERS) // 2 :])

    def test_what_may_be_passed_over_is_not_waited_for(self):
        self.spoil(OPTIONAL, more_kinds=(), allowed={0})

    def test_rows_from_a_shell_are_refused_with_words_that_say_so(self):
        copy = self.copy()
        command = f"{self.sutor} prepare recipe.yaml --set data.train[0].path=<(cat train.jsonl)"
        outcome = attempt(["bash", "-c", command], copy)
        self.assertEqual(outcome.problem(words="is a pipe"), "", outcome.text)

    def test_a_config_beyond_sense_is_refused_alike_by_all_who_read_it(self):
        copy = self.copy()
        config = copy / "model" / "config.json"
        good = json.loads(config.read_text())
        logits = ["logits", "--model", "{folder}/model", "--ids", "{folder}/ids.json", "--out",
                  "{folder}/out.safetensors"]
        for change in CONFIGS:
            config.write_text(json.dumps(good | change))
            key = next(iter(change))
            for arguments in (["inspect", "{folder}/model/config.json"], logits):
                name = f"{arguments[0]}: {key}"
                if key == "model_type":  # its files can still be listed
                    self.expect(name, copy, arguments, allowed={0})
                else:
                    named = "factor" if key == "rope_scaling" else key
                    self.expect(name, copy, arguments, words=f"`{named}`")
        for name, text in (("deep", "[" * 10**6), ("long", '{"a": [' + "[]," * 4_000_000 + "0]}"),
                           ("no number", '{"rope_theta": NaN}'), ("empty", "")):
            config.write_text(text)
            self.expect(f"config.json: {name}", copy, logits)

    def test_recipes_without_end_are_refused(self):
        copy = self.copy()
        for name, text in RECIPES.items():
            start = b"" if name == "comma" else b"model: {path: model}\n"
            (copy / "hostile.yaml").write_bytes(start + text)
            self.expect(f"recipe: {name}", copy, ["params", "{folder}/hostile.yaml"])
        for pattern in PATTERNS:
            (copy / "hostile.yaml").write_text(
                "base: recipe.yaml\nesft: {config: experts.json, also_train: "
                f"{json.dumps([pattern])}}}\n")
            self.expect(f"pattern {pattern[:20]}", copy, ["params", "{folder}/hostile.yaml"])
        self.expect("long output", copy, ["prepare", "{folder}/recipe.yaml", "--set",
                                          "output=" + "x" * 300])

    def test_rows_of_any_kind_end_with_their_place(self):
        copy = self.copy()
        for name, text in ROWS.items():
            (copy / "texts.jsonl").write_bytes(b'{"text": "x"}\n' + text + b"\n")
            if name == "only blanks":
                (copy / "texts.jsonl").write_bytes(text)
            words = "" if name == "only blanks" else "texts.jsonl:2: error["
            self.expect(f"row: {name}", copy, ["prepare", "{folder}/texts.yaml"], words=words)
        with (copy / "texts.jsonl").open("wb") as file:
            file.write(b'{"text": "x"}\n{"text": "')
            for _ in range(200):
                file.write(b"x" * 1_000_000)
            file.write(b'"}\n')
        self.expect("row: 200 MB", copy, ["prepare", "{folder}/texts.yaml"],
                    words="texts.jsonl:2: error[")

    def test_templates_without_end_are_stopped_with_the_row(self):
        copy = self.copy()
        for name, text in TEMPLATES.items():
            (copy / "model" / "chat_template.jinja").write_text(text)
            self.expect(f"template: {name}", copy, ["prepare", "{folder}/chats.yaml"],
                        words="chat", env={"SUTOR_ROW_SECONDS": "1"})

    def test_tokenizers_without_end_are_stopped(self):
        copy = self.copy()
        file = copy / "model" / "tokenizer.json"
        good = json.loads(file.read_text())
        split = {"type": "Split", "behavior": "Isolated", "invert": False}
        grow = {"type": "Replace", "pattern": {"String": "x"}, "content": "x" * 1000}
        changes = {
            "pattern": {"pre_tokenizer": split | {"pattern": {"Regex": "(x+x+)+y"}}},
            "growing": {"normalizer": {"type": "Sequence", "normalizers": [grow] * 6}},
            "no tokenizer": {"model": []},
        }
        (copy / "texts.jsonl").write_text('{"text": "' + "x" * 5000 + '"}\n')
        for name, change in changes.items():
            file.write_text(json.dumps(good | change))
            self.expect(f"tokenizer: {name}", copy, ["prepare", "{folder}/texts.yaml"],
                        env={"SUTOR_ROW_SECONDS": "1"})

    def test_scorers_and_judges_end(self):
        copy = self.copy()

        def completions(prediction, answer):
            (copy / "completions.jsonl").write_text(json.dumps(
                {"example": {"prompt": "p", "raw_prediction": prediction, "raw_answers": answer}})
                + "\n")
            return ["eval", "--completions", "{folder}/completions.jsonl", "--scorer"]

        words = " ".join(str(n * n % 977) for n in range(200_000))
        outcome = self.expect("ROUGE of 200,000 words", copy,
                              completions(words, words[::-1]) + ["rouge_l"], allowed={0})
        self.assertEqual(outcome.code, 0, outcome.text)
        self.expect("full stops", copy, completions(". " * 500_000, "{}") + ["intent"],
                    allowed={0})
        scored = completions("x", "x") + ["judge", "--judge-timeout", "3", "--judge"]
        self.expect("a judge that prints without end", copy, scored + ["yes"], words="E0504")
        self.expect("a judge that never ends", copy, scored + ["sleep 100"], words="E0361")
        self.expect("a judge that closes its input", copy,
                    scored + ["bash -c 'exec <&-; echo 0.5; exec >&-; sleep 100'"], words="E0361")
        self.expect("a judge that nests", copy,
                    scored + ["python3 -c 'print(\"[\" * 3000)'"], words="E0361")

    def test_rouge_of_long_texts_is_that_of_the_library(self):
        sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[3] / "tools"))
        from rouge_score.rouge_scorer import _score_lcs

        from sutor_score.overlap import f_measure

        numbers = random.Random(7)
        for _ in range(500):
            letters = "abcdefgh"[: numbers.randint(1, 8)]
            answer, text = ([numbers.choice(letters) for _ in range(numbers.randint(0, 90))]
                            for _ in range(2))
            self.assertEqual(f_measure(answer, text), _score_lcs(answer, text).fmeasure)

    def test_settings_of_limits_are_checked(self):
        copy = self.copy()
        for value in ("no", "-1", "nan", "0"):
            self.expect(f"SUTOR_ROW_SECONDS={value}", copy, ["prepare", "{folder}/chats.yaml"],
                        words="E0243", env={"SUTOR_ROW_SECONDS": value})
        self.expect("little memory", copy, ["prepare", "{folder}/chats.yaml"], words="error[E0504]",
                    env={"SUTOR_STEP_MEMORY": "0.01"})


if __name__ == "__main__":
    HostileFiles.sutor = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
