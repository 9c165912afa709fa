// Every header here includes this one first. On other systems its message is the only error that the compiler reports.
#ifndef CUFFD_PLATFORM_H
#define CUFFD_PLATFORM_H

#if !defined(__linux__)
// Unlike #error, a fatal error ends the compilation, so that nothing else that other systems lack is reported.
#pragma clang diagnostic fatal "-W#warnings"
#warning "FaultRuntime is for Linux: it is built on userfaultfd(2)."
#endif

#endif
