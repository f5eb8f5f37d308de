// Starts that are wrong, checks that hang or throw, and the report of several ranks.
#include "launch/doctor/doctor.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "csrc/base/error.h"
#include "launch/doctor/checks.h"
#include "tests/support/fake_environment.h"
#include "tests/support/temp_dir.h"
#include "tests/support/thread_comm.h"

namespace sutor {
namespace {

Finding last(const testing::Variables& variables, int world) {
  return check_launcher(testing::environment(variables), world).back();
}

TEST(DoctorLauncher, RanksAsStartedAreFine) {
  EXPECT_EQ(last({}, 1).grade, Grade::kOk);
  EXPECT_EQ(last({{"PMI_SIZE", "4"}, {"PMI_RANK", "0"}}, 4).grade, Grade::kOk);
}

TEST(DoctorLauncher, AJobOfSlurmThatIsOneProcessIsBroken) {
  const Finding finding = last({{"SLURM_NTASKS", "16"}}, 1);
  EXPECT_EQ(finding.grade, Grade::kFailed);
  EXPECT_NE(finding.text.find("SLURM_NTASKS is 16"), std::string::npos);
  EXPECT_NE(finding.remedy.find("srun --mpi=pmi2 -n 16"), std::string::npos);
}

TEST(DoctorLauncher, FewerRanksThanTheAllocationHasAreANote) {
  EXPECT_EQ(last({{"SLURM_NTASKS", "16"}, {"PMI_SIZE", "2"}, {"PMI_RANK", "0"}}, 2).grade,
            Grade::kNote);
}

TEST(DoctorLauncher, ALibraryThatSeesFewerThanWereStartedIsBroken) {
  const Finding finding = last({{"PMI_SIZE", "4"}, {"PMI_RANK", "0"}}, 1);
  EXPECT_EQ(finding.grade, Grade::kFailed);
  EXPECT_NE(finding.text.find("started 4 processes, MPI sees 1"), std::string::npos);
}

TEST(DoctorChecks, OneThatDoesNotEndIsAFailure) {
  const auto begin = std::chrono::steady_clock::now();
  const Findings found = within(0.1, "folder", "another folder", [] {
    std::this_thread::sleep_for(std::chrono::seconds(3));
    return Findings{};
  });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(2));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].grade, Grade::kFailed);
  EXPECT_EQ(found[0].remedy, "another folder");
}

TEST(DoctorChecks, OneThatThrowsIsAFailureWithTheCode) {
  const Findings found =
      within(5, "space", "free some", []() -> Findings { fail(ErrorCode::kDiskFull, "no space"); });
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].text, "E0501: no space");
}

TEST(DoctorChecks, AFolderThatIsNotThereIsTriedWhereItWouldBeMade) {
  testing::TempDir dir;
  EXPECT_EQ(existing_folder(dir / "runs/my/"), dir.path());
  EXPECT_EQ(existing_folder("nowhere/at/all"), ".");
  for (const Finding& finding : check_folder(dir.path())) {
    EXPECT_NE(finding.grade, Grade::kFailed) << finding.text;
  }
  EXPECT_EQ(testing::count_entries(dir.path()), 0);  // nothing is left
}

TEST(DoctorChecks, AFolderThatCannotBeWrittenIsBroken) {
  EXPECT_EQ(caught("folder", "", [] { return check_folder("/proc"); }).front().grade,
            Grade::kFailed);
}

TEST(DoctorShared, AFolderOfOneHostIsSeenByAllRanks) {
  testing::TempDir dir;
  testing::run_ranks(3, [&](Comm& world) {
    const Findings found = check_shared(dir.path(), world);
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].grade, Grade::kOk) << found[0].text;
  });
  EXPECT_EQ(testing::count_entries(dir.path()), 0);
}

TEST(DoctorReport, EqualFindingsOfRanksAreOne) {
  const Finding cpu{"CPU", Grade::kOk, "four", ""}, other{"CPU", Grade::kOk, "two", ""};
  const Finding broken{"devices", Grade::kFailed, "none", "plug one in"};
  const auto findings = merged({{cpu, {"build", Grade::kOk, "x", ""}}, {cpu, broken}, {other}});
  ASSERT_EQ(findings.size(), 4u);
  EXPECT_EQ(findings[0].ranks, (std::vector<int>{0, 1}));
  EXPECT_EQ(findings[1].finding.text, "two");  // beside the other CPU
  EXPECT_FALSE(all_work(findings));
  const std::string text = doctor_text(findings, 3);
  EXPECT_NE(text.find("FAILED devices         [rank 1] none"), std::string::npos) << text;
  EXPECT_NE(text.find("-> plug one in"), std::string::npos);
  EXPECT_NE(text.find("[ranks 0, 1] four"), std::string::npos);
  EXPECT_EQ(doctor_json(findings, 3)["works"], false);
}

}  // namespace
}  // namespace sutor
