// CUDA's C++ for a compiler of the host: the threads of a block are threads of the host, and blocks
// run one after another. A kernel can be seen to give wrong numbers, to leave its arrays (with a
// sanitizer), to read shared memory before it is written, or asynchronous copies before they are
// awaited. What cannot be seen: speed, how accesses to memory coalesce and banks conflict, how a
// GPU schedules its warps, what nvcc makes of a source, and the order of sums in tensor cores.
#pragma once

#include <barrier>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#define __CUDACC__
#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __shared__ static  // blocks run one after another

typedef struct CUstream_st* cudaStream_t;

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_size = 1, unsigned y_size = 1, unsigned z_size = 1)
      : x(x_size), y(y_size), z(z_size) {}
};
inline dim3 gridDim, blockDim;
inline thread_local dim3 blockIdx, threadIdx;

namespace sutor::cuda_emulation {

inline void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "a kernel on the host: %s\n", what);
  std::abort();
}
inline bool is_multiple(const void* pointer, size_t alignment) {
  return reinterpret_cast<uintptr_t>(pointer) % alignment == 0;
}

constexpr unsigned kWarp = 32, kMostThreads = 1024, kMostBlocksDown = 65535;
constexpr size_t kMostSharedBytes = 227 << 10, kSharedAlignment = 128;

struct FreeShared {
  void operator()(unsigned char* bytes) const {
    ::operator delete[](bytes, std::align_val_t{kSharedAlignment});
  }
};

// What the threads of the running block share.
struct Block {
  Block(unsigned threads, size_t bytes)
      : shared_bytes(bytes),
        shared(new (std::align_val_t{kSharedAlignment}) unsigned char[bytes]),
        all(threads),
        end(threads, {this}),
        shown(threads) {
    for (unsigned warp = 0; warp < threads / kWarp; ++warp) warps.emplace_back(kWarp);
    forget_shared();
  }
  // Every number of any type becomes NaN.
  void forget_shared() { std::memset(shared.get(), 0xff, shared_bytes); }

  struct Forget {
    Block* block;
    void operator()() noexcept { block->forget_shared(); }
  };
  size_t shared_bytes;
  std::unique_ptr<unsigned char[], FreeShared> shared;  // of the size that was asked for
  std::barrier<> all;
  std::barrier<Forget> end;
  std::deque<std::barrier<>> warps;
  std::vector<double> shown;  // by each thread to those of its warp
};
inline Block* block = nullptr;
inline thread_local unsigned thread_of_block;

// Copies happen when they are awaited, as late as a GPU may make them.
struct AsyncCopy {
  void* to;
  const void* from;
  size_t bytes, zeros;  // the last `zeros` of the bytes become 0
};
inline thread_local std::vector<AsyncCopy> open_copies;
inline thread_local std::deque<std::vector<AsyncCopy>> committed_copies;

// kernel<<<grid, threads, shared_bytes, stream>>>(args...), which has ended when run() returns.
class Launch {
 public:
  Launch(dim3 grid, dim3 threads, size_t shared_bytes, cudaStream_t)
      : grid_(grid), threads_(threads), shared_bytes_(shared_bytes) {}

  template <typename Kernel, typename... Args>
  void run(const Kernel& kernel, const Args&... args) const {
    const unsigned count = threads_.x * threads_.y;
    require(grid_.x > 0 && grid_.y > 0 && grid_.y <= kMostBlocksDown, "no such grid");
    require(grid_.z == 1 && threads_.z == 1, "only two axes are emulated");
    require(count > 0 && count <= kMostThreads && count % kWarp == 0, "no such block of warps");
    require(shared_bytes_ <= kMostSharedBytes, "more shared memory than there is");
    Block state(count, shared_bytes_);
    block = &state;
    gridDim = grid_;
    blockDim = threads_;
    std::vector<std::thread> all;
    for (unsigned t = 0; t < count; ++t) {
      all.emplace_back([&, t] { run_thread(t, [&] { kernel(args...); }); });
    }
    for (std::thread& thread : all) thread.join();
    block = nullptr;
  }

 private:
  template <typename Body>
  void run_thread(unsigned t, const Body& body) const {
    thread_of_block = t;
    threadIdx = dim3(t % threads_.x, t / threads_.x);
    for (unsigned y = 0; y < grid_.y; ++y) {
      for (unsigned x = 0; x < grid_.x; ++x) {
        blockIdx = dim3(x, y);
        open_copies.clear();
        committed_copies.clear();
        body();
        block->end.arrive_and_wait();
      }
    }
  }

  dim3 grid_, threads_;
  size_t shared_bytes_;
};

}  // namespace sutor::cuda_emulation

inline void __syncthreads() { sutor::cuda_emulation::block->all.arrive_and_wait(); }
inline void __syncwarp() {
  namespace emulation = sutor::cuda_emulation;
  emulation::block->warps[emulation::thread_of_block / emulation::kWarp].arrive_and_wait();
}

// A double holds each value of the types that are exchanged.
template <typename T>
T __shfl_xor_sync(unsigned, T value, int distance) {
  namespace emulation = sutor::cuda_emulation;
  const unsigned own = emulation::thread_of_block;
  emulation::block->shown[own] = value;
  __syncwarp();
  const T other = static_cast<T>(emulation::block->shown[own ^ static_cast<unsigned>(distance)]);
  __syncwarp();
  return other;
}

enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
template <typename Kernel>
void cudaFuncSetAttribute(const Kernel&, cudaFuncAttribute, int) {}
