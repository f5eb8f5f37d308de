"""What goes wrong elsewhere when some experts of a model over many ranks train. The numbers P01 to
P12 are those of the pitfalls that the design lists; the C++ tests have more of
P01, P05, P06 and P07."""

import collections
import dataclasses
import json
import re

import pytest
import torch

import artifacts
import models
import reference
import runner

DS = models.shape("ds-lite")
QW = models.shape("qw-gqa")


def settings(**parallel):
    return runner.layout_settings(parallel)


@dataclasses.dataclass
class Case:
    """A model, rows and an expert config, and what transformers makes of them."""
    program: object
    folder: object
    directory: object
    model: object
    ids: object
    config: dict

    def run(self, name, **sections):
        rows = runner.write_rows(self.ids, self.folder / "rows.jsonl")
        return runner.Run(self.program, self.folder / name, self.directory, rows, self.config,
                          **sections).prepare()

    def names(self):
        return reference.trained_names(self.model, self.config)

    def base(self):
        """Values before training; reference training changes the model's."""
        return runner.read_tensors(self.directory)


def make_case(program, model_dir, folder, shape, config=None):
    model = models.build(shape)
    return Case(program, folder, model_dir(shape), model, models.sample_ids(shape),
                config or models.pick_experts(model, per_layer=3))


def train(run, ranks=1, env=None, **parallel):
    run.program.run("train", run.recipe, *settings(**parallel), ranks=ranks, env=env, timeout=120)
    return run


def state_of(run, kind):
    tiles = artifacts.checkpoint_tiles(run.checkpoints()[-1])
    return {name: torch.from_numpy(value) for (name, k), value in tiles.items() if k == kind}


def gradients_of(run):
    """Of a run of one step without clip: its first moments are a tenth of the gradients."""
    return {name: 10 * value for name, value in state_of(run, "exp_avg").items()}


ONE_STEP = {"steps": 1, "optim": {"clip": 0}}


