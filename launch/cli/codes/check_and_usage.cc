// Causes and remedies of errors with exit codes 1 (a check failed) and 2 (recipe or command line).
#include "launch/cli/codes/code_texts.h"

namespace sutor {
namespace {

constexpr ErrorText kTexts[] = {
    {ErrorCode::kNotAsExpected,
     "`diff` found a difference, or `--verify` of `convert`, `export` or `merge` found a tensor "
     "that is not what it has to be.",
     "For `diff` this is the answer, not a fault. After an export or a conversion, run it again on "
     "a disk that `sutor verify` finds in order; if it stays, report it with the tensor's name."},
    {ErrorCode::kTrainedEqualsBase,
     "A chosen expert got no token in the whole training, or its change is smaller than a step of "
     "the stored dtype (bf16 keeps 8 bits).",
     "Train longer or with a higher `optim.lr`, or select by scores of more tokens "
     "(`esft.score.tokens`), so that experts without traffic are not chosen."},
    {ErrorCode::kMergeConflict,
     "Two adapters trained the same expert, so their changes cannot both be kept as they are.",
     "Say what becomes of them: `--conflicts first`, `last` or `add`; or train the tasks on "
     "disjoint experts (`esft.config`)."},
    {ErrorCode::kNothingLearned,
     "No evaluation of the training was better than the one before it, or no trained weight "
     "moved: too few steps, a learning rate that is too high or too low, or evaluation rows of "
     "another kind than the training rows.",
     "Look at docs/howto/loss_does_not_fall.md. `--checkpoint latest` takes the trained weights "
     "all the same, `--checkpoint none` the base."},
    {ErrorCode::kUnknownKey,
     "A key is misspelt, stands in the wrong section, or is one of another trainer's.",
     "Take the nearest key that the message names; docs/reference/recipe.md lists all, "
     "docs/from/ the names that other programs use."},
    {ErrorCode::kBadArgument,
     "An option does not exist for this verb, lacks its value, or excludes another one.",
     "`sutor VERB --help` lists the options with two complete command lines."},
    {ErrorCode::kUnreadableRecipe,
     "The recipe is not valid YAML (a tab, a wrong indentation, a missing space behind a colon), "
     "is no regular file, or holds something else than one mapping.",
     "Go to the line and column of the message; indent with spaces, two for each level."},
    {ErrorCode::kBadValue,
     "A value has another type than its key, is out of its range, or is text in quotes where a "
     "number belongs.",
     "The message says what was expected and found; docs/reference/recipe.md has the type and the "
     "default of each key."},
    {ErrorCode::kMissingKey,
     "A key without a default is not given: `model.path`, `data.train[].path`, `output`, or one "
     "that the chosen method needs.",
     "Add the key at the place that the message names, or give it with `--set`."},
    {ErrorCode::kRepeatedKey,
     "The same key stands twice in one mapping; only one of the two could count.",
     "Remove one of the two places that the message names."},
    {ErrorCode::kCircularBase, "A recipe inherits from itself through `base:`.",
     "Break the chain that the message shows: one of these recipes needs no `base`."},
    {ErrorCode::kUnsetVariable, "The recipe says `${NAME}`, and the environment has no such NAME.",
     "Export the variable before the start (under SLURM also for the tasks), or write the value "
     "into the recipe."},
    {ErrorCode::kBadPlacement,
     "`parallel.ep` does not divide the number of experts of a layer, or balanced placement cannot "
     "keep the router's groups together.",
     "Take one of the divisors in the message for `parallel.ep`, or `expert_placement: "
     "contiguous`."},
    {ErrorCode::kBadLayout,
     "The product of the sizes does not divide the number of ranks, there are more stages than "
     "layers, or a table of stages or an order is not possible.",
     "Start as many ranks as the layout needs (`mpiexec -n N`), or change `parallel.*`; `sutor "
     "plan --groups` shows any layout without starting a rank."},
    {ErrorCode::kBadDType, "A dtype was asked for that is unknown or only a form of storage.",
     "`model.dtype` is bf16 or fp32; weights in other forms are converted while they are read."},
    {ErrorCode::kIndivisibleTensor,
     "Tensor parallelism cannot cut heads, key-value heads or an expert's width into that many "
     "equal parts.",
     "Take one of the sizes that the message names for `parallel.tp` or `parallel.etp`."},
    {ErrorCode::kBadNamePattern,
     "`params --names` got a scheme or a pattern that would give several experts one name, or "
     "that has an unknown placeholder.",
     "Use a scheme of `sutor params --help`, or add the placeholders that the message names."},
    {ErrorCode::kNoNameInScheme,
     "The scheme joins or leaves out tensors, so that what trains has no name of its own in it.",
     "Take the scheme `hf` or `sutor`, or train all tensors that share the name."},
    {ErrorCode::kBadSelection,
     "The method of `esft.select` is unknown, or lacks its own number (`n`, `budget`, `top_p`).",
     "Set the key that the message names; docs/howto/choose_experts.md says which method needs "
     "what."},
    {ErrorCode::kOneProcessOnly,
     "A verb that works in one process was started by `mpiexec` or `srun` with several.",
     "Start it without a launcher."},
    {ErrorCode::kNoExpertConfig, "`train` was started before the experts were chosen.",
     "`sutor run RECIPE` does all steps; or run `score` and `select` first, or set `esft.config`."},
    {ErrorCode::kOutputExists,
     "The output folder holds a training, an export is there already, or something that sutor did "
     "not make stands in its place.",
     "Go on with `--resume`, begin anew with `--overwrite`, or name another output. What sutor did "
     "not make, you have to move yourself."},
    {ErrorCode::kOtherRecipe,
     "Keys or data that decide a training were changed since its checkpoint was written.",
     "Set the named keys back to go on; begin anew with `--overwrite` or in another `output`; or "
     "fork: docs/howto/resume.md."},
    {ErrorCode::kNoPeftForm,
     "peft knows no form for what was trained: whole experts, or pairs on routed experts.",
     "Export `adapter` or `merged`; for peft train `lora.targets: [attention]` or `[linears]`."},
    {ErrorCode::kNoCuda,
     "`device: cuda` was asked for in a build for CPUs, or the driver shows no GPU on a host.",
     "Build with `bash tools/setup.sh --cuda`, look at `nvidia-smi`, or use `--device cpu`."},
    {ErrorCode::kOtherInputs,
     "Rows, tokenizer, template, model or keys were changed after an earlier step had run, so that "
     "its result does not belong to the recipe any more.",
     "Run the verb that the message names, or `sutor run RECIPE`, which makes again what is "
     "needed; or go back to the former inputs."},
    {ErrorCode::kNoPythonStep,
     "The Python with the packages of the steps is not there: `.venv` was not made or was moved, "
     "or `SUTOR_PYTHON` names something else.",
     "In the source tree run `bash tools/setup.sh`. Beside an installed program make a venv of "
     "`share/sutor/requirements.txt`, or set `SUTOR_PYTHON` to a Python that has them."},
    {ErrorCode::kBadJudge,
     "The command line of `--judge` or `eval.judge` is empty, has an open quote, or names no "
     "program.",
     "Give a command that can be started from the current folder, for example `--judge 'python "
     "judge.py'`."},
    {ErrorCode::kRanksApart,
     "The launcher and the program belong to different MPIs, so that every process would do the "
     "whole job by itself; or the variables of torchrun are incomplete.",
     "Start with MPICH's `mpiexec`, with `srun --mpi=pmi2`, or with `torchrun --no-python`, which "
     "sets `RANK`, `WORLD_SIZE`, `MASTER_ADDR` and `MASTER_PORT`."},
    {ErrorCode::kBadFault, "`SUTOR_FAULT`, a variable for tests, is not of the form that it has.",
     "Unset it: `unset SUTOR_FAULT`."},
    {ErrorCode::kNoFaults, "`SUTOR_FAULT` is set, but this build does not inject faults.",
     "Unset it, or build with `-DSUTOR_FAULTS=ON`."},
    {ErrorCode::kBadEnvironment,
     "A variable of sutor has an impossible value, or PMI variables of another job are left in the "
     "environment.",
     "Correct or unset the variable that the message names; docs/reference/environment.md lists "
     "all."},
    {ErrorCode::kNoOptimizerForDType,
     "`optim.name: adamw_bf16` trains weights in bf16 alone, and `model.dtype` is another.",
     "Set `model.dtype: bf16`, or `optim.name: adamw`."},
    {ErrorCode::kNoKernels,
     "`SUTOR_KERNELS` names a level that was not built or that this CPU lacks; or the CPU is older "
     "than x86-64-v2.",
     "Unset `SUTOR_KERNELS`, or take a level that the message names; an older CPU cannot run "
     "sutor."},
    {ErrorCode::kKernelsDiffer,
     "The nodes of the job have unequal CPUs, and each would take its own best kernels.",
     "Set `SUTOR_KERNELS` for all ranks to the level that the message names, or ask for equal "
     "nodes."},
    {ErrorCode::kPythonStepUsage, "A Python step refused what the recipe asks for.",
     "Its own message stands above this one: mend that."},
};

}  // namespace

std::span<const ErrorText> check_and_usage_texts() { return kTexts; }

}  // namespace sutor
