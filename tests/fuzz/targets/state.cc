// state.h5 of a checkpoint. Its digest is in the manifest.
#include "checkpoint/partial/state_file.h"
#include "tests/fuzz/targets.h"
#include "tests/support/checkpoint_fixture.h"

namespace sutor::fuzz {
namespace {

void read(const std::string& bytes) { read_state_file(input_file(bytes, "state.h5"), 7); }

std::vector<std::string> seeds() {
  return {written("new.h5", [](const std::filesystem::path& path) {
    write_state_file(path, testing::sample_meta(7));
  })};
}

}  // namespace

const FuzzTarget kState{"state", read, seeds};

}  // namespace sutor::fuzz
