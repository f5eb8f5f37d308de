// MpiComm::all_gather against the chain of broadcasts that gives the same, in turns, so that a
// machine whose load drifts treats both alike. One line a size, from rank 0:
//   mpiexec -n 4 build/all_gather_bench [rounds]
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <vector>

#include "csrc/comm/comm.h"

namespace sutor {
namespace {

void broadcast_in_turn(Comm& comm, std::span<std::byte> data, const std::vector<int64_t>& bytes) {
  size_t at = 0;
  for (int r = 0; r < comm.size(); ++r) {
    comm.broadcast(data.subspan(at, static_cast<size_t>(bytes[r])), r, "in turn");
    at += static_cast<size_t>(bytes[r]);
  }
}

template <typename Gather>
double microseconds(Comm& comm, const Gather& gather) {
  comm.barrier("begin");
  const auto begin = std::chrono::steady_clock::now();
  gather();
  comm.barrier("end");
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin)
      .count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

void measure(Comm& comm, int64_t segment, int rounds) {
  const std::vector<int64_t> bytes(static_cast<size_t>(comm.size()), segment);
  std::vector<std::byte> data(static_cast<size_t>(segment * comm.size()));
  std::vector<double> at_once, in_turn;
  for (int round = 0; round < rounds + 1; ++round) {
    const double one = microseconds(comm, [&] { comm.all_gather(data, bytes, "at once"); });
    const double other = microseconds(comm, [&] { broadcast_in_turn(comm, data, bytes); });
    if (round == 0) continue;  // the first one connects the ranks
    at_once.push_back(one);
    in_turn.push_back(other);
  }
  if (comm.rank() != 0) return;
  fmt::print("{} ranks, {:>9} bytes each: at once {:>9.1f} us, in turn {:>9.1f} us, ratio {:.2f}\n",
             comm.size(), segment, median(at_once), median(in_turn),
             median(at_once) / median(in_turn));
}

}  // namespace
}  // namespace sutor

int main(int argc, char** argv) {
  const auto world = sutor::make_world_comm();
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 51;
  for (const int64_t segment : {64, 4 << 10, 256 << 10, 4 << 20, 32 << 20}) {
    sutor::measure(*world, segment, rounds);
  }
  world->finish(0);
}
