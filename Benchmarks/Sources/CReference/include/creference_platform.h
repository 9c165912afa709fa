// The first header of every file here: elsewhere it is the only thing that the compiler has to say.
#ifndef CREFERENCE_PLATFORM_H
#define CREFERENCE_PLATFORM_H

#if !defined(__linux__)
// A fatal error, unlike #error, ends the compilation.
#pragma clang diagnostic fatal "-W#warnings"
#warning "The C handlers that FaultRuntime is measured against are for Linux."
#endif

#endif
