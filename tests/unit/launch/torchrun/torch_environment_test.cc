// Which environments of torchrun, and of scripts that copy it, make a job; which are refused.
#include "launch/torchrun/torch_environment.h"

#include <gtest/gtest.h>

#include "tests/support/expect_error.h"
#include "tests/support/fake_environment.h"

namespace sutor {
namespace {

using testing::environment;
using testing::expect_error;
using testing::Variables;

// What torchrun 2.11 sets, as far as it is read.
const Variables kTorchrun = {{"RANK", "5"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_RANK", "1"},
                             {"LOCAL_WORLD_SIZE", "4"},
                             {"MASTER_ADDR", "node-a"},
                             {"MASTER_PORT", "29500"},
                             {"TORCHELASTIC_RUN_ID", "none"},
                             {"TORCHELASTIC_RESTART_COUNT", "2"},
                             {"TORCHELASTIC_USE_AGENT_STORE", "True"}};

Variables with(Variables variables, const Variables& more) {
  for (const auto& [name, value] : more) variables[name] = value;
  return variables;
}
Variables without(Variables variables, const std::string& name) {
  variables.erase(name);
  return variables;
}

TEST(TorchEnvironment, GivesRankPlaceAndMeetingPlace) {
  const auto torch = torch_environment(environment(kTorchrun));
  ASSERT_TRUE(torch);
  EXPECT_EQ(torch->meeting_place(), "node-a:29500");
  EXPECT_TRUE(torch->agent_store);
  EXPECT_EQ(detect_launcher(environment(kTorchrun)).text(),
            "torchrun, rank 5 of 8, 1 of 4 on this node");
  EXPECT_FALSE(speaks_for_all(environment(kTorchrun)));
  EXPECT_TRUE(speaks_for_all(environment(with(kTorchrun, {{"RANK", "0"}}))));
}

TEST(TorchEnvironment, RestartsDoNotMeetEarlierStarts) {
  const auto first = torch_environment(environment(kTorchrun));
  const auto next =
      torch_environment(environment(with(kTorchrun, {{"TORCHELASTIC_RESTART_COUNT", "3"}})));
  EXPECT_NE(first->job, next->job);
}

TEST(TorchEnvironment, OneProcessAndNoneAreNoJob) {
  EXPECT_FALSE(torch_environment(environment({})));
  EXPECT_FALSE(torch_environment(environment({{"WORLD_SIZE", "1"}})));
  EXPECT_EQ(detect_launcher(environment({{"WORLD_SIZE", "1"}, {"RANK", "0"}})).world_size, 1);
}

TEST(TorchEnvironment, ProcessesThatCannotFindEachOtherAreRefused) {
  for (const char* name : {"RANK", "MASTER_ADDR", "MASTER_PORT"}) {
    expect_error(ErrorCode::kRanksApart,
                 {"WORLD_SIZE=8", std::string(name) + " is not set", "torchrun --no-python",
                  "mpiexec -n 8", "unset WORLD_SIZE"},
                 [&] { detect_launcher(environment(without(kTorchrun, name))); });
    // Each of them says so: which one is the first is not known.
    EXPECT_TRUE(speaks_for_all(environment(without(kTorchrun, name))));
  }
}

TEST(TorchEnvironment, ImpossibleValuesAreRefusedByName) {
  const Variables wrong = {{"WORLD_SIZE", "many"}, {"RANK", "8"}, {"MASTER_PORT", "70000"}};
  for (const auto& [name, value] : wrong) {
    expect_error(ErrorCode::kBadEnvironment, {name + "=" + value}, [&] {
      torch_environment(environment(with(kTorchrun, {{name, value}})));
    });
  }
}

TEST(TorchEnvironment, TheNearestLauncherCounts) {
  const Variables pmi = {{"PMI_RANK", "1"}, {"PMI_SIZE", "2"}};
  // mpiexec in a container whose environment is torch's; torchrun started by srun --mpi=pmi2.
  const Variables container = without(kTorchrun, "TORCHELASTIC_RUN_ID");
  EXPECT_EQ(detect_launcher(environment(with(container, pmi))).kind, Launcher::Kind::kMpiexec);
  EXPECT_EQ(detect_launcher(environment(with(kTorchrun, pmi))).kind, Launcher::Kind::kTorchrun);
  EXPECT_EQ(detect_launcher(environment(with(kTorchrun, {{"SLURM_PROCID", "0"},
                                                         {"SLURM_STEP_ID", "0"},
                                                         {"SLURM_STEP_NUM_TASKS", "2"}})))
                .world_size,
            8);
}

}  // namespace
}  // namespace sutor
