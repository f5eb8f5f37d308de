"""What a training changed, against the untouched base model."""

import statistics


class Changes:
    """Changes of losses and accuracies of every grid point of a study."""

    def __init__(self, study, base, results):
        self.study, self.base, self.results = study, base, results

    def task_loss(self, task, arm, rate, seed):
        return self.results[task, arm, rate, seed].losses[task] - self.base.losses[task]

    def task_accuracy(self, task, arm, rate, seed):
        return self.results[task, arm, rate, seed].accuracy[task] - self.base.accuracy[task]

    def general_loss(self, task, arm, rate, seed):
        """Mean over the other evaluation sets: forgetting when it is positive."""
        after = self.results[task, arm, rate, seed].losses
        return statistics.fmean(after[name] - self.base.losses[name] for name in after
                                if name != task)

    def over_seeds(self, measure, task, arm, rate):
        return [measure(task, arm, rate, seed) for seed in self.study.seeds]

    def best_rate(self, task, arm):
        """The learning rate with the lowest mean loss on the task's tuning half."""
        return min(self.study.learning_rates,
                   key=lambda rate: statistics.fmean(
                       self.results[task, arm, rate, seed].tuning for seed in self.study.seeds))

    def point(self, task, arm, rate):
        """(gain, forgetting): means over seeds, the gain positive when the task's loss fell."""
        return (-statistics.fmean(self.over_seeds(self.task_loss, task, arm, rate)),
                statistics.fmean(self.over_seeds(self.general_loss, task, arm, rate)))
