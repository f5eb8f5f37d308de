#!/usr/bin/env python3
"""Makes halves.json: how often each expert was chosen in the first and in the second half of the
tokens of published ESFT score records (expert_scores/<task>/expert_weights_<layer>.txt, top-6 of 64
experts of DeepSeek-V2-Lite).

  python3 make_halves.py EXPERT_SCORES_FOLDER > halves.json
"""

import json
import pathlib
import sys

TOP_K, EXPERTS = 6, 64


def halves(path):
    ids = [int(i) for line in path.read_text().splitlines() if line
           for i in line.split("\t\t")[0].split("\t")]  # yapf: disable
    middle = len(ids) // TOP_K // 2 * TOP_K
    return [[part.count(e) for e in range(EXPERTS)] for part in (ids[:middle], ids[middle:])]


def main():
    folder = pathlib.Path(sys.argv[1])
    found = {task: {path.stem.rpartition("_")[2]: halves(path)
                    for path in sorted((folder / task).glob("expert_weights_*.txt"))}
             for task in ("intent", "summary")}  # yapf: disable
    print(json.dumps(found, separators=(",", ":")))


if __name__ == "__main__":
    main()
