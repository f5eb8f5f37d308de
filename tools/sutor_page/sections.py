"""The sections of the page; each returns HTML, or "" when the run has nothing for it."""

from .experts import heat_map, layer_table, live_shares
from .run import number, table
from .text import (NONE, bytes_text, count_text, escaped, grid, loss_text, note, pairs,
                   percent_text, seconds_text, short_text)

STANDINGS = {
    "prepared": ("not trained", "No training has begun in this folder."),
    "finished": ("finished", "The training went to its end."),
    "stopped": ("stopped", "The training was stopped on request before its end; it can go on."),
    "failed": ("failed", "The training ended with an error."),
    "interrupted": ("interrupted", "The end of the training is not recorded: it was killed, or it "
                    "is still running. What follows is what it had written."),
}


def _ended(run):
    starts = run.receipt.get("starts")
    last = table(starts[-1]) if isinstance(starts, list) and starts else {}
    return table(last.get("end"))


def _step_folder(step):
    return f"step-{step:08}"


def summary(run):
    receipt = run.receipt
    standing = str(receipt.get("standing", ""))
    word, sentence = STANDINGS.get(standing, (standing, ""))
    good = standing == "finished"
    parts = [f"<h1>{escaped(run.name)}</h1>",
             f'<p class="lead"><span class="badge{"" if good else " bad"}">{escaped(word)}</span> '
             f"{escaped(sentence)}</p>"]
    training = table(receipt.get("training"))
    if training:
        of = receipt.get("total_steps")
        parts.append(
            f"<p>{count_text(training.get('steps'))}{f' of {of:,}' if isinstance(of, int) else ''} "
            f"steps, {count_text(training.get('tokens'))} tokens "
            f"({count_text(training.get('supervised_tokens'))} in the loss) in "
            f"{seconds_text(training.get('seconds'))} of steps; loss "
            f"{loss_text(training.get('first_loss'))} at the first step, "
            f"{loss_text(training.get('last_loss'))} at the last.</p>")
    parts += _verdict(receipt)
    message = _ended(run).get("message")
    if message:
        parts.append(note(message, "bad"))
    for problem in run.facts.get("problems") or []:
        parts.append(note(f"Not on this page: {problem}", "bad"))
    return "".join(parts)


def _verdict(receipt):
    best = table(receipt.get("best"))
    if not best:
        return [note("No evaluation says which checkpoint is the best.")] if receipt.get(
            "checkpoints") else []
    if best.get("unbeaten"):
        return [note(f"{best['unbeaten']}. What the training began from is the best.", "bad")]
    return [note(f"Best: {best.get('metric')} {loss_text(best.get('value'))} at step "
                 f"{best.get('step')}, checkpoint {_step_folder(best.get('step', 0))}.")]


def what_ran(run):
    receipt = run.receipt
    program, machine = table(receipt.get("program")), table(receipt.get("machine"))
    model, trains = table(receipt.get("model")), table(receipt.get("trains"))
    starts = [table(start) for start in receipt.get("starts") or []]
    parts = []
    if program.get("command"):
        parts.append(f'<pre class="command">{escaped(program["command"])}</pre>')
    parts.append(pairs([
        ("program", f"sutor {program.get('version', '')} ({program.get('commit', '')})"
         if program else receipt.get("writer")),
        ("libraries", ", ".join(f"{name} {version}" for name, version
                                in table(receipt.get("libraries")).items())),
        ("begun", starts[0].get("begin") if starts else ""),
        ("ended", _ended(run).get("time")),
        ("host", machine.get("host")),
        ("processor", _processor(machine)),
        ("memory of the machine", bytes_text(machine.get("memory_bytes"))),
        ("system", machine.get("system")),
        ("layout", receipt.get("layout")),
        ("device", receipt.get("device")),
        ("kernels", _kernels(receipt)),
        ("model", _model(model)),
        ("trains", _trains(trains)),
        ("data", table(run.facts.get("data")).get("packing")),
        ("folder", run.folder),
    ]))
    if len(starts) > 1:
        parts.append("<h3>Starts</h3>" + grid(
            [("begun", ""), ("from step", "n"), ("ended", ""), ("how", ""), ("command", "t")],
            [(start.get("begin", ""), count_text(start.get("from_step")),
              table(start.get("end")).get("time", NONE),
              table(start.get("end")).get("how", "not recorded"), start.get("command", ""))
             for start in starts], "starts of the training"))
    roles = table(trains.get("roles"))
    if roles:
        parts.append("<details><summary>What trains, by kind of parameter</summary>" + grid(
            [("kind", ""), ("tensors", "n"), ("trained", "n"), ("parameters", "n"),
             ("trained", "n")],
            [(name, count_text(of.get("tensors")), count_text(of.get("trained_tensors")),
              count_text(of.get("parameters")), count_text(of.get("trained_parameters")))
             for name, of in roles.items() if isinstance(of, dict)], "what trains") + "</details>")
    recipe = run.facts.get("recipe_text")
    if recipe:
        parts.append("<details><summary>The recipe with every value and its origin</summary>"
                     f'<pre tabindex="0">{escaped(recipe)}</pre></details>')
    return "".join(parts)


