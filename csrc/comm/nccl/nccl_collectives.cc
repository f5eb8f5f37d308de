#include "csrc/comm/nccl/nccl_collectives.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace sutor::nccl {
namespace {

// Operations between begin and end start together; an error in between ends the job anyway.
class Group {
 public:
  explicit Group(const char* name) : name_(name) { check(ncclGroupStart(), name); }
  void end() { check(ncclGroupEnd(), name_); }

 private:
  const char* name_;
};

std::vector<int64_t> begins_of(std::span<const int64_t> sizes) {
  std::vector<int64_t> begins(sizes.size());
  std::exclusive_scan(sizes.begin(), sizes.end(), begins.begin(), int64_t{0});
  return begins;
}

bool all_equal(std::span<const int64_t> sizes) {
  return std::all_of(sizes.begin(), sizes.end(), [&](int64_t n) { return n == sizes[0]; });
}

}  // namespace

void reduce_scatter(const Channel& channel, float* data, std::span<const int64_t> counts,
                    const char* name) {
  const auto& [comm, rank, stream] = channel;
  const std::vector<int64_t> begins = begins_of(counts);
  if (all_equal(counts)) {
    check(
        ncclReduceScatter(data, data + begins[rank], counts[0], ncclFloat32, ncclSum, comm, stream),
        name);
    return;
  }
  Group group(name);
  for (int r = 0; r < static_cast<int>(counts.size()); ++r) {
    if (counts[r] == 0) continue;
    float* chunk = data + begins[r];
    check(ncclReduce(chunk, chunk, counts[r], ncclFloat32, ncclSum, r, comm, stream), name);
  }
  group.end();
}

void all_gather(const Channel& channel, std::byte* data, std::span<const int64_t> bytes,
                const char* name) {
  const auto& [comm, rank, stream] = channel;
  const std::vector<int64_t> begins = begins_of(bytes);
  if (all_equal(bytes)) {
    check(ncclAllGather(data + begins[rank], data, bytes[0], ncclUint8, comm, stream), name);
    return;
  }
  Group group(name);
  for (int r = 0; r < static_cast<int>(bytes.size()); ++r) {
    if (bytes[r] == 0) continue;
    std::byte* chunk = data + begins[r];
    check(ncclBroadcast(chunk, chunk, bytes[r], ncclUint8, r, comm, stream), name);
  }
  group.end();
}

void all_to_all(const Channel& channel, const std::byte* send, std::span<const int64_t> send_rows,
                std::byte* recv, std::span<const int64_t> recv_rows, int64_t row_bytes,
                const char* name) {
  Group group(name);
  for (int r = 0; r < static_cast<int>(send_rows.size()); ++r) {
    const size_t out = send_rows[r] * row_bytes, in = recv_rows[r] * row_bytes;
    if (out > 0) check(ncclSend(send, out, ncclUint8, r, channel.comm, channel.stream), name);
    if (in > 0) check(ncclRecv(recv, in, ncclUint8, r, channel.comm, channel.stream), name);
    send += out;
    recv += in;
  }
  group.end();
}

}  // namespace sutor::nccl
