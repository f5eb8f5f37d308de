#include "launch/model/weight_loading.h"

#include <algorithm>
#include <cstring>
#include <future>
#include <memory>
#include <span>

#include "csrc/base/error.h"
#include "csrc/base/parallel.h"
#include "csrc/base/process/progress.h"
#include "csrc/ops/device/host_window.h"
#include "launch/log/metrics_log.h"
#include "launch/model/read_plan.h"

namespace sutor {
namespace {

constexpr int64_t kReadBufferBytes = int64_t{64} << 20;
// Of one read: as much as a tile of a base store, so that many ranks read a large tensor.
constexpr int64_t kReadBytes = int64_t{16} << 20;

constexpr const char* kOperation = "weights of the node";

// A slice that a rank sends after a read.
struct Message {
  int to = 0;
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;  // of the bytes
};
using Messages = std::vector<Message>;

ShardedTensor rows_of(const ShardedTensor& shard, int64_t row_begin, int64_t row_count) {
  ShardedTensor rows = shard;
  rows.row_begin = row_begin;
  rows.row_count = row_count;
  const int64_t skipped = (row_begin - shard.row_begin) * shard.columns();
  rows.data += static_cast<size_t>(skipped) * size_of(shard.dtype);
  return rows;
}

// Rows of this rank's weights that are to be filled, in host memory: where they lie, or in a window
// on the device.
class Destination {
 public:
  Destination(const ShardValues& shard, int64_t row_begin, int64_t row_count)
      : Destination(sutor::rows_of(shard, row_begin, row_count)) {}
  const ShardedTensor& rows() const { return rows_; }
  std::span<std::byte> bytes() const { return window_.bytes(); }
  void commit() { window_.commit(); }

 private:
  explicit Destination(const ShardValues& rows)
      : rows_(rows.place), window_(rows.values, ops::HostWindow::Use::kFill) {
    rows_.data = window_.bytes().data();
  }
  ShardedTensor rows_;
  ops::HostWindow window_;
};

class NodeLoader {
 public:
  // Collective over the node.
  NodeLoader(const ModelSource& source, Comm& node, const std::vector<ShardValues>& shards,
             int threads)
      : source_(source),
        node_(node),
        shards_(shards),
        threads_(threads),
        shards_of_rank_(exchange()) {
    const std::vector<TensorEntry>& entries = source.info.tensors.entries();
    plan_ = plan_reads(
        shards_of_rank_,
        [&](int64_t tensor, int64_t row) {
          return source.directory.read_end_row(entries[static_cast<size_t>(tensor)], row,
                                               kReadBytes);
        },
        kReadBufferBytes);
  }

  // Only this thread communicates. Meanwhile other threads read what only this rank needs, and the
  // next round.
  void load() {
    std::future<void> unshared = std::async(std::launch::async, [this] { read_unshared(); });
    std::future<std::vector<Messages>> next = begin_round(0);
    for (size_t i = 0; i < plan_.rounds.size(); ++i) {
      const std::vector<Messages> messages = next.get();
      next = begin_round(i + 1);
      for (const Messages& of_read : messages) {
        for (const Message& message : of_read) {
          node_.send(message.bytes, message.to, message.owner, kOperation);
        }
      }
      receive(plan_.rounds[i]);
      node_.await_sends(0, kOperation);
    }
    unshared.get();
  }

 private:
  // The shards of each rank of the node, in the order of its list.
  std::vector<std::vector<ShardBounds>> exchange() const {
    const TensorMap& tensors = source_.info.tensors;
    std::vector<ShardBounds> mine;
    for (const auto& [shard, values] : shards_) {
      const int64_t number = tensors.find(shard.name) - tensors.entries().data();
      mine.push_back({number, shard.row_begin, shard.row_count, shard.col_begin, shard.columns(),
                      static_cast<int64_t>(size_of(shard.dtype))});
    }
    const auto bytes = std::as_bytes(std::span(mine));
    const std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    std::vector<std::vector<ShardBounds>> of_rank;
    for (const std::string& theirs : node_.all_gather_text(text, "shards of the node")) {
      of_rank.emplace_back(theirs.size() / sizeof(ShardBounds));
      std::memcpy(of_rank.back().data(), theirs.data(), theirs.size());
    }
    return of_rank;
  }

  std::shared_ptr<Destination> destination_of(const ReadSlice& slice) const {
    return std::make_shared<Destination>(shards_[static_cast<size_t>(slice.shard)], slice.row_begin,
                                         slice.row_count);
  }

  std::vector<const PlannedRead*> mine_of(const std::vector<PlannedRead>& reads) const {
    std::vector<const PlannedRead*> mine;
    for (const PlannedRead& read : reads) {
      if (read.reader == node_.rank()) mine.push_back(&read);
    }
    return mine;
  }

  void read_unshared() const {
    const std::vector<const PlannedRead*> mine = mine_of(plan_.unshared);
    parallel_tasks(threads_, static_cast<int64_t>(mine.size()), [&](int64_t i) {
      const auto destination = destination_of(mine[static_cast<size_t>(i)]->slices[0]);
      ShardedTensor rows = destination->rows();
      source_.load(rows);
      destination->commit();
    });
  }

  std::future<std::vector<Messages>> begin_round(size_t round) const {
    if (round >= plan_.rounds.size()) return {};
    return std::async(std::launch::async, [this, round] {
      const std::vector<const PlannedRead*> mine = mine_of(plan_.rounds[round]);
      std::vector<Messages> messages(mine.size());
      parallel_tasks(threads_, static_cast<int64_t>(mine.size()), [&](int64_t i) {
        messages[static_cast<size_t>(i)] = read(*mine[static_cast<size_t>(i)]);
      });
      return messages;
    });
  }

