#include "launch/job/failure.h"

#include <cstdio>
#include <exception>
#include <filesystem>
#include <new>

#include "csrc/base/error.h"

namespace sutor {

Failure failure_of(const std::function<int()>& body) {
  try {
    return {body(), ""};
  } catch (const Error& error) {
    return {error.exit_code(), error.report()};
  } catch (const std::bad_alloc&) {
    return {kExitResources, fmt::format("error[{}]: out of memory", ErrorCode::kOutOfMemory)};
  } catch (const std::filesystem::filesystem_error& error) {
    return {kExitData, fmt::format("error[{}]: {}: {}", ErrorCode::kUnreadableFile,
                                   error.path1().string(), error.code().message())};
  } catch (const std::exception& error) {
    return {kExitInternal, fmt::format("error[{}]: {}", ErrorCode::kUnexpected, error.what())};
  }
}

void print_failure(const std::string& message) {
  std::fflush(stdout);
  std::fprintf(stderr, "%s\n", message.c_str());
  std::fflush(stderr);
}

int run_alone(const std::function<int()>& body) {
  const Failure result = failure_of(body);
  if (!result.message.empty()) print_failure(result.message);
  return result.exit_code;
}

}  // namespace sutor
