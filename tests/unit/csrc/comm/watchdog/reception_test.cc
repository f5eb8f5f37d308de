// The door of a monitor: ranks that know the token come in, strangers are turned away, cost little,
// and are counted.
#include "csrc/comm/watchdog/reception.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "csrc/comm/watchdog/keyed_hash.h"

namespace sutor {
namespace {

using nlohmann::json;

const std::string kToken = "000102030405060708090a0b0c0d0e0f";

class ReceptionOfThree : public ::testing::Test {
 protected:
  ReceptionOfThree() {
    std::vector<LineListener> listeners;
    listeners.emplace_back("127.0.0.1");
    endpoint_ = listeners[0].endpoint();
    door_.emplace(std::move(listeners), kToken, /*ranks=*/3, /*monitor=*/0);
  }

  LineSocket connect() { return LineSocket::connect({endpoint_}, 1); }

  void admit(bool tick = false) {
    for (Reception::Arrival& arrival : door_->admit(now_, tick)) {
      arrived_.push_back(arrival.rank);
      inside_.push_back(std::move(arrival.socket));
    }
  }

  // The challenge that a guest gets.
  std::string challenge_of(LineSocket& socket) {
    for (int i = 0; i < 1000; ++i) {
      admit();
      std::vector<std::string> lines;
      socket.read(lines);
      if (!lines.empty()) return json::parse(lines.front()).at("challenge");
    }
    return "none";
  }

  void answer(LineSocket& socket, const json& rank, const std::string& token = kToken,
              int monitor = 0) {
    const std::string challenge = challenge_of(socket);
    const int number = rank.is_number_integer() ? rank.get<int>() : 1;
    socket.send(
        json{{"rank", rank}, {"answer", answer_to(token, challenge, number, monitor)}}.dump());
  }

  // The ranks that came in since the last call, after a few looks.
  std::vector<int> arrived(bool tick = false) {
    for (int i = 0; i < 20; ++i) {
      admit(tick);
      ::usleep(1000);
    }
    return std::exchange(arrived_, {});
  }

  static bool is_gone(LineSocket& socket) {
    std::vector<std::string> lines;
    return !socket.read(lines);
  }

  std::string endpoint_;
  std::optional<Reception> door_;
  std::vector<LineSocket> inside_;
  std::vector<int> arrived_;
  double now_ = 0;
};

TEST(KeyedHash, IsTheReferenceOfItsAuthors) {
  std::string text;
  for (char i = 0; i < 15; ++i) text += i;
  EXPECT_EQ(sip_hash(0x0706050403020100, 0x0f0e0d0c0b0a0908, text), 0xa129ca6149be45e5);
  EXPECT_EQ(sip_hash(0x0706050403020100, 0x0f0e0d0c0b0a0908, ""), 0x726fdb47dd0e0e31);
}

TEST_F(ReceptionOfThree, RanksWithTheTokenComeInAndAreWelcome) {
  LineSocket one = connect(), two = connect();
  answer(one, 1);
  answer(two, 2);
  std::vector<int> ranks = arrived();
  std::sort(ranks.begin(), ranks.end());
  EXPECT_EQ(ranks, (std::vector<int>{1, 2}));
  EXPECT_TRUE(door_->complete());
  EXPECT_EQ(door_->strangers(), 0);
  std::vector<std::string> lines;
  EXPECT_TRUE(one.read(lines));
  EXPECT_EQ(lines, std::vector<std::string>{R"({"type":"welcome"})"});
}

TEST_F(ReceptionOfThree, WrongAnswersAreTurnedAway) {
  const std::string other = "0f0e0d0c0b0a09080706050403020100";
  const std::vector<std::function<void(LineSocket&)>> wrong = {
      [&](LineSocket& socket) { answer(socket, 1, other); },
      [&](LineSocket& socket) { answer(socket, 1, kToken, /*monitor=*/1); },
      [&](LineSocket& socket) { answer(socket, 0); },  // the monitor itself
      [&](LineSocket& socket) { answer(socket, 3); },  // beyond the job
      [&](LineSocket& socket) { answer(socket, -1); },
      [&](LineSocket& socket) { answer(socket, 1.0); },
      [&](LineSocket& socket) { answer(socket, "1"); },
      [&](LineSocket& socket) { socket.send(R"({"token":")" + kToken + R"(","rank":1})"); },
      [&](LineSocket& socket) { socket.send("[]"); },
      [&](LineSocket& socket) { socket.send(std::string(200, '[')); },
      [&](LineSocket& socket) { socket.send(std::string(1000, 'x')); },
  };
  for (size_t i = 0; i < wrong.size(); ++i) {
    LineSocket socket = connect();
    wrong[i](socket);
    EXPECT_EQ(arrived(), std::vector<int>{}) << i;
    EXPECT_TRUE(is_gone(socket)) << i;
    EXPECT_EQ(door_->strangers(), static_cast<int64_t>(i) + 1);
  }
}

TEST_F(ReceptionOfThree, AnOldAnswerDoesNotOpenTheDoorAgain) {
  LineSocket one = connect();
  const std::string challenge = challenge_of(one);
  const std::string line = json{{"rank", 1}, {"answer", answer_to(kToken, challenge, 1, 0)}}.dump();
  LineSocket thief = connect();
  thief.send(line);
  EXPECT_EQ(arrived(), std::vector<int>{});
  one.send(line);
  EXPECT_EQ(arrived(), std::vector<int>{1});
  LineSocket again = connect();  // the rank is in
  answer(again, 1);
  EXPECT_EQ(arrived(), std::vector<int>{});
  EXPECT_EQ(door_->strangers(), 2);
}

TEST_F(ReceptionOfThree, SilentGuestsHaveFewPlacesAndLittleTime) {
  std::vector<LineSocket> crowd;
  for (int i = 0; i < 200; ++i) crowd.push_back(connect());
  arrived();
  const auto descriptors = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
  };
  EXPECT_EQ(door_->strangers(), 200 - 64);
  const auto with_crowd = descriptors();
  now_ = 6;
  arrived();
  EXPECT_EQ(door_->strangers(), 200);
  EXPECT_EQ(with_crowd - descriptors(), 64);
  LineSocket one = connect();
  answer(one, 1);
  EXPECT_EQ(arrived(), std::vector<int>{1});
}

TEST_F(ReceptionOfThree, OnceAllAreInOthersAreClosedWithTheNextHeartbeat) {
  LineSocket one = connect(), two = connect();
  answer(one, 1);
  answer(two, 2);
  arrived();
  std::vector<pollfd> polled;
  door_->add_to(polled);
  EXPECT_TRUE(polled.empty()) << "strangers would wake the watchdog";
  LineSocket stranger = connect();
  arrived();
  EXPECT_FALSE(is_gone(stranger));
  arrived(/*tick=*/true);
  EXPECT_TRUE(is_gone(stranger));
  EXPECT_EQ(door_->strangers(), 1);
}

}  // namespace
}  // namespace sutor
