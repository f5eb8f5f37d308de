// The kernels as one level of x86-64 has them. Their files are compiled once a level, with its
// flags, in a namespace of its own (SUTOR_KERNEL_LEVEL): nothing that they define may be shared
// with another level, inline functions of headers included, or the linker could give one level the
// code of another.
#pragma once

#include "csrc/ops/cpu/adamw_bf16_kernel.h"
#include "csrc/ops/cpu/gated_kernels.h"
#include "csrc/ops/cpu/row_kernels.h"
#include "csrc/ops/cpu/softmax_kernels.h"
#include "csrc/ops/cpu/transpose_kernels.h"

namespace sutor::ops {

// The members are what the functions of these names do (row_kernels.h and its neighbours).
template <typename T>
struct ElementKernels {
  decltype(&ops::rms_norm_forward<T>) rms_norm_forward;
  decltype(&ops::rms_norm_backward<T>) rms_norm_backward;
  decltype(&ops::sum_rows<T>) sum_rows;
  decltype(&ops::gather_rows<T>) gather_rows;
  decltype(&ops::load_rows<T>) load_rows;
  decltype(&ops::store_rows<T>) store_rows;
  decltype(&ops::rotate<T>) rotate;
  decltype(&ops::activation_forward<T>) activation_forward;
  decltype(&ops::activation_backward<T>) activation_backward;
  decltype(&ops::transpose_back<T>) transpose_back;
};

struct KernelTable {
  ElementKernels<float> of_float;
  ElementKernels<BFloat> of_bfloat;
  decltype(&ops::sum_of_squares) sum_of_squares;
  decltype(&ops::causal_softmax) causal_softmax;
  decltype(&ops::causal_probabilities) causal_probabilities;
  decltype(&ops::softmax_backward) softmax_backward;
  decltype(&ops::row_dots) row_dots;
  decltype(&ops::cross_entropy) cross_entropy;
  decltype(&ops::transpose) transpose;
  decltype(&ops::interleave_pairs) interleave_pairs;
  decltype(&ops::adamw_bf16_step) adamw_bf16_step;
};

}  // namespace sutor::ops

#ifdef SUTOR_KERNEL_LEVEL
namespace sutor::ops::SUTOR_KERNEL_LEVEL {

// Each fills in what its file has.
void add_activation_kernels(KernelTable& table);
void add_optimizer_kernels(KernelTable& table);
void add_row_kernels(KernelTable& table);
void add_softmax_kernels(KernelTable& table);
void add_transpose_kernels(KernelTable& table);

}  // namespace sutor::ops::SUTOR_KERNEL_LEVEL
#endif
