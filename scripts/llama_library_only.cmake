# Included by CMake after llama.cpp's project() line (CMAKE_PROJECT_<name>_INCLUDE). The common code of
# llama.cpp's programs is a third of the compile time; llama-cpp-python enables it and never loads it.
# A normal variable has priority over a cache entry (policy CMP0077).
set(LLAMA_BUILD_COMMON OFF)
