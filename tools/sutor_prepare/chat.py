"""One chat template, rendered as transformers does. Which one it is: templates.py.

The environment gives templates what transformers gives them: a sandbox, trimmed blocks, loop
controls, a tojson that does not escape, raise_exception, strftime_now and {% generation %}.
"""

import datetime
import json
import os

import jinja2
import jinja2.ext
import jinja2.sandbox

from .errors import PrepareError
from .files import read_text
from .limits import Limited

# Enclose what {% generation %} renders. They are not characters, so no text that can be tokenized
# contains them; they are removed before anything else sees the text.
SPAN_BEGIN, SPAN_END = "\ud800sutor-begin\udfff", "\ud800sutor-end\udfff"


MAX_TEMPLATE = 4 << 20  # bytes of a template
MAX_RENDERED = 64 << 20  # characters of a rendered conversation
MAX_BITS = 1 << 16  # of a number in a template


class GenerationTag(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        self.environment.has_generation = True
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_mark")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _mark(self, caller):
        return SPAN_BEGIN + caller() + SPAN_END


class Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """Also refuses sums that no template makes: the interpreter cannot interrupt them."""

    has_generation = False  # whether what it parsed has {% generation %}
    intercepted_binops = frozenset(["*", "**"])

    def call_binop(self, context, operator, left, right):
        if isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length(), right.bit_length()
            most = bits[0] * abs(right) if operator == "**" else sum(bits)
            if most > MAX_BITS:
                raise jinja2.exceptions.TemplateError(f"`{operator}` of numbers that are too large")
        elif operator == "*":
            for many, times in ((left, right), (right, left)):
                if hasattr(many, "__len__") and isinstance(times, int):
                    if len(many) * times > MAX_RENDERED:
                        raise jinja2.exceptions.TemplateError("`*` makes a text that is too long")
        return super().call_binop(context, operator, left, right)


def _environment():
    environment = Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[GenerationTag, jinja2.ext.loopcontrols],
    )

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    # SOURCE_DATE_EPOCH pins the date that some templates write into the system prompt.
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = (
        datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
        if epoch and epoch.isdecimal()
        else datetime.datetime.now()
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = now.strftime
    return environment


class ChatTemplate:
    def __init__(self, source, special_tokens, name):
        """special_tokens: e.g. {"bos_token": "<s>"}, as the template may use them."""
        self._special_tokens = special_tokens
        try:
            with Limited("the chat template", name):
                environment = _environment()
                self._template = environment.from_string(source)
        except jinja2.exceptions.TemplateSyntaxError as error:
            raise PrepareError(
                338, f"not a valid chat template: {error.message}", f"{name}:{error.lineno}"
            ) from error
        except Exception as error:  # the compiler of Python refuses it, in one of many ways
            if isinstance(error, PrepareError):
                raise
            raise PrepareError(338, f"not a valid chat template: {error}", name) from error
        self.has_generation = environment.has_generation

    def render(self, messages, tools=None, generation_prompt=False, more=None):
        """The text and the [begin, end) of what {% generation %} blocks rendered.

        more: further names that the template sees, such as enable_thinking.
        """
        given = {
            "documents": None,
            **self._special_tokens,
            **(more or {}),
            "messages": messages,
            "tools": tools,
            "add_generation_prompt": generation_prompt,
        }
        marked = self._template.render(given)
        text, spans = "", []
        segments = marked.split(SPAN_BEGIN)
        text = segments[0]
        for segment in segments[1:]:
            inside, _, after = segment.partition(SPAN_END)
            spans.append((len(text), len(text) + len(inside)))
            text += inside + after
        return text, spans


def read_json(path):
    """The object of a JSON file; an empty one where there is no file."""
    if not os.path.lexists(path):
        return {}
    text = read_text(path, 331)
    try:
        with Limited(path, "", mebibytes=512):
            value = json.loads(text)
    except ValueError as error:
        raise PrepareError(331, f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise PrepareError(331, f"{path} is not a JSON object")
    return value
