// scores.h5, sealed anew.
#include "layers/esft/score_records.h"

#include "csrc/base/hash.h"
#include "tests/fuzz/resigned.h"
#include "tests/fuzz/targets.h"

namespace sutor::fuzz {
namespace {

void read(const std::string& bytes) {
  read_scores(input_file(resealed(bytes), "scores.h5")).scores.table();
}

std::vector<std::string> seeds() {
  ExpertScores scores({1}, 4, 2);
  const std::vector<int64_t> chosen = {0, 3, 1, 2};
  const std::vector<float> weights = {0.75f, 0.25f, 0.5f, 0.5f};
  scores.add(1, chosen, weights, 2);
  const ScoreOrigin origin{"qwen3_moe", xxh3("base").text(), xxh3("data").text(), "0.1.0"};
  return {written("new.h5", [&](const std::filesystem::path& path) {
    write_scores(scores, origin, path, /*first_half=*/scores);
  })};
}

}  // namespace

const FuzzTarget kScores{"scores", read, seeds};

}  // namespace sutor::fuzz
