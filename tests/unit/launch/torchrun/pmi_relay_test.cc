// What MPICH asks its launcher for at its start, and what it is answered.
#include "launch/torchrun/pmi_relay.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <map>
#include <mutex>

#include "tests/support/expect_error.h"

namespace sutor {
namespace {

using testing::expect_error;

class LocalBoard : public Board {
 public:
  void put(const std::string& key, const std::string& value) override {
    const std::lock_guard lock(mutex_);
    values_[key] = value;
  }
  std::optional<std::string> get(const std::string& key) override {
    const std::lock_guard lock(mutex_);
    const auto at = values_.find(key);
    return at == values_.end() ? std::nullopt : std::optional(at->second);
  }
  int64_t add(const std::string& key, int64_t number) override {
    const std::lock_guard lock(mutex_);
    return numbers_[key] += number;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::string> values_;
  std::map<std::string, int64_t> numbers_;
};

TEST(ProcessMapping, BlocksOfRanksOnHosts) {
  EXPECT_EQ(process_mapping({"a", "a", "b", "b"}), "(vector,(0,1,2),(1,1,2))");
  EXPECT_EQ(process_mapping({"a", "b", "a"}), "(vector,(0,1,1),(1,1,1),(0,1,1))");
  std::vector<std::string> dealt;
  for (int rank = 0; rank < 1000; ++rank) dealt.push_back(rank % 2 == 0 ? "a" : "b");
  EXPECT_EQ(process_mapping(dealt), "");  // more than MPICH reads in a line
}

TEST(PmiAnswers, KeysOfOneRankReachTheOthersThroughABarrier) {
  LocalBoard board;
  PmiAnswers first(board, {0, 2, "(vector,(0,1,2))", 10}), second(board, {1, 2, "", 10});
  EXPECT_EQ(first.answer("cmd=init pmi_version=1 pmi_subversion=1"),
            "cmd=response_to_init pmi_version=1 pmi_subversion=1 rc=0");
  EXPECT_EQ(first.answer("cmd=put kvsname=sutor key=card-0 value=a b=c"),
            "cmd=put_result rc=0 msg=success");
  std::thread other([&] { EXPECT_EQ(second.answer("cmd=barrier_in"), "cmd=barrier_out"); });
  EXPECT_EQ(first.answer("cmd=barrier_in"), "cmd=barrier_out");
  other.join();
  EXPECT_EQ(second.answer("cmd=get kvsname=sutor key=card-0"),
            "cmd=get_result rc=0 msg=success value=a b=c");
  EXPECT_EQ(second.answer("cmd=get kvsname=sutor key=card-1"),
            "cmd=get_result rc=-1 msg=key_not_found value=unknown");
  EXPECT_EQ(first.answer("cmd=get kvsname=sutor key=PMI_process_mapping"),
            "cmd=get_result rc=0 msg=success value=(vector,(0,1,2))");
  EXPECT_EQ(first.answer("cmd=finalize"), "cmd=finalize_ack");
  EXPECT_TRUE(first.finalized());
}

TEST(PmiAnswers, ABarrierEndsWhenARankGivesUpOrDoesNotCome) {
  LocalBoard board;
  PmiAnswers first(board, {0, 3, "", 0.1}), second(board, {1, 3, "", 0.1});
  expect_error(ErrorCode::kCommTimeout, {"1 of 3 ranks", "SUTOR_COMM_TIMEOUT"},
               [&] { first.answer("cmd=barrier_in"); });
  EXPECT_EQ(second.answer("cmd=abort exitcode=2"), "");
  expect_error(ErrorCode::kRankDied, {"rank 1 gave up"}, [&] { first.answer("cmd=barrier_in"); });
}

TEST(PmiAnswers, WhatIsNotKnownIsAnError) {
  LocalBoard board;
  PmiAnswers answers(board, {0, 2, "", 1});
  expect_error(ErrorCode::kMpiFailed, {"spawn"}, [&] { answers.answer("cmd=spawn"); });
}

TEST(PmiRelay, AnswersLinesThatComeInPiecesUntilTheOtherEndIsClosed) {
  const PmiRelay relay(std::make_shared<LocalBoard>(), {0, 4, "", 10});
  const std::string requests = "cmd=get_universe_size\ncmd=get_app";
  ASSERT_EQ(::send(relay.mpi_end(), requests.data(), requests.size(), 0),
            static_cast<ssize_t>(requests.size()));
  const std::string rest = "num\n", expected = "cmd=universe_size size=4\ncmd=appnum appnum=0\n";
  ASSERT_EQ(::send(relay.mpi_end(), rest.data(), rest.size(), 0), 4);
  std::string answers(expected.size(), '\0');
  ASSERT_EQ(::recv(relay.mpi_end(), answers.data(), answers.size(), MSG_WAITALL),
            static_cast<ssize_t>(answers.size()));
  EXPECT_EQ(answers, expected);
}  // and the relay ends

}  // namespace
}  // namespace sutor
