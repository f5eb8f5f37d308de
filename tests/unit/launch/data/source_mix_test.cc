// Mixes: how many documents an epoch takes of each set, which, and that nothing but seed, epoch and
// position decides what a global batch holds.
#include "launch/data/source_mix.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "launch/data/micro_batch.h"
#include "launch/data/sample_order.h"
#include "recipes/data_sets.h"
#include "tests/unit/launch/data/store_fixture.h"

namespace sutor {
namespace {

using testing::make_store;
using testing::TempDir;

DataSource weighted(double weight) { return {.weight = weight}; }
DataSource seen(double epochs) { return {.epochs = epochs}; }

class SourceMix : public ::testing::Test {
 protected:
  // How often the epochs [0, epochs) take each document of a store.
  std::vector<int64_t> times(const std::vector<DataSource>& sources, int store, int64_t epochs) {
    std::vector<int64_t> counts(stores_[store]->num_documents(), 0);
    for (int64_t epoch = 0; epoch < epochs; ++epoch) {
      for (const DocumentRef& ref : documents_of_epoch(stores_, sources, 42, epoch)) {
        if (ref.store == store) ++counts[ref.document];
      }
    }
    return counts;
  }
  std::map<int, int64_t> counts(const std::vector<DataSource>& sources, int64_t epoch) {
    std::map<int, int64_t> result;
    for (const DocumentRef& ref : documents_of_epoch(stores_, sources, 42, epoch)) {
      ++result[ref.store];
    }
    return result;
  }

