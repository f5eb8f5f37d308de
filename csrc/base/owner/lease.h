// Holding a file without locks of the file system: it exists while it is held, and its holder
// renews it every few seconds. Whoever wants it watches it with a clock of its own; one that is not
// renewed for a while, or whose holder is seen to be gone, is taken over.
#pragma once

#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "csrc/base/owner/process_owner.h"

namespace sutor {

// Throws E0401.
[[noreturn]] void fail_busy(const std::string& guarded, const std::optional<ProcessOwner>& holder);

struct LeaseSettings {
  std::chrono::milliseconds beat{2000};      // between two renewals
  std::chrono::milliseconds silence{60000};  // without renewal: the holder is gone
  // Called by the renewing thread when another process has taken the lease, since this one was
  // stopped or cut off for too long. By default it ends the process with exit code 4: two jobs
  // would go on writing the same files.
  void (*lost)(const std::string& message) = nullptr;
};

class Lease {
 public:
  // An empty file at `path` counts as free. Throws E0401 when another process holds it: at once
  // when that one is seen to run here, else as soon as it renews the lease.
  Lease(std::filesystem::path path, const std::string& guarded, const LeaseSettings& settings);
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  const std::optional<ProcessOwner>& taken_over() const { return taken_over_; }

 private:
  enum class Renewal { kDone, kFailed, kTaken };

  bool make();
  bool make_in_place();
  int write_content(int64_t beat) const;
  void watch(const std::string& guarded);
  void remove_dead(const std::string& content);
  std::string content(int64_t beat) const;
  Renewal renew(int64_t beat) const;
  void keep(std::stop_token stop);
  void lose(const std::string& why) const;

  std::filesystem::path path_;
  LeaseSettings settings_;
  std::string token_;   // tells this lease from one that a later holder makes
  std::string record_;  // what does not change: token and holder
  std::optional<ProcessOwner> taken_over_;
  std::mutex mutex_;
  std::condition_variable_any wake_;
  std::jthread keeper_;
};

}  // namespace sutor
