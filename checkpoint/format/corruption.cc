#include "checkpoint/format/corruption.h"

#include <algorithm>
#include <tuple>

#include "csrc/base/error.h"

namespace sutor {
namespace {

std::string sentence(std::string text) {
  if (!text.empty() && text.back() != '.' && text.back() != '?') text += '.';
  return text;
}

}  // namespace

std::string Corruption::text() const {
  std::string text = problem;
  if (text.empty()) {
    text = fmt::format("{}: {}{}expected {}, found {}", file, location,
                       location.empty() ? "" : ": ", expected, found);
  }
  text = sentence(std::move(text));
  return repair.empty() ? text : text + " " + repair;
}

void CorruptionList::add(Corruption corruption) {
  if (corruption.repair.empty()) corruption.repair = repair_;
  const std::lock_guard lock(mutex_);
  found_.push_back(std::move(corruption));
}

bool CorruptionList::empty() const {
  const std::lock_guard lock(mutex_);
  return found_.empty();
}

bool CorruptionList::check(const std::filesystem::path& file, const std::function<void()>& body) {
  try {
    body();
    return true;
  } catch (const Error& error) {
    add({.code = error.code(), .file = file.string(), .problem = error.what()});
    return false;
  }
}

std::vector<Corruption> CorruptionList::take() {
  const std::lock_guard lock(mutex_);
  std::stable_sort(found_.begin(), found_.end(), [](const Corruption& a, const Corruption& b) {
    return std::tie(a.file, a.location) < std::tie(b.file, b.location);
  });
  return std::move(found_);
}

}  // namespace sutor