def expect_gradients(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        difference = (found[name].reshape(gradient.shape) - gradient).norm()
        assert difference <= 1e-4 * gradient.norm() + 1e-10, name


@pytest.mark.parametrize("ranks,parallel", [(4, {"ep": 4}), (2, {"pp": 2}),
                                            (4, {"pp": 2, "ep": 2})])
def test_P01_changing_ep_or_pp_trains_the_same_experts(program, model_dir, tmp_path, ranks,
                                                       parallel):
    """The config is read by global numbers; local names differ from rank to rank."""
    case = make_case(program, model_dir, tmp_path, DS)
    adapter = artifacts.adapter_of(train(case.run("run"), ranks, **parallel))
    assert set(adapter) == set(case.names())
    assert all(not torch.equal(tensor, case.base()[name]) for name, tensor in adapter.items())

    config = models.write_json(case.config, tmp_path / "config.json")
    sizes = [part for key, value in parallel.items() for part in (f"--{key}", value)]
    local, named = collections.Counter(), set()
    for scheme in ("sutor", "hf"):
        output = program.run("params", "--config", config, "--model", case.directory, "--names",
                             scheme, "--world", ranks, *sizes).output
        for rank in json.loads(output)["ranks"]:
            if scheme == "hf":
                named |= set(rank["names"])
            else:
                local.update(int(re.search(r"experts\.(\d+)", n)[1]) for n in rank["names"])
    assert named == set(case.names())
    if "ep" in parallel:  # local numbers end where a rank's experts do
        assert max(local) < 16 // parallel["ep"]


@pytest.mark.parametrize("chosen", [[3], [0], [0, 5, 15], [1, 2, 14]])
@pytest.mark.parametrize("ranks,parallel", [(1, {}), (2, {"ep": 2}), (2, {"etp": 2})])
def test_P02_frozen_and_trained_experts_mix_in_a_layer(program, model_dir, tmp_path, chosen, ranks,
                                                       parallel):
    """Whether or not a rank's first expert trains: gradients are exact, frozen ones get none, and
    weight decay leaves them alone."""
    config = {"experts": {"1": chosen, "2": chosen}, "shared_experts": False,
              "non_expert_modules": False}
    case = make_case(program, model_dir, tmp_path, DS, config)
    run = train(case.run("run", steps=1, optim={"clip": 0, "weight_decay": 0.5}), ranks, **parallel)
    _, expected = reference.gradients(case.model, case.ids, case.names())
    expect_gradients(gradients_of(run), expected)  # nothing but the chosen ones has any state
    _, merged = run.export()
    tensors, base = runner.read_tensors(merged), case.base()
    for name, tensor in base.items():
        assert torch.equal(tensors[name], tensor) == (name not in expected), name


def journals(folder):
    """What every rank asked of its communicators, in order."""
    return [runner.read_lines(path) for path in sorted(folder.glob("rank-*.jsonl"))]


def journaled(run, ranks, **parallel):
    folder = run.folder / "journals"
    folder.mkdir()
    train(run, ranks, env={"SUTOR_JOURNAL": str(folder)}, **parallel)
    return journals(folder)


@pytest.mark.parametrize("chosen", [[0], [15], [0, 7]])
@pytest.mark.parametrize("dispatcher,once", [
    ("alltoall", ["dispatch counts", "dispatch rows", "dispatch weights", "combine rows"]),
    ("allgather", ["dispatch counts", "dispatch choices", "dispatch weights", "dispatch rows",
                   "combine rows"])])
def test_P03_ranks_enter_the_same_backward_collectives_whatever_they_own(
        program, model_dir, tmp_path, chosen, dispatcher, once):
    """The input of the lowest trained layer needs no gradient, and of four ranks only one or two
    have an expert there that trains."""
    config = {"experts": {"1": chosen}, "shared_experts": False, "non_expert_modules": False}
    case = make_case(program, model_dir, tmp_path, DS, config)
    run = case.run("run", **ONE_STEP)
    logs = journaled(run, 4, ep=4, dispatcher=dispatcher)
    shared = [[(line["group"], line["name"], line["number"]) for line in log
               if line["ranks"] == [0, 1, 2, 3] and line["kind"] == "collective"] for log in logs]
    assert len(shared) == 4 and all(operations == shared[0] for operations in shared)
    # Two layers forward; backward the upper one sends rows and weights both ways, the lowest only
    # brings the gradients to its experts.
    found = [name for _, name, _ in shared[0] if re.match("dispatch|combine|return", name)]
    assert found == 2 * once + ["dispatch rows", "combine rows", "return weights", "dispatch rows"]
    _, expected = reference.gradients(case.model, case.ids, case.names())
    expect_gradients(gradients_of(run), expected)


@pytest.mark.parametrize("ranks,parallel", [(1, {}), (4, {"ep": 4}), (2, {"tp": 2}),
                                            (2, {"cp": 2})])
def test_P04_gradients_come_though_nothing_below_the_lowest_layer_needs_any(
        program, model_dir, tmp_path, ranks, parallel):
    """Embedding, attention and all lower layers are frozen; `recompute` is not there to lose
    them."""
    case = make_case(program, model_dir, tmp_path, QW)
    case.config = models.pick_experts(case.model, per_layer=3, layers=[2])
    run = train(case.run("run", **ONE_STEP), ranks, **parallel)
    _, expected = reference.gradients(case.model, case.ids, case.names())
    assert max(gradient.norm() for gradient in expected.values()) > 1e-3
    expect_gradients(gradients_of(run), expected)


@pytest.mark.parametrize("ranks,parallel", [(4, {"ep": 4}), (3, {"pp": 3}), (2, {"pp": 2}),
                                            (4, {"pp": 2, "ep": 2}), (2, {"tp": 2, "ep": 2})])
def test_P05_ranks_without_trainable_parameters_take_part(program, model_dir, tmp_path, ranks,
                                                         parallel):
    """One expert in the whole model; of its replicas one at most has optimizer state."""
    config = {"experts": {"1": [2]}, "shared_experts": False, "non_expert_modules": False}
    case = make_case(program, model_dir, tmp_path, DS, config)
    run = train(case.run("run"), ranks, **parallel)
    expected = reference.train(case.model, case.names(), [case.ids] * 5)
    assert run.losses() == pytest.approx(expected["losses"], rel=1e-5)
    assert [line["grad_norm"] for line in run.metrics()] == pytest.approx(
        expected["grad_norms"], rel=1e-4)


@pytest.mark.parametrize("layer,receivers", [(0, [0, 1, 2]), (1, [1, 2]), (2, [2])])
def test_P06_stages_below_the_lowest_trained_layer_run_forward_only(program, model_dir, tmp_path,
                                                                  layer, receivers):
    """Three stages of a layer each: gradients are sent down to the lowest trained one, not on."""
    config = {"experts": {str(layer): [0, 1, 2, 3]}, "shared_experts": False,
              "non_expert_modules": False}
    case = make_case(program, model_dir, tmp_path, QW, config)
    logs = journaled(case.run("run", **ONE_STEP), 3, pp=3)
    for stage, log in enumerate(logs):
        messages = collections.Counter((line["name"], line["kind"]) for line in log)
        trains = stage in receivers
        assert messages["activations", "send"] == (4 if stage < 2 else 0)
        assert messages["gradients", "receive"] == (4 if trains and stage < 2 else 0)
        assert messages["gradients", "send"] == (4 if stage - 1 in receivers else 0)


@pytest.mark.parametrize("what", ["experts", "other modules", "both"])
@pytest.mark.parametrize("ranks,parallel", [(4, {"ep": 2}), (4, {"tp": 2, "ep": 2}),
                                            (4, {"pp": 2})])
def test_P07_groups_of_parameters_may_be_empty(program, model_dir, tmp_path, what, ranks, parallel):
    """Experts alone, all but experts, and both: replicas mark the same parameters, which the
    program itself compares over all ranks before it trains."""
    case = make_case(program, model_dir, tmp_path, DS)
    if what == "other modules":
        case.config["experts"] = {}
    case.config["non_expert_modules"] = what != "experts"
    run = train(case.run("run", steps=2), ranks, **parallel)
    expected = reference.train(case.model, case.names(), [case.ids] * 2)
    assert run.losses() == pytest.approx(expected["losses"], rel=1e-5)
    assert [line["grad_norm"] for line in run.metrics()] == pytest.approx(
        expected["grad_norms"], rel=1e-4)


@pytest.mark.parametrize("ranks,parallel", [(1, {}), (2, {"ep": 2}), (2, {"etp": 2}), (2, {}),
                                            (2, {"tp": 2}), (2, {"pp": 2})])
def test_P08_an_expert_without_tokens_has_no_gradient_and_stays(program, model_dir, tmp_path, ranks,
                                                               parallel):
    """Exactly: neither zeros nor rests of other experts' gradients move it."""
    shape = DS.with_router("sharp")
    case = make_case(program, model_dir, tmp_path, shape)
    loads = models.expert_loads(case.model, case.ids)
    idle = [(layer, int((load == 0).nonzero()[0])) for layer, load in loads.items()]
    for layer, expert in idle:
        case.config["experts"][str(layer)].append(expert)
    run = train(case.run("run", steps=3, optim={"weight_decay": 0}), ranks, **parallel)
    moments, masters, base = state_of(run, "exp_avg"), state_of(run, "master"), case.base()
    for name in case.names():
        layer, expert = re.search(r"layers\.(\d+)\.mlp\.experts\.(\d+)\.", name).groups()
        stays = (int(layer), int(expert)) in idle
        assert bool((moments[name] == 0).all()) == stays, name
        assert torch.equal(masters[name].reshape(base[name].shape), base[name]) == stays, name


@pytest.mark.parametrize("ranks,parallel", [(2, {}), (2, {"cp": 2}), (2, {"ep": 2}),
                                            (4, {"ep": 2}), (4, {"cp": 2}), (4, {"cp": 2, "ep": 4}),
                                            (4, {"etp": 2})])
def test_P09_gradients_have_the_scale_of_one_process(program, model_dir, tmp_path, ranks, parallel):
    """Those of experts are summed over their replicas, not averaged; so are all others."""
    case = make_case(program, model_dir, tmp_path, QW)
    case.config["non_expert_modules"] = True
    run = train(case.run("run", **ONE_STEP), ranks, **parallel)
    _, expected = reference.gradients(case.model, case.ids, case.names())
    expect_gradients(gradients_of(run), expected)


@pytest.mark.parametrize("parallel", [{"tp": 2, "etp": 1, "ep": 1}, {"tp": 2, "ep": 2},
                                      {"tp": 2, "etp": 2}, {"tp": 1, "etp": 2}])
@pytest.mark.parametrize("others", [False, True])
def test_P10_the_gradient_norm_counts_each_parameter_once(program, model_dir, tmp_path, parallel,
                                                          others):
    case = make_case(program, model_dir, tmp_path, DS)
    case.config |= {"shared_experts": others, "non_expert_modules": others}
    run = train(case.run("run", **ONE_STEP), 2, **parallel)
    _, gradients = reference.gradients(case.model, case.ids, case.names())
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    assert run.metrics()[0]["grad_norm"] == pytest.approx(float(norm), rel=1e-5)


@pytest.mark.parametrize("ranks,parallel", [(1, {}), (2, {"ep": 2}), (2, {"tp": 2}),
                                            (4, {"pp": 2})])
def test_P11_a_frozen_router_is_bit_identical(program, model_dir, tmp_path, ranks, parallel):
    """With a balance loss, which would move it. (No family here has a correction bias; one would
    be a frozen tensor as the router is.)"""
    case = make_case(program, model_dir, tmp_path, DS)
    case.config |= {"shared_experts": True}
    run = train(case.run("run", train={"balance_loss": 0.1}), ranks, **parallel)
    _, merged = run.export()
    tensors, base = runner.read_tensors(merged), case.base()
    routers = [name for name in base if name.endswith("mlp.gate.weight")]
    assert len(routers) == 2
    for name in routers:
        assert torch.equal(tensors[name], base[name])


@pytest.mark.parametrize("ranks,parallel", [(1, {}), (2, {"tp": 2}), (2, {"cp": 2}),
                                            (2, {"pp": 2}), (2, {"tp": 2, "ep": 2}),
                                            (4, {"tp": 2, "cp": 2, "ep": 4})])
def test_P12_the_balance_loss_of_a_frozen_router_reaches_lower_layers(program, model_dir, tmp_path,
                                                                      ranks, parallel):
    """As in transformers: the logits of a frozen router carry its gradient into hidden states, so
    the experts of lower layers learn from it; those of the top layer do not."""
    case = make_case(program, model_dir, tmp_path, DS)
    sections = ONE_STEP | {
        "train": {"balance_loss": 0.5, "balance_over": "batch", "micro_batch": 4}}
    with_it = train(case.run("with", **sections), ranks, **parallel)
    plain = reference.gradients(case.model, case.ids, case.names())[1]
    case.model.zero_grad(set_to_none=True)
    loss, term = reference.balance_of(case.model, case.ids)
    (loss + 0.5 * term).backward()
    views = reference.Views(case.model)
    expected = {name: views.gradient(name).clone() for name in case.names()}
    expect_gradients(gradients_of(with_it), expected)
    assert with_it.metrics()[0]["balance_loss"] == pytest.approx(0.5 * float(term.detach()),
                                                                 rel=1e-5)
    for name, gradient in expected.items():
        moved = float((gradient - plain[name]).norm() / plain[name].norm())
        assert (moved > 1e-3) == (".layers.1." in name), (name, moved)
