# cmake -DFROM=SOURCE -DTO=FILE -P as_cxx.cmake: what of CUDA's language no header can define becomes
# C++ (cuda_emulation.h): launches and shared memory of a size that the launch gives.
file(READ ${FROM} text)
set(emulation ::sutor::cuda_emulation)
string(REGEX REPLACE "extern __shared__ __align__\\([0-9]+\\) unsigned char shared\\[\\];"
  "unsigned char* const shared = ${emulation}::block->shared.get();" text "${text}")
string(REGEX REPLACE "([A-Za-z0-9_]+)<<<([^>]+)>>>\\("
  "${emulation}::Launch(\\2).run([&](auto... all) { \\1(all...); }, " text "${text}")
file(WRITE ${TO}
  "#include \"tests/support/cuda_emulation/cuda_emulation.h\"\n#line 1 \"${FROM}\"\n${text}")
