#!/usr/bin/env python3
"""`sutor chat` over a pipe, on a terminal and on two ranks: its answers are those of `generate` for
the same conversation.

  .venv/bin/python tests/e2e/chat_test.py build/sutor [-v] [Class.test]...
"""

import json
import os
import pathlib
import pty
import re
import select
import subprocess
import sys
import tempfile
import time
import unittest

import tokenizers


SUTOR = None  # set by main
SECONDS = 120
TEMPLATE = ("{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}"
            "{% if add_generation_prompt %}<assistant> {% endif %}")
ENV = dict(os.environ, OMP_NUM_THREADS="1", NO_COLOR="1")
SHORT = ("--set", "generate.max_new_tokens=6")


def make_model(folder, template):
    subprocess.run([SUTOR, "init-model", "--family", "qwen3_moe", "--out", str(folder)], check=True,
                   stdout=subprocess.DEVNULL, timeout=SECONDS)
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    words = {f"w{i}": i for i in range(vocabulary)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    if template:
        (folder / "chat_template.jinja").write_text(TEMPLATE)


class ChatTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory(prefix="sutor-chat-")
        cls.path = pathlib.Path(cls.temporary.name)
        make_model(cls.path / "model", template=True)
        make_model(cls.path / "plain", template=False)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def run_it(self, command, text=""):
        return subprocess.run([str(part) for part in command], cwd=self.path, input=text, text=True,
                              capture_output=True, timeout=SECONDS, env=ENV)

    def chat(self, lines, *options, model="model", command=()):
        result = self.run_it([*command, SUTOR, "chat", model, *SHORT, *options],
                             "".join(line + "\n" for line in lines))
        self.assertEqual(result.returncode, 0, result)
        return result

    def generated(self, rows, *options, model="model"):
        """The completions of these rows by `generate`."""
        (self.path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        result = self.run_it([SUTOR, "generate", "--model", model, "--prompts", "rows.jsonl",
                              "--out", "out.jsonl", *SHORT, *options])
        self.assertEqual(result.returncode, 0, result)
        return [json.loads(line)["example"]["raw_prediction"]
                for line in (self.path / "out.jsonl").read_text().splitlines()]

    def saved(self, name="talk.jsonl"):
        return json.loads((self.path / name).read_text())["messages"]


class APipe(ChatTest):
    def test_gets_the_answers_that_generate_gives(self):
        result = self.chat(["w5 w6", "w7", "/save talk.jsonl"], "--system", "w9 w9")
        messages = self.saved()
        self.assertEqual([m["role"] for m in messages],
                         ["system", "user", "assistant", "user", "assistant"])
        expected = self.generated([{"messages": messages[:2]}, {"messages": messages[:4]}])
        self.assertEqual([m["content"] for m in messages if m["role"] == "assistant"], expected)
        self.assertEqual(result.stdout.splitlines(), expected)
        self.assertTrue(all(len(text.split()) > 1 for text in expected), expected)
        self.assertTrue(result.stderr.startswith("checkpoint none, the model model"), result)

    def test_gets_the_same_from_two_ranks(self):
        lines = ["w5 w6", "w7"]
        alone = self.chat(lines)
        for layout in ("parallel.ep=2", "parallel.pp=2"):
            ranks = self.chat(lines, "--set", layout, command=("mpiexec", "-n", "2"))
            self.assertEqual(ranks.stdout, alone.stdout)

    def test_samples_as_generate_does(self):
        options = ("--set", "generate.temperature=1", "--set", "generate.seed=3")
        result = self.chat(["w5 w6"], *options)
        expected = self.generated([{"messages": [{"role": "user", "content": "w5 w6"}]}], *options)
        self.assertEqual(result.stdout.splitlines(), expected)

    def test_undo_and_reset_take_turns_back(self):
        result = self.chat(["w5", "w6", "/undo", "w6", "/reset", "w5", "/save talk.jsonl", "/quit",
                            "w8"])
        first, second, again, fresh = result.stdout.splitlines()
        self.assertEqual((second, first), (again, fresh))
        self.assertEqual([m["role"] for m in self.saved()], ["user", "assistant"])

    def test_hears_of_what_is_wrong_and_goes_on(self):
        (self.path / "folder").mkdir(exist_ok=True)
        result = self.chat(["/undo", "/nonsense", "/save", "/save folder", "", "w5"])
        for words in ("no turn", "/nonsense is no command", "needs the name", "E0220"):
            self.assertIn(words, result.stderr)
        self.assertEqual(len(result.stdout.splitlines()), 1, result)

    def test_completes_lines_where_there_is_no_template(self):
        result = self.chat(["w5 w6", "w7"], model="plain")
        self.assertIn("no chat template", result.stderr)
        self.assertEqual(result.stdout.splitlines(),
                         self.generated([{"prompt": "w5 w6"}, {"prompt": "w7"}], model="plain"))
        refused = self.run_it([SUTOR, "chat", "plain", "--system", "w1"])
        self.assertEqual(refused.returncode, 2, refused)
        self.assertIn("error[E0202]: --system", refused.stderr)

    def test_is_told_when_the_context_is_full(self):
        config = json.loads((self.path / "model/config.json").read_text())
        long = " ".join(["w5"] * config["max_position_embeddings"])
        result = self.chat([long, "w5"])
        self.assertIn("/undo", result.stderr)
        self.assertEqual(len(result.stdout.splitlines()), 1, result)


class ATerminal(ChatTest):
    def setUp(self):
        child, self.fd = pty.fork()
        if child == 0:
            os.chdir(self.path)
            os.execve(SUTOR, [SUTOR, "chat", "model", "--set",
                              "generate.max_new_tokens=20000"], ENV)
        self.child, self.text = child, ""

    def tearDown(self):
        os.close(self.fd)

    def wait_for(self, words):
        end = time.monotonic() + SECONDS
        while not re.search(words, self.text):
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.monotonic()))
            self.assertTrue(ready, self.text)
            try:
                self.text += os.read(self.fd, 1 << 16).decode()
            except OSError:
                self.fail(f"ended without `{words}`: {self.text}")

    def type(self, data):
        self.text = ""
        os.write(self.fd, data)

    def test_ctrl_c_stops_the_answer_and_not_the_chat(self):
        self.wait_for("> ")
        self.type(b"w5 w6\n")
        self.wait_for(r"\nw\d+ w")  # after the echo, the answer comes in pieces
        self.type(b"\x03")
        self.wait_for(r"\(stopped")
        self.wait_for("> ")
        self.type(b"\x03")
        self.wait_for("/quit or Ctrl-D")
        self.type(b"\x04")  # the end of the input
        deadline = time.monotonic() + SECONDS
        ended = 0
        while not ended and time.monotonic() < deadline:
            ended, status = os.waitpid(self.child, os.WNOHANG)
            time.sleep(0.05)
        self.assertEqual((ended, os.waitstatus_to_exitcode(status)), (self.child, 0))


if __name__ == "__main__":
    SUTOR = str(pathlib.Path(sys.argv.pop(1)).resolve())
    unittest.main()
