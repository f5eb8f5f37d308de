"""Conversations from a seed: several turns, tools, system prompts, thinking, and texts that
tokenizers, templates and masks stumble over."""

import dataclasses
import json
import random

PLAIN = [
    "What is the colour of the sky?", "It is blue.", "Sutor, ne ultra crepidam.", "4,096 of 12.5%",
    "The cobbler sticks to his last; the rest is up to the reader, who may well disagree.",
]
OTHER_SCRIPTS = [
    "鞋匠,别越过你的鞋楦!", "天空是什么颜色?蓝色。", "空はなぜ青いの?", "Привет, мир", "שלום עולם",
    "e\u0301 \u212b \ufb01 n\u0303",  # composed by NFC, or not at all
    "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 👍🏽", "🤖", "ｆｕｌｌ　ｗｉｄｔｈ", "z\u200bw\u00a0s\u2028p",
]
CODE = [
    "def f(x):\n    return x ** 2\n\n\nprint(f(3))\n", "```cpp\nint main() {\n\treturn 0;\n}\n```",
    "    indented\n\tby\n        hand", '{"a": [1, 2.5, null], "b": "c\\n"}', "a\r\nb\r\n\r\nc",
    "SELECT * FROM t WHERE x<>'{{ y }}'; -- {% if z %}",
]
SPECIAL = [
    "<|im_end|>", "<|im_start|>", "<|endoftext|>", "</s>", "<s>", "<|user|>", "<|assistant|>",
    "<|observation|>", "<|end|>", "<|return|>", "<|call|>", "[INST]", "[/INST]", "[gMASK]<sop>",
    "<｜end▁of▁sentence｜>", "<｜begin▁of▁sentence｜>", "<｜User｜>", "</tool_call>", "<tool_call>",
    "<|system|>", "<|start|>", "<tool_response>", "User: ", "\n\nAssistant:",
]
EDGES = ["", "", "", " ", "\n", "\n\n", "  \n", "\t"]
THOUGHTS = ["Hm.", "First the user asks.\n\nThen I answer.", "让我想想……", "🤔 wait,\n    maybe"]


@dataclasses.dataclass
class Form:
    """What a template takes."""

    tools: bool = True
    thinking: bool = True
    system: bool = True
    text_arguments: bool = False  # arguments of calls as JSON text
    call_turns: int = 9  # messages that call tools, at most
    one_call: bool = False  # a message calls one tool, and says nothing else if it has thought
    specials: list = dataclasses.field(default_factory=lambda: list(SPECIAL))
    leading_blanks: bool = True  # an answer may begin with blanks


class Chats:
    def __init__(self, seed, form):
        self._random = random.Random(seed)
        self._form = form

    def some(self, chance):
        return self._random.random() < chance

    def text(self, leading=True):
        pools = [PLAIN, PLAIN, OTHER_SCRIPTS, CODE, self._form.specials]
        pieces = [self._random.choice(self._random.choice(pools))
                  for _ in range(self._random.randint(1, 5))]
        text = self._random.choice(["", " ", "\n"]).join(pieces)
        text = self._random.choice(EDGES) + text + self._random.choice(EDGES)
        return text if leading else text.lstrip() or "x"

    def value(self):
        return self._random.choice([
            3, -1.5, True, None, "Paris", "鞋", "<|im_end|>", "a\nb", ["x", 2], {"k": "👍", "n": 1}])

    def tool(self, number):
        kinds = {"city": {"type": "string", "description": self.text()},
                 "days": {"type": "integer"}}
        return {"type": "function", "function": {
            "name": f"tool_{number}", "description": self.text(),
            "parameters": {"type": "object", "properties": kinds, "required": ["city"]}}}

    def call(self, number, calls):
        arguments = {"city": self._random.choice(["Paris", "鞋", "<|im_end|>"]),
                     **({"extra": self.value()} if self.some(0.7) else {})}
        if self._form.text_arguments:
            arguments = json.dumps(arguments, ensure_ascii=False)
        return {"id": f"call_{calls}", "type": "function",
                "function": {"name": f"tool_{number}", "arguments": arguments}}

    def answer(self):
        message = {"role": "assistant",
                   "content": self.text(leading=self._form.leading_blanks)}
        if self._form.thinking and self.some(0.5):
            thought = self._random.choice(THOUGHTS) + (self.text() if self.some(0.3) else "")
            message |= {"reasoning_content": thought, "thinking": thought}
        return message

    def calls(self):
        """An assistant's call of tools, and what they answer."""
        message = self.answer()
        count = 1 if self._form.one_call else self._random.randint(1, 2)
        message["tool_calls"] = [self.call(self._random.randint(0, 1), n) for n in range(count)]
        if "thinking" in message or self.some(0.5):
            message["content"] = ""
        if self._form.one_call and message["content"]:
            message.pop("reasoning_content", None)
            message.pop("thinking", None)
        answers = [{"role": "tool", "content": self.text(), "name": call["function"]["name"],
                    "tool_call_id": call["id"]} for call in message["tool_calls"]]
        return [message, *answers]

    def row(self):
        messages = []
        if self._form.system and self.some(0.4):
            messages.append({"role": "system", "content": self.text()})
        tools = self._form.tools and self.some(0.5)
        called = 0
        for _ in range(self._random.randint(1, 4)):
            messages.append({"role": "user", "content": self.text()})
            while tools and called < self._form.call_turns and self.some(0.4):
                messages += self.calls()
                called += 1
            messages.append(self.answer())
        if tools and called < self._form.call_turns and self.some(0.15):
            messages.append({"role": "user", "content": self.text()})
            messages.append(self.calls()[0])  # the last thing is a call
        row = {"messages": messages}
        return row | {"tools": [self.tool(n) for n in range(2)]} if tools else row

    def rows(self, count):
        return [self.row() for _ in range(count)]
