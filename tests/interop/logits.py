"""`sutor logits`, and its routers and logits beside those of transformers."""

import torch

import models
import runner

TIE = 1e-6  # router probabilities closer than this may be told apart differently


def run_logits(program, model, ids, folder, dtype="fp32", grads=None):
    """What `sutor logits` writes, as {name: tensor}."""
    out = folder / "out.safetensors"
    more = []
    if grads is not None:
        more = ["--grads", models.write_json(grads, folder / "config.json")]
    program.run("logits", "--model", model, "--ids", runner.write_ids(ids, folder / "ids.json"),
                "--dtype", dtype, "--out", out, *more)
    from safetensors.torch import load_file
    return load_file(out)


def rows_that_agree(choices, probabilities, found):
    """Which rows chose the same experts everywhere. In the others, the first layer that differs
    must differ by ties only; all behind it may follow from that."""
    agree = torch.ones(next(iter(choices.values()))[0].shape[0], dtype=torch.bool)
    for row in range(len(agree)):
        for layer, (idx, _) in sorted(choices.items()):
            ours = found[f"router.{layer}.topk_idx"][row].sort(-1).values
            theirs = idx[row].sort(-1).values
            assert ours.shape == theirs.shape
            if torch.equal(ours, theirs):
                continue
            agree[row] = False
            token = int((ours != theirs).any(-1).nonzero()[0])  # later ones may follow from it
            p = probabilities[layer][row, token]
            swapped = [set(x[token].tolist()) for x in (theirs, ours)]
            gap = max(p[e] for e in swapped[0] ^ swapped[1]) - min(
                p[e] for e in swapped[0] ^ swapped[1])
            assert gap <= TIE, f"row {row} token {token} layer {layer}: {swapped}, gap {gap}"
            break
    return agree


def check_forward(model, ids, found):
    """Shapes and types, then routers and logits of `found` against transformers."""
    probabilities = {}
    choices, logits = models.record_routers(model, ids, probabilities)
    assert found["logits"].dtype == torch.float32 and found["logits"].shape == logits.shape
    assert {n for n in found if n.startswith("router.")} == {
        f"router.{layer}.{what}" for layer in choices for what in ("topk_idx", "topk_weights")}
    agree = rows_that_agree(choices, probabilities, found)
    assert agree.float().mean() >= 0.5
    assert (found["logits"] - logits)[agree].abs().max() <= 1e-4
    for layer, (idx, weights) in choices.items():
        ours, our_weights = found[f"router.{layer}.topk_idx"], found[f"router.{layer}.topk_weights"]
        assert ours.dtype == torch.int64 and our_weights.dtype == torch.float32
        ours, order = ours[agree].sort(-1)
        theirs, their_order = idx[agree].sort(-1)
        assert torch.equal(ours, theirs)
        assert torch.allclose(our_weights[agree].gather(-1, order),
                              weights[agree].gather(-1, their_order), rtol=1e-4, atol=1e-5)
