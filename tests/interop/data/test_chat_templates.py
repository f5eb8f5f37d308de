"""Generated conversations: ids are those of transformers' apply_chat_template, and masks are its
assistant masks where a template has generation marks, else the difference of its own renderings.

SUTOR_CHAT_DATA names a folder with `templates` and `tokenizers` of published models, for 500
conversations each with their own vocabulary; SUTOR_CHATS another number.
"""

import dataclasses
import json
import os
import pathlib
import shutil

import pytest
import transformers

import generated_chats
import small_tokenizers
from data_step import documents, run
from generated_chats import Form

DATA = os.environ.get("SUTOR_CHAT_DATA", "")
IM = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>",
      "</tool_call>", "<tool_response>", "</tool_response>"]
GLM = ["<|endoftext|>", "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>",
       "<|observation|>", "<think>", "</think>", "<tool_call>", "</tool_call>"]
HARMONY = ["<|return|>", "<|start|>", "<|message|>", "<|end|>", "<|channel|>", "<|call|>"]
DEEPSEEK = ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>",
            "<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>",
            "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>", "<｜tool▁outputs▁begin｜>",
            "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>", "<｜tool▁outputs▁end｜>"]


@dataclasses.dataclass
class Case:
    template: str
    tokens: list  # the model's added tokens
    bos: str | None
    eos: str
    form: Form
    published: str  # tokenizer in the folder of published ones
    marked: bool = False
    tail: str = ""  # what the template puts behind the token that ends a turn
    next_role: bool = False  # a turn ends with the token that opens the next one
    kind: str = "byte_level"


SIMPLE = Form(tools=False, thinking=False)
CASES = {
    "qwen3": Case("qwen3", IM, None, "<|im_end|>", Form(), "qwen3", tail="\n"),
    "qwen3_training": Case("qwen3_training", IM, None, "<|im_end|>", Form(), "qwen3", marked=True),
    "chatml": Case("ax_chatml", IM, None, "<|im_end|>",
                   dataclasses.replace(SIMPLE, leading_blanks=False), "qwen3", tail="\n"),
    "deepseek_v2_lite": Case("ds_v2lite", DEEPSEEK[:2], DEEPSEEK[0], DEEPSEEK[1], SIMPLE,
                             "deepseek_llm"),
    "deepseek_v3": Case("ds013_v3", DEEPSEEK, DEEPSEEK[0], DEEPSEEK[1],
                        Form(thinking=False, text_arguments=True, call_turns=1), "deepseek_llm"),
    "glm4_moe": Case("glm4moe", GLM, None, "<|endoftext|>", Form(), "qwen3", next_role=True),
    "glm4_moe_training": Case("glm4moe_training", GLM, None, "<|endoftext|>", Form(), "qwen3",
                              marked=True),
    "gpt_oss": Case("gptoss", HARMONY, None, "<|return|>", Form(one_call=True), "o200k_harmony"),
    "gpt_oss_training": Case("gptoss_training", HARMONY, None, "<|return|>", Form(one_call=True),
                             "o200k_harmony", marked=True),
    "mixtral": Case("ax_mistral_v1", ["<s>", "</s>"], "<s>", "</s>", SIMPLE, "mixtral_v1",
                    kind="metaspace"),
}


def write_model(folder, case, tokenizer_json, template):
    """The tokenizer lacks some of the tokens: they come from tokenizer_config.json."""
    folder.mkdir()
    shutil.copy(tokenizer_json, folder / "tokenizer.json")
    shutil.copy(template, folder / "chat_template.jinja")
    tokens = {token["content"]: token["id"]
              for token in json.loads(tokenizer_json.read_text())["added_tokens"]}
    plain = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_json))
    size = len(plain)
    new = [token for token in case.tokens if token not in tokens]
    decoder = {size + i: {"content": token, "special": True, "lstrip": False, "rstrip": False,
                          "normalized": False, "single_word": False}
               for i, token in enumerate(new)}
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": case.bos,
         "eos_token": case.eos, "added_tokens_decoder": decoder}))
    (folder / "config.json").write_text(json.dumps({"vocab_size": size + len(new)}))


