// Puts the table of one level together: compiled once a level, like the kernels themselves.
#include "csrc/ops/cpu/kernels/kernel_table.h"

namespace sutor::ops::SUTOR_KERNEL_LEVEL {

KernelTable kernel_table() {
  KernelTable table;
  add_activation_kernels(table);
  add_optimizer_kernels(table);
  add_row_kernels(table);
  add_softmax_kernels(table);
  add_transpose_kernels(table);
  return table;
}

}  // namespace sutor::ops::SUTOR_KERNEL_LEVEL
