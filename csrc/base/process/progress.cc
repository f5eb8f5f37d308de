#include "csrc/base/process/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "csrc/base/text/figures.h"

namespace sutor {
namespace {

using std::chrono::nanoseconds;

constexpr std::chrono::milliseconds kRewrite{200};
// A line that only flashes up disturbs.
constexpr std::chrono::milliseconds kFirst{500};
constexpr std::chrono::seconds kLine{60};
constexpr size_t kWidth = 80;  // of a terminal that does not tell

std::atomic<bool> silent{false};
std::atomic<uint64_t> notes{0};
std::atomic<Progress*> living{nullptr};
// Held by who uses what `living` points to, unless it is its own thread's.
std::mutex living_mutex;

bool is_terminal() {
  const char* terminal = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) != 0 && terminal != nullptr &&
         std::string_view(terminal) != "dumb";
}

// The time before a line that the user wants; 0: none was said.
nanoseconds wanted_interval() {
  const char* text = std::getenv("SUTOR_PROGRESS_SECONDS");
  const double seconds = text != nullptr ? std::atof(text) : 0;
  return std::chrono::duration_cast<nanoseconds>(
      std::chrono::duration<double>(seconds > 0 ? std::min(seconds, 1e9) : 0));
}

size_t terminal_width() {
  winsize size{};
  const bool known = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
  return known ? size.ws_col : kWidth;
}

// What fits on one line, without the last column, where some terminals break it.
std::string cut(std::string text, size_t width) {
  if (text.size() < width) return text;
  size_t end = width - 1;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  text.resize(end);
  return text;
}

}  // namespace

void silence_progress() { silent = true; }
bool progress_is_silent() { return silent; }

void note_progress() { notes.fetch_add(1, std::memory_order_relaxed); }
uint64_t progress_notes() { return notes.load(std::memory_order_relaxed); }

void count_read_bytes(int64_t bytes) {
  note_progress();
  if (living.load(std::memory_order_relaxed) == nullptr) return;
  const std::lock_guard lock(living_mutex);
  Progress* progress = living.load();
  if (progress != nullptr && progress->reads_) progress->add(bytes);
}

Progress::Progress(std::string what, int64_t total, std::string name, bool speaks)
    : what_(std::move(what)), name_(std::move(name)), total_(total), unit_(Unit::kCount) {
  start(speaks);
}

Progress::Progress(std::string what, int64_t total, Counts counts, bool speaks)
    : what_(std::move(what)), total_(total), unit_(Unit::kBytes), reads_(counts == Counts::kReads) {
  start(speaks);
}

void Progress::start(bool speaks) {
  if (!speaks || silent) return;
  const std::lock_guard lock(living_mutex);
  if (living.load() != nullptr) return;  // that of the work that this is part of
  active_ = true;
  rewrites_ = is_terminal();
  const nanoseconds wanted = wanted_interval();
  interval_ = wanted.count() > 0 ? wanted : rewrites_ ? nanoseconds(kRewrite) : nanoseconds(kLine);
  next_ = (wanted.count() > 0 ? wanted : rewrites_ ? nanoseconds(kFirst) : interval_).count();
  living = this;
}

Progress::~Progress() {
  if (!active_) return;
  const std::lock_guard lock(living_mutex);
  living = nullptr;
  if (shown_) std::fputs("\r\x1b[K", stderr);
}

void Progress::begin_at(int64_t done) {
  before_ = done;
  done_ = done;
}

void Progress::add(int64_t count) {
  done_.fetch_add(count, std::memory_order_relaxed);
  note_progress();
  if (!active_ || silent) return;
  const int64_t now = nanoseconds(Clock::now() - begin_).count();
  int64_t due = next_.load(std::memory_order_relaxed);
  // One thread shows it, the others go on.
  if (now < due || !next_.compare_exchange_strong(due, now + interval_.count())) return;
  show();
}

void Progress::show() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return;
  const std::string line = text(std::chrono::duration<double>(Clock::now() - begin_).count());
  if (rewrites_) {
    std::fflush(stdout);  // what was printed before stands before
    std::fputs(("\r" + cut(line, terminal_width()) + "\x1b[K").c_str(), stderr);
    shown_ = true;
  } else {
    std::fputs((line + "\n").c_str(), stderr);
  }
}

std::string Progress::text(double seconds) const {
  const int64_t done = done_.load();
  const bool bytes = unit_ == Unit::kBytes;
  const auto figure = [&](int64_t n) { return bytes ? format_bytes(n) : format_count(n); };
  const double rate = seconds > 0 ? static_cast<double>(done - before_) / seconds : 0;
  std::string line = what_ + ": " + figure(done);
  if (total_ > 0) line += " of " + figure(total_);
  if (!bytes) line += " " + name_;
  if (total_ > 0) {
    line += fmt::format(
        " ({}%)", std::min<int64_t>(100, static_cast<int64_t>(100.0 * static_cast<double>(done) /
                                                              static_cast<double>(total_))));
  }
  if (rate <= 0) return line;
  if (bytes) {
    line += ", " + format_bytes(static_cast<int64_t>(rate)) + "/s";
  } else if (rate >= 100) {
    line += fmt::format(", {} {}/s", format_count(static_cast<int64_t>(rate)), name_);
  } else if (rate >= 1) {
    line += fmt::format(", {:.1f} {}/s", rate, name_);
  } else {
    line += fmt::format(", {:.1f} s each", 1 / rate);
  }
  if (total_ > 0) {
    const double left = static_cast<double>(std::max<int64_t>(0, total_ - done)) / rate;
    line += ", " + format_duration(left) + " left";
  }
  return line;
}

bool Progress::forget_line() {
  const std::lock_guard lock(mutex_);
  return std::exchange(shown_, false);
}

void clear_progress_line() {
  if (living.load(std::memory_order_relaxed) == nullptr) return;
  const std::lock_guard lock(living_mutex);
  Progress* progress = living.load();
  if (progress == nullptr || !progress->forget_line()) return;
  std::fputs("\r\x1b[K", stderr);
}

}  // namespace sutor
