// Marks functions that nvcc compiles for the host and for a GPU; nothing elsewhere.
#pragma once

#ifdef __CUDACC__
#define SUTOR_HOST_DEVICE __host__ __device__
#else
#define SUTOR_HOST_DEVICE
#endif
