// What saving and loading a training costs, beside the plain copies, writes and reads of the same
// bytes, in turns, so that a machine whose load drifts treats both alike. One line a figure:
//   build/checkpoint_bench FOLDER [MiB] [rounds]
// FOLDER is on the file system to be measured; what is written there is removed.
#include <ATen/ops/matmul.h>
#include <ATen/ops/rand.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>
#include <vector>

#include "checkpoint/partial/checkpoint_reader.h"
#include "csrc/base/file.h"
#include "csrc/base/parallel.h"
#include "launch/save/background_save.h"

namespace sutor {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kRows = 1408, kColumns = 2048;  // an expert's matrix

template <typename F>
double seconds(F&& f) {
  const auto begin = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Of each round's own ratio, so that a disk whose speed drifts treats both alike.
double median_ratio(const std::vector<double>& above, const std::vector<double>& below) {
  std::vector<double> ratios;
  for (size_t i = 0; i < above.size(); ++i) ratios.push_back(above[i] / below[i]);
  return median(std::move(ratios));
}

class Bench {
 public:
  Bench(fs::path folder, int64_t bytes, int rounds)
      : folder_(std::move(folder)), rounds_(rounds), world_(make_self_comm()) {
    const int64_t tensors = std::max<int64_t>(1, bytes / (3 * 4 * kRows * kColumns));
    for (int64_t i = 0; i < tensors; ++i) {
      const std::string name = fmt::format("model.layers.1.mlp.experts.{}.up_proj.weight", i);
      wanted_.push_back({name, {kRows, kColumns}});
      for (const StateKind& kind : first_optimizer_state().kinds) {
        const ShardedTensor place{
            .name = name, .global_shape = {kRows, kColumns}, .row_count = kRows};
        parts_.push_back({kind.name, shard_values(place, at::rand({kRows, kColumns}))});
        bytes_ += static_cast<int64_t>(parts_.back().rows.place.num_bytes());
      }
    }
    fmt::print("{} tensors, {:.0f} MiB, {} rounds, {} threads\n", tensors, bytes_ / 1048576.0,
               rounds, std::thread::hardware_concurrency());
  }

  void run() {
    measure_copy();
    measure_save();
    measure_slow_down();
    measure_load();
  }

 private:
  SaveJob job(int64_t step, bool async) const {
    SaveJob job{.wanted = wanted_, .parts = parts_, .options = {.keep = 1, .async = async}};
    job.meta.step = step;
    job.meta.base_digest = job.meta.plan_digest = "xxh3:00000000000000000000000000000001";
    job.meta.expert_config = nlohmann::json::object();
    job.meta.layout = "world 1";
    job.meta.optimizer = first_optimizer_state();
    job.meta.state = {{"step", step}};
    return job;
  }
  double rate(double time) const { return static_cast<double>(bytes_) / time / 1e9; }

  std::vector<MemoryCopy> copies_to(std::byte* at) const {
    std::vector<MemoryCopy> copies;
    for (const SaveJob::Part& part : parts_) {
      const auto size = static_cast<int64_t>(part.rows.place.num_bytes());
      copies.push_back({part.rows.place.data, at, size});
      at += size;
    }
    return copies;
  }

  void measure_copy() {
    SnapshotMemory memory;
    memory.reserve(bytes_);
    std::vector<std::byte> plain_from(static_cast<size_t>(bytes_), std::byte{1});
    std::vector<std::byte> plain_to(static_cast<size_t>(bytes_), std::byte{2});
    const std::vector<MemoryCopy> copies = copies_to(memory.data());
    std::vector<double> ours, plain;
    const int threads = std::max(1U, std::thread::hardware_concurrency());
    for (int round = 0; round < rounds_; ++round) {
      plain.push_back(seconds([&] {
        parallel_tasks(threads, threads, [&](int64_t i) {
          const int64_t begin = bytes_ * i / threads, end = bytes_ * (i + 1) / threads;
          std::memcpy(plain_to.data() + begin, plain_from.data() + begin,
                      static_cast<size_t>(end - begin));
        });
      }));
      ours.push_back(seconds([&] { copy_memory(copies); }));
    }
    fmt::print("snapshot copy     {:6.2f} GB/s, plain memcpy {:6.2f} GB/s, ratio {:.2f}\n",
               rate(median(ours)), rate(median(plain)), median_ratio(plain, ours));
  }

  void plain_write(const fs::path& path) const {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    for (const SaveJob::Part& part : parts_) {
      const ShardedTensor& place = part.rows.place;
      if (::write(fd, place.data, place.num_bytes()) < 0) std::abort();
    }
    if (::fsync(fd) != 0) std::abort();
    ::close(fd);
  }

  void measure_save() {
    BackgroundSave saves(folder_ / "checkpoints", *world_);
    saves.reserve(parts_);
    SnapshotMemory memory;
    memory.reserve(bytes_);
    std::vector<double> stall, whole, direct, plain, copy;
    for (int round = 0; round < rounds_; ++round) {
      plain.push_back(seconds([&] { plain_write(folder_ / "plain"); }));
      fs::remove(folder_ / "plain");
      direct.push_back(seconds([&] { saves.start(job(++step_, false)); }));
      remove_last();
      copy.push_back(seconds([&] { copy_memory(copies_to(memory.data())); }));
      whole.push_back(seconds([&] {
        stall.push_back(seconds([&] { saves.start(job(++step_, true)); }));
        saves.finish();
      }));
      remove_last();
    }
    fmt::print("save stall        {:6.1f} ms, copy {:6.1f} ms, ratio {:.2f}\n", 1e3 * median(stall),
               1e3 * median(copy), median_ratio(stall, copy));
    fmt::print("write to the disk {:6.2f} GB/s, plain write and fsync {:6.2f} GB/s, ratio {:.2f}\n",
               rate(median(direct)), rate(median(plain)), median_ratio(plain, direct));
    fmt::print("save, whole       {:6.2f} s in the background, {:6.2f} s directly\n", median(whole),
               median(direct));
  }

  // Neither side's time holds the removal of files.
  void remove_last() const {
    fs::remove_all(folder_ / "checkpoints" / fmt::format("step-{:08}", step_));
  }

  // Steps of products on one thread, alone and while a save runs.
  void measure_slow_down() {
    BackgroundSave saves(folder_ / "checkpoints", *world_);
    saves.reserve(parts_);
    const at::Tensor a = at::rand({384, 384});
    const auto one_step = [&] { return seconds([&] { at::matmul(a, at::matmul(a, a)); }); };
    std::vector<double> alone, beside;
    for (int round = 0; round < rounds_; ++round) {
      for (int i = 0; i < 50; ++i) alone.push_back(one_step());
      saves.start(job(++step_, true));
      while (saves.progress() == 1) beside.push_back(one_step());
      saves.finish();
    }
    fmt::print("step              {:6.2f} ms alone, {:6.2f} ms beside a save, ratio {:.2f}\n",
               1e3 * median(alone), 1e3 * median(beside), median(beside) / median(alone));
  }

  void measure_load() {
    BackgroundSave saves(folder_ / "checkpoints", *world_);
    saves.start(job(++step_, false));
    const fs::path step = folder_ / "checkpoints" / fmt::format("step-{:08}", step_);
    std::vector<std::byte> buffer(static_cast<size_t>(bytes_));
    std::vector<double> ours, plain;
    for (int round = 0; round < rounds_; ++round) {
      plain.push_back(seconds([&] { InputFile(step / "w0000.h5").read_at(0, buffer); }));
      ours.push_back(seconds([&] {
        const CheckpointReader reader(step);
        std::vector<ShardedTensor> places;
        std::byte* at = buffer.data();
        for (const SaveJob::Part& part : parts_) {
          places.push_back(part.rows.place);
          places.back().data = at;
          at += places.back().num_bytes();
        }
        // As Checkpointer::resume() does.
        parallel_tasks(0, static_cast<int64_t>(places.size()), [&](int64_t i) {
          const auto part = static_cast<size_t>(i);
          reader.read(parts_[part].kind, places[part]);
        });
      }));
    }
    fmt::print("load, checked     {:6.2f} GB/s, plain read {:6.2f} GB/s, ratio {:.2f}\n",
               rate(median(ours)), rate(median(plain)), median_ratio(plain, ours));
  }

  fs::path folder_;
  int rounds_;
  std::unique_ptr<Comm> world_;
  std::vector<IndexedTensor> wanted_;
  std::vector<SaveJob::Part> parts_;
  int64_t bytes_ = 0, step_ = 0;
};

}  // namespace
}  // namespace sutor

int main(int argc, char** argv) {
  if (argc < 2) {
    fmt::print(stderr, "checkpoint_bench FOLDER [MiB] [rounds]\n");
    return 2;
  }
  const std::filesystem::path folder = std::filesystem::path(argv[1]) / "checkpoint_bench";
  std::filesystem::create_directories(folder);
  const int64_t mib = argc > 2 ? std::atoll(argv[2]) : 512;
  sutor::Bench(folder, mib << 20, argc > 3 ? std::atoi(argv[3]) : 5).run();
  std::filesystem::remove_all(folder);
}
