// The tensors of a model, an adapter or a checkpoint in one form, for comparison: names, shapes,
// digests where they are recorded, and bytes on request.
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
  std::optional<DType> dtype;  // absent for dtypes that sutor does not compute with
  std::vector<int64_t> shape;
  int64_t bytes = 0;
  std::optional<Digest> digest;  // as recorded; nothing is read for it
  // The trained value of a weight, as a checkpoint holds it: beside a weight of another dtype both
  // count as the values that they are in the narrower of the two.
  bool trained_value = false;
  // Copies bytes from `offset` on.
  std::function<void(int64_t offset, std::span<std::byte>)> read;
};

class TensorSet {
 public:
  // Throws what the readers of the kind throw; E0352 for a kind that has no tensors. `model`: made
  // by the family from a model's config.json; null when sutor does not know the family.
  TensorSet(const std::filesystem::path& path, ArtifactKind kind, const TensorMap* model);

  const std::filesystem::path& path() const { return path_; }
  ArtifactKind kind() const { return kind_; }
  bool is_model() const;
  const std::map<std::string, SetTensor>& tensors() const { return tensors_; }
  // Splits stored tensors that contain several model tensors (stacked experts) into those. The
  // slices have no recorded digests.
  void split();

  // The number of bytes read so far.
  int64_t read_bytes() const { return *read_bytes_; }

  // What else can be compared with a set of the same kind, as texts that are equal when the
  // contents are: a model's other files, the metadata of the other kinds. Reads the files of a
  // model directory.
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
