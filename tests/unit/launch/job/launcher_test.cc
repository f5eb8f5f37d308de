// How starts by mpiexec and srun are told apart, and which ones are refused. The environments are
// those that hydra 4.0 and SLURM 22.05 set.
#include "launch/job/launcher.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"
#include "tests/support/fake_environment.h"

namespace sutor {
namespace {

using testing::environment;
using testing::expect_error;
using testing::Variables;

// What sbatch and salloc set in their shell.
const Variables kAllocation = {{"SLURM_JOB_ID", "7"}, {"SLURM_NTASKS", "4"}, {"SLURM_NNODES", "2"}};

Variables with(Variables variables, const Variables& more) {
  for (const auto& [name, value] : more) variables[name] = value;
  return variables;
}

const Variables kStep = with(kAllocation, {{"SLURM_STEP_ID", "0"},
                                           {"SLURM_STEP_NUM_TASKS", "4"},
                                           {"SLURM_PROCID", "3"},
                                           {"SLURM_LOCALID", "1"},
                                           {"SLURM_NODEID", "1"},
                                           {"SLURM_STEP_TASKS_PER_NODE", "2(x2)"}});

TEST(Launcher, NothingIsOneProcess) {
  const Launcher launcher = detect_launcher(environment({}));
  EXPECT_EQ(launcher.kind, Launcher::Kind::kNone);
  EXPECT_EQ(launcher.world_size, 1);
}

TEST(Launcher, MpiexecGivesRankAndPlace) {
  const Launcher launcher = detect_launcher(environment(
      {{"PMI_RANK", "5"}, {"PMI_SIZE", "8"}, {"MPI_LOCALRANKID", "1"}, {"MPI_LOCALNRANKS", "4"}}));
  EXPECT_EQ(launcher.text(), "mpiexec, rank 5 of 8, 1 of 4 on this node");
}

TEST(Launcher, SrunWithPmi2GivesRankAndPlace) {
  const Launcher launcher =
      detect_launcher(environment(with(kStep, {{"PMI_RANK", "3"}, {"PMI_SIZE", "4"}})));
  EXPECT_EQ(launcher.text(), "srun, rank 3 of 4, 1 of 2 on this node");
}

TEST(Launcher, MpiexecInsideAnAllocationIsMpiexec) {
  const Variables ranks = {
      {"PMI_RANK", "0"}, {"PMI_SIZE", "4"}, {"MPI_LOCALRANKID", "0"}, {"MPI_LOCALNRANKS", "4"}};
  EXPECT_EQ(detect_launcher(environment(with(kStep, ranks))).kind, Launcher::Kind::kMpiexec);
}

TEST(Launcher, SrunWithoutPmiIsRefusedWithTheRemedy) {
  expect_error(ErrorCode::kRanksApart, {"srun started 4 processes", "--mpi=pmi2", "mpiexec -n 4"},
               [] { detect_launcher(environment(kStep)); });
  EXPECT_FALSE(speaks_for_all(environment(kStep)));
  EXPECT_TRUE(speaks_for_all(environment(with(kStep, {{"SLURM_PROCID", "0"}}))));
}

TEST(Launcher, OneProcessInTheShellOfAnAllocationIsLegal) {
  EXPECT_EQ(detect_launcher(environment(kAllocation)).world_size, 1);
  // The batch script's own step.
  const Variables batch = with(kAllocation, {{"SLURM_PROCID", "0"}, {"SLURM_LOCALID", "0"}});
  EXPECT_EQ(detect_launcher(environment(batch)).world_size, 1);
  EXPECT_EQ(detect_launcher(environment(with(kStep, {{"SLURM_STEP_NUM_TASKS", "1"}}))).world_size,
            1);
}

TEST(Launcher, AnotherMpiIsRefused) {
  expect_error(ErrorCode::kRanksApart, {"Open MPI", "MPICH"}, [] {
    detect_launcher(environment({{"OMPI_COMM_WORLD_SIZE", "2"}, {"OMPI_COMM_WORLD_RANK", "0"}}));
  });
}

TEST(Launcher, UnequalNodesAreCounted) {
  const Variables last = with(kStep, {{"PMI_RANK", "6"},
                                      {"PMI_SIZE", "7"},
                                      {"SLURM_NODEID", "2"},
                                      {"SLURM_STEP_TASKS_PER_NODE", "3(x2),1"}});
  EXPECT_EQ(detect_launcher(environment(last)).ranks_on_node, 1);
}

}  // namespace
}  // namespace sutor
