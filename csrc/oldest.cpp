// What this compiler's headers ask of libraries that are newer than glibc 2.28 and its time's libstdc++ (GLIBCXX 3.4.24),
// which are the oldest that PyTorch itself runs with. Defined here, and hidden, so that one binary serves all of them.
// tools/wheels.py refuses a wheel that asks for anything else.
#include <sstream>

#ifdef __GLIBCXX__
// new in 3.4.26
template std::basic_ostringstream<char>::basic_ostringstream();
template std::basic_stringstream<char>::basic_stringstream();

// new in 3.4.29; the exception that it throws derives from the one that is thrown here
[[noreturn]] __attribute__((visibility("hidden"))) void throw_bad_array_new_length() __asm__("_ZSt28__throw_bad_array_new_lengthv");
void throw_bad_array_new_length() { std::__throw_bad_alloc(); }
#endif

#ifdef __GLIBC__
// New in glibc 2.32: counts of references need no atomic operations while it is true. It never is here.
extern "C" {
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;
}
#endif
