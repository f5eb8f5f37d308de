// Ranks that were started against ranks that see each other.
#include <fmt/format.h>

#include <cstdlib>
#include <optional>

#include "launch/doctor/checks.h"

namespace sutor {
namespace {

std::optional<int> number(const Environment& environment, const char* name) {
  const char* text = environment(name);
  if (text == nullptr || *text < '0' || *text > '9') return std::nullopt;
  return std::atoi(text);
}

Finding slurm_finding(const Environment& environment, int world, int tasks) {
  const bool in_step = environment("SLURM_STEP_ID") != nullptr;
  const std::string started = fmt::format(
      "SLURM_NTASKS is {}, but {}", tasks,
      world == 1 ? "MPI sees this process alone" : fmt::format("MPI sees {} ranks", world));
  if (world > 1) {  // mpiexec in an allocation of more
    return {"ranks", Grade::kNote, started,
            fmt::format("to use the whole allocation: mpiexec -n {}, or srun --mpi=pmi2", tasks)};
  }
  return {"ranks", Grade::kFailed, started,
          in_step ? fmt::format(
                        "srun did not connect its tasks: srun --mpi=pmi2 -n {} sutor doctor", tasks)
                  : fmt::format("start the doctor as the training will be started: srun --mpi=pmi2 "
                                "-n {0} sutor doctor, or mpiexec -n {0} sutor doctor",
                                tasks)};
}

}  // namespace

Findings unconnected(const std::string& message) {
  return {{"ranks", Grade::kFailed, message,
           "sutor is linked with MPICH: `srun --mpi=pmi2`, MPICH's `mpiexec`, or `torchrun "
           "--no-python` start it"}};
}

Findings check_launcher(const Environment& environment, int world) {
  const Launcher launcher = detect_launcher(environment);
  Findings findings = {{"launcher", Grade::kOk, launcher.text(), ""}};
  if (launcher.world_size != world) {
    findings.push_back(
        {"ranks", Grade::kFailed,
         fmt::format("the launcher started {} processes, MPI sees {}", launcher.world_size, world),
         "two MPI libraries are mixed: start with the mpiexec of MPICH, and look at "
         "LD_LIBRARY_PATH and loaded modules"});
  } else if (const auto tasks = number(environment, "SLURM_NTASKS");
             // A task of SLURM is then one torchrun, which starts the ranks of its host.
             tasks && *tasks != world && launcher.kind != Launcher::Kind::kTorchrun) {
    findings.push_back(slurm_finding(environment, world, *tasks));
  } else {
    findings.push_back({"ranks", Grade::kOk,
                        world == 1 ? "1, as started" : fmt::format("{}, as started", world), ""});
  }
  return findings;
}

}  // namespace sutor
