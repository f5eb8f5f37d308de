// Help pages and errors of the verbs' command lines.
#include "launch/cli/command_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <iterator>
#include <sstream>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/process/progress.h"
#include "csrc/base/text/nearest.h"
#include "recipes/key_suggestion.h"

namespace po = boost::program_options;

namespace sutor {
namespace {

// No short options, so that a value may start with "-", as in `--tokens -1`. No abbreviations: one
// that is unique today may be ambiguous with the next option.
constexpr int kStyle = po::command_line_style::allow_long |
                       po::command_line_style::long_allow_next |
                       po::command_line_style::long_allow_adjacent;

std::string indented(std::string_view text) {
  std::string result = "  ";
  for (char c : text) {
    result += c;
    if (c == '\n') result += "  ";
  }
  return result;
}

void print_help(const VerbHelp& help, const po::options_description& options) {
  po::options_description plain(100);  // without a caption of its own
  for (const auto& option : options.options()) plain.add(option);
  std::ostringstream list;
  list << plain;
  fmt::print("{}\n\nusage:\n{}\n\noptions:\n{}\nexamples:\n{}\n", help.summary,
             indented(help.usage), list.str(), indented(help.examples));
}

// What an option that is meant to be a key of the recipe is there: "`lr` belongs to `optim`: write
// `optim.lr`". Empty when it is none.
std::string key_hint(const std::string& option) {
  const std::string text = suggestion(option);
  const bool is_key = text.find(" belongs to ") != std::string::npos ||
                      text.find("of other trainers") != std::string::npos;
  return is_key ? text : "";
}

[[noreturn]] void fail_unknown(const VerbHelp& help, const po::options_description& options,
                               std::string given) {
  given.erase(0, given.find_first_not_of('-'));
  given = given.substr(0, given.find('='));
  std::vector<std::string> known, beginning;
  for (const auto& option : options.options()) {
    known.push_back(option->long_name());
    // `--top` counts as near `--top-p`, however long the rest is.
    if (given.size() >= 3 && known.back().rfind(given, 0) == 0) beginning.push_back(known.back());
  }
  std::string meant = nearest(given, beginning.empty() ? known : beginning);
  const size_t near = std::max<size_t>(2, given.size() / 3);
  if (beginning.empty() && edit_distance(given, meant) > near) meant.clear();
  std::string hint = meant.empty() ? "" : fmt::format(" (did you mean `--{}`?)", meant);
  if (help.verb == "run" && given == "resume") {
    hint = ": `sutor run` goes on with an unfinished training by itself";
  } else if (options.find_nothrow("set", /*approx=*/false) != nullptr) {
    const std::string key = key_hint(given);
    if (!key.empty()) hint = fmt::format(": keys of a recipe are set by --set KEY=VALUE ({})", key);
  }
  fail(ErrorCode::kBadArgument, "sutor {}: unknown option `--{}`{}. `sutor {} --help` lists all.",
       help.verb, given, hint, help.verb);
}

void check_dashes(const VerbHelp& help, const po::options_description& options,
                  const Arguments& arguments) {
  for (const std::string& argument : arguments) {
    const bool is_short = argument.size() >= 2 && argument[0] == '-' && std::isalpha(argument[1]);
    if (is_short) fail_unknown(help, options, argument);
  }
}

// Verbs that may take long, and say how far they are.
constexpr std::string_view kLongVerbs[] = {"run",  "convert", "prepare",  "score", "train",
                                           "eval", "export",  "generate", "merge", "verify"};

po::options_description with_common_options(const VerbHelp& help,
                                            const po::options_description& own) {
  po::options_description options(100);
  for (const auto& option : own.options()) options.add(option);
  if (std::find(std::begin(kLongVerbs), std::end(kLongVerbs), help.verb) != std::end(kLongVerbs)) {
    options.add_options()("quiet", po::bool_switch(),
                          "no progress, no lines of steps: results, warnings and errors alone");
  }
  return options;
}

// Whether a switch that the verb may not have is given.
bool is_on(const po::variables_map& values, const char* name) {
  if (values.count(name) == 0) return false;
  const bool* value = boost::any_cast<bool>(&values[name].value());
  return value != nullptr && *value;
}

}  // namespace

std::filesystem::path existing_path(std::filesystem::path path) {
  if (!path.has_filename()) path = path.parent_path();
  if (!is_there(path)) {
    fail(ErrorCode::kUnreadableFile, "{} does not exist", path.string());
  }
  return path;
}

std::optional<po::variables_map> parse_command_line(
    const VerbHelp& help, const po::options_description& own,
    const po::positional_options_description& positional, const Arguments& arguments) {
  const po::options_description options = with_common_options(help, own);
  for (const std::string& argument : arguments) {
    if (argument != "--help" && argument != "-h") continue;
    print_help(help, options);
    return std::nullopt;
  }
  check_dashes(help, options, arguments);
  try {
    po::variables_map values;
    po::store(po::command_line_parser(arguments)
                  .options(options)
                  .positional(positional)
                  .style(kStyle)
                  .run(),
              values);
    po::notify(values);
    if (is_on(values, "quiet") || is_on(values, "json")) silence_progress();
    return values;
  } catch (const po::unknown_option& error) {
    fail_unknown(help, options, error.get_option_name());
  } catch (const po::too_many_positional_options_error&) {
    fail(ErrorCode::kBadArgument, "sutor {}: too many arguments. Usage: {}", help.verb, help.usage);
  } catch (const po::error& error) {
    fail(ErrorCode::kBadArgument, "sutor {}: {}. `sutor {} --help` lists all options.", help.verb,
         error.what(), help.verb);
  }
}

}  // namespace sutor
