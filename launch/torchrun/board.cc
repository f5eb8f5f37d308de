#include "launch/torchrun/board.h"

#include <algorithm>
#include <chrono>
#include <thread>

namespace sutor {

std::optional<std::string> wait_for(Board& board, const std::string& key, double seconds) {
  const auto begin = std::chrono::steady_clock::now();
  auto pause = std::chrono::milliseconds(2);
  while (true) {
    if (auto value = board.get(key)) return value;
    const std::chrono::duration<double> waited = std::chrono::steady_clock::now() - begin;
    if (waited.count() >= seconds) return std::nullopt;
    std::this_thread::sleep_for(pause);
    pause = std::min(2 * pause, std::chrono::milliseconds(100));
  }
}

}  // namespace sutor
