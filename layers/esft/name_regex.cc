// A regular expression for a list of names: a tree of their dot-separated components, in which
// branches with equal continuations become one alternative.
#include <algorithm>
#include <memory>

#include "layers/esft/name_schemes.h"

namespace sutor {
namespace {

struct Node {
  bool ends = false;  // a name ends here
  std::vector<std::pair<std::string, std::unique_ptr<Node>>> children;

  Node& child(std::string_view part) {
    for (auto& [name, node] : children) {
      if (name == part) return *node;
    }
    children.emplace_back(part, std::make_unique<Node>());
    return *children.back().second;
  }
};

std::string escape(std::string_view text) {
  std::string result;
  for (char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos) result += '\\';
    result += c;
  }
  return result;
}

std::string join(const std::vector<std::string>& alternatives) {
  if (alternatives.size() == 1) return alternatives.front();
  std::string text = "(";
  for (const std::string& alternative : alternatives) {
    if (text.size() > 1) text += '|';
    text += alternative;
  }
  return text + ")";
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// weight0, weight3, weight12 -> weight(0|3|12)
std::string alternatives_of(const std::vector<std::string>& parts) {
  std::string_view stem = parts.front();
  while (!stem.empty() && is_digit(stem.back())) stem.remove_suffix(1);
  const bool shared = std::all_of(parts.begin(), parts.end(), [&](const std::string& part) {
    return part.size() > stem.size() && part.compare(0, stem.size(), stem) == 0 &&
           std::all_of(part.begin() + static_cast<ptrdiff_t>(stem.size()), part.end(), is_digit);
  });
  std::vector<std::string> texts;
  for (const std::string& part : parts) {
    texts.push_back(escape(shared ? std::string_view(part).substr(stem.size()) : part));
  }
  return (shared ? escape(stem) : "") + join(texts);
}

// What may follow a node, without the dot before it; empty when nothing follows.
std::string continuation(const Node& node) {
  std::vector<std::pair<std::string, std::vector<std::string>>> groups;  // by equal continuation
  for (const auto& [part, child] : node.children) {
    std::string rest = continuation(*child);
    if (!rest.empty()) rest = child->ends ? "(\\." + rest + ")?" : "\\." + rest;
    auto group = std::find_if(groups.begin(), groups.end(),
                              [&](const auto& candidate) { return candidate.first == rest; });
    if (group == groups.end()) group = groups.insert(groups.end(), {rest, {}});
    group->second.push_back(part);
  }
  std::vector<std::string> alternatives;
  for (const auto& [rest, parts] : groups) alternatives.push_back(alternatives_of(parts) + rest);
  return alternatives.empty() ? "" : join(alternatives);
}

}  // namespace

std::string anchored_regex(const std::vector<std::string>& names) {
  if (names.empty()) return "^(\\b\\B)$";
  Node root;
  for (const std::string& name : names) {
    Node* node = &root;
    size_t begin = 0;
    while (begin <= name.size()) {
      const size_t end = std::min(name.find('.', begin), name.size());
      node = &node->child(std::string_view(name).substr(begin, end - begin));
      begin = end + 1;
    }
    node->ends = true;
  }
  return "^(" + continuation(root) + ")$";
}

}  // namespace sutor
