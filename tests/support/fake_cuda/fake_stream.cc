// Streams and events: see fake_cuda.h.
#include "tests/support/fake_cuda/fake_stream.h"

#include <array>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "tests/support/fake_cuda/fake_cuda.h"

// Streams are never destroyed, as NcclComm does not destroy them either: their threads may outlive
// main().
struct CUstream_st {
  std::mutex mutex;
  std::condition_variable idle;
  std::deque<std::function<void()>> work;
  bool running = false;

  void add(std::function<void()> item) {
    const std::lock_guard lock(mutex);
    work.push_back(std::move(item));
    if (running) return;
    running = true;
    std::thread([this] { run(); }).detach();
  }
  bool is_idle() {
    const std::lock_guard lock(mutex);
    return !running;
  }
  bool wait_idle() {
    std::unique_lock lock(mutex);
    return idle.wait_for(lock, sutor::testing::kPatience, [&] { return !running; });
  }

 private:
  void run() {
    std::unique_lock lock(mutex);
    while (!work.empty()) {
      const std::function<void()> item = std::move(work.front());
      work.pop_front();
      lock.unlock();
      item();
      lock.lock();
    }
    running = false;
    idle.notify_all();
  }
};

namespace {

struct Point {
  std::mutex mutex;
  std::condition_variable changed;
  bool reached = false;
};

}  // namespace

struct CUevent_st {
  std::shared_ptr<Point> point;  // of the newest record; null: none
};

namespace {

CUstream_st& stream_of(cudaStream_t stream) {
  if (stream != nullptr && stream != cudaStreamLegacy) return *stream;
  static auto* defaults = new std::array<CUstream_st, sutor::testing::kFakeGpus>;
  return defaults->at(static_cast<size_t>(sutor::testing::current_gpu()));
}

}  // namespace

void sutor::testing::enqueue(cudaStream_t stream, std::function<void()> work) {
  stream_of(stream).add(std::move(work));
}

void sutor::testing::launch(void* stream, std::function<void()> kernel) {
  enqueue(static_cast<cudaStream_t>(stream), [kernel = std::move(kernel)] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    kernel();
  });
}

bool sutor::testing::wait_for_stream(cudaStream_t stream) { return stream_of(stream).wait_idle(); }

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  if (flags != cudaStreamNonBlocking) return cudaErrorInvalidValue;
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return stream_of(stream).is_idle() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  if (!event) return cudaErrorInvalidValue;
  event->point = std::make_shared<Point>();
  stream_of(stream).add([point = event->point] {
    const std::lock_guard lock(point->mutex);
    point->reached = true;
    point->changed.notify_all();
  });
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  if (!event) return cudaErrorInvalidValue;
  if (!event->point) return cudaSuccess;
  stream_of(stream).add([point = event->point] {
    std::unique_lock lock(point->mutex);
    point->changed.wait_for(lock, sutor::testing::kPatience, [&] { return point->reached; });
  });
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  stream_of(stream).add([function, data] { function(data); });
  return cudaSuccess;
}

}  // extern "C"
