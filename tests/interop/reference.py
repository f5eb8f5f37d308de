"""What transformers computes: loss, gradients of chosen parameters, and a plain AdamW loop.

Parameters go by their names on disk, experts apart (`model.layers.3.mlp.experts.7.up_proj.weight`),
although transformers holds the experts of a layer in stacks: each name is a view.
"""

import fnmatch
import re

import torch

from models import moe_layers, num_experts, router_of


class Views:
    """Maps every name on disk to a slice of a parameter of the model."""

    def __init__(self, model):
        self.model = model
        self.views = {}  # name -> (parameter, index of the slice, whether that lies transposed)
        kind = model.config.model_type
        for name, parameter in model.named_parameters():
            if kind == "mixtral":
                name = name.replace(".mlp.", ".block_sparse_moe.")
            stack = re.fullmatch(r"(.*\.experts)\.(gate_up|down)_proj(_bias)?", name)
            if not stack:
                self.views[name] = (parameter, (), False)
                continue
            parts = self.parts_of(parameter, stack[2] == "down", kind)
            suffix = "bias" if stack[3] else "weight"
            transposed = kind == "gpt_oss" and not stack[3]
            for expert in range(parameter.shape[0]):
                for part, index in parts.items():
                    self.views[f"{stack[1]}.{expert}.{part}.{suffix}"] = (
                        parameter, (expert, *index), transposed)

    @staticmethod
    def parts_of(parameter, down, kind):
        """{name of a projection: its index within an expert's slice}"""
        gate, up, down_name = ("w1", "w3", "w2") if kind == "mixtral" else (
            "gate_proj", "up_proj", "down_proj")
        if down:
            return {down_name: ()}
        if kind == "gpt_oss":
            return {gate: (..., slice(0, None, 2)), up: (..., slice(1, None, 2))}
        width = parameter.shape[1] // 2
        return {gate: (slice(0, width),), up: (slice(width, None),)}

    def names(self):
        return list(self.views)

    def value(self, name):
        return self.view(self.views[name][0].data, name)

    def view(self, tensor, name):
        _, index, transposed = self.views[name]
        return tensor[index].T if transposed else tensor[index]

    def gradient(self, name):
        gradient = self.views[name][0].grad
        if gradient is None:
            return torch.zeros_like(self.value(name))
        return self.view(gradient, name)


def stored_name(name, family):
    """The stored tensor that holds one by its name: for GPT-OSS a stack."""
    if family != "gpt_oss":
        return name
    name = re.sub(r"\.experts\.\d+\.(?:gate|up)_proj", ".experts.gate_up_proj", name)
    name = re.sub(r"\.experts\.\d+\.down_proj", ".experts.down_proj", name)
    if ".experts." in name:
        name = name.removesuffix(".weight").replace(".bias", "_bias")
    return name


def trained_names(model, config):
    """Names that an expert config trains, by the authors' rule: chosen routed experts; shared
    experts with their flag; everything else, routers included, with the other flag."""
    chosen = {(int(layer), expert) for layer, ids in config["experts"].items() for expert in ids}
    names = []
    for name in Views(model).names():
        routed = re.fullmatch(r"model\.layers\.(\d+)\.\w+\.experts\.(\d+)\..*", name)
        if routed:
            wanted = (int(routed[1]), int(routed[2])) in chosen
        elif ".mlp.shared_expert" in name:
            wanted = config["shared_experts"]
        else:
            wanted = config["non_expert_modules"]
        if wanted:
            names.append(name)
    return names


def all_names(model):
    return Views(model).names()


def matching(names, pattern):
    return [n for n in names if fnmatch.fnmatchcase(n, pattern)]


def loss_of(model, ids, labels=None):
    """Mean over the supervised next tokens of all rows; fp32 logits."""
    return model(input_ids=ids, labels=ids if labels is None else labels).loss


def balance_of(model, ids, over="batch"):
    """A function that runs the model and gives (loss, sum over MoE layers and experts of
    f_e P_e): f_e = experts x share of the assignments that went to e, P_e = mean probability;
    both over all tokens, or the mean of what they are over each of the `sequences`."""
    terms, hooks = [], []
    experts = num_experts(model.config)

    def record(block, _, output):
        logits = output[0].float()
        if hasattr(block, "e_score_correction_bias"):  # scores are sigmoids: shares of their sum
            scores = logits.sigmoid()
            probabilities = (scores / scores.sum(-1, keepdim=True)).reshape(-1, experts)
        else:
            probabilities = logits.softmax(-1).reshape(-1, experts)
        parts = len(ids) if over == "sequences" else 1  # equal ones
        chosen = output[2].reshape(parts, -1)
        probabilities = probabilities.reshape(parts, -1, experts)
        counts = torch.stack([torch.bincount(c, minlength=experts) for c in chosen]).float()
        shares = counts / counts.sum(-1, keepdim=True)
        terms.append((experts * shares * probabilities.mean(1)).sum(-1).mean())

    for _, block in moe_layers(model):
        hooks.append(router_of(block).register_forward_hook(record))
    loss = loss_of(model, ids)
    for hook in hooks:
        hook.remove()
    return loss, torch.stack(terms).sum()


def gradients(model, ids, names, labels=None):
    """(loss, {name: fp32 gradient}); zero where no token came."""
    model.zero_grad(set_to_none=True)
    loss = loss_of(model, ids, labels)
    loss.backward()
    views = Views(model)
    return float(loss.detach()), {n: views.gradient(n).float().clone() for n in names}


def train(model, names, batches, *, lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1,
          clip=1.0, decay="all", balance=0.0, over="batch"):
    """AdamW steps on the named parameters only, each a leaf of its own, so that weight decay and
    moments touch nothing else. `batches`: ids [rows, tokens] a step; `balance`: the weight of
    balance_of(). Returns losses, gradient norms before the clip, and the final values."""
    views = Views(model)
    leaves = {n: torch.nn.Parameter(views.value(n).clone(memory_format=torch.contiguous_format))
              for n in names}
    matrices = [p for p in leaves.values() if decay == "all" or p.dim() > 1]
    others = [p for p in leaves.values() if not (decay == "all" or p.dim() > 1)]
    groups = [{"params": matrices, "weight_decay": weight_decay},
              {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=lr, betas=betas, eps=eps)
    losses, norms, balances = [], [], []
    for ids in batches:
        with torch.no_grad():
            for name, leaf in leaves.items():
                views.value(name).copy_(leaf)
        model.zero_grad(set_to_none=True)
        if balance:
            loss, term = balance_of(model, ids, over)
            (loss + balance * term).backward()
            balances.append(balance * float(term.detach()))
        else:
            loss = loss_of(model, ids)
            loss.backward()
        for name, leaf in leaves.items():
            leaf.grad = views.gradient(name).clone()
        norms.append(float(torch.nn.utils.clip_grad_norm_(leaves.values(), clip or float("inf"))))
        losses.append(float(loss.detach()))
        optimizer.step()
    return {"losses": losses, "grad_norms": norms, "balance": balances,
            "values": {n: p.detach().clone() for n, p in leaves.items()}}
