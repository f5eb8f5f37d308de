"""The pictures of studies, as PNG."""

import statistics

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend comes first)


def save(figure, path):
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def axes_for(tasks, height=4.6):
    figure, axes = plt.subplots(1, len(tasks), figsize=(7.4 * len(tasks), height), squeeze=False)
    for axis in axes[0]:
        axis.axhline(0, color="0.8", linewidth=1, zorder=0)
        axis.grid(alpha=0.25)
    return figure, axes[0]


def gain_and_forgetting(study, changes, path):
    """Every arm as a line through its learning rates: up is what the task gains, right what the
    others lose; the small points are seeds. Runs that made the task much worse are cut off."""
    figure, axes = axes_for(study.tasks)
    colours = plt.get_cmap("tab10").colors
    for axis, task in zip(axes, study.tasks):
        for arm, colour in zip(study.arms, colours * 2):
            points = [changes.point(task, arm.name, rate) for rate in study.learning_rates]
            axis.plot([lost for _, lost in points], [gain for gain, _ in points], "o-",
                      color=colour, label=arm.name, markersize=5, linewidth=1)  # yapf: disable
            for rate in study.learning_rates:
                axis.plot(changes.over_seeds(changes.general_loss, task, arm.name, rate),
                          [-v for v in changes.over_seeds(changes.task_loss, task, arm.name, rate)],
                          ".", color=colour, markersize=3, alpha=0.6)  # yapf: disable
        axis.axvline(0, color="0.8", linewidth=1, zorder=0)
        points = [changes.point(task, arm.name, rate) for arm in study.arms
                  for rate in study.learning_rates]  # yapf: disable
        best = max(gain for gain, _ in points)
        axis.set_ylim(-0.3 * best, 1.15 * best)
        note = ""
        if max(lost for _, lost in points) > 0.5:
            axis.set_xscale("symlog", linthresh=0.1)
            ticks = [0, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]
            axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.set_xlim(left=min(-0.01, *(lost for _, lost in points)))
            note = " (logarithmic beyond 0.1)"
        axis.set_xlabel(f"forgetting: rise of the other domains' mean loss, nats{note}")
        axis.set_ylabel("gain: fall of the task's loss, nats")
        lines = "\nlines run through learning rates" if len(study.learning_rates) > 1 else ""
        axis.set_title(f"{study.title}, task {task}{lines}", fontsize=10)
        axis.legend(fontsize=8)
    save(figure, path)


def curves(study, changes, path):
    """Gain (whole lines) and forgetting (dashed) over the parameters trained, for each series."""
    figure, axes = axes_for(study.tasks)
    colours = plt.get_cmap("tab10").colors
    names = list(dict.fromkeys(arm.series for arm in study.arms))
    for axis, task in zip(axes, study.tasks):
        for series, colour in zip(names, colours):
            points = []
            for arm in [arm for arm in study.arms if arm.series == series]:
                rate = changes.best_rate(task, arm.name)
                trained = statistics.fmean(changes.results[task, arm.name, rate, seed].trained
                                           for seed in study.seeds)  # yapf: disable
                points.append((trained, *changes.point(task, arm.name, rate)))
            points.sort()
            at = [point[0] for point in points]
            axis.plot(at, [p[1] for p in points], "o-", color=colour, label=f"{series}: gain")
            axis.plot(at, [p[2] for p in points], "s--", color=colour, markersize=4,
                      label=f"{series}: forgetting")  # yapf: disable
        axis.set_xscale("log")
        axis.set_xlabel("parameters trained")
        axis.set_ylabel("nats")
        axis.set_title(f"{study.title}\ntask {task}", fontsize=10)
        axis.legend(fontsize=8)
    save(figure, path)


def matrix(study, rows, columns, values, path, signed=True):
    figure, axis = plt.subplots(figsize=(1.6 + 0.85 * len(columns), 1.4 + 0.55 * len(rows)))
    limit = max(abs(value) for line in values for value in line) or 1
    limits = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit} if signed else {
        "cmap": "Blues", "vmin": 0, "vmax": 1}  # yapf: disable
    axis.imshow(values, aspect="auto", **limits)
    axis.set_xticks(range(len(columns)), columns, rotation=35, ha="right", fontsize=8)
    axis.set_yticks(range(len(rows)), rows, fontsize=8)
    for y, line in enumerate(values):
        for x, value in enumerate(line):
            axis.text(x, y, f"{value:+.2f}" if signed else f"{value:.2f}", ha="center",
                      va="center", fontsize=8,
                      color="white" if abs(value) > 0.6 * limit else "black")  # yapf: disable
    axis.set_title(study.title, fontsize=10)
    save(figure, path)
