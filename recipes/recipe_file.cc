#include "recipes/recipe_file.h"

#include <yaml-cpp/eventhandler.h>

#include <algorithm>
#include <sstream>
#include <vector>

#include "csrc/base/directory.h"
#include "csrc/base/error.h"
#include "csrc/base/file.h"
#include "csrc/base/text/text.h"
#include "csrc/base/text/yaml_faults.h"
#include "recipes/recipe_values.h"

namespace sutor {
namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 20;
constexpr size_t kMaxScalar = size_t{64} << 10;
constexpr size_t kMaxDepth = 32;
constexpr int kMaxNodes = 50000, kMaxAliases = 1000;

// What is YAML, but more than a recipe may have.
struct Refusal final : YAML::ParserException {
  using YAML::ParserException::ParserException;
};

// Counts what the parser finds, before a tree is made of it.
class Bounds final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override {
    if (++documents_ > 1) refuse(mark, "a second YAML document begins here; a recipe is one");
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { count(mark); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    count(mark);
    if (std::find(open_.begin(), open_.end(), anchor) != open_.end()) {
      refuse(mark, "an alias of what it stands in");
    }
    if (++aliases_ > kMaxAliases) refuse(mark, "more than 1,000 aliases");
  }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                const std::string& value) override {
    count(mark);
    if (value.size() > kMaxScalar) {
      refuse(mark,
             fmt::format("a text of {} bytes; at most {} are possible", value.size(), kMaxScalar));
    }
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    enter(mark, anchor);
  }
  void OnSequenceEnd() override { open_.pop_back(); }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    enter(mark, anchor);
  }
  void OnMapEnd() override { open_.pop_back(); }

 private:
  [[noreturn]] static void refuse(const YAML::Mark& mark, const std::string& what) {
    throw Refusal(mark, what);
  }
  void count(const YAML::Mark& mark) {
    if (++nodes_ > kMaxNodes) refuse(mark, "more than 50,000 values");
  }
  void enter(const YAML::Mark& mark, YAML::anchor_t anchor) {
    count(mark);
    open_.push_back(anchor);
    if (open_.size() > kMaxDepth) refuse(mark, "values are nested deeper than 32");
  }

  int documents_ = 0, nodes_ = 0, aliases_ = 0;
  std::vector<YAML::anchor_t> open_;  // anchors of the lists and mappings around here, 0 for none
};

}  // namespace

YAML::Node parse_yaml(const std::string& text, const std::string& where) {
  if (static_cast<int64_t>(text.size()) > kMaxBytes) {
    fail(ErrorCode::kUnreadableRecipe, "{}: {} bytes; a recipe has at most {}", where, text.size(),
         kMaxBytes);
  }
  const size_t bad = std::min(first_not_utf8(text), text.find('\0'));
  if (bad < text.size()) {
    const auto line =
        1 + std::count(text.begin(), text.begin() + static_cast<ptrdiff_t>(bad), '\n');
    fail(ErrorCode::kUnreadableRecipe,
         "{}: line {} is not text in UTF-8 (byte 0x{:02x}). Convert the file, for example with "
         "`iconv -t UTF-8`",
         where, line, static_cast<unsigned char>(text[bad]));
  }
  try {
    Bounds bounds;
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(bounds)) {
    }
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    const bool refused = dynamic_cast<const Refusal*>(&error) != nullptr;
    const auto fault =
        refused ? std::nullopt
                : yaml_fault(text, error.mark.line + 1, error.mark.column + 1, error.msg);
    if (fault) {
      fail(ErrorCode::kUnreadableRecipe, "{}:{}:{}: not valid YAML: {}", where, fault->line,
           fault->column, fault->what);
    }
    fail(ErrorCode::kUnreadableRecipe, "{}:{}:{}: not valid YAML: {}", where, error.mark.line + 1,
         error.mark.column + 1, error.msg);
  }
}

YAML::Node load_recipe(const std::filesystem::path& path) {
  if (const std::string objection = file_objection(path); !objection.empty()) {
    fail(ErrorCode::kUnreadableRecipe, "recipe {} cannot be read: it {}", path.string(), objection);
  }
  if (const int64_t bytes = bytes_of(path); bytes > kMaxBytes) {
    fail(ErrorCode::kUnreadableRecipe, "recipe {} has {} bytes; a recipe has at most {}",
         path.string(), bytes, kMaxBytes);
  }
  const YAML::Node root = parse_yaml(read_file(path, kMaxBytes), path.string());
  if (root.IsNull()) return YAML::Node(YAML::NodeType::Map);
  if (!root.IsMap()) {
    fail(ErrorCode::kUnreadableRecipe,
         "{}:1:1: a recipe is a mapping like `model: {{path: ...}}`; got {}{}", path.string(),
         describe(root),
         root.IsScalar() && root.Scalar().find(':') != std::string::npos
             ? ". A space is missing behind a colon: write `key: value`"
             : "");
  }
  return root;
}

}  // namespace sutor
