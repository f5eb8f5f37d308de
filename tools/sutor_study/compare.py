"""Studies that compare ways of training: kinds compare and sweep."""

import statistics

from sutor_study import pictures
from sutor_study.changes import Changes
from sutor_study.tables import count, spread, table


def best_rows(study, changes, task):
    rows = []
    for arm in study.arms:
        rate = changes.best_rate(task, arm.name)
        measured = [changes.results[task, arm.name, rate, seed] for seed in study.seeds]
        task_loss, accuracy, general = (
            changes.over_seeds(measure, task, arm.name, rate)
            for measure in (changes.task_loss, changes.task_accuracy, changes.general_loss))
        rows.append([
            arm.name,
            count(statistics.fmean(result.trained for result in measured)), f"{rate:g}",
            spread(task_loss), f"{100 * statistics.fmean(accuracy):+.2f}",
            spread(general), f"{statistics.fmean(result.seconds for result in measured):.1f}"
        ])
    return table(["", "trained", "lr", "task loss", "accuracy, points", "general loss", "s"], rows)


def grid_rows(study, changes, task):
    rows = []
    for arm in study.arms:
        points = [changes.point(task, arm.name, rate) for rate in study.learning_rates]
        rows.append([arm.name] + [f"{-gain:+.3f} / {lost:+.3f}" for gain, lost in points])
    return table([""] + [f"lr {rate:g}" for rate in study.learning_rates], rows)


def verdict(differences):
    """Of differences (other arm minus reference), positive when the reference is better."""
    wins = sum(difference > 0 for difference in differences)
    losses = sum(difference < 0 for difference in differences)
    total = len(differences)
    if wins == losses == 0:
        return "the same"
    word = "better" if wins == total else "worse" if losses == total else "unclear"
    return f"{word} ({wins} of {total} seeds, {spread(differences)})"


def against_reference(study, changes, task):
    """Each seed's difference to the reference arm, both at their best learning rates."""
    lines = []
    best = {arm.name: changes.best_rate(task, arm.name) for arm in study.arms}
    for arm in study.arms:
        if arm.name == study.reference:
            continue
        cells = [arm.name]
        for measure in (changes.task_loss, changes.general_loss):
            cells.append(verdict([
                measure(task, arm.name, best[arm.name], seed) -
                measure(task, study.reference, best[study.reference], seed)
                for seed in study.seeds]))  # yapf: disable
        lines.append(cells)
    return table([f"{study.reference} against ...", "on the task", "on the other domains"], lines)


def report(study, runs, folder):
    """Text of a study of trained arms, and its picture in `folder`."""
    results = runs.all_trainings(study)
    changes = Changes(study, runs.base(), results)
    parts = []
    for task in study.tasks:
        heading = f"Task {task}; {len(study.seeds)} seeds; changes of losses against the base model"
        parts.append(f"{heading}, each arm at the learning rate that was best on the tuning "
                     f"half.\n\n{best_rows(study, changes, task)}")
        if len(study.learning_rates) > 1:
            parts.append("All learning rates, task loss / general loss, means over seeds:\n\n" +
                         grid_rows(study, changes, task))
        if study.reference:
            parts.append("Seed by seed:\n\n" + against_reference(study, changes, task))
    picture = folder / f"{study.name}.png"
    if study.kind == "sweep":
        pictures.curves(study, changes, picture)
    else:
        pictures.gain_and_forgetting(study, changes, picture)
    return "\n\n".join(parts)
