"""Chat templates: finding the model's own, and rendering as transformers does.

The environment gives templates what transformers gives them: a sandbox, trimmed blocks, loop
controls, a tojson that does not escape, raise_exception, strftime_now and {% generation %}.
"""

import datetime
import hashlib
import json
import os

import jinja2
import jinja2.ext
import jinja2.sandbox

from .errors import PrepareError

# Enclose what {% generation %} renders. They are not characters, so no text that can be tokenized
# contains them; they are removed before anything else sees the text.
SPAN_BEGIN, SPAN_END = "\ud800sutor-begin\udfff", "\ud800sutor-end\udfff"


class GenerationTag(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_mark")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _mark(self, caller):
        return SPAN_BEGIN + caller() + SPAN_END


def _environment():
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
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
        if epoch
        else datetime.datetime.now()
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = now.strftime
    return environment


class ChatTemplate:
    def __init__(self, source, special_tokens, name):
        """special_tokens: e.g. {"bos_token": "<s>"}, as the template may use them."""
        self.source = source
        self.name = name
        self._special_tokens = special_tokens
        try:
            self._template = _environment().from_string(source)
        except jinja2.exceptions.TemplateSyntaxError as error:
            raise PrepareError(
                338, f"not a valid chat template: {error.message}", f"{name}:{error.lineno}"
            ) from error

    def digest(self):
        return "sha256:" + hashlib.sha256(self.source.encode("utf-8")).hexdigest()

    def render(self, messages, tools=None, generation_prompt=False):
        """The text and the [begin, end) of what {% generation %} blocks rendered."""
        marked = self._template.render(
            messages=messages,
            tools=tools,
            documents=None,
            add_generation_prompt=generation_prompt,
            **self._special_tokens,
        )
        text, spans = "", []
        segments = marked.split(SPAN_BEGIN)
        text = segments[0]
        for segment in segments[1:]:
            inside, _, after = segment.partition(SPAN_END)
            spans.append((len(text), len(text) + len(inside)))
            text += inside + after
        return text, spans

    def has_generation(self):
        return "generation" in self.source and "endgeneration" in self.source


def read_json(path):
    try:
        with open(path, encoding="utf-8") as stream:
            return json.load(stream)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise PrepareError(331, f"{path} cannot be read: {error}") from error


def _own_template(folder):
    """Template text and its file, in the order of precedence of transformers; or (None, None)."""
    path = os.path.join(folder, "chat_template.jinja")
    if os.path.isfile(path):
        with open(path, encoding="utf-8") as stream:
            return stream.read(), path
    for name in ("chat_template.json", "tokenizer_config.json"):
        path = os.path.join(folder, name)
        template = read_json(path).get("chat_template")
        if isinstance(template, list):  # several, by name
            template = {each["name"]: each["template"] for each in template}.get("default")
        if isinstance(template, str):
            return template, path
    return None, None


def find_template(wanted, folders, special_tokens):
    """wanted: auto, none or a file. Returns None when there is none."""
    if wanted == "none":
        return None
    if wanted != "auto":
        try:
            with open(wanted, encoding="utf-8") as stream:
                return ChatTemplate(stream.read(), special_tokens, wanted)
        except (OSError, UnicodeDecodeError) as error:
            raise PrepareError(338, f"data.template {wanted} cannot be read: {error}") from error
    for folder in folders:
        source, path = _own_template(folder)
        if source is not None:
            return ChatTemplate(source, special_tokens, path)
    return None
