"""What the rows of each kind have as a prompt and as answers."""

from sutor_prepare import rows as row_kinds
from sutor_prepare.conversation import Conversation
from sutor_prepare.ends import frame, trained_ends
from sutor_prepare.errors import PrepareError
from sutor_prepare.masks import MaskMaker

# Distinguished by their keys, in this order. `prompt`: rows with or without a completion.
FORMATS = {"tokens": "input_ids", "messages": "messages", "prompt": "prompt", "text": "text"}


def detect_format(row, where):
    for name, key in FORMATS.items():
        if key in row:
            return name
    raise PrepareError(
        336,
        f"the format of a row with the keys {', '.join(row) or '(none)'} is not known. Rows hold "
        "`prompt`, `messages`, `text` or `input_ids`",
        where,
    )


class PromptMaker:
    """Makes (parts, prompt as text, answers) of rows; parts are what encode.Encoder takes.

    special_in_text counts the rows that hold the text of a special token, which becomes that token.
    """

    def __init__(self, tokenizer, template, template_wanted):
        """tokenizer and template are functions that load on first use."""
        self._tokenizer = tokenizer
        self._template = template
        self._template_wanted = template_wanted
        self.special_in_text = 0
        self._masks = None

    def end_tokens(self):
        tokenizer = self._tokenizer()
        counts = {} if self._masks is None else self._masks.take_counts()
        return tokenizer.ends.all | set(trained_ends(counts))

    def of(self, row, format, where):
        """text is null for rows of tokens, answers a list that may be empty."""
        if format == "tokens":
            ids, _ = row_kinds.tokens_of(row, where)
            return [(token, False) for token in ids], None, row_kinds.given_answers(row, where)
        if format == "messages":
            text, answers = self._conversation(row, where)
            return [(text, False)], text, answers or row_kinds.given_answers(row, where)
        text = row_kinds.text_of(row, format, where)
        self._count_specials([text])
        answers = row_kinds.given_answers(row, where)
        if format == "prompt" and not answers and row.get("completion") is not None:
            answers = [row_kinds.text_of(row, "completion", where)]
        begin, _, _ = frame(self._tokenizer(), [text])
        return begin + [(text, False)], text, answers

    def _conversation(self, row, where):
        """The prompt of the last assistant turn and its text; else the prompt of the next turn."""
        messages = row_kinds.messages_of(row, where)
        if self._template() is None:
            raise row_kinds.no_template(self._template_wanted, where)
        count, answers = len(messages), []
        if messages[-1]["role"] == "assistant":
            count -= 1
            content = messages[-1].get("content")
            answers = [] if content is None else [content]  # none: it only calls tools
        self._count_specials([message.get("content") or "" for message in messages[:count]])
        if self._masks is None:
            self._masks = self._masks_of_turns(row.get("tools"), where)
        talk = Conversation(self._template(), messages, row.get("tools"), where)
        return talk.render(count, generation_prompt=True)[0], answers

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
