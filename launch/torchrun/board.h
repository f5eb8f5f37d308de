// What the ranks of a job tell each other before MPI connects them: keys and values that all of
// them see.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace sutor {

// Used by one thread at a time. Every call throws E0605 when the board cannot be reached any more.
class Board {
 public:
  virtual ~Board() = default;
  virtual void put(const std::string& key, const std::string& value) = 0;
  virtual std::optional<std::string> get(const std::string& key) = 0;  // none: not put yet
  // Adds to a number, 0 at first, and returns the sum: of several callers each gets another one.
  // Such keys are for add() alone.
  virtual int64_t add(const std::string& key, int64_t number) = 0;
};

// Looks again and again, for at most so many seconds, until `key` is there; none when it does not
// come.
std::optional<std::string> wait_for(Board& board, const std::string& key, double seconds);

}  // namespace sutor