class Reference:
    """What transformers alone makes of a conversation: a list of (ids, mask)."""

    def __init__(self, folder, case):
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.case = case

    def of(self, row):
        if self.case.marked:
            result = self.tokenizer.apply_chat_template(
                row["messages"], tools=row.get("tools"), return_dict=True,
                return_assistant_tokens_mask=True)
            return [(result["input_ids"], result["assistant_masks"])]
        full, turns = self.render(row, len(row["messages"])), []
        for i, message in enumerate(row["messages"]):
            if message["role"] == "assistant":
                before = self.render(row, i, prompt=True)
                after = self.render(row, i + 1)
                if not after.startswith(before):
                    after = before + self.alone(row, message)
                turns.append((i, before, after))
        if all(full.startswith(text) for _, before, after in turns for text in (before, after)):
            end = self.opening(row, turns[-1][0]) if full == turns[-1][2] else ""
            text = full + end
            return [self.encoded(text, [(len(before), self.end(row, i, after))
                                        for i, before, after in turns])]
        return [self.encoded(after + self.opening(row, i),
                             [(len(before), self.end(row, i, after))])
                for i, before, after in turns]

    def alone(self, row, message):
        """What a message renders behind the generation prompt, where nothing else was said."""
        row = {**row, "messages": [{"role": "user", "content": "x"}, message]}
        before, after = self.render(row, 1, prompt=True), self.render(row, 2)
        assert after.startswith(before)
        return after[len(before):]

    def render(self, row, count, prompt=False):
        return self.tokenizer.apply_chat_template(
            row["messages"][:count], tools=row.get("tools"), add_generation_prompt=prompt,
            tokenize=False)

    def opening(self, row, i):
        """The token with which the next turn opens, where it ends this one."""
        if not self.case.next_role:
            return ""
        messages = row["messages"]
        if i + 1 < len(messages):
            role = messages[i + 1]["role"]
        else:
            role = "tool" if messages[i].get("tool_calls") else "user"
        return "<|observation|>" if role == "tool" else f"<|{role}|>"

    def end(self, row, i, after):
        assert after.endswith(self.case.tail)
        return len(after) - len(self.case.tail) + len(self.opening(row, i))

    def encoded(self, text, spans):
        result = self.tokenizer(text, add_special_tokens=False)
        # Not char_to_token: of the bytes of a character it knows the first.
        mask = [int(any(a < end and b > begin for begin, end in spans))
                for a, b in result.encodings[0].offsets]
        return result["input_ids"], mask


def compare(folder, tmp_path, case, seed, count):
    rows = generated_chats.Chats(seed, case.form).rows(count)
    reference = Reference(folder, case)
    expected = [reference.of(row) for row in rows]
    result = run(tmp_path, rows, folder, timeout=600)
    found = iter(documents(result))
    wrong = []
    for number, per_row in enumerate(expected):
        for ids, mask in per_row:
            mask[0] = 0  # nothing predicts the first token
            got = next(found, ([], []))
            if got != (ids, mask) and number not in wrong:
                wrong.append(number)
                if len(wrong) == 1:
                    first = (got[0] == ids, reference.tokenizer.decode(ids),
                             [reference.tokenizer.decode([t]) for t, m in zip(*got) if m],
                             [reference.tokenizer.decode([t]) for t, m in zip(ids, mask) if m])
    print(f"{case.template}: {count - len(wrong)} of {count}")
    assert next(found, None) is None
    assert not wrong, (f"{len(wrong)} of {count}", first)
    trained = sum(sum(mask) for per_row in expected for _, mask in per_row)
    assert trained > count


@pytest.mark.parametrize("name", CASES)
def test_ids_and_masks_of_generated_chats_are_those_of_transformers(tmp_path, name):
    case = CASES[name]
    tokenizer = tmp_path / "small.json"
    small_tokenizers.KINDS[case.kind]().save(str(tokenizer))
    folder = tmp_path / "model"
    write_model(folder, case, tokenizer, small_tokenizers.TEMPLATES / f"{case.template}.jinja")
    compare(folder, tmp_path, case, seed=7, count=int(os.environ.get("SUTOR_CHATS", 60)))


@pytest.mark.skipif(not DATA, reason="SUTOR_CHAT_DATA names no folder with published tokenizers")
@pytest.mark.parametrize("name", CASES)
def test_500_chats_with_the_published_vocabulary_are_as_transformers_has_them(tmp_path, name):
    case, data = CASES[name], pathlib.Path(DATA)
    folder = tmp_path / "model"
    write_model(folder, case, data / "tokenizers" / f"{case.published}.json",
                data / "templates" / f"{case.template}.jinja")
    compare(folder, tmp_path, case, seed=11, count=int(os.environ.get("SUTOR_CHATS", 500)))
