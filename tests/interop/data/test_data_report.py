"""`prepare --report`: its numbers are those counted by hand; text of rows stays text in HTML."""

import html.parser
import json
import pathlib
import random
import subprocess
import sys
import types

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))

WORDS = ("It is blue colour sky The cobbler sticks to his last der Schuster cordonnier user system "
         "assistant What of ultra crepidam ne").split()


def sentence(seed, words=30):
    return " ".join(random.Random(seed).choices(WORDS, k=words)) + "."


def talk(question, answer):
    return {"messages": [{"role": "user", "content": question},
                         {"role": "assistant", "content": answer}]}


def report_of(folder, model, train, evaluation=(), workers=1, **job):
    """Runs prepare.py; .report: the object of the pages (made again), .text, .html."""
    sources = []
    for kind, name, rows in (("train", "rows", train), ("eval", "held_out", evaluation)):
        if rows:
            path = folder / f"{name}.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            sources.append({"kind": kind, "path": str(path), "format": "auto", "name": name,
                            "out": str(folder / "tokens" / f"{name}.tokens.h5")})
    page = folder / "data_report.html"
    job = {"model": str(model), "tokenizer": "auto", "template": "auto", "loss_on": "assistant",
           "seq_len": 64, "too_long": "drop", "show": 0, "ids": False, "colour": False,
           "workers": workers, "producer": "test", "report": str(page), "sources": sources,
           "stores": [{"kind": each["kind"], "name": each["name"], "path": each["out"]}
                      for each in sources], **job}
    done = subprocess.run([sys.executable, "-B", str(ROOT / "tools" / "prepare.py"),
                           json.dumps(job)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return types.SimpleNamespace(text=done.stdout, html=page.read_text(), job=job)


def again(result):
    from sutor_prepare.encode import ModelTokenizer
    from sutor_report.report import report_of as made

    model = result.job["model"]
    return made(result.job, lambda: ModelTokenizer("auto", model))


@pytest.fixture
def chatml(model):
    return model("byte_level", "chatml")


def test_lengths_and_shares_are_those_of_the_tokens(tmp_path):
    rows = [{"input_ids": [5] * n, "labels": [-100] * (n - m) + [5] * m}
            for n, m in ((1, 0), (2, 1), (3, 1), (4, 2), (10, 9), (65, 65))]
    result = report_of(tmp_path, tmp_path, rows)
    [one] = again(result)["sets"]
    assert one["length"]["bins"] == [[1, 1, 1, 1], [2, 2, 1, 2], [3, 4, 2, 7], [5, 8, 0, 0],
                                     [9, 16, 1, 10], [17, 32, 0, 0], [33, 64, 0, 0],
                                     [65, 128, 1, 65]]
    assert (one["length"]["least"], one["length"]["median"], one["length"]["most"]) == (1, 3, 65)
    assert one["too_long"] == 1 and one["without_loss"] == 1
    # none; 1/3; 1/2 twice; 9/10 and 64/65
    assert one["shares"] == [1, 0, 0, 0, 1, 0, 2, 0, 0, 0, 2]
    assert (one["documents"], one["tokens"], one["trained"]) == (6, 85, 77)
    assert not one["has_text"] and "no text to look at" in result.text


def test_duplicates_are_counted_once_for_every_repetition(tmp_path, chatml):
    base = sentence(1, 60)
    words = base.split()
    near = " ".join(words[:30] + ["sky"] + words[30:])
    rows = [talk("Say it", text) for text in
            (base, sentence(2, 60), base, near, sentence(3, 60), base)]
    result = report_of(tmp_path, chatml, rows)
    [one] = again(result)["sets"]
    assert (one["exact_duplicates"], one["near_duplicates"]) == (2, 1)
    assert [each[:2] for each in one["near_examples"]] == [[1, 4]]
    assert "duplicates: 2 exact, 1 near" in result.text


def test_empty_and_cut_answers_are_counted(tmp_path, chatml, model):
    long = sentence(5, 70)
    rows = [talk("a", ""), talk("b", " \n"), talk("c", "Blue."), talk("d", long),
            talk("e", long[:-1]), talk("f", "no stop but short")]
    result = report_of(tmp_path, chatml, rows)
    [one] = again(result)["sets"]
    assert (one["answers"], one["empty_answers"], one["unfinished"]) == (6, 2, 1)
    assert one["open_ended"] == 0
    assert [each[:2] for each in one["cut_examples"]] == [
        [1, "an empty answer"], [2, "an empty answer"], [5, "ends inside a sentence"]]
    assert "rows: 2 of 6 answers are empty" in result.text


def test_answers_without_an_end_token_are_counted(tmp_path, model):
    folder = model("byte_level", "chatml")
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}")
    rows = [talk(sentence(n), sentence(n + 50)) for n in range(3)]
    [one] = again(report_of(tmp_path, folder, rows))["sets"]
    assert one["open_ended"] == 3


def test_rows_for_evaluation_among_those_for_training_are_found(tmp_path, chatml):
    train = [talk(f"Question {n} {sentence(n)}", sentence(1000 + n)) for n in range(40)]
    held_out = [talk(f"Other {n} {sentence(2000 + n)}", sentence(3000 + n)) for n in range(20)]
    held_out[3] = train[7]  # exactly
    held_out[5] = talk("What do they say now?", train[9]["messages"][1]["content"])  # the answer
    held_out[11] = talk(train[11]["messages"][0]["content"] + " Or not?", "Blue.")  # the prompt
    result = report_of(tmp_path, chatml, train, held_out)
    [overlap] = again(result)["overlaps"]
    assert (overlap["copies"], overlap["among"], overlap["any"]) == (1, 2, 3)
    assert overlap["half"] == 3
    assert [each[0] for each in overlap["examples"]] == [4, 6, 12]
    assert "warning[W0116]: 2 of 20 rows of held_out are among those for training" in result.text


def test_the_words_of_a_prompt_are_no_overlap(tmp_path, chatml):
    prompt = sentence(77, 40)
    train = [talk(prompt, sentence(n)) for n in range(40)]
    held_out = [talk(prompt, sentence(500 + n)) for n in range(40)]
    result = report_of(tmp_path, chatml, train, held_out)
    [overlap] = again(result)["overlaps"]
    assert overlap["copies"] == overlap["half"] == overlap["among"] == 0
    assert "W0116" not in result.text


UNSEEN = {
    "\0": "zero bytes (U+0000)",
    "\x07": "control characters (C0, DEL, C1)",
    "\u200b": "characters of zero width, soft hyphens",
    "\u202e": "marks of direction",
    "\ufffd": "replacement characters (U+FFFD: broken text)",
    "\ue001": "characters of private use",
}


def test_characters_are_counted_by_kind(tmp_path, chatml):
    rows = [talk("x", character * (n + 1)) for n, character in enumerate(UNSEEN)]
    rows.append(talk("Блуe", "好好 ab\n\t"))
    result = report_of(tmp_path, chatml, rows)
    [one] = again(result)["sets"]
    assert one["unseen"] == [[name, n + 1, 1] for n, name in enumerate(UNSEEN.values())]
    scripts = dict(one["scripts"])
    assert scripts["Cyrillic"] == 3 and scripts["Han"] == 2
    assert "\x07" not in result.text and "\u202e" not in result.html


def test_the_oddest_rows_come_with_the_reason(tmp_path, chatml):
    rows = [talk(sentence(n), sentence(900 + n)) for n in range(60)]
    rows[10] = talk("x", sentence(5, 4000))
    rows[20] = talk(sentence(20), "blue " * 40)
    rows[30] = talk(sentence(30), "好" * 60)
    rows[40] = talk(sentence(40), sentence(41)[:60] + "\x00\x01\x02" * 10)
    [one] = again(report_of(tmp_path, chatml, rows))["sets"]
    reasons = {number: reason for number, reason, _ in one["oddest"]}
    assert len(one["oddest"]) <= 10
    assert "long for this set" in reasons[11]
    assert "repeats itself" in reasons[21]
    assert "Han" in reasons[31] or "characters a token" in reasons[31]
    assert "not seen" in reasons[41]


class Page(html.parser.HTMLParser):
    """The tags of a page, and whether all that are opened are closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.references = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.references += [value for name, value in attributes if name in ("src", "href")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


HOSTILE = ["<script>alert(1)</script>", "</td></table><img src=http://x onerror=alert(1)>",
           "&lt;b&gt; &amp;", "\"'><svg onload=alert(1)>", "<!-- ", "]]>"]


def test_text_of_rows_stays_text_in_the_page(tmp_path, chatml):
    rows = [talk(text, "") for text in HOSTILE] + [talk(HOSTILE[0], sentence(3, 3000))]
    result = report_of(tmp_path, chatml, rows)
    page = Page(result.html)
    assert page.open == [] and page.references == []
    assert not page.tags & {"script", "img", "b", "link", "iframe"}
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in result.html
    assert "&amp;lt;b&amp;gt;" in result.html


def test_the_report_is_the_same_at_every_number_of_workers(tmp_path, chatml, monkeypatch):
    from sutor_report import documents

    rows = [talk(sentence(n), sentence(90 + n % 50)) for n in range(120)]
    result = report_of(tmp_path, chatml, rows, rows[50:70])
    whole = again(result)
    monkeypatch.setattr(documents, "BLOCK_TOKENS", 500)
    for workers in (1, 3):
        result.job["workers"] = workers
        assert again(result) == whole


def test_runs_of_the_mask_are_answers():
    import numpy as np

    from sutor_report.answers import runs_of

    numbers = np.random.default_rng(4)
    for _ in range(200):
        lengths = numbers.integers(1, 6, numbers.integers(1, 6))
        mask = numbers.integers(0, 2, lengths.sum()).astype(np.uint8)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        expected = []
        for document, (begin, end) in enumerate(zip(starts, starts[1:])):
            at = begin
            while at < end:
                stop = at
                while stop < end and mask[stop]:
                    stop += 1
                if stop > at:
                    expected.append((at, stop, document))
                at = max(stop, at + 1)
        assert list(zip(*map(list, runs_of(mask, starts)))) == expected
