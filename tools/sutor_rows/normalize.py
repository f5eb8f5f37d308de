"""Messages, tools and their values as the chat template at hand reads them.

What transformers does before it renders is done: the names of thoughts are filled from one another.
Where templates differ in what they read, the template is asked by rendering a short conversation:
whether contents may be lists of parts, whether the arguments of a tool call are an object or text,
whether a message may lack its content, whether a role is shown at all.
"""

import json

from sutor_prepare.errors import PrepareError
from sutor_prepare.limits import Limited

from .row_messages import THOUGHTS, check_strings, content_text, decoded, decoded_text
from .values import kind_of

WORDS = ("sutorprobea", "sutorprobeb")  # that no template holds
ASK, ANSWER = {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}
# What rendering is called with in any case: not a row's to say.
RESERVED = ("messages", "tools", "documents", "add_generation_prompt", "chat_template")


class TemplateHabits:
    """What a template reads; each question is asked once, when a row first needs the answer."""

    def __init__(self, template):
        self._template = template
        self._known = {}

    def shows(self, role):
        """Whether a message of this role leaves its text; None when the template refuses it."""
        return self._ask(("shows", role), lambda: self._finds(role, WORDS[0], WORDS[:1]))

    def reads_parts(self, role):
        parts = [{"type": "text", "text": word} for word in WORDS]
        return self._ask(("parts", role), lambda: self._finds(role, parts, WORDS))

    def wants_parts(self, role):
        """Whether contents must be lists: text as it is would leave nothing."""
        return self._ask(
            ("only", role), lambda: self.shows(role) is False and bool(self.reads_parts(role))
        )

    def shows_tools(self, bare=False):
        """bare: functions, without OpenAI's object around each."""
        function = {"name": WORDS[0], "description": "x",
                    "parameters": {"type": "object", "properties": {}}}
        tools = [function if bare else {"type": "function", "function": function}]
        return self._ask(
            ("tools", bare), lambda: self._renders([ASK, ANSWER], WORDS[:1], tools)
        )

    def shows_key(self, role, key):
        message = {"content": "x", key: WORDS[0]}
        return self._ask(("key", role, key), lambda: self._finds(role, message, WORDS[:1]))

    def arguments_as_text(self):
        return self._ask("arguments", self._arguments_as_text)

    def content_of_calls(self):
        """What stands for the content that a message of calls lacks: "missing", None or ""."""
        return self._ask("calls", self._content_of_calls)

    def _ask(self, question, answer):
        if question not in self._known:
            self._known[question] = answer()
        return self._known[question]

    def _finds(self, role, content, words):
        more = content if isinstance(content, dict) else {"content": content}
        message = {"role": role, **more}
        talks = {
            "user": [[message], [message, ANSWER]],
            "assistant": [[ASK, message]],
            "system": [[message, ASK], [message, ASK, ANSWER]],
            "tool": [[ASK, self._calling({}), {**message, "tool_call_id": "abcdefghi"}]],
        }
        others = [[message, ASK], [ASK, message], [ASK, ANSWER, message]]
        found = None
        for talk in talks.get(role, others):
            shown = self._renders(talk, words)
            if shown:
                return True
            found = found if shown is None else shown
        return found

    def _arguments_as_text(self):
        arguments = {WORDS[0]: WORDS[1]}
        for value, answer in ((arguments, False), (json.dumps(arguments), True)):
            if self._renders([ASK, self._call_of(value, content="")], WORDS):
                return answer
        return False

    def _content_of_calls(self):
        for content in ("missing", None, ""):
            talk = [ASK, self._call_of({} if not self.arguments_as_text() else "{}", content)]
            if self._renders(talk, ()) is not None:
                return content
        return "missing"

    def _calling(self, arguments):
        arguments = json.dumps(arguments) if self.arguments_as_text() else arguments
        return self._call_of(arguments, "")

    @staticmethod
    def _call_of(arguments, content):
        function = {"name": "f", "arguments": arguments}
        call = {"id": "abcdefghi", "type": "function", "function": function}
        message = {"role": "assistant", "content": content, "tool_calls": [call]}
        if content == "missing":
            del message["content"]
        return message

    def _renders(self, messages, words, tools=None):
        """Whether all words stand in what is rendered, and where they are several, not in Python's
        own writing of a list or an object; None when the template refuses the messages."""
        try:
            with Limited("the chat template", ""):
                text = self._template.render(messages, tools)[0]
        except PrepareError:
            raise
        except Exception:  # of the template's own making, in one of many ways
            return None
        written = len(words) > 1 and any(f"'{word}'" in text for word in words)
        return not written and all(word in text for word in words)


