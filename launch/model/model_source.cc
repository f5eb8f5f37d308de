#include "launch/model/model_source.h"

#include "checkpoint/huggingface/base_config.h"
#include "checkpoint/store/open_model.h"
#include "csrc/base/profile.h"

namespace sutor {

ModelSource::ModelSource(const std::filesystem::path& path,
                         const std::vector<std::string>& adapter_paths)
    : opened(open_model(path)),
      directory(*opened),
      family(family_of(directory.config())),
      info(family.info(directory.config())) {
  directory.check(info.tensors);
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

void ModelSource::check(int threads) const {
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