  TempDir dir_;
  TokenStore large_ = make_store(dir_, "large", std::vector<int64_t>(90, 5));
  TokenStore small_ = make_store(dir_, "small", std::vector<int64_t>(10, 3), 1000);
  std::vector<const TokenStore*> stores_ = {&large_, &small_};
};

TEST_F(SourceMix, WithoutKeysAndWithEpochsOfOneItIsEveryDocumentInOrder) {
  std::vector<DocumentRef> all;
  for (int64_t d = 0; d < 90; ++d) all.push_back({0, d});
  for (int64_t d = 0; d < 10; ++d) all.push_back({1, d});
  for (const int64_t epoch : {0, 1, 7}) {
    EXPECT_EQ(documents_of_epoch(stores_, {}, 42, epoch), all);
    EXPECT_EQ(documents_of_epoch(stores_, {DataSource(), seen(1)}, 42, epoch), all);
  }
  EXPECT_FALSE(is_mixed({DataSource(), seen(1)}));
}

TEST_F(SourceMix, WeightsAreExactSharesOfTheDocumentsThatTheSetsHaveTogether) {
  EXPECT_EQ(counts({weighted(1), weighted(1)}, 0), (std::map<int, int64_t>{{0, 50}, {1, 50}}));
  EXPECT_EQ(counts({weighted(0.25), weighted(0.75)}, 3),
            (std::map<int, int64_t>{{0, 25}, {1, 75}}));
  EXPECT_EQ(counts({weighted(9), weighted(1)}, 1), (std::map<int, int64_t>{{0, 90}, {1, 10}}));
}

TEST_F(SourceMix, EpochsAreHowOftenAnEpochTakesASet) {
  EXPECT_EQ(counts({DataSource(), seen(3)}, 0), (std::map<int, int64_t>{{0, 90}, {1, 30}}));
  EXPECT_EQ(counts({seen(0.5), seen(2.5)}, 4), (std::map<int, int64_t>{{0, 45}, {1, 25}}));
  EXPECT_EQ(times({DataSource(), seen(3)}, 1, 1), std::vector<int64_t>(10, 3));
}

TEST_F(SourceMix, WeightsLeaveSetsWithEpochsAlone) {
  const TokenStore third = make_store(dir_, "third", std::vector<int64_t>(7, 2), 2000);
  stores_.push_back(&third);
  EXPECT_EQ(counts({weighted(1), weighted(4), seen(2)}, 0),
            (std::map<int, int64_t>{{0, 20}, {1, 80}, {2, 14}}));
}

TEST_F(SourceMix, NoDocumentIsTakenTwiceMoreThanAnotherOfItsSet) {
  for (const std::vector<DataSource>& sources :
       {std::vector{weighted(1), weighted(2)}, {seen(0.35), seen(2.55)}, {seen(0.01), seen(1.1)}}) {
    for (const int store : {0, 1}) {
      for (const int64_t epochs : {1, 2, 3, 10, 37}) {
        const std::vector<int64_t> found = times(sources, store, epochs);
        const auto [least, most] = std::minmax_element(found.begin(), found.end());
        EXPECT_LE(*most - *least, 1) << "store " << store << ", " << epochs << " epochs";
      }
    }
  }
}

TEST_F(SourceMix, PartsOfAPassAreOtherDocumentsInEachEpochAndForEachSeed) {
  const std::vector<DataSource> sources = {seen(0.5), DataSource()};
  const auto first = documents_of_epoch(stores_, sources, 42, 0);
  EXPECT_EQ(first, documents_of_epoch(stores_, sources, 42, 0));
  EXPECT_NE(first, documents_of_epoch(stores_, sources, 42, 1));
  EXPECT_NE(first, documents_of_epoch(stores_, sources, 42, 2));  // another pass
  EXPECT_NE(first, documents_of_epoch(stores_, sources, 43, 0));
}

DataOptions options_of(std::vector<DataSource> sources, bool packing) {
  DataOptions options;
  options.train = std::move(sources);
  options.seq_len = 16;
  options.packing = packing;
  return options;
}

TEST_F(SourceMix, TheReportCountsWhatSamplesHoldOfEachSet) {
  for (const bool packing : {true, false}) {
    const SampleList list =
        build_samples(stores_, options_of({weighted(1), weighted(3)}, packing), 42, 0);
    EXPECT_EQ(list.report.documents, 100);
    EXPECT_EQ(list.report.sources[0].documents, 25);
    EXPECT_EQ(list.report.sources[0].tokens, 25 * 5);
    EXPECT_EQ(list.report.sources[1].tokens, 75 * 3);
    EXPECT_EQ(list.report.sources[1].supervised, 75 * 2);
    EXPECT_EQ(supervised_by_store(list.samples, 2), (std::vector<int64_t>{25 * 4, 75 * 2}));
  }
}

TEST_F(SourceMix, StepsOfEpochsOfUnequalLengthAreCounted) {
  // 4.5 documents of the small set an epoch: epochs have 94 and 95 samples in turn.
  SampleStream stream(stores_, options_of({DataSource(), seen(0.45)}, false), 7, 1);
  int64_t steps = 0;
  for (; stream.cursor().epoch < 4; ++steps) stream.next_batch();
  EXPECT_EQ(stream.steps_of_epochs(4), steps - 1);
  EXPECT_EQ(steps - 1, 360 + 18);
}

// (store, first token) of everything that the ranks together see of a batch, in order.
std::vector<std::pair<int64_t, int64_t>> seen_by_ranks(std::span<const TokenStore* const> stores,
                                                       std::span<const Sample> batch, int64_t ranks,
                                                       int64_t micro_batch) {
  std::vector<std::pair<int64_t, int64_t>> result;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    for (const MicroBatch& micro : rank_micro_batches(stores, batch, rank, ranks, micro_batch)) {
      for (size_t d = 0; d + 1 < micro.doc_offsets.size(); ++d) {
        const auto at = static_cast<size_t>(micro.doc_offsets[d]);
        result.emplace_back(micro.sources[at], micro.ids[at]);
      }
    }
  }
  return result;
}

TEST_F(SourceMix, AResumedTrainingOnOtherRanksSeesTheSameSamplesInEveryGlobalBatch) {
  const std::vector<std::vector<DataSource>> mixes = {
      {}, {weighted(1), weighted(2)}, {seen(0.35), seen(2.55)}};
  for (const std::vector<DataSource>& mix : mixes) {
    for (const bool packing : {true, false}) {
      const DataOptions options = options_of(mix, packing);
      SampleStream whole(stores_, options, 42, 9);
      int64_t resumed_in_mid_epoch = 0;
      for (int step = 0; step < 30; ++step) {
        // Stopped after every step, in turns at other sizes, and with other micro-batches.
        const int64_t ranks = int64_t{1} << (step % 3), micro_batch = 1 + step % 4;
        SampleStream resumed(stores_, options, 42, 9, whole.cursor());
        resumed_in_mid_epoch += whole.cursor().position > 0;
        const std::span<const Sample> batch = whole.next_batch();
        EXPECT_EQ(seen_by_ranks(stores_, resumed.next_batch(), ranks, micro_batch),
                  seen_by_ranks(stores_, batch, 1, 9))
            << "step " << step;
        EXPECT_EQ(resumed.cursor(), whole.cursor());
      }
      EXPECT_GT(whole.cursor().epoch, 0);
      EXPECT_GT(resumed_in_mid_epoch, 10);
    }
  }
}

}  // namespace
}  // namespace sutor
