// The descriptors that a runtime keeps open, beside a program that closes descriptors which are not its own, or puts
// other files in their place.
#ifndef CUFFD_DESCRIPTORS_H
#define CUFFD_DESCRIPTORS_H

#include "cuffd_platform.h"

#include <stdbool.h>
#include <stdint.h>

#include "cuffd_attributes.h"

#pragma clang assume_nonnull begin

// Gives a new descriptor another number if it has one of 0 to 2, which a program that lacks its standard streams opens
// again. Takes a number or -errno, and returns a number or -errno. In case of an error the descriptor is closed.
int cuffd_above_standard(int fd);

// Notes that a runtime of this process keeps a descriptor open: a userfaultfd, an epoll descriptor or an eventfd. Where
// a runtime has this number already, the program has closed that one's descriptor, and the process ends as with
// cuffd_end_without. `what` is the kind of the descriptor. Numbers of 4096 and more are not noted.
void cuffd_note_own(const char *what, int fd);

// Closes a descriptor that was noted, unless the program has put a file with a type in its place.
void cuffd_close_own(int fd);

// Returns whether the descriptor is a userfaultfd (the kernel refuses an UFFDIO_WAKE of no bytes with EINVAL). Where a
// seccomp filter refuses the request, every file without a type counts as one.
CUFFD_NO_LOCKS bool cuffd_is_userfaultfd(int fd);

// Returns whether a descriptor that this process has noted is not open any more, or belongs to a file with a type. The
// descriptors that a runtime makes have no type. Files of the program without a type, such as an eventfd of its own,
// are not told from them.
CUFFD_NO_LOCKS bool cuffd_is_foreign(int fd);

// Writes a line to standard error that says which descriptor is lost, and ends the process (abort(3)). `what` is the
// kind of the descriptor.
_Noreturn void cuffd_end_without(const char *what, int fd);

// Keeps a userfaultfd alive while the program closes its descriptor: a thread has a descriptor table of its own with
// nothing in it but this userfaultfd (CLOSE_RANGE_UNSHARE, Linux 5.9). Without it the kernel would fill all missing
// pages with zeros when the program closes the descriptor. Returns a handle, or 0 if the host does not permit it.
uint64_t cuffd_keep(int fd);

// Ends what cuffd_keep began. Does nothing for the handle 0, and nothing in a forked child, which has no such thread.
void cuffd_keep_no_more(uint64_t handle);

#pragma clang assume_nonnull end

#endif
