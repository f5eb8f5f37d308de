"""What the rows of each form have as a prompt and as answers."""

from sutor_prepare import rows as row_kinds
from sutor_prepare.masks import Conversation as Talk
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
        self._normalizer = None
        self.special_in_text = 0

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
        tokenizer = self._tokenizer()
        begin = [(tokenizer.bos_id, False)] if tokenizer.add_bos else []
        return begin + [(text, False)], text, answers

    def _conversation(self, made, where):
        """The prompt of the last assistant turn and its text; else the prompt of the next turn."""
        template = self._template()
        if template is None:
            raise row_kinds.no_template(self._template_wanted, where)
        if self._normalizer is None:
            self._normalizer = Normalizer(template, self._forms.unread)
        messages, answers = made.messages, []
        count = len(messages)
        if messages[-1]["role"] == "assistant":
            count -= 1
            # None: it only calls tools.
            answers = [content_text(messages[-1])] if "content" in messages[-1] else []
        self._count_specials(map(content_text, messages[:count]))
        talk = Talk(template, self._normalizer.messages(messages),
                    self._normalizer.tools(made.tools), where, made.template_values)
        return talk.render(count, generation_prompt=True)[0], answers

    def _count_specials(self, texts):
        special = self._tokenizer().special_pattern
        self.special_in_text += any(special.search(text) for text in texts)
