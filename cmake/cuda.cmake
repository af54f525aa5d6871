# Sets LOCKSTEP_HAS_CUDA, and with it NCCL_LIBRARY and the language CUDA.
set(LOCKSTEP_HAS_CUDA OFF)
if(LOCKSTEP_CUDA STREQUAL "OFF")
  return()
endif()

set(oldest_toolkit 12.4) # __maxnreg__
find_package(CUDAToolkit ${oldest_toolkit} QUIET)
find_path(NCCL_INCLUDE_DIR nccl.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
find_library(NCCL_LIBRARY nccl HINTS ${CUDAToolkit_LIBRARY_DIR})
if(CUDAToolkit_FOUND AND CUDAToolkit_NVCC_EXECUTABLE AND NCCL_INCLUDE_DIR AND NCCL_LIBRARY)
  set(LOCKSTEP_HAS_CUDA ON)
elseif(LOCKSTEP_CUDA STREQUAL "ON")
  message(FATAL_ERROR "LOCKSTEP_CUDA=ON needs the CUDA toolkit ${oldest_toolkit} or newer (nvcc: "
          "${CUDAToolkit_NVCC_EXECUTABLE}) and NCCL (nccl.h: ${NCCL_INCLUDE_DIR}, library: ${NCCL_LIBRARY})")
else()
  message(STATUS "CUDA: not built in (the toolkit or NCCL was not found)")
  return()
endif()
message(STATUS "CUDA: toolkit ${CUDAToolkit_VERSION}, NCCL ${NCCL_LIBRARY}")

set(CMAKE_CUDA_COMPILER ${CUDAToolkit_NVCC_EXECUTABLE})
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real 90-virtual)
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # CMake 3.25 does not know that nvcc has it
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
endif()
if(CCACHE)
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${CCACHE})
endif()
# {fmt} 9 takes nvcc, and whatever includes CUDA's headers, for a compiler without constexpr.
add_compile_definitions(FMT_USE_CONSTEXPR=1)
include_directories(SYSTEM ${CUDAToolkit_INCLUDE_DIRS} ${NCCL_INCLUDE_DIR})
