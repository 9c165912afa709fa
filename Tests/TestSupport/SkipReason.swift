package import Testing

/// The reasons why a test cannot run here. `scripts/check-skips` knows what justifies each reason, and `.ci/run`
/// fails if the machine does not justify a skip.
package enum SkipReason {
  package static let cgroup: Comment = "SKIP-CGROUP: needs to write a memory cgroup of the first version"
  package static let cpuLatency: Comment = "SKIP-CPU-LATENCY: needs to write /dev/cpu_dma_latency"
  package static let device: Comment = "SKIP-DEVICE: needs to open /dev/userfaultfd (Linux 6.1)"
  package static let forkEvents: Comment = "SKIP-PTRACE: needs CAP_SYS_PTRACE for events of fork"
  package static let hugePages: Comment = "SKIP-THP: needs transparent huge pages"
  package static let hugetlb: Comment = "SKIP-HUGETLB: needs huge pages of the pool, or to allow itself some"
  package static let kernelModeFaults: Comment = "SKIP-KERNEL-MODE: needs a userfaultfd that serves system calls"
  package static let minorShmem: Comment = "SKIP-MINOR-SHMEM: needs minor faults on shared memory (Linux 5.14)"
  package static let move: Comment = "SKIP-MOVE: needs UFFDIO_MOVE (Linux 6.8)"
  package static let noSwap: Comment = "SKIP-SWAP: needs a host without swap"
  package static let pagemapScan: Comment = "SKIP-PAGEMAP-SCAN: needs PAGEMAP_SCAN (Linux 6.7)"
  package static let pin: Comment = "SKIP-PIN: needs io_uring to pin a page"
  package static let poison: Comment = "SKIP-POISON: needs UFFDIO_POISON (Linux 6.6)"
  package static let remapDrops: Comment = "SKIP-WP-REMAP: needs mremap to drop write protection (Linux 6.13)"
  package static let root: Comment = "SKIP-ROOT: needs to change its user"
  package static let sanitizer: Comment = "SKIP-SANITIZER: needs a process without a sanitizer"
  package static let twoCPUs: Comment = "SKIP-CPUS: needs two CPUs"
  package static let writeProtect: Comment = "SKIP-WP: needs write protection (Linux 5.7)"
  package static let writeProtectShmem: Comment = "SKIP-WP-SHMEM: needs write protection of shared memory (Linux 5.19)"
  package static let writeProtectUnpopulated: Comment =
    "SKIP-WP-UNPOPULATED: needs write protection of empty pages (Linux 6.4)"
}
