#include "layers/moe/grouped_experts.h"

#include "csrc/base/profile.h"

namespace sutor {

at::Tensor GroupedExperts::forward(const Dispatched& in, ops::ExpertsSaved* saved) const {
  const ProfileScope scope("experts");
  return ops::expert_mlp(in, storage_, activation_, saved);
}

ops::ExpertsGradients GroupedExperts::backward(const Dispatched& in, const ops::ExpertsSaved& saved,
                                               const at::Tensor& d_source, bool want_rows,
                                               bool want_weights) const {
  const ProfileScope scope("experts, backward");
  return ops::expert_mlp_backward(in, storage_, activation_, saved, d_source, want_rows,
                                  want_weights);
}

}  // namespace sutor
