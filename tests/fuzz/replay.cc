// Keeps the targets alive in every build: each reads its seeds, the found inputs that are committed
// (tests/fuzz/found/<target>/), and a few thousand simple changes of the seeds.
//   fuzz_replay FOUND            reads them; an exception or a crash is a failure
//   fuzz_replay --write FOLDER   writes the seeds to FOLDER/<target>/, where fuzzers start
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <random>

#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "tests/fuzz/targets.h"

namespace sutor::fuzz {
namespace fs = std::filesystem;
namespace {

constexpr size_t kTruncations = 64;
constexpr size_t kFlips = 256;

int write_seeds(const fs::path& root) {
  for (const FuzzTarget* target : all_targets()) {
    fs::create_directories(root / target->name);
    int number = 0;
    for (const std::string& seed : target->seeds()) {
      write_file_atomic(root / target->name / fmt::format("seed-{}", number++), seed);
    }
  }
  return kExitOk;
}

// A seed has to be read without an error: else the reader behind the first check is never reached.
bool reads_whole(const FuzzTarget& target, const std::string& seed) {
  try {
    target.read(seed);
    return true;
  } catch (const Error& error) {
    fmt::print(stderr, "{}: a seed of {} bytes is refused: {}\n", target.name, seed.size(),
               error.what());
    return false;
  }
}

// Says what went wrong with which bytes, which a crash cannot.
void run_told(const FuzzTarget& target, const std::string& bytes) {
  try {
    run(target, bytes);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\nthe input, in hex:", target.name, error.what());
    for (const char byte : bytes) fmt::print(stderr, " {:02x}", static_cast<uint8_t>(byte));
    fmt::print(stderr, "\n");
    throw;
  }
}

int64_t run_changes(const FuzzTarget& target, const std::string& seed) {
  const size_t step = std::max<size_t>(1, seed.size() / kTruncations);
  int64_t count = 0;
  for (size_t length = 0; length < seed.size(); length += step, ++count) {
    run_told(target, seed.substr(0, length));
  }
  std::mt19937_64 random(seed.size());
  for (size_t i = 0; i < kFlips && !seed.empty(); ++i, ++count) {
    std::string changed = seed;
    changed[random() % seed.size()] ^= static_cast<char>(1u << random() % 8);
    run_told(target, changed);
  }
  return count;
}

int replay(const fs::path& found) {
  bool good = true;
  for (const FuzzTarget* target : all_targets()) {
    int64_t inputs = 0;
    for (const std::string& seed : target->seeds()) {
      good = reads_whole(*target, seed) && good;
      inputs += 1 + run_changes(*target, seed);
    }
    std::error_code none;
    for (const auto& file : fs::directory_iterator(found / target->name, none)) {
      run_told(*target, bytes_of(file.path()));
      ++inputs;
    }
    fmt::print("{:<20} {} inputs\n", target->name, inputs);
  }
  return good ? kExitOk : kExitCheckFailed;
}

}  // namespace
}  // namespace sutor::fuzz

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--write") == 0) return sutor::fuzz::write_seeds(argv[2]);
  if (argc == 2) return sutor::fuzz::replay(argv[1]);
  std::fprintf(stderr, "usage: fuzz_replay FOUND | fuzz_replay --write FOLDER\n");
  return sutor::kExitUsage;
}
