// Options of verbs that compute with a layout of ranks without starting any: --world, --tp, ...
#pragma once

#include <boost/program_options.hpp>

#include "parallel_state/layout/parallel_options.h"

namespace sutor {

struct LayoutArguments {
  ParallelOptions parallel;
  int world = 1;
};

// Adds --world, --tp, --cp, --ep, --etp, --pp and --order.
void add_layout_options(boost::program_options::options_description& options);
// The fewest ranks that both grids of these sizes divide; throws E0211 when there is no such
// number.
int smallest_world(const ParallelOptions& parallel);
// Without --world, the fewest ranks that both grids divide; throws E0211 when there is no such
// number.
LayoutArguments layout_from(const boost::program_options::variables_map& values);

}  // namespace sutor
