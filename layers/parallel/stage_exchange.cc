#include "layers/parallel/stage_exchange.h"

#include <ATen/core/Tensor.h>

#include "csrc/base/profile.h"

namespace sutor {

void send_to_stage(const at::Tensor& rows, int stage, Comm& pipeline, const char* name) {
  const ProfileScope scope("pipeline");
  const auto owner = std::make_shared<at::Tensor>(rows.detach().contiguous());
  pipeline.send({static_cast<const std::byte*>(owner->data_ptr()), owner->nbytes()}, stage, owner,
                name);
}

void receive_from_stage(const at::Tensor& rows, int stage, Comm& pipeline, const char* name) {
  const ProfileScope scope("pipeline");
  pipeline.receive({static_cast<std::byte*>(rows.data_ptr()), rows.nbytes()}, stage, name);
}

}  // namespace sutor
