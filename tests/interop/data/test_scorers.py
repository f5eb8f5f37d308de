"""sutor eval --completions: scorers against published scores, their libraries, cases by hand."""

import json
import pathlib
import subprocess
import sys
import time
import types

import pytest
import sacrebleu
from rouge_score import rouge_scorer

ROOT = pathlib.Path(__file__).resolve().parents[3]
PUBLISHED = ROOT / "tests" / "golden" / "completions" / "intent.jsonl"


def completion(prediction, answers, prompt="Q"):
    return {"example": {"prompt": prompt, "raw_prediction": prediction, "raw_answers": answers}}


def written(folder, rows):
    path = folder / "completions.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
                    encoding="utf-8")
    return path


def score(folder, rows, *scorers, **job):
    """Runs score.py on rows of (prediction, answers); never fails by itself."""
    path = written(folder, [completion(*row) for row in rows])
    job = {"completions": str(path), "scorers": list(scorers), "tokenize": "auto", "judge": "",
           "judge_seconds": 20, "json": True, "out": "", **job}
    process = subprocess.run([sys.executable, "-B", str(ROOT / "tools" / "score.py"),
                              json.dumps(job)], capture_output=True, text=True, timeout=60)
    return types.SimpleNamespace(code=process.returncode, output=process.stdout,
                                 errors=process.stderr)


def results(folder, rows, *scorers, **job):
    """What score.py prints of a run that went well."""
    result = score(folder, rows, *scorers, **job)
    assert result.code == 0, result.errors
    return json.loads(result.output)


def verb(program, *arguments):
    return subprocess.run([str(program.path), "eval", *map(str, arguments)], capture_output=True,
                          text=True, timeout=60)



def test_published_intent_scores_come_out_row_by_row(program):
    rows = [json.loads(line) for line in PUBLISHED.read_text(encoding="utf-8").splitlines()]
    process = verb(program, "--completions", PUBLISHED, "--scorer", "intent", "--json")
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == {"mean": 19 / 60, "scores": [row["score"] for row in rows]}


