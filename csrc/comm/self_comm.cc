// The communicator of one process, and the functions that all communicators share.
#include <cstdlib>
#include <cstring>

#include "csrc/base/error.h"
#include "csrc/comm/comm.h"

namespace sutor {
namespace {

class SelfComm final : public Comm {
 public:
  explicit SelfComm(std::string name) : name_(std::move(name)) {}
  int rank() const override { return 0; }
  int size() const override { return 1; }
  const std::string& name() const override { return name_; }
  void all_reduce(std::span<float>, ReduceOp, const char*) override {}
  void all_reduce(std::span<double>, ReduceOp, const char*) override {}
  void all_reduce(std::span<int64_t>, ReduceOp, const char*) override {}
  void reduce_scatter(std::span<float>, std::span<const int64_t>, const char*) override {}
  void all_gather(std::span<std::byte>, std::span<const int64_t>, const char*) override {}
  void all_to_all(const void* send, std::span<const int64_t> send_rows, void* recv,
                  std::span<const int64_t> recv_rows, int64_t row_bytes, const char*) override {
    SUTOR_ASSERT(send_rows[0] == recv_rows[0]);
    if (send_rows[0] > 0) std::memcpy(recv, send, static_cast<size_t>(send_rows[0] * row_bytes));
  }
  void broadcast(std::span<std::byte>, int, const char*) override {}
  void barrier(const char*) override {}
  void send(std::span<const std::byte>, int, std::shared_ptr<const void>, const char*) override {
    SUTOR_ASSERT(false);  // there is nobody else
  }
  void await_sends(size_t, const char*) override {}
  void receive(std::span<std::byte>, int, const char*) override { SUTOR_ASSERT(false); }
  std::unique_ptr<Comm> subgroup(std::span<const int>, const std::string& name) override {
    return std::make_unique<SelfComm>(name);
  }
  bool all_failed(int, double) override { return true; }
  [[noreturn]] void abort(int exit_code) override { std::_Exit(exit_code); }
  void finish(int) override {}
  Journal* journal() const override { return nullptr; }
  uint64_t order_digest() const override { return 0; }

 private:
  std::string name_;
};

}  // namespace

std::unique_ptr<Comm> make_self_comm() { return std::make_unique<SelfComm>("world"); }

namespace {

struct Finished final : Comm::Pending {
  void progress() override {}
  void finish() override {}
};

}  // namespace

std::unique_ptr<Comm::Pending> Comm::start_reduce_scatter(std::span<float> data,
                                                          std::span<const int64_t> counts,
                                                          const char* name) {
  reduce_scatter(data, counts, name);
  return std::make_unique<Finished>();
}

std::string Comm::broadcast_text(const std::string& text, int root, const char* name) {
  int64_t length = static_cast<int64_t>(text.size());
  broadcast(std::as_writable_bytes(std::span(&length, 1)), root, name);
  std::string result = text;
  result.resize(static_cast<size_t>(length));
  broadcast(std::as_writable_bytes(std::span(result)), root, name);
  return result;
}

std::vector<std::string> Comm::all_gather_text(const std::string& text, const char* name) {
  std::vector<int64_t> lengths(size(), 0);
  lengths[rank()] = static_cast<int64_t>(text.size());
  all_reduce(std::span(lengths), ReduceOp::kSum, name);
  int64_t total = 0, begin = 0;
  for (int r = 0; r < size(); ++r) {
    if (r == rank()) begin = total;
    total += lengths[r];
  }
  std::string all(static_cast<size_t>(total), '\0');
  std::memcpy(all.data() + begin, text.data(), text.size());
  all_gather(std::as_writable_bytes(std::span(all)), lengths, name);
  std::vector<std::string> result;
  int64_t at = 0;
  for (const int64_t length : lengths) {
    result.push_back(all.substr(static_cast<size_t>(at), static_cast<size_t>(length)));
    at += length;
  }
  return result;
}

}  // namespace sutor
