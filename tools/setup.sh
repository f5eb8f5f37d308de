#!/usr/bin/env bash
# Sets up a Debian or Ubuntu machine and builds build/sutor: Debian packages, the light wheels
# (LibTorch and two CUDA run-time libraries, without Python torch) in .venv, CMake, Ninja.
# Use: bash tools/setup.sh [--tests | --cuda]
# --tests builds the tests and benchmarks too, gets NCCL, and installs SLURM and what else tests of
# launchers start (without starting any of it).
# --cuda builds build-cuda/sutor, which trains on GPUs too. It downloads 2.1 GB of wheels: the
# CUDA 13.0 compiler, NCCL, and the libraries that LibTorch loads on a GPU (cuBLAS, cuDNN,
# cuSPARSE, cuSPARSELt, cuFFT, cuRAND, cuSOLVER, cuFile, NVRTC, nvJitLink, NVSHMEM). No GPU and no
# driver are needed to build.
# It changes nothing that is there already: run it again at any time.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ ${1:-} != --cuda ]] || export SUTOR_PRESET=cuda
source tools/common.sh

targets=(sutor) with_tests=0 with_cuda=0
case ${1:-} in
  '') ;;
  --tests) targets=(all) with_tests=1 ;;
  --cuda) with_cuda=1 ;;
  -h | --help)
    sed -n '2,12s/^# //p' "$0"
    exit 0
    ;;
  *)
    echo "error: unknown option $1; there are --tests and --cuda" >&2
    exit 2
    ;;
esac

packages=(
  ca-certificates ccache clang-format cmake g++ hdf5-tools libbenchmark-dev
  libboost-program-options-dev libfmt-dev libgtest-dev libhdf5-dev libisal-dev libmpich-dev
  libreadline8 libxxhash-dev libyaml-cpp-dev mpich ninja-build nlohmann-json3-dev pkg-config python3
  python3-venv
)
if ((with_tests)); then
  packages+=(iproute2 munge slurm-wlm)  # tests/fault
fi
wheels=(
  --no-deps torch==2.11.0 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85
  tokenizers==0.23.3 jinja2==3.1.6 markupsafe==3.0.4 h5py==3.16.0 numpy==2.4.6
  # rows in Parquet and in zst files (150 MB)
  pyarrow==26.0.1 zstandard==0.25.0
  # ROUGE-L, BLEU and chrF of sutor eval, and what these two import (34 MB)
  rouge-score==0.1.2 absl-py==2.5.1 nltk==3.10.4 six==1.17.0
  sacrebleu==2.6.0 colorama==0.4.6 lxml==6.1.3 portalocker==4.4.2 regex==2026.11.19 tabulate==0.10.0
)
# What compiles and links NcclComm, and the kernels for GPUs, for the tests and for -DSUTOR_CUDA=ON
# (300 MB to download).
nccl_wheels=(
  --no-deps nvidia-nccl-cu13==2.28.9 nvidia-cuda-crt==13.0.88 nvidia-cuda-cccl==13.0.85
  nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88
)
# The client of AWS, with which tools/sagemaker_submit.py is tested (16 MB).
aws_wheels=(
  --no-deps boto3==1.44.8 botocore==1.44.8 s3transfer==0.19.3 jmespath==1.1.0
  python-dateutil==4.0.0 urllib3==2.8.0
)
# What -DSUTOR_CUDA=ON needs besides: the libraries that torch 2.11.0 names.
cuda_wheels=(
  --no-deps nvidia-cublas==13.1.0.3 nvidia-cudnn-cu13==9.19.0.56 nvidia-cufft==12.0.0.61
  nvidia-cufile==1.15.1.6 nvidia-curand==10.4.0.35 nvidia-cusolver==12.0.4.66
  nvidia-cusparse==12.6.3.3 nvidia-cusparselt-cu13==0.8.0 nvidia-nvjitlink==13.0.88
  nvidia-cuda-nvrtc==13.0.88 nvidia-nvshmem-cu13==3.4.5
)

install_packages() {
  command -v apt-get >/dev/null ||
    die "apt-get was not found: this script is for Debian and Ubuntu (README.md: what is needed)"
  local missing=() package
  for package in "${packages[@]}"; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      missing+=("$package")
  done
  if ((${#missing[@]} == 0)); then
    say "packages: all ${#packages[@]} installed"
    return
  fi
  say "packages: installing ${#missing[@]} of ${#packages[@]} ..."
  logged apt-update as_root apt-get update -q
  logged apt-install as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -q -y --no-install-recommends "${missing[@]}"
  say "packages: done"
}

install_packages
make_venv .venv "${wheels[@]}"
if ((with_tests || with_cuda)); then
  venv_part=nccl make_venv .venv "${nccl_wheels[@]}"
  # CMake looks for them when it configures.
  if [[ -f $build_dir/build.ninja && .venv/nccl.txt -nt $build_dir/build.ninja ]]; then
    logged configure cmake --preset "$preset"
  fi
fi
if ((with_tests)); then
  venv_part=aws make_venv .venv "${aws_wheels[@]}"
fi
if ((with_cuda)); then
  venv_part=cuda make_venv .venv "${cuda_wheels[@]}"
fi
build "${targets[@]}"
say "set-up complete: $build_dir/sutor is ready." \
  "Next: bash tools/quickstart.sh, or $build_dir/sutor --help"
