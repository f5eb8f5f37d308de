"""Tokenizers trained on a few lines, and model directories that hold one and a chat template."""

import json
import pathlib

import tokenizers
import transformers

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "tests" / "golden" / "templates"
SPECIALS = ["<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>", "<|system|>"]
TEXT = ["User: What is the colour of the sky?\n\nAssistant: It is blue.", "system user assistant",
        "Sutor, ne ultra crepidam: the cobbler sticks to his last.", "der Schuster, cordonnier"] * 4


def byte_level():
    """As GPT-2 and its descendants: no token crosses an edge between segments."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIALS, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def metaspace():
    """As sentencepiece's: a space belongs to the word after it, so only offsets can tell masks."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token="<s>"))
    tokenizer.normalizer = tokenizers.normalizers.Sequence([
        tokenizers.normalizers.Prepend("\u2581"), tokenizers.normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = tokenizers.decoders.Sequence([
        tokenizers.decoders.Replace("\u2581", " "), tokenizers.decoders.ByteFallback(),
        tokenizers.decoders.Fuse(), tokenizers.decoders.Strip(" ", 1, 0)])
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=700, show_progress=False,
        special_tokens=SPECIALS + [f"<0x{byte:02X}>" for byte in range(256)])
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


KINDS = {"byte_level": byte_level, "metaspace": metaspace}


def save(tokenizer, folder, template=None, bos="<s>"):
    """The files of a model directory that Python reads; template: a name in TEMPLATES."""
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token="</s>")
    if template:
        fast.chat_template = (TEMPLATES / f"{template}.jinja").read_text()
    fast.save_pretrained(folder)
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    (folder / "config.json").write_text(json.dumps({"vocab_size": size}))