GOOD = '{"intent": "A", "slots": {"x": "1", "y": "b"}}'
LISTS = '{"intent": "A", "slots": {"x": ["b", "a", "a"]}}'
SPACED = '{"intent": "A", "slots": {"x": "a b"}}'
NUMBER = '{"intent": "A", "slots": {"x": 5}}'
BARE = '{"intent": "A", "slots": {}}'
HARD_INTENTS = {
    # blanks and full stops around it
    "as it is": (GOOD, GOOD, 1),
    "blanks": (f"\n\t {GOOD} \n", GOOD, 1),
    "chinese full stop": (f" {GOOD}。", GOOD, 1),
    "several stops": (f"{GOOD}.。. ", GOOD, 1),
    "stops apart": (f"{GOOD} . 。\n", GOOD, 1),
    "comma behind": (f"{GOOD},", GOOD, 0),
    "empty": ("", GOOD, 0),
    "only stops": (" 。. ", GOOD, 0),
    # what is looked at
    "first line": (f"{GOOD}。\nUser: more", GOOD, 1),
    "first line behind empty ones": (f"。\n\n  \n{GOOD}\r\nmore", GOOD, 1),
    "wrong line first": (f"Sure:\n{GOOD}", GOOD, 0),
    "text before": (f"Answer: {GOOD}", GOOD, 0),
    "text behind": (f"{GOOD} that is it", GOOD, 0),
    "two objects": (f"{GOOD}{GOOD}", GOOD, 0),
    "spread over lines": (json.dumps(json.loads(GOOD), indent=2), GOOD, 0),
    "fenced": (f"Sure, here it is:\n```json\n{GOOD}\n```\nAnything else?", GOOD, 1),
    "fenced in a line": (f"```json {GOOD}```", GOOD, 1),
    "fenced over lines": (f"```json\n{json.dumps(json.loads(GOOD), indent=2)}\n```", GOOD, 1),
    "fenced, with more behind": (f"```json\n{GOOD}。\nmore\n```", GOOD, 1),
    "first of two fences": (f"```json\n{GOOD}\n```\n```json\n{BARE}\n```", GOOD, 1),
    "fence not closed": (f"```json\n{GOOD}", GOOD, 0),
    "fence of no language": (f"```\n{GOOD}\n```", GOOD, 0),
    # not the JSON that is wanted
    "cut short": (GOOD[:-1], GOOD, 0),
    "single quotes": (GOOD.replace('"', "'"), GOOD, 0),
    "comma too many": (GOOD.replace("}}", "},}"), GOOD, 0),
    "list": (f"[{GOOD}]", GOOD, 0),
    "text": ('"A"', GOOD, 0),
    "number": ("5", GOOD, 0),
    "null": ("null", GOOD, 0),
    "slots are a list": ('{"intent": "A", "slots": []}', BARE, 0),
    "slots are null": ('{"intent": "A", "slots": null}', BARE, 0),
    "far too deep": ("[" * 100_000, GOOD, 0),
    # intent and keys
    "other intent": (GOOD.replace('"A"', '"B"'), GOOD, 0),
    "blank in the intent": (GOOD.replace('"A"', '"A "'), GOOD, 0),
    "no intent": ('{"slots": {}}', BARE, 0),
    "no intent on both sides": ('{"slots": {}}', '{"slots": {}}', 1),
    "no slots": ('{"intent": "A"}', BARE, 1),
    "no slots, but wanted": ('{"intent": "A"}', GOOD, 0),
    "keys beside them": (GOOD[:-1] + ', "z": 1}', GOOD, 1),
    "slots in another order": ('{"slots": {"y": "b", "x": "1"}, "intent": "A"}', GOOD, 1),
    "slot missing": ('{"intent": "A", "slots": {"x": "1"}}', GOOD, 0),
    "slot too many": (GOOD.replace("}}", ', "z": ""}}'), GOOD, 0),
    "key in other letters": (GOOD.replace('"y"', '"Y"'), GOOD, 0),
    "key twice": (GOOD.replace('"x": "1"', '"x": "0", "x": "1"'), GOOD, 1),
    # values
    "blanks in a value": (GOOD.replace('"b"', '" b "'), GOOD, 1),
    "blanks wanted": (SPACED, SPACED, 0),
    "no-break space": (GOOD.replace('"b"', '"b\u00a0"'), GOOD, 0),
    "list in another order": (LISTS.replace('"b", "a", "a"', '"a", "b ", "a"'), LISTS, 1),
    "list without a repeat": (LISTS.replace('"a", "a"', '"a"'), LISTS, 0),
    "text for a list of one": (
        '{"intent": "A", "slots": {"x": "a"}}', '{"intent": "A", "slots": {"x": ["a"]}}', 0),
    "number in a list": (
        '{"intent": "A", "slots": {"x": [5]}}', '{"intent": "A", "slots": {"x": ["5"]}}', 1),
    "number for text": (GOOD.replace('"1"', "1"), GOOD, 0),
    "number for a number": (NUMBER, NUMBER, 0),
    "text for a number": (NUMBER.replace("5", '"5"'), NUMBER, 0),
    "null for text": (GOOD.replace('"1"', "null"), GOOD, 0),
    "object for text": (GOOD.replace('"1"', '{"u": "1"}'), GOOD, 0),
    "object for an object": (
        GOOD.replace('"1"', '{"u": "1"}'), GOOD.replace('"1"', '{"u": "1"}'), 0),
    # answers
    "second answer": (GOOD, [BARE, GOOD], 1),
    "no answer right": (GOOD, [BARE, LISTS], 0),
    "stop behind the answer": (GOOD, f"{GOOD}。", 1),
}


def test_hard_intents(tmp_path):
    cases = HARD_INTENTS.values()
    found = results(tmp_path, [(prediction, answers) for prediction, answers, _ in cases], "intent")
    assert dict(zip(HARD_INTENTS, found["scores"])) == {
        name: expected for name, (_, _, expected) in HARD_INTENTS.items()}


@pytest.mark.parametrize("answer", ["A", "[]", '{"intent": "A", "slots": "x"}'])
def test_answers_that_are_no_intent_are_named(tmp_path, answer):
    result = score(tmp_path, [(GOOD, GOOD), (GOOD, answer)], "intent")
    assert result.code == 3 and "completions.jsonl:2: error[E0360]" in result.errors



