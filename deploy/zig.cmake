# Cross-compile with zig, from PyPI's ziglang: FS_ZIG is the program, FS_TARGET the machine and libc
# ("x86_64-linux-gnu.2.28"). clang, lld and the headers and stubs of every glibc and musl are in it.
set(CMAKE_SYSTEM_NAME Linux)
string(REGEX MATCH "^[^-]+" CMAKE_SYSTEM_PROCESSOR "$ENV{FS_TARGET}")
set(CMAKE_C_COMPILER "$ENV{FS_ZIG}" cc -target $ENV{FS_TARGET})
# The headers of the Python that a module is for are given by their path.
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE NEVER)
