"""What the rows of each form have as a prompt and as answers."""

from sutor_prepare import rows as row_kinds
from sutor_prepare.conversation import Conversation as Talk
from sutor_prepare.ends import frame, trained_ends
from sutor_prepare.errors import PrepareError
from sutor_prepare.masks import MaskMaker
from sutor_rows.normalize import Normalizer
from sutor_rows.row_forms import Conversation, RowForms, Text, Tokens
from sutor_rows.row_messages import content_text


class PromptMaker:
    """Makes (parts, prompt as text, answers) of rows; parts are what encode.Encoder takes.

    special_in_text counts the rows that hold the text of a special token, which becomes that token.
    """

    def __init__(self, job, tokenizer, template):
        """tokenizer and template are functions that load on first use."""
        self._tokenizer = tokenizer
        self._template = template
        self._template_wanted = job["template"]
        self._forms = RowForms(job["format"], job.get("columns"), with_answers=False)
        self._normalizers = {}  # by template
        self.special_in_text = 0
        self._masks = None

    def end_tokens(self):
        tokenizer = self._tokenizer()
        counts = {} if self._masks is None else self._masks.take_counts()
        return tokenizer.ends.all | set(trained_ends(counts))

    @property
    def form(self):
        """Of the rows; auto before the first."""
        return self._forms.form

    def of(self, row, where):
        """text is null for rows of tokens, answers a list that may be empty. None for a row that
        is not to be used."""
        made = self._forms.of(row, where)
        if made is None:
            return None
        answers = row_kinds.given_answers(row, where)
        if isinstance(made, Tokens):
            return [(token, False) for token in made.ids], None, answers
        if isinstance(made, Conversation):
            text, own_answers = self._conversation(made, where)
            return [(text, False)], text, own_answers or answers
        text = made.text if isinstance(made, Text) else made.prompt
        self._count_specials([text])
        if not answers and not isinstance(made, Text) and made.completion is not None:
            answers = [made.completion]
        begin, _, _ = frame(self._tokenizer(), [text])
        return begin + [(text, False)], text, answers

    def _conversation(self, made, where):
        """The prompt of the last assistant turn and its text; else the prompt of the next turn."""
        templates = self._template()
        if templates is None:
            raise row_kinds.no_template(self._template_wanted, where)
        messages, answers = made.messages, []
        count = len(messages)
        if messages[-1]["role"] == "assistant":
            count -= 1
            # None: it only calls tools.
            answers = [content_text(messages[-1])] if "content" in messages[-1] else []
        self._count_specials(map(content_text, messages[:count]))
        normalizer = self._normalizer(templates.of(made.tools))
        tools = normalizer.tools(made.tools)
        if self._masks is None:
            self._masks = self._masks_of_turns(tools, where)
        talk = Talk(templates, normalizer.messages(messages), tools, where, made.template_values)
        return talk.render(count, generation_prompt=True)[0], answers

    def _normalizer(self, template):
        if template not in self._normalizers:
            self._normalizers[template] = Normalizer(template, self._forms.unread)
        return self._normalizers[template]

    def _masks_of_turns(self, tools, where):
        """A maker of masks that has seen how the template ends an answer and a call of a tool."""
        masks = MaskMaker(self._template(), self._tokenizer(), "assistant")
        call = {"type": "function", "function": {"name": "x", "arguments": {"x": "x"}}}
        for answer in ({"content": "x"}, {"content": "", "tool_calls": [call]}):
            talk = [{"role": "user", "content": "x"}, {"role": "assistant", **answer}]
            try:
                masks.samples(talk, tools, where)
            except PrepareError as error:
                if error.code == 504:
                    raise
        return masks

    def _count_specials(self, texts):
        special = self._tokenizer().special_pattern
        self.special_in_text += any(special.search(text) for text in texts)
