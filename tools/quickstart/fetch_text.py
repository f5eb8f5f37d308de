#!/usr/bin/env python3
"""Fetches the quickstart's text from Debian packages and trains its tokenizer.

Downloads packages with `apt-get download`, unpacks them without installing them, and writes eight
domains of plain text as JSON lines {"text": ...}, a document per line, with whole documents held
out, and a byte-level BPE tokenizer. `sutor` verbs do everything after this script.
The same packages give the same bytes.
"""

import argparse
import gzip
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

VOCABULARY = 2048
SPECIAL_TOKENS = ["<|begin|>", "<|end|>"]  # ids 0 and 1, as config.json names them
SHORTEST, LONGEST = 300, 20_000  # characters of a document; longer ones end at a line before this

# package -> licence, as its copyright file says; "libpython3-*" stands for the current version's.
PACKAGES = {
    "bible-kjv": "GPL-2+ (reader program, only run)",
    "bible-kjv-text": "public domain text, unrestricted data files",
    "manpages": "GPL-1+, GPL-2+, BSD, Expat, Linux-man-pages-copyleft, by page",
    "manpages-dev": "as manpages",
    "manpages-de": "GPL-3+",
    "manpages-fr": "GPL-3+",
    "wordnet-base": "WordNet 3.0 (permissive)",
    "libpython3-minimal": "PSF",
    "libpython3-stdlib": "PSF",
    "libc6-dev": "LGPL-2.1+",
    "linux-libc-dev": "GPL-2, with the system call note in most files",
}


class FetchError(Exception):
    """What is wrong and how to repair it, for the user."""


def run(*command, cwd=None):
    """Runs a command; returns (exit status, stdout as bytes, stderr as text)."""
    try:
        done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True)
    except FileNotFoundError:
        raise FetchError(f"`{command[0]}` was not found: this script needs Debian or Ubuntu.")
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


def versioned_name(package):
    """libpython3-stdlib -> libpython3.11-stdlib: what the system's default Python depends on."""
    if not package.startswith("libpython3-"):
        return package
    _, out, _ = run("apt-cache", "depends", "libpython3-stdlib")
    found = re.search(r"libpython(3\.\d+)-stdlib", out.decode())
    if not found:
        raise FetchError("apt does not know libpython3-stdlib. Run `apt-get update` and try again.")
    return package.replace("libpython3-", f"libpython{found[1]}-")


def fetch_packages(cache):
    """Downloads and unpacks the packages; returns {name here: its tree} and a record of each."""
    cache.mkdir(parents=True, exist_ok=True)
    trees, records = {}, []
    for package, licence in PACKAGES.items():
        name = versioned_name(package)
        if not list(cache.glob(f"{name}_*.deb")):
            # Sandbox::User: root may write where apt's own user may not, and apt warns of it.
            option = "APT::Sandbox::User=root"
            status, _, err = run("apt-get", "download", "-q", "-o", option, name, cwd=cache)
            if status != 0:
                raise FetchError(
                    f"apt-get download {name} failed: {err.strip()}\n"
                    "  Run `apt-get update` (as root) and check the network, then try again.")
        deb = max(cache.glob(f"{name}_*.deb"))
        tree = cache / deb.stem
        if not tree.is_dir():
            part = cache / (deb.stem + ".part")
            status, _, err = run("dpkg-deb", "-x", str(deb), str(part))
            if status != 0:
                deb.unlink()
                raise FetchError(f"dpkg-deb could not unpack {deb.name}: {err.strip()}\n"
                                 "  The file was removed; run this again to download it anew.")
            part.rename(tree)
        trees[package] = tree
        records.append({
            "package": name,
            "file": deb.name,
            "licence": licence,
            "sha256": hashlib.sha256(deb.read_bytes()).hexdigest()
        })
    return trees, records


