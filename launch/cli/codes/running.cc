// Causes and remedies of errors with exit codes 4 to 75: what ends a job that was in order.
#include "launch/cli/codes/code_texts.h"

namespace sutor {
namespace {

constexpr ErrorText kTexts[] = {
    {ErrorCode::kBusy, "Another job writes in the same output folder.",
     "Wait for it or end it (the message has host and process), or set another `output`."},
    {ErrorCode::kDiskFull, "The file system, or your quota on it, has no space left.",
     "Free some space; lower `checkpoint.keep`; or put `output` on another disk. Whole "
     "checkpoints stay usable."},
    {ErrorCode::kWriteFailed,
     "No right to write there, a read-only or failing file system, or a limit (`ulimit -f`).",
     "Mend the rights or the limit that the message names, or set another `output`."},
    {ErrorCode::kOutOfMemory,
     "Weights, optimizer state and activations need more than the host, the GPU or a limit has.",
     "The message says what is resident and which keys help: `train.micro_batch`, "
     "`train.recompute`, `data.seq_len`, more ranks. docs/howto/memory.md has the order."},
    {ErrorCode::kStepLimit,
     "A row, a template, a judge or the tokenizer took more time or memory than it may.",
     "Look at the row that the message names; `SUTOR_STEP_MEMORY` (GiB) and `SUTOR_ROW_SECONDS` "
     "raise the limits."},
    {ErrorCode::kPythonStepResources, "A Python step had no disk or memory left.",
     "Its own message stands above this one: mend that."},
    {ErrorCode::kExchangeTooLarge, "A micro-batch sends more rows at once than MPI can count.",
     "Lower `train.micro_batch` or `data.seq_len`."},
    {ErrorCode::kCommTimeout, "One rank is stuck or gone, so the others wait for it.",
     "Look at the rank that the report names; raise `SUTOR_COMM_TIMEOUT` only if it was slow."},
    {ErrorCode::kMpiFailed, "The MPI library or the network under it reports an error.",
     "Try the ranks on one host first; look at the network of the nodes that are named."},
    {ErrorCode::kPlansDiffer,
     "Nodes see different files under the same path, or different commands were started.",
     "Put recipe, model and output on a file system that all nodes share."},
    {ErrorCode::kRankDied,
     "A process was killed: by the kernel for its memory, by a person, or by a crash.",
     "Look at the named host (`dmesg | grep -i oom`), then start again: a training goes on from "
     "the newest checkpoint."},
    {ErrorCode::kRankSilent,
     "A process was stopped, its file system hangs, or its host lost the network.",
     "Look at the named host; a training goes on from the newest checkpoint. "
     "`SUTOR_HEARTBEAT_TIMEOUT` sets the patience."},
    {ErrorCode::kWaitedTooLong, "One operation took longer than `SUTOR_COMM_TIMEOUT` allows.",
     "Look at the rank that the others wait for; raise the limit only if it was at work."},
    {ErrorCode::kDifferentOperations,
     "Ranks took different ways: different programs or files, or a bug in sutor.",
     "Start the same build everywhere; if it stays, report it with `SUTOR_JOURNAL=DIR` of all "
     "ranks."},
    {ErrorCode::kWatchdogUnconnected,
     "A firewall stands between the nodes, or a host has no address that the others reach.",
     "Open TCP between the nodes of a job; or `SUTOR_WATCHDOG=off`, which notices a dead rank "
     "later."},
    {ErrorCode::kCudaFailed, "The driver or the GPU failed, or another process uses its memory.",
     "Look at `nvidia-smi` and `dmesg` (Xid) of the host, then start again."},
    {ErrorCode::kNcclFailed, "GPUs cannot reach each other, or a rank is gone.",
     "`NCCL_DEBUG=INFO` says which connection; try one node first."},
    {ErrorCode::kNoGpu, "There are more ranks than GPUs on a host, or a task sees none.",
     "Start one rank a GPU: `srun --gpus-per-task=1`, or `mpiexec -n` the number of GPUs."},
    {ErrorCode::kNoNccl, "This build has no NCCL.", "Configure with `-DSUTOR_CUDA=ON`."},
    {ErrorCode::kDiverged,
     "The learning rate is too high, the data hold extreme rows, or the model's weights are not "
     "finite.",
     "Lower `optim.lr`, add `schedule.warmup`, keep `optim.clip`; the last checkpoint is whole."},
    {ErrorCode::kUnexpected, "A library failed in a way that sutor has no words for.",
     "The message has the library's own words; if they do not help, report it."},
    {ErrorCode::kBrokenInvariant, "A bug in sutor.",
     "Report it with the message, the command and the recipe."},
    {ErrorCode::kNotOnThisRank, "A bug in sutor.",
     "Report it with the message, the command and the recipe."},
    {ErrorCode::kTwoTrainableSets, "A bug in sutor.",
     "Report it with the message, the command and the recipe."},
    {ErrorCode::kFrozenChanged,
     "The check of frozen weights found other bytes than before the training: a bug in sutor, or "
     "failing memory.",
     "Do not use these checkpoints. Test the machine's memory; report it."},
    {ErrorCode::kBadSchedule, "A bug in sutor.",
     "Report it with the message, the command and the recipe."},
    {ErrorCode::kPythonStepDied, "A Python step crashed.",
     "`SUTOR_TRACEBACK=1` shows where; `bash tools/setup.sh` mends a venv that is incomplete."},
    {ErrorCode::kStopped, "SIGTERM, SIGINT, SIGUSR1 or SIGUSR2 asked the job to stop.",
     "Start the same command again (`train` with `--resume`): it goes on with the losses that it "
     "would have had."},
};

}  // namespace

std::span<const ErrorText> running_texts() { return kTexts; }

}  // namespace sutor
