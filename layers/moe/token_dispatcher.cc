// Which dispatcher a layout and a recipe ask for.
#include "layers/moe/token_dispatcher.h"

namespace sutor {

std::unique_ptr<TokenDispatcher> make_dispatcher(const ParallelState& parallel) {
  if (parallel.etp_ep().size() == 1) return make_local_dispatcher();
  if (parallel.options().dispatcher == "allgather") {
    return make_all_gather_dispatcher(parallel.etp_ep(), parallel.coordinates().ep,
                                      parallel.placement());
  }
  return make_all_to_all_dispatcher(parallel.ep(), parallel.etp(), parallel.placement());
}

}  // namespace sutor
