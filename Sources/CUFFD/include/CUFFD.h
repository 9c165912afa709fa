// The umbrella header of what FaultRuntime needs from C and cannot express in Swift.
#ifndef CUFFD_H
#define CUFFD_H

#include "cuffd_platform.h"

#include "cuffd_abi.h"
#include "cuffd_asking.h"
#include "cuffd_bulk.h"
#include "cuffd_calls.h"
#include "cuffd_descriptors.h"
#include "cuffd_facts.h"
#include "cuffd_fork.h"
#include "cuffd_host.h"
#include "cuffd_last_words.h"
#include "cuffd_limits.h"
#include "cuffd_placement.h"
#include "cuffd_signals.h"
#include "cuffd_trouble.h"
#include "cuffd_twin.h"
#include "cuffd_waiting.h"

#endif
