#include "launch/job/agreement.h"

#include <vector>

#include "csrc/base/error.h"

namespace sutor {

std::vector<Error> problems_of_all(Comm& world, const std::string& problem, const char* what) {
  std::vector<Error> problems;
  const std::vector<std::string> all = world.all_gather_text(problem, what);
  for (int r = 0; r < world.size(); ++r) {
    if (all[r].empty()) continue;
    const size_t space = all[r].find(' ');
    const std::string rank = world.size() > 1 ? fmt::format("rank {}: ", r) : "";
    problems.emplace_back(static_cast<ErrorCode>(std::stoi(all[r].substr(0, space))),
                          rank + all[r].substr(space + 1));
  }
  return problems;
}

void agree(Comm& world, const std::string& problem, const char* what) {
  const std::vector<Error> problems = problems_of_all(world, problem, what);
  if (!problems.empty()) throw problems.front();
}

void on_rank_0(Comm& world, const char* what, const std::function<void()>& body) {
  agree(world, problem_of([&] {
          if (world.rank() == 0) body();
        }),
        what);
}

std::string from_rank_0(Comm& world, const char* what, const std::function<std::string()>& body) {
  std::string found;
  on_rank_0(world, what, [&] { found = body(); });
  return world.broadcast_text(found, 0, what);
}

}  // namespace sutor
