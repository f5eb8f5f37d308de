#include "csrc/base/hdf5/seal.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "csrc/base/error.h"
#include "csrc/base/file.h"

namespace sutor::h5 {
namespace {

// "SUTORSUM", u64 bytes before the seal, u64 their sum.
struct Seal {
  std::array<char, 8> mark = {'S', 'U', 'T', 'O', 'R', 'S', 'U', 'M'};
  uint64_t bytes = 0;
  uint64_t sum = 0;
};
constexpr auto kSealBytes = static_cast<int64_t>(sizeof(Seal));
static_assert(kSealBytes == 24);
constexpr int64_t kPieceBytes = int64_t{1} << 20;

// The sum over all words of 32 bits, the last one filled with zeros, of word times (number + 1),
// modulo 2^64: any change of one word shows, and numpy computes it in a line.
uint64_t sum_of(const InputFile& file, int64_t bytes) {
  uint64_t sum = 0, number = 0;
  std::vector<uint32_t> words;
  for (int64_t at = 0; at < bytes; at += kPieceBytes) {
    const int64_t piece = std::min(kPieceBytes, bytes - at);
    words.assign(static_cast<size_t>((piece + 3) / 4), 0);
    file.read_at(at, std::as_writable_bytes(std::span(words)).first(static_cast<size_t>(piece)));
    for (const uint32_t word : words) sum += ++number * word;
  }
  return sum;
}

}  // namespace

void seal_file(const std::filesystem::path& path) {
  Seal seal;
  {
    const InputFile file(path);
    seal.bytes = static_cast<uint64_t>(file.size());
    seal.sum = sum_of(file, file.size());
  }
  FileDescriptor fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (fd.get() < 0) fail_write(path, "open", errno);
  const ssize_t written = ::write(fd.get(), &seal, sizeof seal);
  if (written != kSealBytes) fail_write(path, "write", written < 0 ? errno : ENOSPC, kSealBytes);
  if (::fsync(fd.get()) != 0) fail_write(path, "fsync", errno);
  if (fd.close() != 0) fail_write(path, "close", errno);
}

bool check_seal(const std::filesystem::path& path, ErrorCode unreadable, ErrorCode corrupt) {
  try {
    const InputFile file(path);
    const int64_t bytes = file.size() - kSealBytes;
    if (bytes < 0) return false;
    Seal seal;
    const std::array<char, 8> mark = seal.mark;
    file.read_at(bytes, std::as_writable_bytes(std::span(&seal, 1)));
    if (seal.mark != mark) return false;
    if (seal.bytes == static_cast<uint64_t>(bytes) && seal.sum == sum_of(file, bytes)) return true;
  } catch (const Error& error) {
    throw Error(unreadable, error.what());
  }
  fail(corrupt,
       "{} is corrupt: its bytes are not those of which it records the sum. Make it again.",
       path.string());
}

}  // namespace sutor::h5