def test_exact_strips_and_nothing_else(tmp_path):
    rows = [(" a b\n", "a b"), ("a b", ["x", " a b "]), ("a  b", "a b"), ("A b", "a b"),
            ("a b.", "a b"), ("", ""), ("好。", "好。")]
    assert results(tmp_path, rows, "exact") == {"mean": 4 / 7, "scores": [1, 1, 0, 0, 0, 1, 1]}


NUMBERS = [  # prediction, answer, score
    ("So 6 * 7 = 42.", "The product is\n#### 42", 1),
    ("42", "42.00", 1),
    ("42", "-42", 0),
    ("It costs $1,234.50.", "1234.5", 1),
    ("共计１，２００元。", "1200", 1),
    ("€ 5", "5", 1),
    ("50%", "50", 1),
    ("0.5", "50%", 0),
    ("-5", "-5", 1),
    ("\u22125", "-5", 1),
    ("-$5", "$-5", 1),
    ("7-5", "5", 1),
    ("The items:\n- 5 apples", "5", 1),
    ("(-5)", "-5", 1),
    ("x=-5", "-5", 1),
    ("1,2,3", "3", 1),
    ("1,234,567", "1234567", 1),
    ("42 is the answer to question 7", "42", 0),
    ("1e3", "1000", 1),
    ("3/4", "0.75", 1),
    ("1/4", "3/4", 0),
    ("on 3/4/2024", "2024", 1),
    (".5", "0.5", 1),
    ("see No.5", "5", 1),
    ("007", "7", 1),
    ("**42**", "42", 1),
    ("\\boxed{42}", "42", 1),
    ("42km", "42", 1),
    ("forty-two", "42", 0),
    ("", "42", 0),
    ("1/0", "0", 0),
    ("9" * 100_000, "9", 0),
    ("0.1", ["0.3", "0.10"], 1),
    ("0.30000000000000004", "0.3", 0),
]


def test_numbers(tmp_path):
    rows = [(prediction, answer) for prediction, answer, _ in NUMBERS]
    scores = results(tmp_path, rows, "numeric")["scores"]
    wrong = [case for case, scored in zip(NUMBERS, scores, strict=True) if scored != case[2]]
    assert not wrong


def test_answers_without_a_number_are_named(tmp_path):
    result = score(tmp_path, [("1", "1"), ("1", "one")], "numeric")
    assert result.code == 3 and "completions.jsonl:2: error[E0360]" in result.errors


ENGLISH = [
    ("The cat sat on the mat.", ["The cat is on the mat."]),
    ("There is a cat on a mat, isn't there?", ["There's a cat on the mat.", "A cat is on a mat."]),
    ("Nothing alike", ["The quick brown fox"]),
    ("", ["not empty"]),
    ("the same words here", ["the same words here"]),
]
CHINESE = [
    ("我明天下午去北京开会。", ["我明天上午去北京开会。"]),
    ("今天天气ABC很好", ["今天天气ABC不错", "天气很好"]),
]


def split_streams(rows):
    """Rows as sacrebleu wants them: texts, and a list of answers a position, None where too few."""
    most = max(len(answers) for _, answers in rows)
    return [text for text, _ in rows], [
        [answers[i] if i < len(answers) else None for _, answers in rows] for i in range(most)]


def test_rouge_l_of_english_is_the_library_s(tmp_path):
    library = rouge_scorer.RougeScorer(["rougeL"])
    expected = [library.score_multi(answers, text)["rougeL"].fmeasure for text, answers in ENGLISH]
    found = results(tmp_path, ENGLISH, "rouge_l")
    assert found["scores"] == expected
    assert found["mean"] == pytest.approx(sum(expected) / len(expected), abs=1e-12)
    assert found["scores"][0] == pytest.approx(5 / 6)  # "the cat on the mat" of 6 and 6 words
    assert found["scores"][2:] == [0, 0, 1]


def test_rouge_l_of_chinese_counts_characters(tmp_path):
    found = results(tmp_path, CHINESE, "rouge_l")["scores"]
    assert found[0] == pytest.approx(9 / 10)  # 10 characters each, one differs; no full stop
    # 今天天气 and abc are 5 of 7 and 7; against 天气很好 it is 4 of 7 and 4.
    assert found[1] == pytest.approx(2 * 4 / (7 + 4))
    assert results(tmp_path, CHINESE, "rouge_l", tokenize="words")["scores"] == [0, 1]