  // Fills this rank's slice and returns the others as messages, in the order of the slices.
  Messages read(const PlannedRead& read) const {
    const ShardBounds& extent = read.extent;
    const auto own = std::find_if(read.slices.begin(), read.slices.end(),
                                  [&](const auto& slice) { return slice.rank == node_.rank(); });
    SUTOR_ASSERT(own != read.slices.end());
    const std::shared_ptr<Destination> to_own = destination_of(*own);
    const ShardedTensor destination = to_own->rows();
    ShardedTensor full = destination;
    full.row_begin = extent.row_begin;
    full.row_count = extent.row_count;
    full.col_begin = extent.col_begin;
    full.col_count = extent.col_count;
    std::shared_ptr<std::byte[]> buffer;
    if (full.num_bytes() > destination.num_bytes()) {
      buffer = std::make_shared_for_overwrite<std::byte[]>(full.num_bytes());
      full.data = buffer.get();
    }
    source_.load(full);
    const std::shared_ptr<const void> full_owner =
        buffer ? std::shared_ptr<const void>(buffer) : to_own;
    Messages messages;
    for (const ReadSlice& slice : read.slices) {
      const ShardBounds& bounds = shards_of_rank_[static_cast<size_t>(slice.rank)][slice.shard];
      if (slice.rank == node_.rank()) {
        const auto to = &slice == &*own ? to_own : destination_of(slice);
        if (to->rows().data != full.data) copy(full, to->rows());
        to->commit();
        continue;
      }
      ShardedTensor outgoing = full;
      outgoing.row_begin = slice.row_begin;
      outgoing.row_count = slice.row_count;
      outgoing.col_begin = bounds.col_begin;
      outgoing.col_count = bounds.col_count;
      std::shared_ptr<const void> owner = full_owner;
      if (outgoing.columns() == full.columns()) {
        outgoing.data = rows_of(full, slice.row_begin, slice.row_count).data;
      } else {
        const auto packed = std::make_shared_for_overwrite<std::byte[]>(outgoing.num_bytes());
        outgoing.data = packed.get();
        copy(full, outgoing);
        owner = packed;
      }
      messages.push_back({slice.rank, {outgoing.data, outgoing.num_bytes()}, owner});
    }
    return messages;
  }

  // Copies the rows and columns of `to` from `from`.
  static void copy(const ShardedTensor& from, const ShardedTensor& to) {
    const size_t element = size_of(from.dtype);
    const size_t from_row = static_cast<size_t>(from.columns()) * element;
    const size_t to_row = static_cast<size_t>(to.columns()) * element;
    const std::byte* source = rows_of(from, to.row_begin, to.row_count).data +
                              static_cast<size_t>(to.col_begin - from.col_begin) * element;
    for (int64_t row = 0; row < to.row_count; ++row) {
      std::memcpy(to.data + static_cast<size_t>(row) * to_row,
                  source + static_cast<size_t>(row) * from_row, to_row);
    }
  }

  // Receives into this rank's shards, in the order in which the others send.
  void receive(const std::vector<PlannedRead>& round) const {
    for (const PlannedRead& read : round) {
      if (read.reader == node_.rank()) continue;
      for (const ReadSlice& slice : read.slices) {
        if (slice.rank != node_.rank()) continue;
        const auto destination = destination_of(slice);
        node_.receive(destination->bytes(), read.reader, kOperation);
        destination->commit();
      }
    }
  }

  const ModelSource& source_;
  Comm& node_;
  const std::vector<ShardValues>& shards_;
  int threads_;
  std::vector<std::vector<ShardBounds>> shards_of_rank_;  // by rank of the node
  ReadPlan plan_;
};

std::string range_text(const std::vector<int64_t>& bytes) {
  const auto [least, most] = std::minmax_element(bytes.begin(), bytes.end());
  const std::string from = format_bytes(*least), to = format_bytes(*most);
  return from == to ? from : from + " to " + to;
}

}  // namespace

WeightReads load_weights(const ModelSource& source, const ParallelState& parallel,
                         const std::vector<ShardValues>& shards, int threads) {
  Comm& world = parallel.world();
  const int64_t before = source.directory.fetched_bytes();
  WeightReads reads;
  for (const auto& [name, stored] : source.directory.tensors()) {
    reads.stored += stored.entry->num_bytes();
  }
  {
    // What one of several ranks reads is not known before.
    const Progress progress = Progress::of_reading(
        "loading weights", world.size() == 1 ? reads.stored : 0, world.rank() == 0);
    NodeLoader(source, parallel.node(), shards, threads).load();
  }
  reads.of_rank.assign(static_cast<size_t>(world.size()), 0);
  reads.of_rank[static_cast<size_t>(world.rank())] = source.directory.fetched_bytes() - before;
  world.all_reduce(std::span(reads.of_rank), ReduceOp::kSum, "weights read");
  reads.of_node.assign(static_cast<size_t>(parallel.nodes().num_nodes()), 0);
  for (int rank = 0; rank < world.size(); ++rank) {
    reads.of_node[static_cast<size_t>(parallel.nodes().node_of(rank))] +=
        reads.of_rank[static_cast<size_t>(rank)];
  }
  return reads;
}

std::string reads_text(const WeightReads& reads, int rank) {
  const std::string text =
      fmt::format("{} of {} read", format_bytes(reads.of_rank[static_cast<size_t>(rank)]),
                  format_bytes(reads.stored));
  if (reads.of_rank.size() == 1) return text;
  return text + fmt::format(" by this rank ({} a rank, {} on {})", range_text(reads.of_rank),
                            range_text(reads.of_node),
                            reads.of_node.size() == 1
                                ? std::string("the node")
                                : fmt::format("each of {} nodes", reads.of_node.size()));
}

}  // namespace sutor