class Normalizer:
    """The messages of row_messages.py -> those that the template is given."""

    def __init__(self, template, unread):
        """unread: counts what the template does not show."""
        self._habits = TemplateHabits(template)
        self._unread = unread

    def messages(self, messages):
        return [self._message(message) for message in messages]

    def is_shown(self, name):
        """Whether the template shows what messages have under a key of its own."""
        return any(self._habits.shows_key(role, name) for role in ("assistant", "user", "tool"))

    def _message(self, message):
        made = dict(message)
        thoughts = next((made[key] for key in THOUGHTS if made.get(key) is not None), None)
        if thoughts is not None:
            for key in THOUGHTS:
                made.setdefault(key, thoughts)
            made["reasoning_content"] = thoughts
        if made["role"] == "developer" and not self._habits.shows("developer"):
            made["role"] = "system"
        role = made["role"]
        if role not in ("user", "assistant", "system") and self._habits.shows(role) is False:
            self._unread[f"messages of `{role}` (the chat template shows none)"] += 1
        self._set_content(made, role)
        if "tool_calls" in made:
            made["tool_calls"] = [self._call(call) for call in made["tool_calls"]]
        return made

    def _set_content(self, made, role):
        if "content" not in made:
            if "tool_calls" not in made:
                made["content"] = ""
            elif self._habits.content_of_calls() != "missing":
                made["content"] = self._habits.content_of_calls()
        elif isinstance(made["content"], list):
            if not self._habits.reads_parts(role):
                made["content"] = content_text(made)
        elif self._habits.wants_parts(role):
            made["content"] = [{"type": "text", "text": made["content"]}]

    def _call(self, call):
        function = dict(call["function"])
        text = function.pop("_text", None)
        if self._habits.arguments_as_text():
            arguments = function["arguments"]
            function["arguments"] = text or json.dumps(arguments, ensure_ascii=False)
        return {**call, "function": function}

    def tools(self, tools):
        if not tools or self._habits.shows_tools() is not False:
            return tools
        if self._habits.shows_tools(bare=True):
            return [tool.get("function", tool) for tool in tools]
        self._unread["tools (the chat template shows none)"] += 1
        return tools


def tools_of(tools, name, where):
    """A list of OpenAI's tools, of that or of its JSON text, or of bare functions; None: none."""
    tools = decoded(tools, name, where)
    if tools is None:
        return None
    tools = [tools] if isinstance(tools, dict) else tools
    if not isinstance(tools, list):
        raise PrepareError(336, f"`{name}`: expected a list, got {kind_of(tools)}", where)
    made = []
    for number, tool in enumerate(tools):
        each = f"{name}[{number}]"
        tool = decoded(tool, each, where)
        if not isinstance(tool, dict):
            raise PrepareError(336, f"`{each}`: expected an object, got {kind_of(tool)}", where)
        made.append(_tool_of(tool, each, where))
    check_strings(made, name, where)
    return made


def _tool_of(tool, name, where):
    if "function" not in tool and "type" not in tool and isinstance(tool.get("name"), str):
        tool = {"type": "function", "function": tool}
    function = decoded(tool.get("function"), f"{name}.function", where)
    if not isinstance(function, dict):
        return tool
    if isinstance(function.get("parameters"), str):
        place = f"{name}.function.parameters"
        function = {**function, "parameters": decoded_text(function["parameters"], place, where)}
    return {**tool, "function": function}


def template_values(row, where):
    """What a row gives its template beside messages and tools."""
    name = "chat_template_kwargs"
    values = decoded(row.get(name), name, where)
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise PrepareError(336, f"`{name}`: expected an object, got {kind_of(values)}", where)
    taken = [key for key in RESERVED if key in values]
    if taken:
        raise PrepareError(370, f"`{name}.{taken[0]}` is not a row's to set", where)
    if isinstance(row.get("parallel_tool_calls"), bool):
        values = {"parallel_tool_calls": row["parallel_tool_calls"], **values}
    check_strings(values, name, where)
    return values


def refusal(render, messages, error, where):
    """The error for messages that a template refuses; render: of a list of messages. The message
    at fault is the first that the template refuses for the same reason when it ends there."""
    words = " ".join(str(error).split()) or type(error).__name__
    at = len(messages) - 1
    for count in range(1, len(messages)):
        try:
            render(messages[:count])
        except PrepareError:
            break
        except Exception as other:  # of the template's own making, in one of many ways
            if str(other) == str(error):
                at = count - 1
                break
    role = messages[at].get("role") if messages else None
    return PrepareError(
        336, f"the chat template refuses messages[{at}] (`{role}`): {words}", where
    )
