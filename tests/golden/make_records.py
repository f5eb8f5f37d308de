"""Makes tests/golden/esft/records: the authors' text records of a small random router, and the
summary that plain Python arithmetic gives for them. Run from anywhere; the output is the same."""

import json
import random
from pathlib import Path

# 21 tokens: no mean lies half-way between two values of 4 decimals, where rounding noise decides.
LAYERS, EXPERTS, TOP_K, PASSES = (1, 2, 10), 16, 3, (7, 4, 10)


def main() -> None:
    folder = Path(__file__).parent / "esft" / "records"
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(20240705)
    token_scores, gate_scores = {}, {}
    for layer in sorted(LAYERS, key=str):
        counts, sums = [0] * EXPERTS, [0.0] * EXPERTS
        lines = []
        for tokens in PASSES:
            ids, weights = [], []
            for _ in range(tokens):
                chosen = draw.sample(range(EXPERTS), TOP_K)
                ids += chosen
                weights += [round(draw.random() / TOP_K, 4) for _ in chosen]
            for expert, weight in zip(ids, weights):
                counts[expert] += 1
                sums[expert] += weight
            lines.append("\t".join(map(str, ids)) + "\t\t" + "\t".join(map(str, weights)) + "\n")
        (folder / f"expert_weights_{layer}.txt").write_text("".join(lines))
        tokens = sum(PASSES)
        token_scores[str(layer)] = {
            str(e): round(counts[e] / (tokens * TOP_K), 4) for e in range(EXPERTS)
        }
        gate_scores[str(layer)] = {str(e): round(sums[e] / tokens, 4) for e in range(EXPERTS)}
    summary = {"token_scores": token_scores, "gate_scores": gate_scores}
    (folder / "summary.json").write_text(json.dumps(summary))


if __name__ == "__main__":
    main()
