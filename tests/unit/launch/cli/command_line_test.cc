// Command lines: what is parsed, what is refused, and the help page.
#include "launch/cli/command_line.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/message_of.h"

namespace sutor {
namespace {

namespace po = boost::program_options;
using testing::message_of;

constexpr VerbHelp kHelp{"demo", "Shows.", "sutor demo FILE [--top-p P]",
                         "sutor demo a\nsutor demo b --top-p 0.2"};

std::optional<po::variables_map> parse(const Arguments& arguments) {
  po::options_description options;
  options.add_options()("file", po::value<std::string>(), "a file")(
      "top-p", po::value<double>(), "share")("tokens", po::value<int64_t>(), "how many")(
      "verify", po::bool_switch(), "check");
  po::positional_options_description positional;
  positional.add("file", 1);
  return parse_command_line(kHelp, options, positional, arguments);
}

TEST(CommandLine, ReadsValuesInBothFormsAndNegativeNumbers) {
  const auto values = parse({"a.yaml", "--top-p=0.25", "--tokens", "-1"});
  EXPECT_EQ((*values)["file"].as<std::string>(), "a.yaml");
  EXPECT_EQ((*values)["top-p"].as<double>(), 0.25);
  EXPECT_EQ((*values)["tokens"].as<int64_t>(), -1);
  EXPECT_FALSE((*values)["verify"].as<bool>());
}

TEST(CommandLine, UnknownOptionsAreRefusedWithTheNearestOne) {
  const auto refuse = [](const Arguments& arguments) {
    return message_of([&] { parse(arguments); }, ErrorCode::kBadArgument);
  };
  EXPECT_NE(refuse({"--topp", "0.2"}).find("`--topp` (did you mean `--top-p`?)"),
            std::string::npos);
  EXPECT_NE(refuse({"--tok", "3"}).find("did you mean `--tokens`?"), std::string::npos);
  EXPECT_NE(refuse({"--verfy=1"}).find("did you mean `--verify`?"), std::string::npos);
  EXPECT_EQ(refuse({"--something-else"}).find("did you mean"), std::string::npos);
  EXPECT_NE(refuse({"-v"}).find("unknown option"), std::string::npos);
}

TEST(CommandLine, MalformedAndSurplusArgumentsAreRefused) {
  EXPECT_NE(message_of(
                [] {
                  parse({"--top-p", "much"});
                },
                ErrorCode::kBadArgument)
                .find("top-p"),
            std::string::npos);
  message_of([] { parse({"--top-p"}); }, ErrorCode::kBadArgument);
  EXPECT_NE(message_of(
                [] {
                  parse({"a", "b"});
                },
                ErrorCode::kBadArgument)
                .find("too many arguments"),
            std::string::npos);
}

TEST(CommandLine, HelpFitsAScreenAndShowsUsageAndTwoExamples) {
  ::testing::internal::CaptureStdout();
  EXPECT_FALSE(parse({"--nonsense", "--help"}).has_value());
  const std::string page = ::testing::internal::GetCapturedStdout();
  for (const char* part : {"Shows.", "sutor demo FILE", "--top-p", "share", "sutor demo a",
                           "sutor demo b --top-p 0.2"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part << "\n" << page;
  }
  EXPECT_LE(std::count(page.begin(), page.end(), '\n'), 40);
}

}  // namespace
}  // namespace sutor
