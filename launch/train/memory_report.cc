#include "launch/train/memory_report.h"

#include <fmt/format.h>

#include <new>

#include "csrc/base/error.h"
#include "csrc/base/profile.h"
#include "csrc/ops/device/memory.h"
#include "launch/log/metrics_log.h"

namespace sutor {
namespace {

std::string resident_text(Session& session, const Optimizer& optimizer) {
  int64_t trained = optimizer.bytes(), frozen = 0;
  for (const FlatBuffer* buffer : session.store().buffers()) trained += buffer->bytes();
  for (const ShardValues& shard : session.store().frozen_tensors()) {
    frozen += static_cast<int64_t>(shard.values.nbytes());
  }
  const ops::MemoryUse use = ops::memory_use(session.store().device());
  return fmt::format(
      "This rank keeps {} of frozen weights and {} of trained weights, gradients and optimizer "
      "state; the peak of all tensors was {}{}",
      format_bytes(frozen), format_bytes(trained), format_bytes(use.peak),
      use.reserved > use.allocated
          ? fmt::format(", and {} are reserved", format_bytes(use.reserved))
          : "");
}

std::string advice_text(const Recipe& recipe) {
  std::string advice;
  const auto add = [&](const std::string& text) { advice += (advice.empty() ? "" : ", ") + text; };
  if (recipe.train.micro_batch > 1) {
    add(fmt::format("train.micro_batch: {} (now {})", recipe.train.micro_batch / 2,
                    recipe.train.micro_batch));
  }
  if (recipe.train.recompute != "layer") {
    add(fmt::format("train.recompute: layer (now {})", recipe.train.recompute));
  }
  add(fmt::format("a shorter data.seq_len (now {})", recipe.data.seq_len));
  add("more ranks (parallel.ep, parallel.pp)");
  return "What makes it fit: " + advice + ".";
}

[[noreturn]] void report(const std::string& what, const Recipe& recipe, Session& session,
                         const Optimizer& optimizer) {
  const char* scope = scope_of_failure();
  fail(ErrorCode::kOutOfMemory, "out of memory on {} in `{}`: {}. {}. {}",
       session.store().device().str(), scope ? scope : "training", what,
       resident_text(session, optimizer), advice_text(recipe));
}

// Of the allocator's own message.
constexpr std::string_view kPrefix = "out of memory: ";

}  // namespace

void with_memory_report(const Recipe& recipe, Session& session, const Optimizer& optimizer,
                        const std::function<void()>& body) {
  std::string what;
  try {
    return body();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kOutOfMemory) throw;
    what = error.what();
    if (what.starts_with(kPrefix)) what = what.substr(kPrefix.size());
  } catch (const c10::OutOfMemoryError& error) {
    what = ops::allocation_text(error);
  } catch (const std::bad_alloc&) {
    what = "the C++ library had no memory";
  }
  report(what, recipe, session, optimizer);
}

}  // namespace sutor
