// Replaces launch/job/device_choice.cc in a sutor that computes on the fake device whatever is
// asked for, so that every verb is run there.
#include "launch/job/device_choice.h"
#include "tests/support/fake_device.h"

namespace sutor {

ChosenDevice choose_device(const std::string& asked, Comm&) {
  if (asked == "cpu") return {at::kCPU, "cpu"};
  return {testing::fake_device(), "fake"};
}

}  // namespace sutor
