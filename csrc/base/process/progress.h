// How far a long piece of work is, for people who wait: what is done of all, the rate, the time
// that is left. On stderr, so that results stay alone on stdout. Where stderr is a terminal, one
// line that is rewritten, at most five times a second, and removed at the end; else a line a
// minute, the first after a minute, so that short work says nothing. SUTOR_PROGRESS_SECONDS sets
// another time for both. `--quiet`, and verbs whose output a program reads, silence it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <utility>

namespace sutor {

// From now on no work of this process says how far it is.
void silence_progress();
bool progress_is_silent();

// Counts steps forward of this process, whatever they are: what other ranks that wait for this one
// go by (csrc/comm/watchdog/). Thread-safe, cheap.
void note_progress();
uint64_t progress_notes();

class Progress {
 public:
  enum class Unit { kCount, kBytes };
  // what: "score"; the line is "score: 40,552 of 131,072 tokens (31%), 1,234 tokens/s, 1m14s left".
  // name: of the unit, "tokens"; not for bytes. total: 0 or less where nobody knows. speaks: of
  // several ranks, one does. Inside of another one that lives it says nothing. Not for signal
  // handlers; begins and ends in one thread.
  Progress(std::string what, int64_t total, std::string name, bool speaks = true);
  // Of bytes that this process reads through InputFile, too, when `reads`.
  static Progress of_bytes(std::string what, int64_t total, bool speaks = true) {
    return Progress(std::move(what), total, Counts::kCalls, speaks);
  }
  static Progress of_reading(std::string what, int64_t total, bool speaks = true) {
    return Progress(std::move(what), total, Counts::kReads, speaks);
  }
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // So much more is done. Thread-safe.
  void add(int64_t count);
  // So much is done in all.
  void set(int64_t done) { add(done - done_.load()); }
  // So much was done before this work began: it counts as done, but not for the rate. First.
  void begin_at(int64_t done);

  // Whether a line stands on the terminal, of which nothing is left from now on.
  bool forget_line();

  // The line for these figures; `seconds`: since the beginning.
  std::string text(double seconds) const;

 private:
  using Clock = std::chrono::steady_clock;
  enum class Counts { kCalls, kReads };  // of add() alone, or what files are read as well
  Progress(std::string what, int64_t total, Counts counts, bool speaks);
  void start(bool speaks);
  void show();

  const std::string what_, name_;
  const int64_t total_;
  const Unit unit_;
  const bool reads_ = false;
  std::atomic<int64_t> done_{0};
  int64_t before_ = 0;
  bool active_ = false, rewrites_ = false, shown_ = false;
  Clock::time_point begin_ = Clock::now();
  std::chrono::nanoseconds interval_{};
  std::atomic<int64_t> next_{0};  // nanoseconds after begin_ when the next line is due
  std::mutex mutex_;              // of what is written

  friend void count_read_bytes(int64_t bytes);
};

// Bytes that were read from a file: adds them to the Progress of_reading() that lives, if any.
void count_read_bytes(int64_t bytes);

// Removes the line of a terminal, so that something else can be written there; it comes again.
void clear_progress_line();

}  // namespace sutor
