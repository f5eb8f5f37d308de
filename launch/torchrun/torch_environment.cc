#include "launch/torchrun/torch_environment.h"

#include <charconv>
#include <string_view>

#include "csrc/base/error.h"

namespace sutor {
namespace {

constexpr int kMostRanks = 1 << 20;

bool is_set(const Environment& environment, const char* name) {
  const char* text = environment(name);
  return text != nullptr && *text != '\0';
}

std::string value_of(const Environment& environment, const char* name) {
  const char* text = environment(name);
  return text == nullptr ? "" : text;
}

std::optional<int> whole(const std::string& text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

int whole_of(const Environment& environment, const char* name, int least, int most) {
  const std::string text = value_of(environment, name);
  const std::optional<int> number = whole(text);
  if (!number || *number < least || *number > most) {
    fail(ErrorCode::kBadEnvironment,
         "{}={}: expected a whole number from {} to {}. Start with torchrun, which sets it, or "
         "unset WORLD_SIZE to run as one process",
         name, text, least, most);
  }
  return *number;
}

// PMI_SIZE is that of this process, unless torchrun was started under the launcher that set it.
bool other_launcher_is_nearer(const Environment& environment) {
  return is_set(environment, "PMI_SIZE") && !is_set(environment, "TORCHELASTIC_RUN_ID");
}

}  // namespace

std::string TorchEnvironment::meeting_place() const { return fmt::format("{}:{}", address, port); }

std::optional<TorchEnvironment> torch_environment(const Environment& environment) {
  if (!is_set(environment, "WORLD_SIZE") || other_launcher_is_nearer(environment)) return {};
  TorchEnvironment torch;
  torch.world_size = whole_of(environment, "WORLD_SIZE", 1, kMostRanks);
  if (torch.world_size == 1) return {};
  for (const char* name : {"RANK", "MASTER_ADDR", "MASTER_PORT"}) {
    if (is_set(environment, name)) continue;
    fail(
        ErrorCode::kRanksApart,
        "WORLD_SIZE={} says that {} processes were started, but {} is not set, so they cannot find "
        "each other and each would run the whole job. Start with `torchrun --no-python "
        "--nproc-per-node N sutor ...` or with `mpiexec -n {} sutor ...`; if it was left over, "
        "`unset WORLD_SIZE`",
        torch.world_size, torch.world_size, name, torch.world_size);
  }
  torch.rank = whole_of(environment, "RANK", 0, torch.world_size - 1);
  torch.local_rank = is_set(environment, "LOCAL_RANK")
                         ? whole_of(environment, "LOCAL_RANK", 0, kMostRanks)
                         : torch.rank;
  torch.local_world_size = is_set(environment, "LOCAL_WORLD_SIZE")
                               ? whole_of(environment, "LOCAL_WORLD_SIZE", 1, kMostRanks)
                               : torch.world_size;
  torch.address = value_of(environment, "MASTER_ADDR");
  torch.port = whole_of(environment, "MASTER_PORT", 1, 65535);
  torch.agent_store = value_of(environment, "TORCHELASTIC_USE_AGENT_STORE") == "True";
  torch.job = fmt::format("{}/{}/{}", value_of(environment, "TORCHELASTIC_RUN_ID"),
                          value_of(environment, "TORCHELASTIC_RESTART_COUNT"), torch.world_size);
  return torch;
}

int torch_rank(const Environment& environment) {
  for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}) {
    if (!is_set(environment, name)) return -1;
  }
  if (other_launcher_is_nearer(environment)) return -1;
  const std::optional<int> size = whole(value_of(environment, "WORLD_SIZE"));
  return size.value_or(1) > 1 ? whole(value_of(environment, "RANK")).value_or(-1) : -1;
}

}  // namespace sutor
