#include "launch/job/launcher.h"

#include <cstdlib>

#include "csrc/base/error.h"
#include "csrc/base/text/text.h"
#include "launch/torchrun/torch_environment.h"

namespace sutor {
namespace {

// -1 when the variable is not set.
int number(const Environment& environment, const char* name) {
  const char* text = environment(name);
  return text != nullptr && *text >= '0' && *text <= '9' ? std::atoi(text) : -1;
}

int first_of(const Environment& environment, std::initializer_list<const char*> names,
             int otherwise) {
  for (const char* name : names) {
    if (const int value = number(environment, name); value >= 0) return value;
  }
  return otherwise;
}

// Parses SLURM's "2(x3),1": tasks of each node, in the order of the nodes.
int tasks_of_node(const char* text, int node) {
  if (text == nullptr) return -1;
  for (const std::string& item : split_at_commas(text)) {
    char* end = nullptr;
    const int tasks = static_cast<int>(std::strtol(item.c_str(), &end, 10));
    if (end == item.c_str()) return -1;
    int nodes = 1;
    if (end[0] == '(' && end[1] == 'x') nodes = static_cast<int>(std::strtol(end + 2, &end, 10));
    if (node < nodes) return tasks;
    node -= nodes;
  }
  return -1;
}

// Tasks of the SLURM step of this process. In the shell of sbatch and salloc SLURM_NTASKS is that
// of the allocation, but there is no step of several tasks.
int step_tasks(const Environment& environment) {
  if (number(environment, "SLURM_PROCID") < 0 || number(environment, "SLURM_STEP_ID") < 0) return 1;
  return first_of(environment, {"SLURM_STEP_NUM_TASKS"}, 1);
}

void refuse_unconnected(const Environment& environment) {
  if (const int tasks = step_tasks(environment); tasks > 1) {
    fail(ErrorCode::kRanksApart,
         "srun started {} processes that cannot find each other: there is no PMI "
         "(SLURM_STEP_NUM_TASKS={}, PMI_SIZE is not set), so each would run the whole job. Start "
         "with `srun --mpi=pmi2 "
         "...`, or with `mpiexec -n {} ...` inside the allocation.",
         tasks, tasks, tasks);
  }
  const int ompi = number(environment, "OMPI_COMM_WORLD_SIZE");
  if (ompi > 1) {
    fail(ErrorCode::kRanksApart,
         "the mpiexec of Open MPI started {} processes, but sutor is linked with MPICH, so each "
         "would run the whole job. Start with MPICH's mpiexec (Debian: mpiexec.mpich or "
         "mpiexec.hydra).",
         ompi);
  }
}

}  // namespace

Environment process_environment() {
  return [](const char* name) -> const char* { return std::getenv(name); };
}

std::string Launcher::text() const {
  if (kind == Kind::kNone) return "no launcher, one process";
  const char* name = kind == Kind::kSrun       ? "srun"
                     : kind == Kind::kTorchrun ? "torchrun"
                                               : "mpiexec";
  return fmt::format("{}, rank {} of {}, {} of {} on this node", name, rank, world_size, local_rank,
                     ranks_on_node);
}

Launcher detect_launcher(const Environment& environment) {
  Launcher launcher;
  if (const auto torch = torch_environment(environment)) {
    return {Launcher::Kind::kTorchrun, torch->rank, torch->world_size, torch->local_rank,
            torch->local_world_size};
  }
  const int size = number(environment, "PMI_SIZE");
  if (size < 0) {
    refuse_unconnected(environment);
    return launcher;
  }
  // hydra sets MPI_LOCALRANKID; inside an allocation SLURM's variables are set too.
  const bool hydra = environment("MPI_LOCALRANKID") != nullptr;
  launcher.kind = !hydra && environment("SLURM_STEP_ID") != nullptr ? Launcher::Kind::kSrun
                                                                    : Launcher::Kind::kMpiexec;
  launcher.world_size = std::max(size, 1);
  launcher.rank = first_of(environment, {"PMI_RANK"}, 0);
  if (hydra) {
    launcher.local_rank = number(environment, "MPI_LOCALRANKID");
    launcher.ranks_on_node = first_of(environment, {"MPI_LOCALNRANKS"}, launcher.world_size);
  } else {
    launcher.local_rank = first_of(environment, {"SLURM_LOCALID"}, launcher.rank);
    const int here = tasks_of_node(environment("SLURM_STEP_TASKS_PER_NODE"),
                                   first_of(environment, {"SLURM_NODEID"}, 0));
    launcher.ranks_on_node = here > 0 ? here : launcher.world_size;
  }
  return launcher;
}

bool speaks_for_all(const Environment& environment) {
  if (const int rank = torch_rank(environment); rank >= 0) return rank == 0;
  return first_of(environment, {"PMI_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"}, 0) == 0;
}

}  // namespace sutor
