// One safetensors file of a model, whose bytes are in a file or in the tiles of a base store.
// Counts the bytes of weights that it reads from the disk.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/format/strided_ranges.h"
#include "csrc/base/file.h"
#include "csrc/base/hash.h"
#include "csrc/base/safetensors.h"
#include "parallel_state/model/sharded_tensor.h"

namespace sutor {

// Offsets are offsets in the safetensors file. All reads are thread-safe.
class ModelShard {
 public:
  virtual ~ModelShard() = default;

  // "model-00001-of-00002.safetensors"
  virtual const std::string& name() const = 0;
  // For messages: the file's path, or the store's path with the name.
  virtual std::string where() const = 0;
  virtual int64_t size() const = 0;
  virtual const SafetensorsHeader& header() const = 0;
  const std::vector<SafetensorsEntry>& tensors() const { return header().tensors; }

  // The file's first bytes, up to the first tensor.
  virtual std::string header_bytes() const = 0;
  // Fills `into` from `offset` on, which is behind the header.
  virtual void read_at(int64_t offset, std::span<std::byte> into) const = 0;
  // Copies bytes of a tensor, starting at its byte `offset`.
  void read(const SafetensorsEntry& entry, int64_t offset, std::span<std::byte> into) const;
  // Gives bytes [begin, end), behind the header, to `sink`, in chunks of at most 1 MiB. They
  // contain whole elements when `begin` is the start of one, and reading them fetches as few other
  // bytes as possible.
  void stream(int64_t begin, int64_t end, const ByteSink& sink) const;
  // Fills a slice of the tensor whose bytes, in `dtype`, begin at `tensor_begin`; converts them to
  // the slice's dtype. Needs a bounded amount of other memory.
  void load(int64_t tensor_begin, DType dtype, const ShardedTensor& slice) const;
  // Fills `to` with the elements of the ranges, one range after the other, converted from
  // `from_dtype` to `to_dtype`. Needs a bounded amount of other memory.
  void load_ranges(const StridedRanges& ranges, DType from_dtype, std::byte* to,
                   DType to_dtype) const;
  // The last offset in (begin, end] at which one read may end and another one begin without both
  // fetching the same bytes; `begin` when there is none.
  virtual int64_t last_read_end(int64_t begin, int64_t end) const = 0;
  // The digest of bytes [begin, end), behind the header.
  Digest digest(int64_t begin, int64_t end) const;

  int64_t fetched_bytes() const { return fetched_; }

 protected:
  // The best end of a chunk that begins at `begin`; at most 1 MiB later.
  virtual int64_t chunk_end(int64_t begin) const = 0;
  // The shortest gap between wanted bytes for which two reads cost less than one over the gap.
  virtual int64_t worth_skipping() const = 0;
  void count(int64_t bytes) const { fetched_ += bytes; }

 private:
  mutable std::atomic<int64_t> fetched_ = 0;
};

// A safetensors file.
class SafetensorsShard final : public ModelShard {
 public:
  explicit SafetensorsShard(const std::filesystem::path& path);

  const std::string& name() const override { return name_; }
  std::string where() const override { return file_.path().string(); }
  int64_t size() const override { return file_.file().size(); }
  const SafetensorsHeader& header() const override { return file_.header(); }
  std::string header_bytes() const override;
  void read_at(int64_t offset, std::span<std::byte> into) const override;
  int64_t last_read_end(int64_t, int64_t end) const override { return end; }

 protected:
  int64_t chunk_end(int64_t begin) const override;
  int64_t worth_skipping() const override;

 private:
  SafetensorsFile file_;
  std::string name_;
};

}  // namespace sutor
