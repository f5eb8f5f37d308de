"""Many small sets of rows through one run of tools/prepare.py, and their documents as text."""

import json
import pathlib
import subprocess
import sys

import h5py
import tokenizers

ROOT = pathlib.Path(__file__).resolve().parents[2]

# As many templates are: thoughts, tools and their calls, and a value that rows may set.
CHATML = (
    "{% if mood is defined %}({{ mood }}){% endif %}"
    "{%- if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}"
    "<|im_end|>\n{% endif %}"
    "{%- for m in messages %}<|im_start|>{{ m.role }}{{ ' ' + m.name if m.name else '' }}\n"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}{% for call in m.tool_calls or [] %}<tool_call>{{ call.function.name }}("
    "{%- for k, v in call.function.arguments.items() %}{{ k }}={{ v }};{% endfor %})</tool_call>"
    "{%- endfor %}<|im_end|>\n{% endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


class Prepared:
    """sets: {name: rows, bytes of a .jsonl, or {"path": ..., more keys of a source}}."""

    def __init__(self, folder, model, sets, **job):
        self.folder, self.model = pathlib.Path(folder), pathlib.Path(model)
        self.folder.mkdir(parents=True, exist_ok=True)
        sources = []
        for name, rows in sets.items():
            spec = {"rows": rows} if not isinstance(rows, dict) else dict(rows)
            rows = spec.pop("rows", None)
            if rows is not None:
                path = self.folder / f"{name}.jsonl"
                path.write_bytes(rows if isinstance(rows, bytes) else lines(rows))
                spec["path"] = str(path)
            sources.append({"kind": "train", "format": "auto", "name": name,
                            "out": str(self.folder / "tokens" / f"{name}.tokens.h5"), **spec})
        job = {"model": str(model), "tokenizer": "auto", "template": "auto",
               "loss_on": "assistant", "seq_len": 4096, "too_long": "drop", "show": 0,
               "colour": False, "producer": "test", "workers": 1, "sources": sources, **job}
        done = subprocess.run([sys.executable, "-B", str(ROOT / "tools" / "prepare.py"),
                               json.dumps(job)], capture_output=True, text=True, timeout=600)
        self.code, self.output = done.returncode, done.stdout + done.stderr

    def store(self, name):
        path = self.folder / "tokens" / f"{name}.tokens.h5"
        assert path.exists(), self.output
        return path

    def documents(self, name):
        """[(ids, mask), ...]"""
        with h5py.File(self.store(name)) as file:
            ids, mask = file["ids"][:].tolist(), file["loss_mask"][:].tolist()
            bounds = file["doc_offsets"][:].tolist()
        return [(ids[a:b], mask[a:b]) for a, b in zip(bounds, bounds[1:])]

    def counts(self, name):
        with h5py.File(self.store(name)) as file:
            return json.loads(file.attrs["counts"])

    def texts(self, name):
        """The documents, what is in the loss in [[ ]]."""
        tokenizer = tokenizers.Tokenizer.from_file(str(self.model / "tokenizer.json"))
        found = []
        for ids, mask in self.documents(name):
            text, at = "", 0
            while at < len(ids):
                stop = at
                while stop < len(ids) and mask[stop] == mask[at]:
                    stop += 1
                part = tokenizer.decode(ids[at:stop], skip_special_tokens=False)
                text += f"[[{part}]]" if mask[at] else part
                at = stop
            found.append(text)
        return found

    def left_out(self, name):
        """{line or row: (code, message)} of the rows that could not be used."""
        path = self.folder / "tokens" / f"{name}.left_out.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return {int(row["where"].split(":")[-1].removeprefix(" row ")):
                (row["code"], row["message"]) for row in rows}
