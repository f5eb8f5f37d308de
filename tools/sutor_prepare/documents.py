"""A row -> documents: its form, its normalised messages, the mask; each a list of parts.

Depends on the row, its place and the options alone.
"""

from sutor_rows.normalize import Normalizer
from sutor_rows.row_forms import Completion, Conversation, RowForms, Text, Tokens
from sutor_rows.row_messages import content_text

from .ends import COUNTED, frame
from .masks import MaskMaker
from .rows import no_template
from .spans import parts_of_spans


class DocumentMaker:
    """job: the recipe's keys; spec: one of its sources; tokenizer and template are functions that
    load on first use."""

    def __init__(self, job, spec, tokenizer, template):
        self._job = job
        self._tokenizer = tokenizer
        self._template = template
        self.forms = RowForms(spec["format"], spec.get("columns"))
        self.masks = None
        self.special_in_text = 0
        self.empty = 0
        self.framed = 0  # texts that end with the end token
        self.with_own_ends = 0  # texts that had begin or end token themselves
        self._normalizers = {}  # by template

    @property
    def form(self):
        """Of the rows; auto before the first."""
        return self.forms.form

    def of(self, row, where):
        """Lists of (text or id, in the loss); none for a row that is empty or not to be trained."""
        made = self.forms.of(row, where)
        if made is None:
            return []
        if isinstance(made, Tokens):
            return [list(zip(made.ids, made.mask))]
        if isinstance(made, Conversation):
            return self._conversation(made, where)
        if isinstance(made, Text):
            self._count_specials([made.text])
            if not made.text:
                self.empty += 1
                return []
            return [self._framed([(made.text, True)])]
        assert isinstance(made, Completion)
        self._count_specials([made.prompt, made.completion])
        prompt = made.prompt, self._job["loss_on"] == "all"
        return [self._framed([prompt, (made.completion, True)])]

    def _framed(self, parts):
        """With the begin and the end token of plain text."""
        begin, end, already = frame(self._tokenizer(), [text for text, _ in parts])
        self.with_own_ends += already
        self.framed += self._tokenizer().eos_id >= 0
        return begin + parts + end

    def _conversation(self, made, where):
        if self.masks is None:
            if self._template() is None:
                raise no_template(self._job["template"], where)
            self.masks = MaskMaker(
                self._template(),
                self._tokenizer(),
                self._job["loss_on"],
                self._job.get("loss_on_thinking", True),
            )
        self._count_specials(map(content_text, made.messages))
        normalizer = self._normalizer(self._template().of(made.tools))
        messages = normalizer.messages(made.messages)
        tools = normalizer.tools(made.tools)
        samples = self.masks.samples(messages, tools, where, made.template_values)
        return [parts_of_spans(text, spans) for text, spans in samples if text]

    def _normalizer(self, template):
        if template not in self._normalizers:
            self._normalizers[template] = Normalizer(template, self.forms.unread)
        return self._normalizers[template]

    def take_counts(self):
        """What was counted since the last call. `unread`: keys that nobody reads, the template
        neither, with the number of rows or messages that have them."""
        def is_shown(name):
            key = name.removeprefix("messages[].")
            return key != name and any(n.is_shown(key) for n in self._normalizers.values())

        unread = {name: count for name, count in self.forms.unread.items() if not is_shown(name)}
        self.forms.unread.clear()
        counts = {"special_in_text": self.special_in_text, "empty": self.empty,
                  "with_own_ends": self.with_own_ends, "not_chosen": self.forms.not_chosen,
                  "unread": unread}
        if self.masks:
            counts |= self.masks.take_counts()
        if self.framed:
            name = f"{COUNTED}{self._tokenizer().eos_id}"
            counts[name] = counts.get(name, 0) + self.framed
        self.special_in_text = self.empty = self.framed = self.with_own_ends = 0
        self.forms.not_chosen = 0
        return counts

    def _count_specials(self, texts):
        special = self._tokenizer().special_pattern
        self.special_in_text += any(special.search(text) for text in texts)
