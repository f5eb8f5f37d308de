#include "csrc/comm/watchdog/reception.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "csrc/base/error.h"
#include "csrc/base/text/text.h"
#include "csrc/comm/watchdog/keyed_hash.h"

namespace sutor {
namespace {

using nlohmann::json;

constexpr size_t kLongestAnswer = 256;  // bytes
constexpr double kAnswerSeconds = 5;
constexpr size_t kMostGuests = 64;
// Of one look at the door, so that a crowd before it does not hold up the heartbeats.
constexpr int kAcceptedAtOnce = 64, kTurnedAwayAtOnce = 4096;

}  // namespace

std::string answer_to(const std::string& token, const std::string& challenge, int rank,
                      int monitor) {
  return keyed_hash(token, fmt::format("rank {} to monitor {}: {}", rank, monitor, challenge));
}

Reception::Reception(std::vector<LineListener> listeners, std::string token, int ranks, int monitor)
    : listeners_(std::move(listeners)),
      used_(listeners_.size(), false),
      token_(std::move(token)),
      in_(static_cast<size_t>(ranks), false),
      missing_(ranks - 1),
      monitor_(monitor) {
  in_[static_cast<size_t>(monitor)] = true;
}

void Reception::add_to(std::vector<pollfd>& polled) const {
  if (complete()) return;  // strangers wake nobody
  for (const LineListener& listener : listeners_) polled.push_back({listener.fd(), POLLIN, 0});
  for (const Guest& guest : guests_) polled.push_back({guest.socket.fd(), POLLIN, 0});
}

std::vector<Reception::Arrival> Reception::admit(double now, bool tick) {
  std::vector<Arrival> arrivals;
  if (complete()) {
    if (tick) turn_away_all();
    return arrivals;
  }
  accept_guests(now);
  for (Guest& guest : guests_) {
    if (hear(guest, now)) continue;
    guest.socket.close();
    ++strangers_;
  }
  std::erase_if(guests_, [](const Guest& guest) { return !guest.socket.open(); });
  for (Guest& guest : guests_) {
    if (guest.rank < 0) continue;
    used_[guest.listener] = true;
    guest.socket.send(R"({"type":"welcome"})");
    guest.socket.allow_long_lines();
    arrivals.push_back({guest.rank, std::move(guest.socket)});
  }
  std::erase_if(guests_, [](const Guest& guest) { return guest.rank >= 0; });
  if (complete()) close_unused_doors();
  return arrivals;
}

void Reception::accept_guests(double now) {
  for (size_t i = 0; i < listeners_.size(); ++i) {
    for (int n = 0; n < kAcceptedAtOnce; ++n) {
      LineSocket socket = listeners_[i].accept(kLongestAnswer);
      if (!socket.open()) break;
      Guest guest{std::move(socket), i, random_hex(4), now};
      guest.socket.send(json{{"challenge", guest.challenge}}.dump());
      guests_.push_back(std::move(guest));
      if (guests_.size() <= kMostGuests) continue;
      guests_.erase(guests_.begin());  // a rank among them comes again
      ++strangers_;
    }
  }
}

void Reception::turn_away_all() {
  for (LineListener& listener : listeners_) {
    for (int n = 0; n < kTurnedAwayAtOnce && listener.accept(kLongestAnswer).open(); ++n) {
      ++strangers_;
    }
  }
}

bool Reception::hear(Guest& guest, double now) {
  std::vector<std::string> lines;
  const bool good = guest.socket.read(lines);
  if (lines.empty()) return good && now - guest.since < kAnswerSeconds;
  const int rank = rank_of_answer(lines.front(), guest.challenge);
  // A rank says no more before it is welcome.
  if (!good || lines.size() > 1 || rank < 0 || in_[static_cast<size_t>(rank)]) return false;
  in_[static_cast<size_t>(rank)] = true;
  --missing_;
  guest.rank = rank;
  return true;
}

// -1: none of the job's.
int Reception::rank_of_answer(const std::string& line, const std::string& challenge) const {
  const json answer = json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!answer.is_object()) return -1;
  const auto rank = answer.find("rank"), hash = answer.find("answer");
  if (rank == answer.end() || !rank->is_number_integer()) return -1;
  if (hash == answer.end() || !hash->is_string()) return -1;
  const auto number = rank->get<int64_t>();
  if (number < 0 || number >= static_cast<int64_t>(in_.size())) return -1;
  const std::string expected = answer_to(token_, challenge, static_cast<int>(number), monitor_);
  return hash->get<std::string>() == expected ? static_cast<int>(number) : -1;
}

void Reception::close_unused_doors() {
  strangers_ += static_cast<int64_t>(guests_.size());
  guests_.clear();
  std::vector<LineListener> used;
  for (size_t i = 0; i < listeners_.size(); ++i) {
    if (used_[i]) used.push_back(std::move(listeners_[i]));
  }
  listeners_ = std::move(used);
}

std::string Reception::address() const {
  std::string text;
  for (const LineListener& listener : listeners_) {
    text += (text.empty() ? "" : ", ") + listener.endpoint();
  }
  return text;
}

}  // namespace sutor
