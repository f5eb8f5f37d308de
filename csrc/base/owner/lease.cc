#include "csrc/base/owner/lease.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/text.h"

namespace sutor {
namespace {

constexpr size_t kMostContent = 8192;
constexpr auto kSettling = std::chrono::milliseconds(50);
using Clock = std::chrono::steady_clock;

// Opened anew each time, so that a network file system asks its server. Nothing: it is not there,
// or cannot be read now.
std::optional<std::string> content_of(const std::filesystem::path& path) {
  const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (fd.get() < 0) return {};
  std::string text(kMostContent, '\0');
  const ssize_t count = ::pread(fd.get(), text.data(), text.size(), 0);
  if (count < 0) return {};
  text.resize(static_cast<size_t>(count));
  return text;
}

// Content: the token, the holder, and the number of the last renewal, a line each; or the holder
// alone, of a process that got a lock here.
std::optional<ProcessOwner> holder_of(const std::string& content) {
  if (content.starts_with("{")) return parse_owner(content);
  const size_t begin = content.find('\n');
  if (begin == std::string::npos) return {};
  return parse_owner(content.substr(begin + 1, content.find('\n', begin + 1) - begin - 1));
}

[[noreturn]] void end_process(const std::string& message) {
  std::fprintf(stderr, "error[%s]: %s\n", fmt::format("{}", ErrorCode::kBusy).c_str(),
               message.c_str());
  ::_exit(kExitBusy);
}

}  // namespace

void fail_busy(const std::string& guarded, const std::optional<ProcessOwner>& holder) {
  fail(ErrorCode::kBusy,
       "{} is in use by another job{}. Wait for it or end it, or choose another output.", guarded,
       holder ? ": " + holder->text() : "");
}

Lease::Lease(std::filesystem::path path, const std::string& guarded, const LeaseSettings& settings)
    : path_(std::move(path)),
      settings_(settings),
      token_(random_hex(4)),
      record_(token_ + "\n" + to_json(this_process())) {
  if (settings_.lost == nullptr) settings_.lost = end_process;
  while (!make()) watch(guarded);
  keeper_ = std::jthread([this](std::stop_token stop) { keep(stop); });
}

Lease::~Lease() {
  keeper_.request_stop();
  keeper_.join();
  const auto found = content_of(path_);
  if (found && found->starts_with(token_)) ::unlink(path_.c_str());
}

std::string Lease::content(int64_t beat) const {
  return record_ + fmt::format("renewed {:020}\n", beat);  // of one length, written in place
}

// Gives the file its name when it is whole: nobody ever sees an empty one. False when the name is
// taken.
bool Lease::make() {
  const std::filesystem::path whole = temporary_name(path_);
  write_new_file(whole, content(0));
  const bool linked = ::link(whole.c_str(), path_.c_str()) == 0;
  const int error = errno;
  ::unlink(whole.c_str());
  if (linked) return true;
  if (error == EEXIST) return false;
  return make_in_place();  // a file system without links
}

bool Lease::make_in_place() {
  {
    const FileDescriptor fd(
        ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666));
    if (fd.get() < 0) {
      if (errno == EEXIST) return false;
      fail_write(path_, "create", errno);
    }
  }
  if (write_content(0) != 0) fail_write(path_, "write", errno);
  // Somebody may have seen it empty, and taken it away.
  std::this_thread::sleep_for(kSettling);
  const std::optional<std::string> found = content_of(path_);
  return found && found->starts_with(token_);
}

// 0, or -1 with errno.
int Lease::write_content(int64_t beat) const {
  const FileDescriptor fd(::open(path_.c_str(), O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (fd.get() < 0) return -1;
  const std::string text = content(beat);
  const ssize_t count = ::pwrite(fd.get(), text.data(), text.size(), 0);
  if (count >= 0 && count < static_cast<ssize_t>(text.size())) errno = ENOSPC;
  return count == static_cast<ssize_t>(text.size()) ? ::fsync(fd.get()) : -1;
}

// Returns when the file is gone or was taken away from a holder that is gone.
void Lease::watch(const std::string& guarded) {
  const auto until = Clock::now() + settings_.silence;
  const std::optional<std::string> first = content_of(path_);
  if (!first) return;
  if (first->empty()) return remove_dead(*first);  // made by somebody who then found no locks
  const std::optional<ProcessOwner> holder = holder_of(*first);
  const OwnerState state = holder ? state_of(*holder) : OwnerState::kUnknown;
  if (state == OwnerState::kAlive) fail_busy(guarded, holder);
  while (state != OwnerState::kGone && Clock::now() < until) {
    std::this_thread::sleep_for(settings_.beat / 4);
    const std::optional<std::string> now = content_of(path_);
    if (!now) return;
    if (*now != *first) fail_busy(guarded, holder_of(*now));
  }
  remove_dead(*first);
  taken_over_ = holder;
}

// Of several that watch, one gets the file by its new name; when that is not what was seen to be
// dead, but what a faster one has made since, it is given back.
void Lease::remove_dead(const std::string& dead) {
  const std::filesystem::path aside = temporary_name(path_);
  if (::rename(path_.c_str(), aside.c_str()) != 0) {
    if (errno == ENOENT) return;
    fail_write(path_, "rename", errno);
  }
  if (content_of(aside) != dead && ::link(aside.c_str(), path_.c_str()) != 0 && errno != EEXIST) {
    ::rename(aside.c_str(), path_.c_str());  // a file system without links
  }
  ::unlink(aside.c_str());
}

Lease::Renewal Lease::renew(int64_t beat) const {
  const std::optional<std::string> found = content_of(path_);
  if (!found) return Renewal::kFailed;
  if (!found->starts_with(token_)) return Renewal::kTaken;
  return write_content(beat) == 0 ? Renewal::kDone : Renewal::kFailed;
}

void Lease::keep(std::stop_token stop) {
  auto renewed = Clock::now();
  for (int64_t beat = 1;; ++beat) {
    {
      std::unique_lock<std::mutex> held(mutex_);
      wake_.wait_for(held, stop, settings_.beat, [] { return false; });
    }
    if (stop.stop_requested()) return;
    const Renewal result = renew(beat);
    if (result == Renewal::kDone) renewed = Clock::now();
    if (result == Renewal::kTaken) return lose("another job has taken it over");
    // Soon the others may take it for that of a job that is gone.
    if (Clock::now() - renewed > settings_.silence * 3 / 4) return lose("it cannot be renewed");
  }
}

void Lease::lose(const std::string& why) const {
  settings_.lost(fmt::format(
      "the lease {} of this job is lost: {}. The job ends, since two would write the same files.",
      path_.string(), why));
}

}  // namespace sutor
