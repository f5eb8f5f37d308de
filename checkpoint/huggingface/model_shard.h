// One safetensors file of a model, wherever its bytes are kept: in a file of its own, or in the
// tiles of a base store. Counts the bytes of weights that it fetches from the disk.
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

// Offsets are those of the safetensors file. All reads are thread-safe.
class ModelShard {
 public:
  virtual ~ModelShard() = default;

  // "model-00001-of-00002.safetensors"
  virtual const std::string& name() const = 0;
  // For messages: the file's path, or the store's with the name.
  virtual std::string where() const = 0;
  virtual int64_t size() const = 0;
  virtual const SafetensorsHeader& header() const = 0;
  const std::vector<SafetensorsEntry>& tensors() const { return header().tensors; }

  // The file's first bytes, up to the first tensor.
  virtual std::string header_bytes() const = 0;
  // Fills `into` from `offset` on; behind the header.
  virtual void read_at(int64_t offset, std::span<std::byte> into) const = 0;
  // Copies bytes of a tensor, from its `offset`-th on.
  void read(const SafetensorsEntry& entry, int64_t offset, std::span<std::byte> into) const;
  // Gives bytes [begin, end), behind the header, to `sink`: in pieces of at most 1 MiB that hold
  // whole elements when `begin` does, and that cost no byte more than they hold wherever possible.
  void stream(int64_t begin, int64_t end, const ByteSink& sink) const;
  // Fills a piece of the tensor whose bytes, in `dtype`, begin at `tensor_begin`; converted to the
  // piece's dtype. The memory beyond the piece is bounded.
  void load(int64_t tensor_begin, DType dtype, const ShardedTensor& slice) const;
  // Fills `to` with the bytes of the strips, which hold elements of `from_dtype`, converted to
  // `to_dtype`, one after the other. The memory beyond that is bounded.
  void load_ranges(const StridedRanges& ranges, DType from_dtype, std::byte* to,
                   DType to_dtype) const;
  // The last place in (begin, end] where a read may end, and another one begin, without either
  // fetching what the other does; `begin` when there is none.
  virtual int64_t last_read_end(int64_t begin, int64_t end) const = 0;
  // Of bytes [begin, end), behind the header.
  Digest digest(int64_t begin, int64_t end) const;
  // Appends bytes [begin, end), behind the header, to a file.
  virtual void append_to(OutputFile& file, int64_t begin, int64_t end) const = 0;

  int64_t fetched_bytes() const { return fetched_; }

 protected:
  // Where a piece that begins at `begin` had best end; at most 1 MiB further on.
  virtual int64_t chunk_end(int64_t begin) const = 0;
  // A gap between wanted bytes from which on two reads cost less than one over the gap.
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
  void append_to(OutputFile& file, int64_t begin, int64_t end) const override;

 protected:
  int64_t chunk_end(int64_t begin) const override;
  int64_t worth_skipping() const override;

 private:
  SafetensorsFile file_;
  std::string name_;
};

}  // namespace sutor
