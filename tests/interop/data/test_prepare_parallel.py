"""tools/prepare.py with several workers: the same bytes at every number of them and after every
kill, errors in the order of rows, no process left behind."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
PREPARE = str(ROOT / "tools" / "prepare.py")
ROWS = 3000  # more than five batches of 512

sys.path.insert(0, str(ROOT / "tools"))


def texts(count=ROWS):
    numbers = random.Random(3)
    words = "It is blue. What colour has the sky? süß 好 Schuster cordonnier".split()
    for row in range(count):
        yield {"text": f"{row} " + " ".join(numbers.choices(words, k=numbers.randint(1, 30)))}


def chats(count=ROWS):
    for row, text in enumerate(texts(count)):
        turns = [{"role": "user", "content": text["text"]},
                 {"role": "assistant", "content": "x" if row % 7 else ""}]
        yield {"messages": turns * (1 + row % 3)}


KINDS = {"texts": texts, "chats": chats}


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
                    encoding="utf-8")


class Trial:
    """A folder in which prepare.py is run again and again."""

    def __init__(self, folder, model):
        self.rows, self.model = folder / "rows.jsonl", model
        self.store = folder / "tokens" / "rows.tokens.h5"
        self.staging = folder / "tokens" / ".rows.tokens.h5.part"

    def command(self, workers, **job):
        source = {"kind": "train", "path": str(self.rows), "format": "auto", "name": "rows",
                  "out": str(self.store)}
        job = {"model": str(self.model), "tokenizer": "auto", "template": "auto",
               "loss_on": "assistant", "seq_len": 64, "too_long": "drop", "show": 0, "ids": False,
               "colour": False, "workers": workers, "producer": "test", "report": "",
               "sources": [source], **job}
        return [sys.executable, "-B", PREPARE, json.dumps(job)]

    def run(self, workers=2, env=None, **job):
        return subprocess.run(self.command(workers, **job), capture_output=True, text=True,
                              timeout=120, env=dict(os.environ) | (env or {}))

    def bytes(self, workers, **job):
        done = self.run(workers, **job)
        assert done.returncode == 0, done.stderr
        assert os.listdir(self.store.parent) == [self.store.name]
        return self.store.read_bytes()

    def start(self, workers=2, **job):
        return subprocess.Popen(self.command(workers, **job), stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def finished_batches(self):
        journal = self.staging / "journal"
        return max(journal.read_bytes().count(b"\n") - 1, 0) if journal.exists() else 0

    def wait_for_batches(self, process, count):
        while self.finished_batches() < count:
            assert process.poll() is None, process.communicate()
            time.sleep(0.002)


@pytest.fixture
def trial(tmp_path, model):
    return Trial(tmp_path, model("byte_level", "chatml"))


def children_of(process):
    tasks = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [int(each) for each in tasks.read_text().split()]


def wait_until_gone(processes):
    end = time.monotonic() + 30
    while any(is_alive(each) for each in processes):
        assert time.monotonic() < end, f"{processes} are still there"
        time.sleep(0.01)


def is_alive(process):
    try:
        state = pathlib.Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


@pytest.mark.parametrize("kind", KINDS)
def test_the_store_is_the_same_at_every_number_of_workers(trial, kind):
    write(trial.rows, KINDS[kind]())
    alone = trial.bytes(1)
    assert [trial.bytes(workers) == alone for workers in (2, 3)] == [True, True]


def test_the_store_does_not_depend_on_where_batches_are_cut(trial, monkeypatch, capsys):
    from sutor_store import batches

    write(trial.rows, chats(400))
    stores = []
    for rows, size in ((512, 1 << 19), (7, 1 << 19), (512, 900), (1, 1)):
        monkeypatch.setattr(batches, "BATCH_ROWS", rows)
        monkeypatch.setattr(batches, "BATCH_BYTES", size)
        cut = list(batches.batches_of((f"x:{n}", line) for n, line in
                                      enumerate(trial.rows.read_bytes().splitlines())))
        stores.append((len(cut), in_this_process(trial)))
    assert [count for count, _ in stores][0] == 1 and stores[3][0] == 400
    assert len({content for _, content in stores}) == 1


def in_this_process(trial):
    import prepare

    prepare.run(json.loads(trial.command(1)[-1]))
    return trial.store.read_bytes()


@pytest.mark.parametrize("batches", [1, 2, 4])
def test_a_killed_job_goes_on_to_the_same_bytes(trial, batches):
    write(trial.rows, chats())
    whole = trial.bytes(1)
    trial.store.unlink()
    process = trial.start()
    trial.wait_for_batches(process, batches)
    workers = children_of(process)
    process.kill()
    process.communicate()
    wait_until_gone(workers)
    assert not trial.store.exists() and trial.staging.exists()
    done = trial.run(3)
    assert "documents of a job that was stopped" in done.stdout, done.stderr
    assert trial.store.read_bytes() == whole
    assert not trial.staging.exists()


def test_a_job_that_was_killed_again_and_again_ends_with_the_same_bytes(trial):
    write(trial.rows, texts())
    whole = trial.bytes(2)
    trial.store.unlink()
    for batches in (1, 2, 3, 5):
        process = trial.start(workers=1 + batches % 2)
        trial.wait_for_batches(process, batches)
        process.kill()
        process.communicate()
    assert trial.bytes(2) == whole


def killed(trial, batches=3):
    process = trial.start(workers=1)
    trial.wait_for_batches(process, batches)
    process.kill()
    process.communicate()


def torn_line(staging):
    with (staging / "journal").open("ab") as file:
        file.write(b'{"rows": "abc", "docu')


def another_line(staging):
    with (staging / "journal").open("ab") as file:
        file.write(b'{"rows": 7}\n[]\n')


def flipped_bit(staging):
    content = bytearray((staging / "ids").read_bytes())
    content[len(content) // 8] ^= 1
    (staging / "ids").write_bytes(content)


def lost_end(staging):
    os.truncate(staging / "mask", (staging / "mask").stat().st_size // 2)


def no_file(staging):
    (staging / "lengths").unlink()


DAMAGE = [torn_line, another_line, flipped_bit, lost_end, no_file]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damaged_leftovers_are_made_again(trial, damage):
    write(trial.rows, texts(1600))
    whole = trial.bytes(1)
    killed(trial)
    damage(trial.staging)
    assert trial.bytes(2) == whole


def other_rows(trial):
    lines = trial.rows.read_bytes().splitlines(keepends=True)
    lines[700] = b'{"text": "It is another."}\n'
    trial.rows.write_bytes(b"".join(lines))
    return {}


def fewer_rows(trial):
    trial.rows.write_bytes(b"".join(trial.rows.read_bytes().splitlines(keepends=True)[:600]))
    return {}


def other_tokenizer(trial):
    path = trial.model / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "add_bos_token": True}))
    return {}


def other_key(trial):
    return {"loss_on": "all"}


@pytest.mark.parametrize("change", [other_rows, fewer_rows, other_tokenizer, other_key],
                         ids=lambda change: change.__name__)
def test_leftovers_of_other_inputs_are_not_used(trial, change):
    write(trial.rows, texts(1600))
    killed(trial)
    job = change(trial)
    changed = trial.bytes(2, **job)
    assert trial.bytes(1, **job) == changed  # nothing is left to go on from


def test_leftovers_of_a_set_that_is_gone_are_removed(trial):
    write(trial.rows, texts(1600))
    killed(trial)
    trial.staging.rename(trial.staging.with_name(".gone.tokens.h5.part"))
    trial.bytes(2)


@pytest.mark.parametrize("bad", [600, 1200, 1599])
@pytest.mark.parametrize("workers", [1, 3])
def test_the_first_bad_row_is_the_one_that_is_named(trial, bad, workers):
    rows = list(texts(1600))
    for number in range(bad, 1600):
        rows[number] = {"text": number}
    write(trial.rows, rows)
    done = trial.run(workers, strict=True)
    assert done.returncode == 3 and done.stderr.count("error[") == 1
    assert f"rows.jsonl:{bad + 1}: error[E0336]: `text`: expected text" in done.stderr
    assert not trial.store.exists()


def test_a_row_that_is_mended_lets_the_job_go_on(trial):
    rows = list(texts(1600))
    write(trial.rows, rows)
    whole = trial.bytes(1)
    write(trial.rows, rows[:1400] + [{"text": 5}] + rows[1401:])
    assert trial.run(2, strict=True).returncode == 3
    write(trial.rows, rows)
    done = trial.run(2)
    assert "went on behind 1,024 documents" in done.stdout
    assert trial.store.read_bytes() == whole


@pytest.mark.parametrize("workers", [1, 3])
def test_rows_left_out_are_the_same_for_any_workers_and_after_a_kill(trial, workers):
    rows = list(texts(1600))
    for number in (3, 700, 1500):
        rows[number] = {"text": number, "note": "x"}
    write(trial.rows, rows)
    killed(trial)
    done = trial.run(workers)
    assert done.returncode == 0, done.stderr
    assert "warning[W0110]: 3 of 1,600 rows cannot be used" in done.stdout
    left_out = trial.store.with_name("rows.left_out.jsonl").read_text().splitlines()
    assert [json.loads(line)["where"].rpartition(":")[2] for line in left_out] == [
        "4", "701", "1501"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGVTALRM])
def test_a_worker_that_dies_ends_the_job_with_its_rows(trial, number):
    write(trial.rows, chats(20000))
    process = trial.start(workers=2)
    trial.wait_for_batches(process, 1)
    workers = children_of(process)
    os.kill(workers[0], number)
    _, errors = process.communicate(timeout=60)
    code = "E0336" if number == signal.SIGSEGV else "E0504"
    assert process.returncode == (3 if number == signal.SIGSEGV else 5)
    assert f"error[{code}]: a worker was ended by signal {int(number)}" in errors
    assert "rows.jsonl:" in errors and errors.count("error[") == 1
    wait_until_gone(workers)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_job(trial, number):
    write(trial.rows, chats(20000))
    process = trial.start(workers=3)
    trial.wait_for_batches(process, 1)
    workers = children_of(process)
    assert len(workers) >= 2
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == (143 if number == signal.SIGTERM else -number)
    assert errors == ""
    wait_until_gone(workers)


def test_a_row_beyond_its_time_is_named_by_a_worker(trial):
    rows = list(chats(1600))
    rows[1300]["messages"][0]["content"] = "for ever"
    write(trial.rows, rows)
    (trial.model / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.content == 'for ever' %}{% for a in range(99999) %}"
        "{% for b in range(99999) %}{% endfor %}{% endfor %}{% endif %}{{ m.content }}"
        "{% endfor %}")
    done = trial.run(2, env={"SUTOR_ROW_SECONDS": "0.3"}, loss_on="all")
    assert done.returncode == 5 and done.stderr.count("error[") == 1
    assert "rows.jsonl:1301: error[E0504]: the chat template took more than 0.3 s" in done.stderr


def test_a_tokenizer_beyond_its_memory_is_named_by_a_worker(trial):
    path = trial.model / "tokenizer.json"
    content = json.loads(path.read_text())
    grow = {"type": "Replace", "pattern": {"String": "q"}, "content": "q" * 1000}
    content["normalizer"] = {"type": "Sequence", "normalizers": [grow] * 6}
    path.write_text(json.dumps(content))
    rows = list(texts(1600))
    rows[1300] = {"text": "qq"}
    write(trial.rows, rows)
    done = trial.run(2)
    assert done.returncode == 5 and done.stderr.count("error[") == 1
    assert "rows.jsonl:1025 to 1536: error[E0504]" in done.stderr


def test_memory_does_not_grow_with_the_rows(trial):
    def peak(count):
        write(trial.rows, texts(count))
        done = trial.run(2)
        assert "2 workers" in done.stderr, done.stderr
        return int(done.stderr.partition("at most ")[2].split(" MiB")[0].replace(",", ""))

    few, many = peak(3000), peak(40000)
    assert many < few + 40
