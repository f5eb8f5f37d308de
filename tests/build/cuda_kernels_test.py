#!/usr/bin/env python3
"""Compiles the kernels for GPUs (csrc/ops/cuda/kernels/*.cu) as a build with CUDA does, for the
architecture of an H100 or H200, and reads what nvcc said: no error, no warning, no spill, no C7510
(cuda_objects_test.py). No GPU and no CUDA build are needed. Exit 77 without nvcc.

  python3 tests/build/cuda_kernels_test.py ROOT NVCC INCLUDE
"""

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cuda_objects_test

SKIPPED = 77


def compile_kernel(root, nvcc, include, source, folder):
    """What nvcc said, and whether it succeeded."""
    command = [nvcc, "-std=c++20", f"-I{root}", f"-I{include}", "-O3", "-DNDEBUG",
               "-Werror=all-warnings", "-gencode=arch=compute_90a,code=sm_90a",
               "--ptxas-options=-v", "-c", str(source), "-o", str(folder / source.stem)]
    if source.stem == "adamw_bf16":
        command.append("-fmad=false")
    result = subprocess.run(command, capture_output=True, text=True)
    return result.stdout + result.stderr, result.returncode == 0


def main(root, nvcc, include):
    if not Path(nvcc).exists():
        print(f"skipped: no nvcc ({nvcc}); tools/setup.sh --tests installs it")
        return SKIPPED
    sources = sorted((Path(root) / "csrc/ops/cuda/kernels").glob("*.cu"))
    found = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as threads:
        work = [threads.submit(compile_kernel, root, nvcc, include, source, Path(folder))
                for source in sources]
        for source, job in zip(sources, work):
            said, good = job.result()
            found += cuda_objects_test.problems(source.name, said) if good else [said]
    print("\n".join(found) if found else f"{len(sources)} files of kernels, no spills")
    return 1 if found or not sources else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
