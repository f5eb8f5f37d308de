// The header of a safetensors file that ends with these bytes.
#include "csrc/base/safetensors.h"

#include "tests/fuzz/targets.h"

namespace sutor::fuzz {
namespace {

void read(const std::string& bytes) {
  const auto head = std::as_bytes(std::span(bytes.data(), bytes.size()));
  parse_safetensors_header(head, static_cast<int64_t>(bytes.size()), "model.safetensors");
}

std::vector<std::string> seeds() {
  std::vector<SafetensorsDeclaration> tensors = {
      {"a.weight", "BF16", {2, 3}}, {"b", "F32", {}}, {"c", "F8_E4M3", {4, 0}}};
  sort_as_safetensors(tensors);
  return {written("new.safetensors", [&](const std::filesystem::path& path) {
    SafetensorsWriter writer(path, tensors);
    writer.append(std::vector<std::byte>(16));
    writer.finish();
  })};
}

}  // namespace

const FuzzTarget kSafetensors{"safetensors", read, seeds};

}  // namespace sutor::fuzz
