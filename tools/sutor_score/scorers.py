"""The scorers by name. A scorer and its library are imported when it is used."""

import importlib

from sutor_prepare.errors import PrepareError

from .limited_row import limited_row

# What each scorer's mean is, in words.
MEANS = {
    "intent": "share of right answers",
    "exact": "share of right answers",
    "numeric": "share of right answers",
    "rouge_l": "mean F1, 0 to 1",
    "bleu": "corpus BLEU, 0 to 100",
    "chrf": "corpus chrF, 0 to 100",
    "judge": "mean, 0 to 1",
}


def make_scorer(name, job):
    """A function from completions to (mean, a score per row)."""
    if name == "judge":
        judge = importlib.import_module(".judge", __package__)
        return judge.Judge(job["judge"], job["judge_seconds"]).score
    if name in ("rouge_l", "bleu", "chrf"):
        overlap = importlib.import_module(".overlap", __package__)
        kinds = {"rouge_l": overlap.RougeL, "bleu": overlap.Bleu, "chrf": overlap.Chrf}
        return kinds[name](job["tokenize"]).score
    row = exact if name == "exact" else importlib.import_module(f".{name}", __package__).score
    return lambda completions: mean_of_rows(row, completions, name)


def mean_of_rows(row, completions, name):
    scores = []
    for completion in completions:
        with limited_row(name, completion.where):
            scores.append(row(completion))
    return sum(scores) / len(scores), scores


def exact(completion):
    """1 when the prediction is an answer, but for blanks around either."""
    return int(completion.prediction.strip() in {answer.strip() for answer in completion.answers})


def score_completions(completions, job):
    """{scorer: {"mean", "scores"}} in the order of job["scorers"]."""
    results = {}
    for name in dict.fromkeys(job["scorers"]):
        if name not in MEANS:
            raise PrepareError(202, f"there is no scorer `{name}`. Known: {', '.join(MEANS)}")
        if name != "judge":
            check_answers(completions, name)
        mean, scores = make_scorer(name, job)(completions)
        results[name] = {"mean": mean, "scores": scores}
    return results


def check_answers(completions, name):
    for completion in completions:
        if not completion.answers:
            raise PrepareError(
                360,
                f"scorer {name}: there is no answer to compare with (`example.raw_answers`)",
                completion.where,
            )
