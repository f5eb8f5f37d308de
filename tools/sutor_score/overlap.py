"""ROUGE-L, BLEU and chrF, as the libraries that papers use give them: rouge-score and sacrebleu.
Of ROUGE-L only the words come from its library, whose table of all pairs of words takes hours for
long texts.

These scores depend on what a word is, and the libraries' defaults are made for English: rouge-score
drops every letter that is not a to z, and BLEU's 13a does not separate Chinese words. So the words
are chosen for every completion by its answers (tokenize: auto), or for all of them by name:

    words   the libraries' defaults: rouge-score's own words, BLEU's 13a
    cjk     ROUGE: every Chinese, Japanese or Korean character is a word, and so is every run of
            other letters, digits and marks, lower case; punctuation is dropped, as rouge-score
            does. BLEU: sacrebleu's zh, which separates Chinese characters and keeps punctuation;
            it leaves kana and Hangul together, so for Japanese chrF tells more.

auto is cjk where an answer has a CJK character, else words; for ROUGE also cjk's words where the
answers are in another script that is not Latin (Cyrillic, Greek, Arabic ...), since rouge-score
would drop all of it. chrF counts characters and has no words.

ROUGE-L is from 0 to 1, the F1 of the longest common subsequence, the best over the answers; its
mean is that of the rows. BLEU and chrF are from 0 to 100 as sacrebleu gives them: the row scores
are sentence scores (BLEU with effective order), the mean is the score of the whole corpus.
"""

import re
import unicodedata

from .lcs import longest_common_subsequence
from .limited_row import limited_row

# Characters that are words or syllables: Han, kana, bopomofo, Hangul; no punctuation.
CJK = (
    "\u1100-\u11ff\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303b\u3041-\u3096"
    "\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u3130-\u318f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff66-\uff9f"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff"
)
HOLDS_CJK = re.compile(f"[{CJK}]")


def as_cjk(tokenize, answers):
    if tokenize == "auto":
        return any(HOLDS_CJK.search(answer) for answer in answers)
    return tokenize == "cjk"


class AnyScript:
    """ROUGE's words for texts that are not Latin."""

    def __init__(self):
        import regex

        # A mark (an accent, a vowel sign) belongs to the letter before it.
        letters = rf"[[\p{{L}}\p{{N}}\p{{M}}]--[{CJK}]]"
        self._word = regex.compile(rf"[{CJK}]\p{{M}}*|{letters}+", regex.V1)
        self._other = regex.compile(
            r"[\p{L}--[\p{Script=Latin}\p{Script=Common}\p{Script=Inherited}]]", regex.V1
        )

    def tokenize(self, text):
        return self._word.findall(unicodedata.normalize("NFKC", text).lower())

    def is_needed(self, texts):
        """Whether a letter is not Latin."""
        return any(self._other.search(text) for text in texts)


class RougeL:
    def __init__(self, tokenize):
        from rouge_score import tokenizers

        self._tokenize = tokenize
        self._script = AnyScript()
        self._latin = tokenizers.DefaultTokenizer()

    def score(self, completions):
        scores = []
        for completion in completions:
            with limited_row("rouge_l", completion.where):
                scores.append(self._row(completion))
        return sum(scores) / len(scores), scores

    def _row(self, completion):
        answers = completion.answers
        other = as_cjk(self._tokenize, answers)
        other = other or (self._tokenize == "auto" and self._script.is_needed(answers))
        words = (self._script if other else self._latin).tokenize
        prediction = words(completion.prediction)
        return max(f_measure(words(answer), prediction) for answer in answers)


def f_measure(answer, prediction):
    """ROUGE-L of two lists of words, as rouge-score computes it."""
    if not answer or not prediction:
        return 0.0
    common = longest_common_subsequence(answer, prediction)
    precision, recall = common / len(prediction), common / len(answer)
    total = precision + recall
    return 2 * precision * recall / total if total > 0 else 0.0


class Bleu:
    def __init__(self, tokenize):
        from sacrebleu.metrics import BLEU
        from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
        from sacrebleu.tokenizers.tokenizer_zh import TokenizerZh

        self._tokenize = tokenize
        self._words, self._zh = Tokenizer13a(), TokenizerZh()
        # Texts come tokenized, each in its way: sacrebleu only splits them at blanks. `force`
        # spares its warning that they look tokenized.
        self._corpus = BLEU(tokenize="none", force=True)
        self._sentence = BLEU(tokenize="none", force=True, effective_order=True)

    def score(self, completions):
        rows = [self._parted(completion) for completion in completions]
        return sacrebleu_scores("bleu", self._corpus, self._sentence, rows, completions)

    def _parted(self, completion):
        parted = self._zh if as_cjk(self._tokenize, completion.answers) else self._words
        texts = [parted(text.rstrip()) for text in [completion.prediction] + completion.answers]
        return texts[0], texts[1:]


class Chrf:
    def __init__(self, tokenize):
        from sacrebleu.metrics import CHRF

        self._chrf = CHRF()

    def score(self, completions):
        rows = [(completion.prediction, completion.answers) for completion in completions]
        return sacrebleu_scores("chrf", self._chrf, self._chrf, rows, completions)


def sacrebleu_scores(name, corpus, sentence, rows, completions):
    """rows: (prediction, answers), of which some may have more answers than others."""
    scores = []
    for (text, answers), completion in zip(rows, completions):
        with limited_row(name, completion.where):
            scores.append(sentence.sentence_score(text, answers).score)
    most = max(len(answers) for _, answers in rows)
    streams = [
        [answers[i] if i < len(answers) else None for _, answers in rows] for i in range(most)
    ]
    return corpus.corpus_score([text for text, _ in rows], streams).score, scores
