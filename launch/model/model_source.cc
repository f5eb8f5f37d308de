#include "launch/model/model_source.h"

#include <fmt/format.h>

#include "checkpoint/huggingface/base_config.h"
#include "checkpoint/store/open_model.h"
#include "csrc/base/error.h"
#include "csrc/base/profile.h"
#include "layers/decoder/config_conflicts.h"

namespace sutor {

ModelSource::ModelSource(const std::filesystem::path& path,
                         const std::vector<std::string>& adapter_paths)
    : opened(open_model(path)),
      directory(*opened),
      family(family_of(directory.config())),
      info(family.info(directory.config())) {
  directory.check(info.tensors);
  ignored = check_unused_tensors(directory, info.tensors);
  for (const std::string& adapter : adapter_paths) {
    adapters.push_back(Overlay::of_adapter(adapter, directory, info));
  }
}

void ModelSource::load(ShardedTensor& destination) const {
  for (auto overlay = adapters.rbegin(); overlay != adapters.rend(); ++overlay) {
    if (overlay->load(destination)) return;
  }
  directory.load(*info.tensors.find(destination.name), destination);
}

Overlay ModelSource::checkpoint(const std::filesystem::path& path, const Digest& digest) const {
  Overlay overlay = Overlay::of_checkpoint(
      path, digest.text(), [this](ShardedTensor& destination) { load(destination); });
  check_base_config(overlay.base_config(), directory.config(), overlay.name(),
                    directory.path().string());
  return overlay;
}

// transformers computes with both when they differ, whatever the flag says.
void ModelSource::check_tied_head() const {
  const auto head = directory.find("lm_head.weight");
  if (!info.tied_head || !head) return;
  const auto embedding = directory.resolve(*info.tensors.find("model.embed_tokens.weight"));
  SUTOR_ASSERT(embedding);
  const StoredTensor& tied = embedding->stored;
  if (head->entry->dtype_name == tied.entry->dtype_name &&
      head->entry->shape == tied.entry->shape &&
      head->file->digest(head->entry->begin, head->entry->end) ==
          tied.file->digest(tied.entry->begin, tied.entry->end)) {
    return;
  }
  fail(ErrorCode::kBadModelConfig,
       "{}: config.json: `tie_word_embeddings` = true, but `lm_head.weight` is stored and differs "
       "from `model.embed_tokens.weight`. To compute with the stored head, as transformers does, "
       "set tie_word_embeddings to false; else remove lm_head.weight.",
       directory.path().string());
}

void ModelSource::examine() const {
  std::call_once(examined_once_, [&] {
    check_tied_head();
    if (!directory.index_warning().empty()) {
      fmt::print(stderr, "warning[{}]: {}\n", WarningCode::kIndexSizeDiffers,
                 directory.index_warning());
    }
    for (const std::string& doubled : doubled_config_keys(directory.config())) {
      fmt::print(stderr, "warning[{}]: {}: {}\n", WarningCode::kIgnoredConfigKey,
                 directory.path().string(), doubled);
    }
    if (ignored.empty()) return;
    fmt::print(stderr, "note: {}: not computed with: {}\n", directory.path().string(),
               ignored_text(ignored));
  });
}

void ModelSource::check(int threads) const {
  examine();
  if (adapters.empty()) {
    check_recorded_model(directory, threads);
  } else {
    digest(threads);
  }
}

Digest ModelSource::digest(int threads) const {
  std::call_once(digest_once_, [&] { digest_ = read_digest(threads); });
  return digest_;
}

Digest ModelSource::read_digest(int threads) const {
  const ProfileScope scope("read base for its digest");
  examine();
  check_recorded_model(directory, threads);
  const Digest base = directory.digest(threads);
  if (adapters.empty()) return base;
  Hasher hasher;
  hasher.update(base.text());
  for (const Overlay& overlay : adapters) {
    overlay.check_base(base, directory.path().string());
    overlay.check_content(threads);
    warn_of_base_config(overlay);
    hasher.update(overlay.digest().text());
  }
  return hasher.digest();
}

}  // namespace sutor
