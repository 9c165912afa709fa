// The first header of every file here: elsewhere it is the only thing that the compiler has to say.
#ifndef CUFFD_PLATFORM_H
#define CUFFD_PLATFORM_H

#if !defined(__linux__)
// A fatal error, unlike #error, ends the compilation, and what other systems lack besides is not reported.
#pragma clang diagnostic fatal "-W#warnings"
#warning "FaultRuntime is for Linux: it is built on userfaultfd(2)."
#endif

#endif
