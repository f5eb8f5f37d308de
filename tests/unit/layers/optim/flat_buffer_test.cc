// The flat buffer: where chunks begin and end, that reduction and gathering meet every element
// once, and gradient clipping beside a plain norm.
#include "layers/optim/flat_buffer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "layers/optim/gradient_clip.h"
#include "tests/support/flat_buffers.h"
#include "tests/support/thread_comm.h"

namespace sutor {
namespace {

using testing::fill_buffer;
using testing::numbers_of;
using testing::run_ranks;
using testing::sample_buffer_tensors;
using testing::set_gradients;
using testing::set_weights;

TEST(FlatBuffer, ChunksAreNearEqualRunsOfWholeRowsThatCoverTheBuffer) {
  for (const int replicas : {1, 2, 3, 5}) {
    std::mutex mutex;
    run_ranks(replicas, [&](Comm& comm) {
      FlatBuffer buffer(comm, at::kFloat);
      fill_buffer(buffer, sample_buffer_tensors());
      const std::lock_guard lock(mutex);
      const std::vector<int64_t>& boundaries = buffer.shard_boundaries();
      ASSERT_EQ(boundaries.size(), static_cast<size_t>(replicas) + 1);
      EXPECT_EQ(boundaries.front(), 0);
      EXPECT_EQ(boundaries.back(), 7 * 5 + 11 + 24 + 64 * 33);
      EXPECT_EQ(buffer.chunk_size(), boundaries[comm.rank() + 1] - boundaries[comm.rank()]);
      for (int r = 0; r < replicas; ++r) {
        const double share = static_cast<double>(boundaries.back()) / replicas;
        EXPECT_NEAR(boundaries[r + 1] - boundaries[r], share, 33 + replicas) << "replica " << r;
      }
      // Decayed ones first: a, b, c, then norm.
      for (const int64_t boundary : boundaries) {
        const bool in_c = boundary >= 59 && boundary <= 59 + 64 * 33;
        EXPECT_TRUE(in_c ? (boundary - 59) % 33 == 0 : boundary == 0 || boundary > 59 + 64 * 33)
            << boundary << " is within a row";
      }
      int64_t elements = 0;
      for (const auto& [offset, rows] : buffer.chunk_rows()) {
        EXPECT_EQ(offset, elements);
        elements += rows.num_elements();
      }
      EXPECT_EQ(elements, buffer.chunk_size());
    });
  }
}

TEST(FlatBuffer, DecayedElementsOfAChunkComeFirst) {
  run_ranks(5, [&](Comm& comm) {
    FlatBuffer buffer(comm, at::kFloat);
    fill_buffer(buffer, sample_buffer_tensors());
    for (const auto& [offset, rows] : buffer.chunk_rows()) {
      EXPECT_EQ(offset < buffer.chunk_decayed(), rows.name != "norm");
    }
  });
}

TEST(FlatBuffer, ReductionSumsTheGradientsOfTheChunkOverReplicas) {
  for (const int replicas : {1, 2, 3, 5}) {
    run_ranks(replicas, [&](Comm& comm) {
      FlatBuffer buffer(comm, at::kFloat), once(comm, at::kFloat);
      for (FlatBuffer* b : {&buffer, &once}) fill_buffer(*b, sample_buffer_tensors());
      set_gradients(once, 1);
      set_gradients(buffer, 1);
      for (size_t i = 0; i < buffer.size(); ++i) buffer.grad(i).mul_(comm.rank() + 1);
      buffer.start_reduction();
      buffer.progress_reduction();
      buffer.finish_reduction();
      const double sum = replicas * (replicas + 1) / 2.0;
      EXPECT_TRUE(at::allclose(buffer.chunk_grads(), once.chunk_grads() * sum, 1e-6, 0));
    });
  }
}

TEST(FlatBuffer, GatheringBringsEveryReplicaTheValuesOfAllChunks) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
    run_ranks(3, [&](Comm& comm) {
      FlatBuffer buffer(comm, dtype);
      fill_buffer(buffer, sample_buffer_tensors());
      set_weights(buffer);
      const at::Tensor own = buffer.chunk_values().to(at::kFloat) + 2;
      for (size_t i = 0; i < buffer.size(); ++i) buffer.value(i).zero_();
      buffer.chunk_values().copy_(own);
      buffer.gather_values();
      const at::Tensor all = buffer.gather(own);
      for (size_t i = 0; i < buffer.size(); ++i) {
        const at::Tensor wanted = numbers_of(buffer.shard(i), 0).to(dtype).to(at::kFloat) + 2;
        EXPECT_TRUE(at::equal(buffer.slice(all, i).flatten(), wanted.flatten()));
        EXPECT_TRUE(at::equal(buffer.value(i).flatten(), wanted.to(dtype).flatten()));
      }
    });
  }
}

// Over the ranks as they would be in a training: one buffer with replicas, one on every rank alone.
TEST(GradientClip, TheNormCountsEveryParameterOnce) {
  for (const int replicas : {1, 2, 3, 5}) {
    run_ranks(replicas, [&](Comm& comm) {
      const auto self = make_self_comm();
      FlatBuffer shared(comm, at::kFloat), own(*self, at::kFloat);
      fill_buffer(shared, sample_buffer_tensors());
      fill_buffer(own, {testing::whole_tensor("own " + std::to_string(comm.rank()), {9, 4})});
      double squares = 0;
      const auto add = [&](const at::Tensor& values) {
        squares += values.to(at::kDouble).square().sum().item<double>();
      };
      for (FlatBuffer* buffer : {&shared, &own}) set_gradients(*buffer, 3);
      for (size_t i = 0; i < shared.size(); ++i) add(shared.grad(i));
      for (int r = 0; r < replicas; ++r) {
        FlatBuffer other(*self, at::kFloat);
        fill_buffer(other, {testing::whole_tensor("own " + std::to_string(r), {9, 4})});
        set_gradients(other, 3);
        add(other.grad(0));
      }
      const double norm = gradient_norm(squared_gradients({&shared, &own}).item<double>(), comm);
      EXPECT_NEAR(norm / std::sqrt(squares), 1, 1e-12);
    });
  }
}

TEST(GradientClip, ANormAboveTheLimitBecomesTheLimit) {
  const auto self = make_self_comm();
  FlatBuffer buffer(*self, at::kFloat);
  fill_buffer(buffer, sample_buffer_tensors());
  set_gradients(buffer, 1);
  const double norm = gradient_norm(squared_gradients({&buffer}).item<double>(), *self);
  ASSERT_GT(norm, 0.1);
  clip_gradients({&buffer}, norm, 0.1);
  EXPECT_NEAR(gradient_norm(squared_gradients({&buffer}).item<double>(), *self), 0.1, 1e-6);
}

TEST(GradientClip, ANormBelowTheLimitAndNoLimitChangeNoBit) {
  const auto self = make_self_comm();
  FlatBuffer buffer(*self, at::kFloat);
  fill_buffer(buffer, sample_buffer_tensors());
  set_gradients(buffer, 1);
  const at::Tensor before = buffer.chunk_grads().clone();
  const double norm = gradient_norm(squared_gradients({&buffer}).item<double>(), *self);
  clip_gradients({&buffer}, norm, 2 * norm);
  clip_gradients({&buffer}, norm, 0);
  EXPECT_TRUE(at::equal(buffer.chunk_grads(), before));
}

}  // namespace
}  // namespace sutor
