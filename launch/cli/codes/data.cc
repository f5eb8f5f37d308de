// Causes and remedies of errors with exit code 3: data, model directory or checkpoint.
#include "launch/cli/codes/code_texts.h"

namespace sutor {
namespace {

constexpr std::string_view kRestore =
    "Look at the folder with `sutor verify`, and copy the file again from where it came from, or "
    "make it again by the verb that wrote it.";
constexpr std::string_view kVerifyCheckpoint =
    "`sutor verify` says what is wrong. `--resume` passes over damaged checkpoints to an older "
    "whole one.";

constexpr ErrorText kTexts[] = {
    {ErrorCode::kNoModel,
     "The path is a name of a hub, a single file (GGUF), a LoRA folder or a download that was not "
     "finished. Nothing is fetched from a network.",
     "Give the folder of a Hugging Face checkpoint with `config.json` and safetensors files, or a "
     "base store. Relative paths count from where sutor was started."},
    {ErrorCode::kUnreadableFile,
     "A path is misspelt, counted from another folder, without permission to read, or no regular "
     "file.",
     "Correct the path (relative ones count from where sutor was started) or its rights."},
    {ErrorCode::kWrongShape, "The tensor comes from another model size, or another `lora.rank`.",
     "Use the adapter or model that belongs to this base, or the rank that it was made with."},
    {ErrorCode::kBrokenFile,
     "A download or copy was cut off, a git-lfs pointer stands in the place of the file, or the "
     "file is of another kind.",
     kRestore},
    {ErrorCode::kContradictoryShards,
     "`model.safetensors.index.json` and the files come from different downloads, or a file is "
     "missing.",
     "Download the model's index and all its shards again."},
    {ErrorCode::kOtherBase,
     "`model.path` is not the model, or not the revision, that the adapter or checkpoint was "
     "trained on: other weights, or a `config.json` that computes something else.",
     "Set `model.path` to the base with the digest that the message names, or train anew on this "
     "one in another `output`."},
    {ErrorCode::kNoConversion, "Values of one dtype were asked for as another that has no rule.",
     "Save the model in BF16, F16 or F32."},
    {ErrorCode::kBadStoredDType,
     "Weights are quantised in a form that is not read (GPTQ, AWQ, bitsandbytes, NVFP4), or their "
     "scales are missing.",
     "Take the model in BF16, in FP8 with scales, MXFP4, or quantised by compressed-tensors."},
    {ErrorCode::kNotAdapter,
     "The folder is a whole model, a pickled adapter (`adapter_model.bin`), or adapts other "
     "modules than `lora.targets`.",
     "Give an adapter that `sutor export` wrote, or a peft adapter in safetensors for those "
     "targets."},
    {ErrorCode::kBadHdf5, "The file is missing, cut off, or no HDF5 file.", kRestore},
    {ErrorCode::kBadExpertConfig,
     "The file is not of the form `{\"experts\": {\"layer\": [ids]}, \"shared_experts\": ..., "
     "\"non_expert_modules\": ...}`, or the one of the output was edited by hand.",
     "Correct it; an edited one belongs into a file of its own that `esft.config` names."},
    {ErrorCode::kNoSuchLayer,
     "The config was made for a model with other layers, or counts them from 1.",
     "Set `esft.layer_base: 1` when its keys count from 1; else make one for this model."},
    {ErrorCode::kNoExpertsInLayer,
     "The config names a dense layer: keys that count from 1, or another model.",
     "Set `esft.layer_base: 1` when its keys count from 1; else make one for this model."},
    {ErrorCode::kNoSuchExpert, "The config was made for a model with more experts.",
     "Score and select with this model (`sutor run`), or name its own config."},
    {ErrorCode::kMissingTensor,
     "A shard is missing, or the model's names have a prefix or another family's form.",
     "Complete the download; the message names a prefix where one is the cause."},
    {ErrorCode::kNothingTrains,
     "`top_p`, `n` or `budget` choose nothing, `esft.keep_frozen` takes all away again, or the "
     "expert config is empty.",
     "Raise them, or remove patterns from `esft.keep_frozen`."},
    {ErrorCode::kBadPattern,
     "A pattern of `esft.also_train` or `esft.keep_frozen` is no regular expression, or matches "
     "no whole parameter name.",
     "`sutor params` prints the names; a pattern has to match a whole one."},
    {ErrorCode::kDividedExpert,
     "Patterns match some matrices of an expert and not the others, or freeze what the config "
     "trains.",
     "Let patterns match all matrices of the expert, and name it in one place alone."},
    {ErrorCode::kTooFewExperts,
     "`eval --mask` forbids so many experts of a layer that the router cannot choose its top k.",
     "Mask fewer experts of that layer."},
    {ErrorCode::kNotQuantizable, "A trained weight is infinite or not a number.",
     "Export an older checkpoint, and train with a lower `optim.lr`."},
    {ErrorCode::kUnsupportedModel,
     "`config.json` asks for something that this family does otherwise (a rope, an activation, a "
     "router), which would be computed wrongly.",
     "docs/config_keys.md lists what each family takes; other variants cannot be trained."},
    {ErrorCode::kBadModelConfig,
     "`config.json` was edited, comes from another family, or lacks a key that has no default.",
     "Take the `config.json` that belongs to the weights; docs/config_keys.md lists the keys."},
    {ErrorCode::kUnknownFamily,
     "`model_type` is none of the families that sutor computes; a dense model has no experts.",
     "Use a model of the families that the message lists."},
    {ErrorCode::kBadRouting, "Weights of the model are not finite, or its router is damaged.",
     "Check the model with `sutor verify`; try `model.dtype: fp32`."},
    {ErrorCode::kNoScores, "`expert_placement: balanced` or `frozen_replicas` need the scores.",
     "Run `sutor score RECIPE` first (without them), or choose `contiguous` and 0."},
    {ErrorCode::kNotScores,
     "The path is neither a `scores.h5`, nor a folder of the ESFT authors' records, nor their "
     "summary; or it comes from a version that did not record what it was made from.",
     "Give one of these, or run `sutor score` again."},
    {ErrorCode::kBadScoreRecords,
     "Records were cut off or mixed from several models; or a summary was divided along the wrong "
     "axis.",
     "Score again, or keep the records beside the summary: then those are read."},
    {ErrorCode::kIncompleteScores, "Records of a layer are missing, or hold no gate weights.",
     "Score again, choose another `esft.select.method`, or name the layers to train."},
    {ErrorCode::kOtherScores, "Scores and model have other numbers of layers or experts.",
     "Score with the model that is trained."},
    {ErrorCode::kBadDataCursor, "Data, `seq_len`, `packing` or seed changed since the checkpoint.",
     "Go back to them, or begin anew in another `output`."},
    {ErrorCode::kBeyondVocabulary,
     "The tokenizer has more ids than the model, or the data were prepared with another one.",
     "Prepare with the model's own tokenizer (`data.tokenizer: auto`)."},
    {ErrorCode::kUnreadableData,
     "A file of rows is misspelt or counted from another folder, or tokens were not prepared yet.",
     "Correct `data.*.path` (relative paths count from where sutor was started), or run `sutor "
     "prepare`."},
    {ErrorCode::kNotTokenStore, "The file is of another kind or of an older version.",
     "Run `sutor prepare` again."},
    {ErrorCode::kBadTokenStore, "The file was changed or damaged after it was written.",
     "Run `sutor prepare` again."},
    {ErrorCode::kNoData,
     "A file is empty, all rows are too long or held out, or no token is in the loss.",
     "Look at `sutor prepare --show 2`; check `data.seq_len`, `data.too_long`, `data.loss_on` and "
     "the roles of the rows."},
    {ErrorCode::kBadTokenIds, "The file given to `--ids` has another form.",
     "Write JSON: `[[1, 2, 3], [4, 5]]`; for `logits` all rows of one length."},
    {ErrorCode::kBadRow, "The row has another form than the ones before it, or a wrong type.",
     "Mend the row at the file and line of the message, or set `format` and `columns`."},
    {ErrorCode::kBadText, "The file is in another encoding than UTF-8.",
     "Convert it: `iconv -f LATIN1 -t UTF-8 old > new`."},
    {ErrorCode::kBadTokenizer,
     "The model's folder has no `tokenizer.json` or no chat template, or the template fails on a "
     "row.",
     "Set `data.tokenizer` and `data.template` to files, or `data.template: none` for rows that "
     "need none."},
    {ErrorCode::kNoExactMask,
     "The template rewrites earlier turns or answers, so that the trained part cannot be told.",
     "Use a template with `{% generation %}` marks, `loss_on: last`, or `loss_on: all`."},
    {ErrorCode::kBadDigest, "A digest in a file was edited or cut off.", kRestore},
    {ErrorCode::kIncomplete, "A save or a conversion was cut off before its last step.",
     "Run the conversion again, which continues it; a training resumes from the one before."},
    {ErrorCode::kBadManifest, "The manifest was edited or damaged.", kVerifyCheckpoint},
    {ErrorCode::kUnknownVersion, "A newer (or much older) sutor wrote it.",
     "Read it with the sutor that wrote it."},
    {ErrorCode::kWrongFileSize, "A file was cut off, replaced or removed after it was written.",
     kRestore},
    {ErrorCode::kBadTileIndex, "The index was damaged after it was written.", kVerifyCheckpoint},
    {ErrorCode::kBadCoverage, "Files of a checkpoint are missing or belong to another one.",
     kVerifyCheckpoint},
    {ErrorCode::kCorrupted,
     "The disk, a copy or an editor changed bytes after they were written and recorded.", kRestore},
    {ErrorCode::kNotInCheckpoint, "The tensor was not trained, or has another shape there.",
     "`sutor inspect` lists what the checkpoint holds."},
    {ErrorCode::kNoCheckpoint,
     "Nothing was trained yet in this output, or every checkpoint in it is damaged.",
     "Train first. With damaged ones, `sutor verify OUTPUT/checkpoints` says why, and "
     "`--overwrite` begins anew."},
    {ErrorCode::kOtherTrainable,
     "The expert config or patterns changed since the checkpoint was written.",
     "Use the expert config that it was made with, or another `output`."},
    {ErrorCode::kNotStorable, "A name is too long or not UTF-8, or a tensor has too many axes.",
     "Rename the file or tensor, or use the model directory itself instead of a base store."},
    {ErrorCode::kUnknownArtifact, "The path is of a kind that this verb does not read.",
     "The message lists the kinds; often the folder one level up or down is meant."},
    {ErrorCode::kUnusedTensor,
     "The model has weights that this family would not compute with, so its results would be "
     "wrong; or an adapter changes modules that are not trained here.",
     "Check that `config.json` belongs to the weights; an adapter needs its own targets."},
    {ErrorCode::kBadAnswer, "An answer has not the form of its scorer (a number, a JSON object).",
     "Mend the row's `raw_answers`, or use another scorer."},
    {ErrorCode::kFailedJudge, "The judge program crashed or printed something else than numbers.",
     "Try it by hand: it reads JSON lines and prints a score for each."},
    {ErrorCode::kUnsupportedRowKey,
     "A key asks for something that would change what is trained, and sutor does not do it.",
     "Remove the key from the rows, or switch its column off: `columns: {key: null}`."},
    {ErrorCode::kOtherOptimizer, "`optim.name` changed since the checkpoint was written.",
     "Set the optimizer that the message names, or begin anew in another `output`."},
    {ErrorCode::kFaultThrown, "`SUTOR_FAULT`, a variable for tests, asked for it.",
     "Unset it: `unset SUTOR_FAULT`."},
    {ErrorCode::kPythonStepData, "A Python step could not use the rows, tokenizer or template.",
     "Its own message stands above this one: mend that."},
};

}  // namespace

std::span<const ErrorText> data_texts() { return kTexts; }

}  // namespace sutor