@pytest.mark.parametrize("text, f1", [
    ("привет, мир", 1 / 2), ("γειά σου κόσμε", 2 / 3), ("हिन्दी भाषा", 1 / 2),
    ("한국어", 4 / 5), ("カタカナ", 6 / 7)])
def test_rouge_l_sees_every_script(tmp_path, text, f1):
    """Without its first letter the text loses a word of two or three, or a character."""
    rows = [(text, text), (text[1:], text)]
    assert results(tmp_path, rows, "rouge_l")["scores"] == pytest.approx([1, f1])


def test_bleu_is_the_library_s(tmp_path):
    for rows, tokenize in ((ENGLISH, "13a"), (CHINESE, "zh")):
        found = results(tmp_path, rows, "bleu")
        texts, streams = split_streams(rows)
        assert found["mean"] == pytest.approx(
            sacrebleu.corpus_bleu(texts, streams, tokenize=tokenize).score, abs=1e-9)
        assert found["scores"] == pytest.approx(
            [sacrebleu.sentence_bleu(text, answers, tokenize=tokenize).score
             for text, answers in rows], abs=1e-9)
    assert results(tmp_path, ENGLISH, "bleu")["scores"][4] == pytest.approx(100)


def test_bleu_parts_words_by_the_answers_of_each_row(tmp_path):
    mixed = results(tmp_path, ENGLISH + CHINESE, "bleu")["scores"]
    apart = [results(tmp_path, rows, "bleu")["scores"] for rows in (ENGLISH, CHINESE)]
    assert mixed == apart[0] + apart[1]
    words = results(tmp_path, CHINESE, "bleu", tokenize="words")
    texts, streams = split_streams(CHINESE)
    assert words["mean"] == pytest.approx(
        sacrebleu.corpus_bleu(texts, streams, tokenize="13a").score, abs=1e-9)
    everything = results(tmp_path, ENGLISH, "bleu", tokenize="cjk")
    texts, streams = split_streams(ENGLISH)
    assert everything["mean"] == pytest.approx(
        sacrebleu.corpus_bleu(texts, streams, tokenize="zh").score, abs=1e-9)


def test_bleu_by_hand(tmp_path):
    """7 of 9 words, 4 of 8 pairs, 2 of 7 threes, 1 of 6 fours; 9 words against 10."""
    row = ("a b c d x e f y g", "a b c d e f g h i j")
    found = results(tmp_path, [row], "bleu")
    precision = (7 / 9) * (4 / 8) * (2 / 7) * (1 / 6)
    expected = 100 * precision ** 0.25 * 2.718281828459045 ** (1 - 10 / 9)
    assert found["mean"] == pytest.approx(expected, abs=1e-6)


def test_chrf_is_the_library_s(tmp_path):
    for rows in (ENGLISH, CHINESE):
        found = results(tmp_path, rows, "chrf")
        texts, streams = split_streams(rows)
        assert found["mean"] == pytest.approx(sacrebleu.corpus_chrf(texts, streams).score, abs=1e-9)
        assert found["scores"] == pytest.approx(
            [sacrebleu.sentence_chrf(text, answers).score for text, answers in rows], abs=1e-9)



@pytest.fixture
def judge(tmp_path):
    """judge(body) -> the command line of a Python program with this body."""
    def made(body):
        path = tmp_path / "the judge.py"
        path.write_text("import json, sys, time\n" + body)
        return f"'{sys.executable}' '{path}'"
    return made


ROWS = [("a", "a"), ("b", ["b", "c"]), ("好", [])]
READS = "rows = [json.loads(line) for line in sys.stdin]\n"


def test_the_judge_sees_rows_and_scores_them(tmp_path, judge):
    seen = tmp_path / "seen.json"
    command = judge(READS + f"open({str(seen)!r}, 'w').write(json.dumps(rows))\n"
                    "print(1)\nprint()\nprint(json.dumps({'score': 0.25, 'why': 'x'}))\nprint(0.0)")
    found = results(tmp_path, ROWS, "judge", judge=command)
    assert found == {"mean": 1.25 / 3, "scores": [1, 0.25, 0]}
    assert json.loads(seen.read_text()) == [
        {"prompt": "Q", "raw_prediction": "a", "raw_answers": ["a"]},
        {"prompt": "Q", "raw_prediction": "b", "raw_answers": ["b", "c"]},
        {"prompt": "Q", "raw_prediction": "好", "raw_answers": []}]


