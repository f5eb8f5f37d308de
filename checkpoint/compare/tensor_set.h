// The tensors of a model, an adapter or a checkpoint under one roof, to be compared: names, shapes,
// digests where they are recorded, bytes when they are asked for.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/compare/artifact_kind.h"
#include "csrc/base/dtype.h"
#include "csrc/base/hash.h"
#include "parallel_state/model/tensor_map.h"

namespace sutor {

struct SetTensor {
  std::string dtype_name;
  std::optional<DType> dtype;  // absent for types that sutor does not compute with
  std::vector<int64_t> shape;
  int64_t bytes = 0;
  std::optional<Digest> digest;  // as recorded; nothing is read for it
  // The fp32 master of a weight: beside a weight of another dtype it counts as the value that it
  // is rounded to.
  bool master = false;
  // Copies bytes from `offset` on.
  std::function<void(int64_t offset, std::span<std::byte>)> read;
};

class TensorSet {
 public:
  // Throws what the readers of the kind throw; E0352 for a kind that holds no tensors.
  // `model`: what the family makes of a model's config.json; null when sutor does not know it.
  TensorSet(const std::filesystem::path& path, ArtifactKind kind, const TensorMap* model);

  const std::filesystem::path& path() const { return path_; }
  ArtifactKind kind() const { return kind_; }
  bool is_model() const;
  const std::map<std::string, SetTensor>& tensors() const { return tensors_; }
  // Takes stored tensors that hold several of the model's (stacked experts) apart into those. Of
  // the parts no digests are recorded.
  void split();

  // Bytes that were asked for so far.
  int64_t read_bytes() const { return *read_bytes_; }

  // What else there is to compare with a set of the same kind: of a model all its other files, of
  // the others what they say of themselves. A text equals another one when the things are equal.
  // Reads the files of a model directory.
  std::map<std::string, std::string> other_content() const;

 private:
  struct Opened;

  void add(const std::string& name, SetTensor tensor);
  void open_model_tensors();
  void open_adapter();
  void open_peft_adapter();
  void open_checkpoint();

  std::filesystem::path path_;
  ArtifactKind kind_;
  const TensorMap* model_;
  std::shared_ptr<Opened> opened_;
  std::shared_ptr<std::atomic<int64_t>> read_bytes_;
  std::map<std::string, SetTensor> tensors_;
};

}  // namespace sutor