# A reader of a domain returns {document name: text}.
def bible(trees):
    program = trees["bible-kjv"] / "usr/bin/bible"
    data = trees["bible-kjv-text"] / "usr/lib"  # the program wants to be started there
    status, out, err = run(str(program.resolve()), "-f", "gen1:1-rev22:21", cwd=data)
    if status != 0 or out.count(b"\n") < 30_000:
        raise FetchError(f"the bible reader did not run: {err.strip()}\n"
                         "  It needs the package libreadline8.")
    chapters = {}
    for line in out.decode("utf-8").splitlines():
        reference, verse = line.split(" ", 1)
        chapters.setdefault(reference.split(":")[0], []).append(verse)
    return {name: "\n".join(verses) for name, verses in chapters.items()}


def man_pages(*trees):
    """The pages' sources without comments (licences, marks of tools) and font changes."""
    pages = {}
    paths = [path for tree in trees for path in sorted(tree.glob("usr/share/man/**/man[1-9]/*.gz"))]
    for path in paths:
        if path.is_symlink():
            continue
        try:
            source = gzip.decompress(path.read_bytes()).decode("utf-8")
        except UnicodeDecodeError:
            continue
        lines = [
            line for line in source.splitlines() if not re.match(r"""['.]\s*\\["#]|\.so """, line)
        ]
        text = re.sub(r"\\f(\[\w*\]|\(\w\w|\w)|\\[,/&:%|^]", "", "\n".join(lines))
        pages[f"{path.parent.name}/{path.name}"] = text.replace("\\-", "-")
    return pages


def wordnet(trees):
    """Definitions only, thirty neighbouring entries per document."""
    documents = {}
    for part, kind in (("noun", "noun"), ("verb", "verb"), ("adj", "adjective"), ("adv", "adverb")):
        path = trees["wordnet-base"] / "usr/share/wordnet" / f"data.{part}"
        entries = []
        for line in path.read_text("utf-8").splitlines():
            if line.startswith(" "):
                continue  # the licence at the head of the file
            fields, gloss = line.split(" | ", 1)
            fields = fields.split()
            words = [word.replace("_", " ") for word in fields[4:4 + 2 * int(fields[3], 16):2]]
            entries.append(f"{', '.join(words)} ({kind}): {gloss.strip()}")
        for start in range(0, len(entries), 30):
            documents[f"{part}/{start}"] = "\n".join(entries[start:start + 30])
    return documents


def source_files(roots, pattern, skip):
    documents = {}
    for root in roots:
        for path in sorted(root.glob(pattern)):
            name = str(path.relative_to(root))
            if path.is_file() and not path.is_symlink() and not any(word in name for word in skip):
                try:
                    documents[name] = path.read_text("utf-8")
                except UnicodeDecodeError:
                    continue
    return documents


def package_records():
    """A record per document, without the fields for digests and file names."""
    status, out, err = run("apt-cache", "dumpavail")
    if status != 0 or not out:
        raise FetchError(f"apt-cache dumpavail gave nothing: {err.strip()}\n"
                         "  Run `apt-get update` (as root) and try again.")
    dropped = ("MD5sum:", "SHA1:", "SHA256:", "SHA512:", "Description-md5:", "Filename:", "Size:")
    documents = {}
    for record in out.decode("utf-8", errors="replace").split("\n\n"):
        lines = [line for line in record.splitlines() if not line.startswith(dropped)]
        if lines:
            documents.setdefault(lines[0], "\n".join(lines))
    return documents


def read_domains(trees):
    python = [trees["libpython3-minimal"], trees["libpython3-stdlib"]]
    headers = [trees["libc6-dev"], trees["linux-libc-dev"]]
    return {
        "bible":
            bible(trees),
        "man_en":
            man_pages(trees["manpages"], trees["manpages-dev"]),
        "man_de":
            man_pages(trees["manpages-de"]),
        "man_fr":
            man_pages(trees["manpages-fr"]),
        "wordnet":
            wordnet(trees),
        "python":
            source_files(python, "usr/lib/python3*/**/*.py",
                         ("/encodings/", "pydoc_data", "_sysconfigdata")),
        "c_headers":
            source_files(headers, "usr/include/**/*.h", ()),
        "packages":
            package_records(),
    }


