// Environment variables that are wrong are refused by name, those of launchers and of sutor.
#include "launch/job/environment.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/expect_error.h"
#include "tests/support/fake_environment.h"

namespace sutor {
namespace {

using testing::environment;
using testing::expect_error;
using testing::Variables;

TEST(EnvironmentCheck, WhatUsersAndLaunchersSetIsTaken) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  const std::vector<Variables> good = {
      {},
      {{"PMI_SIZE", "1"}, {"PMI_RANK", "0"}},
      {{"PMI_SIZE", "4"}, {"PMI_RANK", "3"}, {"PMI_FD", std::to_string(ends[0])}},
      {{"PMI_SIZE", "4"}, {"PMI_RANK", "3"}, {"PMI_PORT", "host:4000"}},
      {{"SUTOR_HEARTBEAT_TIMEOUT", "0.5"}, {"SUTOR_COMM_TIMEOUT", "86400"}},
      {{"SUTOR_WATCHDOG", "off"}, {"OMP_NUM_THREADS", "4,2"}},
  };
  for (const Variables& variables : good) check_environment(environment(variables));
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(EnvironmentCheck, WrongValuesAreRefusedByName) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"PMI_SIZE", "two"},
      {"PMI_SIZE", "0"},
      {"PMI_SIZE", "-2"},
      {"PMI_SIZE", "2x"},
      {"PMI_SIZE", ""},
      {"PMI_SIZE", "99999999999999999999"},
      {"PMI_RANK", "first"},
      {"PMI_FD", "/dev/null"},
      {"MPI_LOCALRANKID", "?"},
      {"SUTOR_HEARTBEAT_TIMEOUT", "soon"},
      {"SUTOR_HEARTBEAT_TIMEOUT", "0"},
      {"SUTOR_HEARTBEAT_TIMEOUT", "-3"},
      {"SUTOR_COMM_TIMEOUT", "nan"},
      {"SUTOR_COMM_TIMEOUT", "inf"},
      {"SUTOR_COMM_TIMEOUT", "10 s"},
      {"SUTOR_COMM_TIMEOUT", ""},
      {"SUTOR_WATCHDOG", "maybe"},
      {"OMP_NUM_THREADS", "0"},
      {"OMP_NUM_THREADS", "many"},
      {"OMP_NUM_THREADS", "4,"},
  };
  for (const auto& [name, value] : wrong) {
    expect_error(ErrorCode::kBadEnvironment, {name + "=" + value + ": expected"}, [&] {
      check_environment(environment({{name, value}}));
    });
  }
}

// A shell in which a job ran leaves them, or a container that a launcher started.
TEST(EnvironmentCheck, WhatALauncherLeftOverIsRefused) {
  const std::vector<std::pair<Variables, std::string>> left = {
      {{{"PMI_SIZE", "2"}}, "PMI_RANK is not set"},
      {{{"PMI_SIZE", "2"}, {"PMI_RANK", "2"}}, "PMI_RANK is 2"},
      {{{"PMI_SIZE", "2"}, {"PMI_RANK", "0"}}, "neither PMI_FD nor PMI_PORT"},
      {{{"PMI_SIZE", "2"}, {"PMI_RANK", "0"}, {"PMI_FD", "987"}}, "PMI_FD=987 is no connection"},
  };
  for (const auto& [variables, words] : left) {
    const Variables& set = variables;
    expect_error(ErrorCode::kBadEnvironment, {words, "left over"},
                 [&] { check_environment(environment(set)); });
  }
}

}  // namespace
}  // namespace sutor
