// The one table of errors and warnings: number, name, exit code, and what it says to people. A
// number has one meaning, for good: a new meaning gets a new number, and one that is not used any
// more is not given away. The hundreds of an error are its exit code: E0201 exits 2, E7001 70.
// docs/errors.md is made from it: python3 tests/error_codes_test.py . --write
#pragma once

namespace sutor {

enum ExitCode : int {
  kExitOk = 0,
  kExitCheckFailed = 1,  // a check that the user asked for failed (--verify, diff)
  kExitUsage = 2,        // recipe or command line
  kExitData = 3,         // data, model directory or checkpoint is invalid (verify says so too)
  kExitBusy = 4,         // directory in use by another job
  kExitResources = 5,    // out of memory or disk
  kExitComm = 6,         // communication
  kExitDiverged = 7,     // training diverged
  kExitInternal = 70,    // a bug in sutor
  kExitStopped = 75,     // stopped on request after saving: requeue me
};

// clang-format off
#define SUTOR_ERRORS(E) \
  E(101, kNotAsExpected, kExitCheckFailed, \
    "two artifacts that should be equal differ") \
  E(102, kTrainedEqualsBase, kExitCheckFailed, \
    "a trained tensor equals the base bit for bit") \
  E(103, kMergeConflict, kExitCheckFailed, \
    "adapters to be merged change the same tensors") \
  E(104, kNothingLearned, kExitCheckFailed, \
    "nothing that was trained has moved from the base") \
  \
  E(201, kUnknownKey, kExitUsage, \
    "a key that the recipe, or config.json, does not have") \
  E(202, kBadArgument, kExitUsage, \
    "an option of the command line is unknown, missing, malformed, or contradicts another") \
  E(203, kUnreadableRecipe, kExitUsage, \
    "a recipe is missing, too large or too deep, or is not one YAML mapping") \
  E(205, kBadValue, kExitUsage, \
    "a value of a recipe has the wrong type, or is not possible") \
  E(206, kMissingKey, kExitUsage, \
    "a key that the recipe needs is not given") \
  E(207, kRepeatedKey, kExitUsage, \
    "a key is written twice in one recipe") \
  E(208, kCircularBase, kExitUsage, \
    "recipes name each other as `base`") \
  E(209, kUnsetVariable, kExitUsage, \
    "a recipe uses an environment variable that is not set") \
  E(210, kBadPlacement, kExitUsage, \
    "the experts cannot be placed so: `ep` does not divide them, or a placement is not possible") \
  E(211, kBadLayout, kExitUsage, \
    "sizes of the layout do not divide the ranks, or its stages, order or groups are wrong") \
  E(212, kBadDType, kExitUsage, \
    "a dtype that is unknown or cannot be computed with") \
  E(213, kIndivisibleTensor, kExitUsage, \
    "`tp` or `etp` does not divide a tensor; the sizes that do are named") \
  E(214, kBadNamePattern, kExitUsage, \
    "a scheme of parameter names is unknown, or its pattern is not possible") \
  E(215, kNoNameInScheme, kExitUsage, \
    "a scheme of parameter names has no name for what trains") \
  E(217, kBadSelection, kExitUsage, \
    "`esft.select` names an unknown method or score, or a value that is not possible") \
  E(218, kOneProcessOnly, kExitUsage, \
    "a verb that runs as one process was started on several ranks") \
  E(219, kNoExpertConfig, kExitUsage, \
    "the expert config that the recipe trains by does not exist yet") \
  E(220, kOutputExists, kExitUsage, \
    "an output exists already, or something else stands in its place") \
  E(221, kOtherRecipe, kExitUsage, \
    "a checkpoint was made with other keys or data than the recipe that is to go on") \
  E(222, kNoPeftForm, kExitUsage, \
    "what was trained has no form in a peft adapter") \
  E(223, kNoCuda, kExitUsage, \
    "`device: cuda` was asked for, but this build has no CUDA, or a host no GPU") \
  E(224, kOtherInputs, kExitUsage, \
    "what an earlier step made comes of other inputs or keys than the recipe has now") \
  E(232, kNoPythonStep, kExitUsage, \
    "a Python step cannot be started: interpreter, script or package is missing") \
  E(233, kBadJudge, kExitUsage, \
    "the judge's command line is empty, malformed, or cannot be started") \
  E(240, kRanksApart, kExitUsage, \
    "the launcher started processes that cannot find each other") \
  E(241, kBadFault, kExitUsage, \
    "SUTOR_FAULT is malformed") \
  E(242, kNoFaults, kExitUsage, \
    "SUTOR_FAULT is set, but sutor was built without fault injection") \
  E(243, kBadEnvironment, kExitUsage, \
    "an environment variable of the launcher or of sutor has a value that is not possible") \
  E(280, kNoOptimizerForDType, kExitUsage, \
    "the optimizer does not train weights of the model's dtype") \
  E(290, kNoKernels, kExitUsage, \
    "SUTOR_KERNELS names no kernels that this CPU runs, or it runs none at all") \
  E(291, kKernelsDiffer, kExitUsage, \
    "the ranks would compute with different kernels") \
  E(299, kPythonStepUsage, kExitUsage, \
    "a Python step ended with exit code 2; its own message stands above") \
  \
  E(300, kNoModel, kExitData, \
    "a path is no model: no directory, or its config.json is missing or no JSON object") \
  E(301, kUnreadableFile, kExitData, \
    "a file or directory is missing or cannot be read") \
  E(302, kWrongShape, kExitData, \
    "a stored tensor has another shape than is asked for") \
  E(303, kBrokenFile, kExitData, \
    "a file is truncated, or breaks the rules of its format") \
  E(304, kContradictoryShards, kExitData, \
    "the shards of a model and their index contradict each other") \
  E(305, kOtherBase, kExitData, \
    "an adapter or a checkpoint was trained on another base model") \
  E(306, kNoConversion, kExitData, \
    "tensors cannot be converted between two dtypes") \
  E(307, kBadStoredDType, kExitData, \
    "a stored dtype is not one that can be read, or its scales are missing or do not fit") \
  E(308, kNotAdapter, kExitData, \
    "a folder is no adapter, or not one that can be read") \
  E(309, kBadHdf5, kExitData, \
    "an HDF5 file is missing, cannot be read, or does not hold what it should") \
  E(310, kBadExpertConfig, kExitData, \
    "a file is no expert config") \
  E(311, kNoSuchLayer, kExitData, \
    "an expert config names a layer that the model does not have") \
  E(312, kNoExpertsInLayer, kExitData, \
    "an expert config names a layer without routed experts") \
  E(313, kNoSuchExpert, kExitData, \
    "an expert config names an expert that the model does not have") \
  E(314, kMissingTensor, kExitData, \
    "a model lacks a tensor") \
  E(315, kNothingTrains, kExitData, \
    "the selection is empty: nothing would train") \
  E(316, kBadPattern, kExitData, \
    "a pattern of parameter names is no regular expression, or matches nothing") \
  E(317, kDividedExpert, kExitData, \
    "patterns and expert config let an expert train in part only, or contradict each other") \
  E(318, kTooFewExperts, kExitData, \
    "a mask of experts leaves fewer than every token needs") \
  E(319, kNotQuantizable, kExitData, \
    "a trained value is not finite and cannot be quantised") \
  E(320, kUnsupportedModel, kExitData, \
    "config.json asks for something that sutor does not have for this family") \
  E(321, kBadModelConfig, kExitData, \
    "config.json lacks a value, or has one of the wrong type or out of its range") \
  E(322, kUnknownFamily, kExitData, \
    "a model family that sutor does not know") \
  E(323, kBadRouting, kExitData, \
    "a router's choice or weight is not possible; are the model's weights finite?") \
  E(324, kNoScores, kExitData, \
    "scores are needed, but their file does not exist") \
  E(325, kNotScores, kExitData, \
    "a file or folder holds no scores that can be read") \
  E(326, kBadScoreRecords, kExitData, \
    "the records of scores are malformed or contradict each other") \
  E(327, kIncompleteScores, kExitData, \
    "scores lack a layer, or the kind of score that is needed") \
  E(328, kOtherScores, kExitData, \
    "scores are of another model than the one they are used with") \
  E(329, kBadDataCursor, kExitData, \
    "a checkpoint stands at a sample that the data do not have") \
  E(330, kBeyondVocabulary, kExitData, \
    "a token id is beyond the model's vocabulary") \
  E(331, kUnreadableData, kExitData, \
    "a file of data is missing or cannot be read") \
  E(332, kNotTokenStore, kExitData, \
    "a file is no token store, or one of another version") \
  E(333, kBadTokenStore, kExitData, \
    "a token store is corrupt: its arrays contradict each other") \
  E(334, kNoData, kExitData, \
    "the data hold nothing to work on: no rows, or no token in the loss") \
  E(335, kBadTokenIds, kExitData, \
    "a file of token ids is not a list of lists of ids") \
  E(336, kBadRow, kExitData, \
    "a row of the data is not as its format says") \
  E(337, kBadText, kExitData, \
    "a row of the data is not valid UTF-8") \
  E(338, kBadTokenizer, kExitData, \
    "the tokenizer or its chat template is missing or cannot be used") \
  E(339, kNoExactMask, kExitData, \
    "the chat template does not tell which part of a conversation is to be trained") \
  E(340, kBadDigest, kExitData, \
    "a digest is malformed") \
  E(341, kIncomplete, kExitData, \
    "a directory is no complete checkpoint or base store") \
  E(342, kBadManifest, kExitData, \
    "a manifest is corrupt, or is not that of its directory") \
  E(343, kUnknownVersion, kExitData, \
    "a manifest has a format version that this program does not read") \
  E(344, kWrongFileSize, kExitData, \
    "a file that a manifest names is missing or has another size") \
  E(345, kBadTileIndex, kExitData, \
    "a tile index is corrupt, or is not that of its manifest") \
  E(346, kBadCoverage, kExitData, \
    "the tiles do not cover every tensor exactly once") \
  E(347, kCorrupted, kExitData, \
    "bytes are not the ones that were written") \
  E(348, kNotInCheckpoint, kExitData, \
    "a checkpoint does not hold a tensor, or holds it in another shape or dtype") \
  E(349, kNoCheckpoint, kExitData, \
    "there is no checkpoint, or none that can be read") \
  E(350, kOtherTrainable, kExitData, \
    "a checkpoint trains other parameters than the recipe") \
  E(351, kNotStorable, kExitData, \
    "a model has a name or a shape that a base store cannot hold") \
  E(352, kUnknownArtifact, kExitData, \
    "a path is none of the things that the verb takes") \
  E(353, kUnusedTensor, kExitData, \
    "a model or an adapter has a tensor that no module uses, though it belongs to one that is used") \
  E(360, kBadAnswer, kExitData, \
    "the answer of a row is not one that its scorer can use") \
  E(361, kFailedJudge, kExitData, \
    "the judge ended early or gave something else than a score a line") \
  E(370, kUnsupportedRowKey, kExitData, \
    "a row has a key that asks for something that sutor does not do") \
  E(380, kOtherOptimizer, kExitData, \
    "a checkpoint holds the state of another optimizer") \
  E(390, kFaultThrown, kExitData, \
    "thrown because SUTOR_FAULT asked for it") \
  E(399, kPythonStepData, kExitData, \
    "a Python step ended with exit code 3; its own message stands above") \
  \
  E(401, kBusy, kExitBusy, \
    "another job is writing the directory") \
  \
  E(501, kDiskFull, kExitResources, \
    "the disk, or the quota, is full") \
  E(502, kWriteFailed, kExitResources, \
    "a file cannot be made or written") \
  E(503, kOutOfMemory, kExitResources, \
    "out of memory") \
  E(504, kStepLimit, kExitResources, \
    "a Python step, a judge or a template went beyond its limit of time, memory or output") \
  E(599, kPythonStepResources, kExitResources, \
    "a Python step ended with exit code 5; its own message stands above") \
  \
  E(601, kExchangeTooLarge, kExitComm, \
    "one exchange has more rows than MPI can count") \
  E(602, kCommTimeout, kExitComm, \
    "a rank waited too long for the others") \
  E(603, kMpiFailed, kExitComm, \
    "MPI failed") \
  E(604, kPlansDiffer, kExitComm, \
    "ranks read another recipe, model or expert config than rank 0") \
  E(605, kRankDied, kExitComm, \
    "a rank died") \
  E(606, kRankSilent, kExitComm, \
    "a rank was not heard of: stopped, hanging, or its host is cut off") \
  E(607, kWaitedTooLong, kExitComm, \
    "a rank has been waiting longer than SUTOR_COMM_TIMEOUT") \
  E(608, kDifferentOperations, kExitComm, \
    "ranks of one group are in different operations") \
  E(609, kWatchdogUnconnected, kExitComm, \
    "the watchdog cannot reach another rank, or finds no port") \
  E(610, kCudaFailed, kExitComm, \
    "a call of CUDA failed") \
  E(611, kNcclFailed, kExitComm, \
    "a call of NCCL failed") \
  E(612, kNoGpu, kExitComm, \
    "a rank has no GPU on its host") \
  E(613, kNoNccl, kExitComm, \
    "sutor was built without NCCL, but communication between GPUs was asked for") \
  \
  E(701, kDiverged, kExitDiverged, \
    "training diverged: a loss, gradient or trained value is not finite") \
  \
  E(7000, kUnexpected, kExitInternal, \
    "an error that sutor does not know") \
  E(7001, kBrokenInvariant, kExitInternal, \
    "an invariant of the program does not hold") \
  E(7002, kNotOnThisRank, kExitInternal, \
    "a tensor is not on the rank that wants it") \
  E(7003, kTwoTrainableSets, kExitInternal, \
    "the parameters marked to train are not those of the plan") \
  E(7004, kFrozenChanged, kExitInternal, \
    "a frozen tensor changed while training") \
  E(7005, kBadSchedule, kExitInternal, \
    "a pipeline schedule is not possible") \
  E(7099, kPythonStepDied, kExitInternal, \
    "a Python step died or ended with an unknown exit code") \
  \
  E(7500, kStopped, kExitStopped, \
    "stopped by a signal; what was done so far is saved and can go on")

#define SUTOR_WARNINGS(W) \
  W(102, kExportedEqualsBase, \
    "a trained tensor equals the base and is left out of the adapter") \
  W(103, kRoundingExceedsUpdate, \
    "re-quantising changes the trained tensors more than training did") \
  W(104, kUnchangedByExport, \
    "trained tensors are the base's again after re-quantising") \
  W(105, kBatchBeyondData, \
    "a batch holds more than the data have") \
  W(106, kWarmupBeyondRun, \
    "the learning rate does not reach its height: the warm-up is longer than the run") \
  W(107, kTurnsWithoutStop, \
    "assistant turns end without a token that ends a turn") \
  W(108, kSpecialInText, \
    "rows hold the text of a special token") \
  W(109, kPromptsTooLong, \
    "prompts are too long for the model's context") \
  W(110, kRowsSkipped, \
    "rows cannot be used and are left out") \
  W(111, kUnknownRowKeys, \
    "rows have keys that mean nothing to sutor") \
  W(112, kEndTokensDiffer, \
    "the model, its generation config and its tokenizer name other end tokens than rows train") \
  W(113, kRepeatedSpecial, \
    "a row already has the begin or end token that would be added") \
  W(114, kNothingInLoss, \
    "documents, or a step, have no token in the loss") \
  W(115, kDocumentsCut, \
    "documents are longer than seq_len and are cut, split or dropped") \
  W(116, kEvalInTrain, \
    "rows for evaluation are among those for training") \
  W(221, kLockTakenOver, \
    "the lock of a job that is gone was taken over") \
  W(301, kNoDigest, \
    "a file of an earlier version carries no digest, so that damage in it cannot be seen") \
  W(302, kWholeLayerSelected, \
    "every expert of a layer is selected: its scores add up to less than top_p") \
  W(303, kScoresNormalised, \
    "scores of a layer do not add up to 1 and are divided by their sum") \
  W(304, kEmptyScoreLayer, \
    "a layer of a score file has only zeros and is left out") \
  W(305, kIgnoredConfigKey, \
    "config.json says something twice; one of the two is ignored") \
  W(306, kIndexSizeDiffers, \
    "the index of a model gives another total size than its files have") \
  W(307, kRoutingDrift, \
    "fewer tokens reach the trained experts than when they were scored: the input has drifted") \
  W(308, kCoarseExperts, \
    "a layer has few and large experts, so that training chosen ones saves little") \
  W(309, kUnsureScores, \
    "the two halves of the scored sample would select other experts: it is too small") \
  W(310, kSideLogLost, \
    "the process that logs to Weights & Biases ended early or could not keep up") \
  W(341, kCheckpointPassedOver, \
    "a checkpoint cannot be read and an older one is taken") \
  W(502, kCleanUpFailed, \
    "files that are no longer needed could not be removed") \
  W(609, kStrangers, \
    "connections that are not of this job came to the watchdog and were turned away") \
  W(703, kTrainedUnchanged, \
    "trained tensors did not change")
// clang-format on

enum class ErrorCode : int {
#define SUTOR_ENUMERATOR(number, name, exit_code, text) name = number,
  SUTOR_ERRORS(SUTOR_ENUMERATOR)
#undef SUTOR_ENUMERATOR
};

enum class WarningCode : int {
#define SUTOR_ENUMERATOR(number, name, text) name = number,
  SUTOR_WARNINGS(SUTOR_ENUMERATOR)
#undef SUTOR_ENUMERATOR
};

constexpr int number_of(ErrorCode code) { return static_cast<int>(code); }
constexpr int number_of(WarningCode code) { return static_cast<int>(code); }
constexpr int exit_code_of(ErrorCode code) { return number_of(code) / 100; }

}  // namespace sutor
