// Options of verbs that reason about a layout of ranks without being run by them: --world, --tp,
// ...
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
// Without --world, the fewest ranks that both grids divide; throws E0211 when those make no sense.
LayoutArguments layout_from(const boost::program_options::variables_map& values);

}  // namespace sutor
