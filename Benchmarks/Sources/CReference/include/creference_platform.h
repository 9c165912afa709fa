// Every file here includes this header first, so that on other systems its message is the compiler's only one.
#ifndef CREFERENCE_PLATFORM_H
#define CREFERENCE_PLATFORM_H

#if !defined(__linux__)
// Unlike #error, a fatal error ends the compilation.
#pragma clang diagnostic fatal "-W#warnings"
#warning "The C handlers that FaultRuntime is measured against are for Linux."
#endif

#endif
