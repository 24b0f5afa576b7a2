# Included by CMake behind llama.cpp's project() line (CMAKE_PROJECT_<name>_INCLUDE): a third of
# the compiling is its programs' common code, which llama-cpp-python switches on and never loads.
# A normal variable wins over its cache entry (policy CMP0077).
set(LLAMA_BUILD_COMMON OFF)
