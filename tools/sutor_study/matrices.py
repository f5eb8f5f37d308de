"""Studies of tasks against tasks: kinds transfer, overlap and mask."""

import dataclasses
import statistics

from sutor_study import pictures
from sutor_study.runs import experts_of
from sutor_study.tables import table


def matrix_table(rows, columns, values, form):
    lines = [[form.format(value) for value in line] for line in values]
    return table([""] + columns, [[row] + line for row, line in zip(rows, lines)])


def transfer(study, runs, folder):
    results = runs.all_trainings(study)
    base = runs.base()
    rate, arm = study.learning_rates[0], study.arms[0].name
    values = [[statistics.fmean(results[task, arm, rate, seed].losses[name] - base.losses[name]
                                for seed in study.seeds) for name in runs.sets]
              for task in study.tasks]  # yapf: disable
    pictures.matrix(study, study.tasks, runs.sets, values, folder / f"{study.name}.png")
    deviations = [statistics.stdev([results[task, arm, rate, seed].losses[name]
                                    for seed in study.seeds])
                  for task in study.tasks for name in runs.sets
                  if len(study.seeds) > 1]  # yapf: disable
    noise = f"; largest standard deviation of a cell {max(deviations):.3f}" if deviations else ""
    own = [line[runs.sets.index(task)] for task, line in zip(study.tasks, values)]
    others = [value for task, line in zip(study.tasks, values)
              for name, value in zip(runs.sets, line) if name != task]  # yapf: disable
    return (f"{arm}, lr {rate:g}, mean over {len(study.seeds)} seeds{noise}.\n\n" +
            matrix_table(study.tasks, runs.sets, values, "{:+.3f}") +
            f"\n\nThe trained domain: {statistics.fmean(own):+.3f} in the mean; others: "
            f"{statistics.fmean(others):+.3f}, {sum(value > 0 for value in others)} of "
            f"{len(others)} lose.")


def overlap(study, runs, folder):
    runs.prepare(study.tasks)
    chosen = {task: experts_of(runs.config(task, study.arms[0])) for task in study.tasks}
    values = [[len(chosen[a] & chosen[b]) / len(chosen[a] | chosen[b]) for b in study.tasks]
              for a in study.tasks]  # yapf: disable
    pictures.matrix(study, study.tasks, study.tasks, values, folder / f"{study.name}.png",
                    signed=False)  # yapf: disable
    rows = [[task] + [f"{value:.2f}" for value in line] + [len(chosen[task])]
            for task, line in zip(study.tasks, values)]  # yapf: disable
    pairs = [values[i][j] for i in range(len(values)) for j in range(i)]
    return (table([""] + study.tasks + ["experts"], rows) +
            f"\n\nMean over pairs of different tasks: {statistics.fmean(pairs):.2f}; experts that "
            f"all {len(study.tasks)} chose: {len(set.intersection(*chosen.values()))}.")


def random_like(arm):
    """The same numbers of experts a layer, drawn at random."""
    return dataclasses.replace(arm, keys=arm.keys | {"esft.select.method": "random"})


def mask(study, runs, folder):
    runs.prepare(study.tasks)
    arm, control = study.arms[0], random_like(study.arms[0])
    configs = [runs.config(task, arm) for task in study.tasks]
    drawn = [runs.config(task, control, seed) for task in study.tasks for seed in study.seeds]
    base = runs.base()
    evaluated = runs.in_parallel(
        [lambda path=path: runs.evaluate(path) for path in configs + drawn])  # yapf: disable
    change = lambda result: [result.losses[name] - base.losses[name] for name in runs.sets]
    values = [change(result) for result in evaluated[:len(configs)]]
    random_own = [
        [evaluated[len(configs) + i * len(study.seeds) + s].losses[task] - base.losses[task]
         for s in range(len(study.seeds))]
        for i, task in enumerate(study.tasks)]  # yapf: disable
    pictures.matrix(study, study.tasks, runs.sets, values, folder / f"{study.name}.png")
    rows = [[task] + [f"{value:+.3f}" for value in line] +
            [f"{statistics.fmean(own):+.3f}"]
            for task, line, own in zip(study.tasks, values, random_own)]  # yapf: disable
    own = [line[runs.sets.index(task)] for task, line in zip(study.tasks, values)]
    worst = sum(line[runs.sets.index(task)] == max(line)
                for task, line in zip(study.tasks, values))  # yapf: disable
    return (table([""] + runs.sets + ["own, random"], rows) +
            f"\n\nIn the mean the task itself loses {statistics.fmean(own):+.3f} without its "
            f"experts, {statistics.fmean(statistics.fmean(v) for v in random_own):+.3f} without as "
            f"many at random ({len(study.seeds)} draws); it loses the most of all domains for "
            f"{worst} of {len(study.tasks)} tasks.")
