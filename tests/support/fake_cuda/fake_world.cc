#include "tests/support/fake_cuda/fake_world.h"

#include "tests/support/thread_comm.h"

namespace sutor::testing {

void run_fake_ranks(int ranks, const std::function<void(FakeRank&)>& test,
                    const DeviceHooks& hooks) {
  run_ranks(ranks, [&](Comm& comm) {
    FakeRank rank;
    rank.records = std::make_shared<Records>(comm.rank());
    const std::unique_ptr<Comm> control = recorded(comm, rank.records);
    const int device = take_device(*control);
    rank.comm = make_nccl_comm(*control, device, hooks);
    test(rank);
    rank.comm.reset();
  });
}

void* new_stream() {
  cudaStream_t stream = nullptr;
  EXPECT_EQ(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  return stream;
}

}  // namespace sutor::testing