def cut(text):
    """At most LONGEST characters, ending at a line."""
    text = text.strip()
    return text if len(text) <= LONGEST else text[:text.rindex("\n", 0, LONGEST)]


def split_documents(domain, documents, domain_bytes, held_out_bytes):
    """(train, held out): lists of texts in an order that depends on their names only."""
    seen, train, held_out, size = set(), [], [], 0
    order = sorted(documents, key=lambda name: hashlib.sha256(f"{domain}/{name}".encode()).digest())
    for name in order:
        text = cut(documents[name]) if "\n" in documents[name] else ""
        if len(text) < SHORTEST or text in seen:
            continue
        seen.add(text)
        (held_out if size < held_out_bytes else train).append(text)
        size += len(text.encode())
        if size >= domain_bytes:
            break
    if size < 2 * held_out_bytes:
        raise FetchError(f"{domain}: only {size:,} bytes of text were found; "
                         "the packages look incomplete.")
    return train, held_out


def train_tokenizer(texts, folder):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=VOCABULARY,
                            special_tokens=SPECIAL_TOKENS,
                            show_progress=False,
                            initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def write_rows(path, texts):
    with path.open("w", encoding="utf-8") as file:
        for text in texts:
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache",
                        type=Path,
                        required=True,
                        help="folder of the downloaded packages")
    parser.add_argument("--out",
                        type=Path,
                        required=True,
                        help="folder of the text and the tokenizer")
    parser.add_argument("--domain-bytes",
                        type=int,
                        default=2_600_000,
                        help="text of a domain (%(default)s)")
    parser.add_argument("--held-out-bytes",
                        type=int,
                        default=100_000,
                        help="of it held out (%(default)s)")
    arguments = parser.parse_args()
    done = arguments.out / "SOURCES.json"  # written last: present = complete
    settings = {
        "domain_bytes": arguments.domain_bytes,
        "held_out_bytes": arguments.held_out_bytes,
        "script": hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    }
    if done.exists() and json.loads(done.read_text())["settings"] == settings:
        print(f"text: {arguments.out} is complete", flush=True)
        return 0
    try:
        trees, packages = fetch_packages(arguments.cache)
    except FetchError:
        # Old package lists name files that the mirrors have replaced; images often have none.
        update = ["apt-get", "update", "-q"] if os.geteuid() == 0 else ["sudo", "apt-get", "update"]
        print("text: apt's package lists are old or missing: apt-get update ...", flush=True)
        run(*update)
        trees, packages = fetch_packages(arguments.cache)
    print(f"text: {len(packages)} packages in {arguments.cache}", flush=True)
    arguments.out.mkdir(parents=True, exist_ok=True)
    everything = []
    print(f"  {'domain':<10} {'documents':>9} {'bytes':>10}   {'held out':>8} {'bytes':>8}",
          flush=True)
    for domain, documents in read_domains(trees).items():
        train, held_out = split_documents(domain, documents, arguments.domain_bytes,
                                          arguments.held_out_bytes)
        write_rows(arguments.out / f"{domain}.train.jsonl", train)
        write_rows(arguments.out / f"{domain}.eval.jsonl", held_out)
        everything += train
        sizes = [sum(len(text.encode()) for text in part) for part in (train, held_out)]
        print(
            f"  {domain:<10} {len(train):>9,} {sizes[0]:>10,}   {len(held_out):>8,} {sizes[1]:>8,}",
            flush=True)
    tokenizer = train_tokenizer(everything[::4], arguments.out)
    print(
        f"text: byte-level BPE of {tokenizer.get_vocab_size():,} tokens, trained on a quarter "
        "of the training text",
        flush=True)
    done.write_text(json.dumps({"settings": settings, "packages": packages}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FetchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(3)