def _processor(machine):
    cores = machine.get("cores")
    text = machine.get("processor", "")
    return f"{text}{', ' if text else ''}{cores} cores" if cores else text


def _kernels(receipt):
    if not receipt.get("kernels"):
        return ""
    return f"{receipt['kernels']}, {receipt.get('threads', '?')} threads a rank"


def _model(model):
    if not model:
        return ""
    return (f"{model.get('family')} {model.get('path')}: {model.get('layers')} layers "
            f"({model.get('moe_layers')} with {model.get('experts')} experts, top "
            f"{model.get('top_k')}), {model.get('dtype')}")


def _trains(trains):
    trained, all_ = number(trains.get("trained_parameters")), number(trains.get("parameters"))
    if trained is None or not all_:
        return ""
    return (f"{trained:,} of {all_:,} parameters ({100 * trained / all_:.2f}%), "
            f"{count_text(trains.get('trained_experts'))} experts")


def before_and_after(run):
    rows = [table(row) for row in run.receipt.get("evaluation") or []]
    if not rows:
        return ""
    best = table(run.receipt.get("best"))
    lines = []
    for row in rows:
        before, after = number(row.get("before")), number(row.get("best"))
        change = f"{after - before:+.6f}" if before is not None and after is not None else NONE
        step = row.get("best_step", -1)
        lines.append((row.get("set"), row.get("metric"), loss_text(before), loss_text(after),
                      change, _step_folder(step) if step >= 1 else NONE, loss_text(row.get("last")),
                      count_text(row.get("last_step")) if row.get("last_step", -1) >= 1 else NONE))
    table_text = grid(
        [("set", ""), ("metric", ""), ("base", "n"), ("best", "n"), ("change", "n"), ("of", ""),
         ("last", "n"), ("at step", "n")], lines, "evaluations before and after")
    said = ""
    if best:
        said = (f"<p>The best checkpoint is <b>{_step_folder(best['step'])}</b>, by "
                f"{escaped(best.get('metric'))}: what evaluation, generation and export use "
                "unless told otherwise.</p>")
    said += _evaluated(run)
    if all(number(row.get("before")) is None for row in rows):
        said += note("The base was not evaluated, so nothing says whether the training helped.")
    return table_text + said


def _evaluated(run):
    """What `sutor eval` measured, scores of completions too."""
    base, trained = table(run.evaluation.get("base")), table(run.evaluation.get("trained"))
    before, after = table(base.get("sets")), table(trained.get("sets"))
    rows = []
    for name in sorted(set(before) | set(after)):
        a, b = table(before.get(name)), table(after.get(name))
        rows += [(name, metric, loss_text(a.get(metric)), loss_text(b.get(metric)))
                 for metric in sorted((set(a) | set(b)) - {"targets"})]
    if not rows:
        return ""
    of = escaped(trained.get("of", NONE))
    return (f"<h3>By <code>sutor eval</code></h3><p>Trained: {of}.</p>"
            + grid([("set", ""), ("metric", ""), ("base", "n"), ("trained", "n")], rows,
                   "measured by sutor eval"))


CURVES = (
    ("Learning rate", "", [("lr", "learning rate")]),
    ("Norm of the gradient before the clip", "", [("grad_norm", "norm")]),
    ("Balance loss", "", [("balance_loss", "balance loss")]),
    ("Tokens a second", "", [("tokens_per_s", "all"), ("supervised_tokens_per_s", "in the loss")]),
    ("Seconds a step", " s", [("step_seconds", "step")]),
    ("Share of the machine's rate that is used (MFU)", "", [("mfu", "MFU")]),
)


