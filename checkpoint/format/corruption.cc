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

std::string Damage::text() const {
  std::string text = problem;
  if (text.empty()) {
    text = fmt::format("{}: {}{}expected {}, found {}", file, part, part.empty() ? "" : ": ",
                       expected, found);
  }
  text = sentence(std::move(text));
  return mend.empty() ? text : text + " " + mend;
}

void DamageList::add(Damage damage) {
  if (damage.mend.empty()) damage.mend = mend_;
  const std::lock_guard lock(mutex_);
  found_.push_back(std::move(damage));
}

bool DamageList::check(const std::filesystem::path& file, const std::function<void()>& body) {
  try {
    body();
    return true;
  } catch (const Error& error) {
    add({.code = error.code(), .file = file.string(), .problem = error.what()});
    return false;
  }
}

std::vector<Damage> DamageList::take() {
  const std::lock_guard lock(mutex_);
  std::stable_sort(found_.begin(), found_.end(), [](const Damage& a, const Damage& b) {
    return std::tie(a.file, a.part) < std::tie(b.file, b.part);
  });
  return std::move(found_);
}

}  // namespace sutor
