#!/usr/bin/env bash
# Makes one archive of what a machine with a GPU needs to check and measure a build: the program,
# the tests and the benchmark, the libraries that are neither torch's nor CUDA's nor glibc's, golden
# models, tokens, and the scripts of tests/gpu/pack. There: unpack it and start sutor-gpu/check.
# Use: bash tools/gpu_pack.sh [BUILD_FOLDER] [ARCHIVE]     build-cuda, its sutor-gpu.tar.xz; a name
# that ends with .zst is compressed by zstd. Of a build without CUDA the archive checks the CPU.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
case ${1:-} in
  -h | --help)
    sed -n '2,6s/^# //p' "$0"
    exit 0
    ;;
esac
build=$(realpath -m -- "${1:-$root/build-cuda}")
archive=$(realpath -m -- "${2:-$build/sutor-gpu.tar.xz}")
cd "$root"
source tools/common.sh
limit=$((64 * 1024 * 1024))

[[ -f $build/CMakeCache.txt ]] || die "$build is not a build folder"
kind=cpu programs=(sutor operators_test gpu_rates)
if grep -q '^SUTOR_CUDA:BOOL=ON' "$build/CMakeCache.txt"; then
  kind=cuda
  programs+=(sutor_gpu_test)
fi
for program in "${programs[@]}"; do
  [[ -x $build/$program ]] ||
    die "there is no $build/$program; first: cmake --build $build --target ${programs[*]}"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pack=$work/sutor-gpu
mkdir -p "$pack"/{bin,lib/compiler,models,data}

for program in "${programs[@]}"; do
  strip -o "$pack/bin/$program" "$build/$program"
done

cuda_packages='^lib(cu(blas|dart|dnn|fft|file|pti|rand|solver|sparse)|nv(rtc|JitLink|shmem)|nccl)'
# copy_libraries PROGRAM: what its loader finds here and will not find there.
copy_libraries() {
  local name arrow path rest
  while read -r name arrow path rest; do
    [[ $arrow == '=>' ]] || continue
    case $name in
      libc.so* | libm.so* | libdl.so* | librt.so* | libpthread.so* | libutil.so* | libresolv.so* | \
        libanl.so* | libmvec.so* | libnsl.so.1) continue ;;  # glibc
      libcuda.so* | libnvidia-*) continue ;;                 # the driver
    esac
    case $path in
      */torch/lib/* | */nvidia/*) continue ;;
      not)  # CUDA's packages need not be on the machine that compiles
        [[ $name =~ $cuda_packages ]] ||
          die "$1 needs $name, which is not on this machine"
        continue
        ;;
    esac
    case $name in
      libstdc++.so* | libgcc_s.so*) cp -L "$path" "$pack/lib/compiler/$name" ;;
      *) cp -L "$path" "$pack/lib/$name" ;;
    esac
  done < <(ldd "$1")
}
for program in "${programs[@]}"; do
  copy_libraries "$build/$program"
done

# make_tokens NAME DOCUMENTS LENGTH VOCABULARY: a token store of random ids, as h5py may be missing
# there.
make_tokens() {
  "$build/sutor" init-model --family deepseek_v2 --out "$work/$1" --set "vocab_size=$4"
  python3 - "$work/$1.jsonl" "$2" "$3" "$4" <<'END'
import json
import random
import sys

path, documents, length, vocabulary = sys.argv[1], *map(int, sys.argv[2:])
numbers = random.Random(5)
with open(path, "w") as rows:
    for _ in range(documents):
        ids = [numbers.randrange(3, vocabulary) for _ in range(length)]
        rows.write(json.dumps({"input_ids": ids}) + "\n")
END
  cat >"$work/$1.yaml" <<END
model: {path: $work/$1}
data: {train: [{path: $work/$1.jsonl, name: $1}], seq_len: $3, loss_on: all}
output: $work/$1.run
END
  "$build/sutor" prepare "$work/$1.yaml"
  mv "$work/$1.run/tokens/$1.tokens.h5" "$pack/data/"
}
make_tokens small 48 60 512
make_tokens wide 16 4096 102400

cp -r tests/golden/models/. "$pack/models/"
cp tests/gpu/pack/{check,rates,step,common.sh,*.py} "$pack/"
commit=$(git rev-parse HEAD)
[[ -z $(git status --porcelain) ]] || commit+=", with changes"
echo "$commit" >"$pack/COMMIT"
echo "$kind" >"$pack/BUILD"

mkdir -p "${archive%/*}"
XZ_OPT=${XZ_OPT:--6} ZSTD_CLEVEL=${ZSTD_CLEVEL:-12} tar -C "$work" -caf "$archive" --sort=name \
  --owner=0 --group=0 --numeric-owner sutor-gpu
bytes=$(stat -c %s "$archive")
((bytes < limit)) || die "$archive has $bytes bytes; the limit is $limit"
say "$archive: $((bytes / 1024 / 1024)).$((bytes / 104858 % 10)) MiB, a $kind build of $commit"