def test_a_judge_may_answer_before_it_has_read_all(tmp_path, judge):
    rows = [("x" * 1000, "a")] * 500
    command = judge("for line in sys.stdin: print(0.5, flush=True)")
    assert results(tmp_path, rows, "judge", judge=command)["mean"] == 0.5


FAILING = {
    "too few lines": (READS + "print(1)", "E0361", "printed 1 lines for 3 completions"),
    "too many lines": (READS + "print('1\\n' * 4)", "E0361", "printed 4 lines for 3"),
    "no lines, nothing read": ("", "E0361", "printed 0 lines"),
    "exit code": (READS + "print('1\\n' * 3); sys.exit(4)", "E0361", "ended with exit code 4"),
    "signal": ("import os; os.kill(os.getpid(), 9)", "E0361", "ended by signal 9"),
    "above 1": (READS + "print('1\\n1.5\\n1')", "E0361", "the score 1.5 in line 2"),
    "below 0": (READS + "print('1\\n-1\\n1')", "E0361", "the score -1 in line 2"),
    "not a number": (READS + "print('1\\nNaN\\n1')", "E0361", "the score nan in line 2"),
    "words": (READS + "print('1\\n1\\ngood')", "E0361", "completions.jsonl:3: `good`"),
    "true": (READS + "print('1\\n1\\ntrue')", "E0361", "no score in line 3"),
    "object without a score": (READS + "print('1\\n1\\n{}')", "E0361", "no score in line 3"),
}


@pytest.mark.parametrize("case", FAILING)
def test_judges_that_fail_are_named(tmp_path, judge, case):
    body, code, words = FAILING[case]
    result = score(tmp_path, ROWS, "judge", judge=judge(body))
    assert result.code == 3 and f"error[{code}]" in result.errors
    assert words in result.errors and "the judge.py" in result.errors
    assert "Traceback" not in result.errors and result.output == ""


def test_judges_that_cannot_be_started_are_named(tmp_path):
    for command in ("/nowhere/judge --x", "python 'judge.py", " "):
        result = score(tmp_path, ROWS, "judge", judge=command)
        assert result.code == 2 and "error[E0233]" in result.errors, command


def test_a_slow_judge_is_stopped_with_what_it_started(tmp_path, judge):
    mark = tmp_path / "still here"
    body = ("import subprocess\n"
            f"subprocess.Popen(['sh', '-c', 'sleep 3; touch \"{mark}\"'])\ntime.sleep(60)")
    begin = time.monotonic()
    result = score(tmp_path, ROWS, "judge", judge=judge(body), judge_seconds=1)
    assert time.monotonic() - begin < 20
    assert result.code == 3 and "after 1 s" in result.errors
    time.sleep(3)
    assert not mark.exists()



def test_json_is_all_that_is_printed(program, tmp_path):
    path = written(tmp_path, [completion("a", "a"), completion("b", ["c"])])
    process = verb(program, "--completions", path, "--scorer", "exact", "--json")
    assert process.stdout == '{"mean": 0.5, "scores": [1, 0]}\n'
    assert (process.returncode, process.stderr) == (0, "")


def test_several_scorers_print_an_object_by_name(program, tmp_path):
    path = written(tmp_path, [completion("the 1", "the 1"), completion("b 2", ["c 2"])])
    out = tmp_path / "out" / "scored.jsonl"
    process = verb(program, "--completions", path, "--scorer", "exact,numeric", "--scorer",
                   "rouge_l", "--scorer", "exact", "--json", "--out", out)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == {
        "exact": {"mean": 0.5, "scores": [1, 0]}, "numeric": {"mean": 1, "scores": [1, 1]},
        "rouge_l": {"mean": 0.75, "scores": [1, 0.5]}}
    assert [json.loads(line)["score"] for line in out.read_text().splitlines()] == [
        {"exact": 1, "numeric": 1, "rouge_l": 1}, {"exact": 0, "numeric": 1, "rouge_l": 0.5}]
    process = verb(program, "--completions", path, "--scorer", "exact,bleu")
    exact, bleu = process.stdout.splitlines()
    assert exact.split()[:2] == ["exact", "0.5000"] and "1 of 2 rows" in exact
    assert bleu.split()[0] == "bleu" and "corpus BLEU" in bleu