def curves(run, charts):
    if not run.metrics:
        return ""
    evaluated = run.evaluated()
    losses = [("training", *run.series("loss"))]
    losses += [(f"{name} (evaluation)", *line) for name, line in evaluated.get("loss", {}).items()]
    parts = [charts.chart("loss", "Loss, nats a token", "", losses)]
    for metric, sets in evaluated.items():
        if metric != "loss":
            parts.append(charts.chart(f"eval-{metric}", f"Evaluation: {metric}", "",
                                      [(name, *line) for name, line in sets.items()]))
    for title, unit, keys in CURVES:
        lines = [(name, *run.series(key)) for key, name in keys]
        lines = [line for line in lines if line[1]]
        if lines:
            parts.append(charts.chart(keys[0][0], title, unit, lines))
    parts += _memory(run, charts)
    return f'<div class="charts">{"".join(parts)}</div>'


def _memory(run, charts):
    lines = [(name, *run.series(key)) for key, name in (("peak_memory_bytes", "peak"),
                                                        ("allocated_bytes", "after the step"))]
    lines = [line for line in lines if line[1]]
    most = max((v for _, _, values in lines for v in values if v is not None), default=0)
    unit, size = ("GiB", 1 << 30) if most >= 1 << 30 else ("MiB", 1 << 20)
    if lines:
        yield charts.chart(
            "memory", f"Memory of the rank with most, {unit}", f" {unit}",
            [(name, steps, [None if v is None else v / size for v in values])
             for name, steps, values in lines])


def experts(run, charts):
    scores, selection = run.facts.get("scores"), run.facts.get("selection")
    live, step = run.live_layers()
    shares = table(table(scores).get("layers"))
    lines = [charts.chart(f"experts-{key}", title, "", [line for line in these if line[1]])
             for key, title, these in (
                 ("load", "Load of the busiest expert over the mean",
                  [("busiest", *run.expert_series("load_max_over_mean"))]),
                 ("share", "Share of the selections at trained experts",
                  [("live", *run.expert_series("share")),
                   ("when scored", *run.expert_series("share_at_scoring"))]),
                 ("cv", "Spread of the load (cv)", [("cv", *run.expert_series("cv"))]),
                 ("dead", "Experts without a token in the step",
                  [("dead", *run.expert_series("dead"))]))
             if any(line[1] for line in these)]
    if not (scores or selection or lines):
        return ""
    parts = []
    if scores:
        parts.append(f"<h3>Scores of {count_text(scores.get('tokens'))} tokens, and the "
                     "selection</h3>"
                     + heat_map("scores", shares, selection, "when the sample was scored"))
    if selection or scores:
        parts.append(f"<details><summary>A line a layer{_live_text(step)}</summary>"
                     + layer_table(shares, selection, live) + "</details>")
    parts.append("<h3>While training</h3>")
    if lines:
        parts.append(f'<div class="charts">{"".join(lines)}</div>')
        parts += _drift(run)
        now = live_shares(live)
        if now:
            parts.append(f"<h3>Shares of the experts in step {step}</h3>"
                         + heat_map("live", now, selection, f"in step {step}"))
    else:
        parts.append(note("This run recorded no load of its experts while it trained."))
    return "".join(parts)


def _live_text(step):
    return f"; live values of step {step}" if step is not None else ""


def _drift(run):
    for row in reversed(run.metrics):
        now = table(row.get("experts"))
        share, before = number(now.get("share")), number(now.get("share_at_scoring"))
        if share is None or before is None:
            continue
        drifted = now.get("drifted_layers")
        said = (f"At step {row['step']} the trained experts got {percent_text(share)} of the "
                f"selections; when the sample was scored it was {percent_text(before)} "
                f"({100 * (share - before):+.1f} points).")
        if isinstance(drifted, list) and drifted:
            said += " Layers that drifted: " + ", ".join(map(str, drifted)) + "."
        return [note(said, "bad" if drifted else "")]
    return []


def balance(run):
    ranks = [table(rank) for rank in run.receipt.get("by_rank") or []]
    placement = run.facts.get("placement")
    parts = []
    if isinstance(placement, list) and placement:
        most = max(placement)
        parts.append("<p>Expected load of an expert-parallel rank over an even share, by the "
                     "scores:</p>" + '<div class="bars">' + "".join(
                         f"<span>rank {at}</span><i style=\"width:{100 * load / most:.1f}%\"></i>"
                         f"<span>{load:.3f}</span>" for at, load in enumerate(placement))
                     + "</div>")
    if ranks:
        parts.append(grid(
            [("rank", "n"), ("host", ""), ("pp", "n"), ("dp", "n"), ("ep", "n"),
             ("trained weights and state", "n"), ("frozen weights", "n"), ("peak memory", "n")],
            [(rank.get("rank"), rank.get("host"), rank.get("pp"), rank.get("dp"), rank.get("ep"),
              bytes_text(rank.get("trained_bytes")), bytes_text(rank.get("frozen_bytes")),
              bytes_text(rank.get("peak_bytes"))) for rank in ranks], "memory by rank"))
    return "".join(parts)


