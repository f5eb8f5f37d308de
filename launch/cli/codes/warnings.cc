// Causes and remedies of warnings.
#include "launch/cli/codes/code_texts.h"

namespace sutor {
namespace {

constexpr WarningText kTexts[] = {
    {WarningCode::kExportedEqualsBase,
     "A chosen expert got no token, or changed by less than the stored dtype can hold.",
     "A few are harmless. If they are many, train longer or with a higher `optim.lr`."},
    {WarningCode::kRoundingExceedsUpdate,
     "The steps of the quantised form are coarser than what training changed.",
     "Export with `export.quantized: dequantize`, or as an adapter."},
    {WarningCode::kUnchangedByExport,
     "What training changed is lost in the rounding of the quantised form.",
     "Export with `export.quantized: dequantize`, or as an adapter."},
    {WarningCode::kBatchBeyondData,
     "`train.global_batch` counts packs, and an epoch has fewer, so every step is a whole epoch.",
     "Lower `train.global_batch`, or `data.seq_len`, until an epoch has ten steps or more."},
    {WarningCode::kWarmupBeyondRun, "`schedule.warmup` is longer than the training.",
     "Give the warm-up as a share (`3%`), or train longer."},
    {WarningCode::kTurnsWithoutStop,
     "The template or the rows put no end token behind the answers, so the model may not learn to "
     "stop.",
     "Look at `prepare --show 2`; add the end token in the template or in the rows."},
    {WarningCode::kSpecialInText,
     "Text of rows spells a special token, which the tokenizer makes of it.",
     "Remove it from the rows if it is not meant; it can end a turn early."},
    {WarningCode::kPromptsTooLong, "Prompt and answer do not fit the positions of the model.",
     "Shorten the prompts or `generate.max_new_tokens`."},
    {WarningCode::kRowsSkipped, "Rows have a wrong form, encoding or length.",
     "`tokens/NAME.left_out.jsonl` lists all; `prepare --strict` stops at the first."},
    {WarningCode::kUnknownRowKeys, "Rows hold columns that nothing reads.",
     "Harmless if they are your own notes; else rename them by `columns`."},
    {WarningCode::kEndTokensDiffer,
     "`generation_config.json` or the tokenizer names other end tokens than the rows train, so a "
     "server may not stop.",
     "A merged export's generation_config.json names the trained one; mend the base's otherwise."},
    {WarningCode::kRepeatedSpecial,
     "The text begins with the begin token, and so does the template.",
     "Remove it from the rows, unless the doubled token is meant."},
    {WarningCode::kNothingInLoss, "Documents were cut before their answer, or have none.",
     "Raise `data.seq_len`, or `data.truncation_side: left`."},
    {WarningCode::kDocumentsCut, "Documents are longer than `data.seq_len`.",
     "Raise `data.seq_len` if they matter; `data.too_long` says what becomes of them."},
    {WarningCode::kEvalInTrain, "The same text is in training and evaluation rows.",
     "Remove it from the training rows, or the evaluation is too good."},
    {WarningCode::kLockTakenOver, "An earlier job died without giving its lock back.",
     "Nothing to do, if that job is gone."},
    {WarningCode::kNoDigest, "An earlier version of sutor wrote the file.",
     "Make it again to have it checked; or go on with care."},
    {WarningCode::kWholeLayerSelected, "The scores of a layer add up to less than `top_p`.",
     "Score with more tokens, or lower `esft.select.top_p`."},
    {WarningCode::kScoresNormalised, "A script wrote sums instead of shares.",
     "Nothing to do; score again if the file is not one that you know."},
    {WarningCode::kEmptyScoreLayer, "The script wrote dense layers as zeros.",
     "Nothing to do, if that layer has no experts."},
    {WarningCode::kIgnoredConfigKey,
     "Two keys of config.json say different things about the same; transformers reads one.",
     "docs/config_keys.md says which counts; correct the other."},
    {WarningCode::kIndexSizeDiffers, "The index was written for other files, or by hand.",
     "Harmless if all tensors are there, which is checked."},
    {WarningCode::kCheckpointPassedOver, "A save was damaged later, by a disk or a person.",
     "Nothing to do: its step is done and saved again. `sutor verify` says what is wrong."},
    {WarningCode::kCleanUpFailed, "Another process uses the files, or rights are missing.",
     "Remove them by hand."},
    {WarningCode::kStrangers, "A port scanner or another job came to the watchdog's port.",
     "Nothing to do; they were turned away."},
    {WarningCode::kTrainedUnchanged, "Some chosen experts got no token.",
     "Harmless if few; score more tokens for a better choice."},
};

}  // namespace

std::span<const WarningText> warning_texts() { return kTexts; }

}  // namespace sutor
