"""What of a conversation is in the loss: told by the template, whatever the messages say.

Small byte-level tokenizers, and templates that are written here to show one thing each.
"""

import json

import pytest

import small_tokenizers
from data_step import documents, run, trained

ROLES = ["[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>",
         "<|endoftext|>"]
# As GLM-4.5: no token ends a turn, the next role does.
GLM = ("[gMASK]<sop>{% for m in messages %}"
       "<|{{ 'observation' if m.role == 'tool' else m.role }}|>\n"
       "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
       "{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }}"
       "{% for k, v in c.function.arguments.items() %}<k>{{ k }}</k><v>{{ v }}</v>{% endfor %}"
       "</tool_call>{% endfor %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}")
CHATML = ("{% for m in messages %}<|im_start|>{{ m.role }}\n"
          "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
          "{{ m.content }}{% for c in m.tool_calls or [] %}<tool_call>{{ c | tojson }}</tool_call>"
          "{% endfor %}<|im_end|>\n{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
# The same with marks.
SAID = CHATML[CHATML.index("{% if m.reasoning"):CHATML.index("\n{% endfor %}{% if add")]
MARKED = CHATML.replace(SAID + "\n", "{% if m.role == 'assistant' %}{% generation %}" + SAID
                        + "{% endgeneration %}{% else %}" + SAID + "{% endif %}{{ '\n' }}")


@pytest.fixture
def chat(tmp_path):
    """chat(template, plain=[...]) -> a folder; plain: tokens that are not special."""
    def made(template, plain=("<think>", "</think>", "<tool_call>", "</tool_call>"), specials=()):
        folder = tmp_path / "chat"
        tokenizer = small_tokenizers.byte_level()
        tokenizer.add_special_tokens([*ROLES, *specials])
        tokenizer.add_tokens(list(plain))
        small_tokenizers.save(tokenizer, folder)
        (folder / "chat_template.jinja").write_text(template)
        return folder
    return made


def user(text="q"):
    return {"role": "user", "content": text}


def answer(text="a", **more):
    return {"role": "assistant", "content": text, **more}


def call(name="f", **arguments):
    return answer("", tool_calls=[
        {"type": "function", "function": {"name": name, "arguments": arguments}}])


TOOL = {"role": "tool", "content": "42"}


def only(result):
    [text] = result.texts
    return text.removeprefix("[gMASK]<sop>")


# What follows an answer is what the template puts there.

def test_a_last_call_of_a_tool_is_followed_by_what_opens_the_tools_turn(chat):
    result = trained(chat(GLM), [user(), call()])
    assert only(result) == "<|user|>\nq<|assistant|>[\n<tool_call>f</tool_call><|observation|>]"
    assert result.ends == {"<|observation|>": 1}


def test_a_call_is_followed_by_its_tool_and_an_answer_by_the_user(chat):
    text = only(trained(chat(GLM), [user(), call(), TOOL, answer(), user(), answer("b")]))
    assert text == ("<|user|>\nq<|assistant|>[\n<tool_call>f</tool_call><|observation|>]\n42"
                    "<|assistant|>[\na<|user|>]\nq<|assistant|>[\nb<|user|>]")


def test_a_call_ends_with_the_tools_turn_also_where_its_closing_tag_is_special(chat):
    folder = chat(GLM, plain=(), specials=["<tool_call>", "</tool_call>"])
    assert only(trained(folder, [user(), call()])).endswith("</tool_call><|observation|>]")


def test_a_call_whose_last_word_is_a_token_ends_behind_it(chat):
    text = only(trained(chat(GLM), [user(), call(x="<|user|>"), TOOL, answer()]))
    assert "[\n<tool_call>f<k>x</k><v><|user|></v></tool_call><|observation|>]" in text


def test_a_system_message_behind_an_answer_ends_it(chat):
    talk = [user(), answer(), {"role": "system", "content": "s"}, user(), answer("b")]
    assert "[\na<|system|>]\ns<|user|>" in only(trained(chat(GLM), talk))


def test_a_call_in_a_template_with_ends_of_its_own_ends_with_that(chat):
    text = only(trained(chat(CHATML), [user(), call()]))
    assert text.endswith("</tool_call><|im_end|>]\n")


# Texts of tokens within what is said.

@pytest.mark.parametrize("said", [
    "Put <|endoftext|> between documents.", "ends with <|user|>", "<|user|>",
    "<|im_end|>\n", "a<|observation|><|assistant|>b"])
@pytest.mark.parametrize("template", [GLM, CHATML, MARKED], ids=["glm", "chatml", "marked"])
def test_special_text_within_an_answer_does_not_end_it(chat, template, said):
    stop = "<|user|>" if template == GLM else "<|im_end|>"
    result = trained(chat(template), [user(), answer(said), user("<|user|>"), answer("b")])
    first = result.texts[0].split("[")[2 if template == GLM else 1].split("]")[0]
    assert first.lstrip("\n") == said + stop
    assert result.ends == {stop: 2}


def test_special_text_at_the_beginning_of_the_next_message_is_not_taken_for_the_end(chat):
    bare = "{% for m in messages %}{{ m.content }}{% endfor %}"
    result = trained(chat(bare), [user("Q"), answer("a"), user("<|user|>R"), answer("b")])
    assert only(result) == "Q[a]<|user|>R[b]"
    assert result.without_end == 2


def test_special_text_in_thinking_and_in_the_names_of_arguments_does_not_end_a_turn(chat):
    message = {**call("f", **{"<|user|>": 5}), "reasoning_content": "<|endoftext|>"}
    text = only(trained(chat(GLM), [user(), message]))
    assert text.endswith("[\n<think><|endoftext|></think><tool_call>f<k><|user|></k><v>5</v>"
                         "</tool_call><|observation|>]")


@pytest.mark.parametrize("marks_special", [True, False])
def test_an_answer_behind_a_special_token_is_in_the_loss(chat, marks_special):
    template = ("{% for m in messages %}{{ m.role }}: {% if m.role == 'assistant' %}<think></think>"
                "{% endif %}{{ m.content }}\n{% endfor %}"
                "{% if add_generation_prompt %}assistant: {% endif %}")
    tokens = ["<think>", "</think>"]
    folder = chat(template, *((), tokens) if marks_special else (tokens, ()))
    result = trained(folder, [user("hi"), answer("the whole answer")])
    assert only(result) == "user: hi\nassistant: [<think></think>the whole answer\n]"
    assert result.without_end == 1


def test_a_turn_without_a_token_at_its_end_is_said(chat, tmp_path):
    folder = chat("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
                  "{% if add_generation_prompt %}assistant: {% endif %}")
    assert "warning[W0107]: 1 assistant turns" in run(
        tmp_path, [{"messages": [user(), answer()]}], folder).output


def test_what_stands_behind_the_models_end_token_is_cut(chat):
    # Its end token, then the begin token of what comes next.
    folder = chat("{% for m in messages %}{{ m.role }}: {{ m.content }}</s><s>\n{% endfor %}"
                  "{% if add_generation_prompt %}assistant: {% endif %}")
    assert only(trained(folder, [user(), answer("a</s>b")])) == (
        "user: q</s><s>\nassistant: [a</s>b</s>]<s>\n")


def test_a_template_that_looks_at_the_last_letter_is_understood_all_the_same(chat):
    looks = CHATML.replace("{{ m.content }}",
                           "{{ m.content }}{{ '' if m.content[-1:] == '.' else '.' }}")
    assert only(trained(chat(looks), [user(), answer("yes.")])).endswith("[yes.<|im_end|>]\n")
    assert only(trained(chat(looks), [user(), answer("yes")])).endswith("[yes.<|im_end|>]\n")


def test_an_answer_that_takes_back_earlier_thinking_stands_behind_what_the_model_saw(chat):
    """As GPT-OSS: thinking before a call is kept until there is an answer."""
    template = ("{% set last = messages[-1] %}{% for m in messages %}<|im_start|>{{ m.role }}"
                "{% if m.reasoning_content and last.role != 'assistant' %}"
                "<think>{{ m.reasoning_content }}</think>{% endif %}"
                "{{ m.content }}<|im_end|>{% endfor %}"
                "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}")
    talk = [user(), answer("c", reasoning_content="hm"), TOOL, answer("b")]
    _, last = trained(chat(template), talk).texts
    assert last == ("<|im_start|>user" "q<|im_end|><|im_start|>assistant<think>hm</think>c"
                    "<|im_end|><|im_start|>tool42<|im_end|><|im_start|>assistant[b<|im_end|>]")


# Thinking in or out of the loss.

@pytest.mark.parametrize("template", [CHATML, MARKED], ids=["difference", "marks"])
@pytest.mark.parametrize("form", ["of its own", "inline"])
def test_thinking_can_be_left_out_of_the_loss(chat, template, form):
    message = (answer("A", reasoning_content="hm, 好\n") if form == "of its own"
               else answer("<think>hm, 好\n</think>A"))
    folder = chat(template)
    assert only(trained(folder, [user(), message])).endswith(
        "\n[<think>hm, 好\n</think>A<|im_end|>]\n")
    assert only(trained(folder, [user(), message], thinking=False)).endswith(
        "\n[<think>]hm, 好[\n</think>A<|im_end|>]\n")


def test_single_turns_choose_their_thinking(chat):
    thinks = answer("A", reasoning_content="hm")
    talk = [user(), {**thinks, "_train_thinking": False}, user(), thinks]
    assert "[<think>]hm[</think>A" in only(trained(chat(CHATML), talk))
    assert only(trained(chat(CHATML), talk)).endswith("[<think>hm</think>A<|im_end|>]\n")
    talk[1]["_train_thinking"] = True
    text = only(trained(chat(CHATML), talk, thinking=False))
    assert "[<think>hm</think>A<|im_end|>]" in text
    assert text.endswith("[<think>]hm[</think>A<|im_end|>]\n")


def test_thinking_that_the_template_drops_changes_nothing(chat):
    dropped = CHATML.replace("m.reasoning_content", "false")
    talk = [user(), answer("A", reasoning_content="A")]
    assert only(trained(chat(dropped), talk, thinking=False)).endswith("[A<|im_end|>]\n")


# Single messages.

def test_a_message_of_another_role_is_in_the_loss_where_it_asks_for_it(chat):
    text = only(trained(chat(CHATML), [{**user(), "_train": True}, answer()]))
    assert text == "<|im_start|>user\n[q<|im_end|>]\n<|im_start|>assistant\n[a<|im_end|>]\n"


@pytest.mark.parametrize("loss_on", ["assistant", "last", "completion", "all"])
def test_a_message_that_asks_not_to_be_trained_never_is(chat, loss_on):
    talk = [user(), answer("A"), user(), {**answer("B"), "train": False}]
    text = only(trained(chat(CHATML), talk, loss_on=loss_on))
    assert ("[A<|im_end|>]" in text) == (loss_on == "assistant")
    assert text.endswith("\n]B<|im_end|>[\n]" if loss_on == "all" else "\nB<|im_end|>\n")


def test_several_marks_in_a_turn_belong_to_it(chat):
    twice = MARKED.replace("{{ m.content }}{%",
                           "{% endgeneration %}|{% generation %}{{ m.content }}{%", 1)
    talk = [user(), answer("A", reasoning_content="r"), user(), {**answer("B"), "train": False}]
    text = only(trained(chat(twice), talk))
    assert "[<think>r</think>]|[A<|im_end|>]" in text and "B<|im_end|>\n" in text


def test_a_mark_in_a_comment_is_none(chat):
    text = only(trained(chat("{# {% generation %} {% endgeneration %} #}" + CHATML),
                        [user(), answer()]))
    assert text.endswith("[a<|im_end|>]\n")


# Begin and end tokens stand once.

@pytest.mark.parametrize("row", [
    {"text": "<s>hi there</s>"}, {"prompt": "<s>hi", "completion": " there</s>"},
    {"text": " <s>hi there</s>\n"}, {"prompt": "", "completion": "<s>hi there</s>"}],
    ids=["text", "prompt", "blanks", "no prompt"])
def test_begin_and_end_tokens_stand_once(chat, tmp_path, row):
    folder = chat(CHATML)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "add_bos_token": True}))
    result = run(tmp_path, [row], folder)
    [(ids, _)] = documents(result)
    assert (ids.count(0), ids.count(1)) == (1, 1)
    assert "warning[W0113]: 1 rows have the begin or end token" in result.output


def test_a_begin_token_that_no_text_becomes_is_added(chat, tmp_path):
    """Its text is in the row as letters."""
    folder = chat(CHATML)
    path = folder / "tokenizer.json"
    spelt = json.loads(path.read_text())
    spelt["added_tokens"] = [t for t in spelt["added_tokens"] if t["content"] != "<s>"]
    path.write_text(json.dumps(spelt))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "</s>", "add_bos_token": true}')
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "bos_token_id": 0}))
    result = run(tmp_path, [{"text": "<s>hi"}], folder)
    [(ids, _)] = documents(result)
    assert ids[0] == 0 and len(ids) > 5 and "W0113" not in result.output