def checks(run):
    check = table(run.receipt.get("check"))
    if not check:
        standing = run.receipt.get("standing")
        if standing in (None, "prepared"):
            return ""
        return note("The frozen weights are checked when a training ends; this one has not.", "bad")
    good = check.get("frozen_unchanged") is True
    moved = check.get("changed") == check.get("trained")
    return (
        note(f"Trained tensors changed: {count_text(check.get('changed'))} of "
             f"{count_text(check.get('trained'))}, compared with the base value by value.",
             "" if moved else "bad")
        + note(f"Frozen tensors {'unchanged' if good else 'CHANGED'}: "
               f"{count_text(check.get('frozen'))}, by digests of all of them before and after.",
               "" if good else "bad"))


def plan(run):
    planned, measured = table(run.plan.get("planned")), table(run.plan.get("measured"))
    if not planned:
        return ""

    def row(name, key, text, of=None, beside=None):
        a, b = (of or planned).get(key), (beside if of else measured).get(key)
        a, b = number(a), number(b)
        ratio = f"{100 * (a / b - 1):+.1f}%" if a is not None and b else NONE
        return (name, text(a), text(b), ratio)

    rows = [row("peak memory of a rank", "peak_bytes", bytes_text)]
    items, found = table(planned.get("items")), table(measured.get("items"))
    rows += [row(f"  {name}", name, bytes_text, items, found) for name in items]
    rows += [row("parameters that train", "parameters", count_text),
             row("a step", "step_seconds", seconds_text)]
    return grid([("", ""), ("planned", "n"), ("measured", "n"), ("planned over measured", "n")],
                [each for each in rows if each[1] != NONE or each[2] != NONE],
                "plan beside measurement")


def samples(run):
    parts = []
    for name, rows in run.samples:
        parts.append(f"<h3>{escaped(name)}</h3>" + grid(
            [("prompt", "w"), ("base", "w"), ("trained", "w"), ("expected", "w")],
            [(base.get("prompt", trained.get("prompt", "")), base.get("raw_prediction", NONE),
              trained.get("raw_prediction", NONE), _answers(base or trained))
             for base, trained in rows], f"samples of {name}"))
    if not parts:
        return ""
    of = table(run.evaluation.get("trained")).get("of", "the trained model")
    return f"<p>By <code>sutor eval</code>, of the base and of {escaped(of)}.</p>" + "".join(parts)


def _answers(example):
    answers = example.get("raw_answers", NONE)
    return "\n".join(map(str, answers)) if isinstance(answers, list) else answers


def files(run):
    checkpoints = [table(each) for each in run.receipt.get("checkpoints") or []]
    artifacts = [table(each) for each in run.receipt.get("artifacts") or []]
    parts = []
    if checkpoints:
        parts.append(grid(
            [("checkpoint", ""), ("step", "n"), ("", ""), ("bytes", "n"), ("layout", ""),
             ("made by", "t")],
            [(each.get("folder"), count_text(each.get("step")), _marks(each),
              bytes_text(each.get("bytes")), each.get("layout", ""),
              table(each.get("made")).get("command", each.get("problem", "")))
             for each in checkpoints], "checkpoints"))
    if artifacts:
        parts.append("<details><summary>Digests of everything that it was made of and made"
                     "</summary>" + grid(
                         [("what", ""), ("path", "t"), ("digest", "t")],
                         [(each.get("role"), each.get("path"), _digest(each))
                          for each in artifacts], "digests")
                     + "<p class=\"dim\">The same is in receipt.json where it was written; "
                     "<code>sutor verify receipt.json</code> checks all of it.</p></details>")
    return "".join(parts)


def _marks(checkpoint):
    marks = list(checkpoint.get("marks") or [])
    if not checkpoint.get("complete"):
        marks.append("incomplete")
    return ", ".join(map(str, marks))


def _digest(artifact):
    if artifact.get("sha256"):
        return f"sha256:{artifact['sha256']}"
    if artifact.get("manifest_sha256"):
        return f"{artifact.get('manifest')} sha256:{artifact['manifest_sha256']}"
    if artifact.get("weights"):
        return f"weights {artifact['weights']}"
    return f"{len(table(artifact.get('files'))):,} files"