def test_rows_are_written_back_with_their_scores(program, tmp_path):
    rows = [{**completion("好", "好"), "idx": 7}, completion("a\ud800", "b")]
    path = tmp_path / "completions.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    process = verb(program, "--completions", path, "--scorer", "exact", "--out", path)
    assert process.returncode == 0 and f"-> {path}" in process.stdout
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [
        {**row, "score": value} for row, value in zip(rows, [1, 0])]
    assert "好" in path.read_text(encoding="utf-8")
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_the_published_file_comes_back_as_it_was(program, tmp_path):
    out = tmp_path / "scored.jsonl"
    verb(program, "--completions", PUBLISHED, "--scorer", "intent", "--out", out)
    assert out.read_bytes() == PUBLISHED.read_bytes()


LINE = json.dumps(completion("a", "a")).encode() + b"\n"
BAD_FILES = {
    "no JSON": (LINE + b"{oops\n", "completions.jsonl:2: error[E0336]"),
    "no object": (b"[1]\n", "completions.jsonl:1: error[E0336]"),
    "not UTF-8": (LINE + b'\n{"example": "\xe9"}\n', "completions.jsonl:3: error[E0337]"),
    "flat": (LINE + b'{"prompt": "a", "raw_prediction": "b"}\n', "`example`: expected an object"),
    "no prediction": (b'{"example": {"raw_answers": []}}\n', "raw_prediction`: expected text"),
    "prediction is null": (b'{"example": {"raw_prediction": null}}\n', "got null"),
    "answers are a number": (b'{"example": {"raw_prediction": "a", "raw_answers": 5}}\n',
                             "raw_answers`: expected text or a list"),
    "an answer is a number": (b'{"example": {"raw_prediction": "a", "raw_answers": ["a", 5]}}\n',
                              "raw_answers[1]"),
    "no answers": (LINE + b'{"example": {"raw_prediction": "a"}}\n',
                   "completions.jsonl:2: error[E0360]"),
    "no rows": (b"\n", "holds no rows"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_lines_are_named(program, tmp_path, case):
    content, words = BAD_FILES[case]
    path = tmp_path / "completions.jsonl"
    path.write_bytes(content)
    process = verb(program, "--completions", path, "--scorer", "exact", "--json", "--out",
                   tmp_path / "out.jsonl")
    assert process.returncode == 3, process.stderr
    assert words in process.stderr and "Traceback" not in process.stderr
    assert process.stdout == "" and not (tmp_path / "out.jsonl").exists()


def test_missing_files_and_wrong_options(program, tmp_path):
    process = verb(program, "--completions", tmp_path / "gone.jsonl", "--scorer", "intent")
    assert process.returncode == 3 and "gone.jsonl cannot be read" in process.stderr
    for arguments, words in (
            (["--scorer", "intend"], "did you mean `intent`?"),
            (["--scorer", "exact,blue"], "did you mean `bleu`?"),
            ([], "give --scorer"),
            (["--scorer", "judge"], "needs --judge"),
            (["--scorer", "bleu", "--tokenize", "words2"], "did you mean `words`?")):
        process = verb(program, "--completions", PUBLISHED, *arguments)
        assert process.returncode == 2 and words in process.stderr
    assert verb(program, "--scorer", "exact").returncode == 2


def test_only_the_scorer_in_use_needs_its_package(tmp_path):
    """-S: a Python without site-packages, as one before `pip install`."""
    path = written(tmp_path, [completion(GOOD, GOOD)])
    codes = {}
    for scorer in ("intent", "exact", "bleu", "rouge_l"):
        job = {"completions": str(path), "scorers": [scorer], "tokenize": "auto", "json": True,
               "out": ""}
        process = subprocess.run(
            [sys.executable, "-B", "-S", str(ROOT / "tools" / "score.py"), json.dumps(job)],
            capture_output=True, text=True, timeout=60)
        codes[scorer] = process.returncode
        assert "Traceback" not in process.stderr
    assert codes == {"intent": 0, "exact": 0, "bleu": 2, "rouge_l": 2}


def test_help_fits_a_screen_and_has_two_examples(program):
    page = verb(program, "--help").stdout
    assert len(page.splitlines()) <= 40
    assert page.split("examples:")[1].count("sutor eval") == 2
