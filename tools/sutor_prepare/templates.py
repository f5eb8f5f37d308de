"""Which chat template renders a row: the model's own, one of several by name, or a file."""

import hashlib
import os

from .chat import MAX_TEMPLATE, ChatTemplate, read_json
from .errors import PrepareError
from .files import read_text

FOLDER, SUFFIX = "additional_chat_templates", ".jinja"
DEFAULT, WITH_TOOLS = "default", "tool_use"  # the names that transformers chooses by itself
MOST_TEMPLATES = 100


class ChatTemplates:
    """One or several templates by name; each is compiled when it is first wanted."""

    def __init__(self, sources, special_tokens):
        """sources: {name: (text, file)}; special_tokens: e.g. {"bos_token": "<s>"}."""
        self._sources = sources
        self._special_tokens = special_tokens
        self._compiled = {}

    def digest(self):
        texts = [text for _, (text, _) in sorted(self._sources.items())]
        return "sha256:" + hashlib.sha256("\0".join(texts).encode("utf-8")).hexdigest()

    def asks_for_date(self):
        """Whether what it renders may depend on the day."""
        return any("strftime_now" in text for text, _ in self._sources.values())

    def of(self, tools):
        """The template for a row with these tools, or None, as transformers chooses it."""
        name = WITH_TOOLS if tools is not None and WITH_TOOLS in self._sources else DEFAULT
        if name not in self._sources:
            raise PrepareError(
                338,
                f"the model has several chat templates ({', '.join(sorted(self._sources))}), and "
                "none is the default. Set data.template to the name of one, or to a jinja file",
            )
        if name not in self._compiled:
            text, file = self._sources[name]
            self._compiled[name] = ChatTemplate(text, self._special_tokens, file)
        return self._compiled[name]

    def render(self, messages, tools=None, generation_prompt=False, more=None):
        """As ChatTemplate.render, by the template for these tools."""
        return self.of(tools).render(messages, tools, generation_prompt, more)


def _listed(entries, path):
    """Of a list of several templates: {name: (text, file)}."""
    sources = {}
    for entry in entries:
        name, text = (entry.get(key) if isinstance(entry, dict) else None
                      for key in ("name", "template"))
        if not isinstance(name, str) or not isinstance(text, str):
            raise PrepareError(
                338,
                f"{path}: `chat_template` lists {str(entry)[:80]!r}, which has no `name` and "
                "`template`. Mend it, or set data.template to a jinja file",
            )
        sources[name] = text, path
    return sources


def _in_json(path):
    template = read_json(path).get("chat_template")
    if isinstance(template, list):
        return _listed(template, path)
    return {DEFAULT: (template, path)} if isinstance(template, str) else {}


def template_files(folder):
    """The jinja files of a folder by the name of their template."""
    files = {}
    more = os.path.join(folder, FOLDER)
    try:
        names = sorted(os.listdir(more)) if os.path.isdir(more) else []
    except OSError as error:
        raise PrepareError(338, f"{more} cannot be read: {error.strerror}") from error
    # A name that is no text cannot be wanted, nor written down.
    names = [name for name in names if name.endswith(SUFFIX) and name.isprintable()]
    if len(names) > MOST_TEMPLATES:
        raise PrepareError(338, f"{more} holds more than {MOST_TEMPLATES} templates")
    for name in names:
        files[name.removesuffix(SUFFIX)] = os.path.join(FOLDER, name)
    if os.path.lexists(os.path.join(folder, "chat_template" + SUFFIX)):
        files[DEFAULT] = "chat_template" + SUFFIX
    return files


def _own_templates(folder):
    """In the order of precedence of transformers: files of their own, then those in JSON."""
    sources = {}
    for name, file in template_files(folder).items():
        path = os.path.join(folder, file)
        sources[name] = read_text(path, 338, MAX_TEMPLATE), path
    if DEFAULT in sources:
        return sources
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = _in_json(os.path.join(folder, name))
        if found:
            return {**found, **sources}
    return sources


def find_template(wanted, folders, special_tokens):
    """wanted: auto, none, the name of one of the model's, or a file. None when there is none."""
    if wanted == "none":
        return None
    if wanted != "auto" and os.path.isfile(wanted):
        source = read_text(wanted, 338, MAX_TEMPLATE), wanted
        return ChatTemplates({DEFAULT: source}, special_tokens)
    own = next(filter(None, map(_own_templates, folders)), {})
    if wanted == "auto":
        return ChatTemplates(own, special_tokens) if own else None
    if wanted not in own:
        if os.path.lexists(wanted):
            read_text(wanted, 338, MAX_TEMPLATE)  # says why it is no file
        names = ", ".join(sorted(own)) or "none"
        raise PrepareError(
            338,
            f"data.template: {wanted} is no file, and no chat template of the model (it has: "
            f"{names})",
        )
    return ChatTemplates({DEFAULT: own[wanted]}, special_tokens)
