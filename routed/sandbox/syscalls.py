"""The system calls that the engine may make, and their numbers on the supported machines.

Three actions:

    allowed   calls that Python, trio and our packages need once everything is imported and every
              socket came from the parent. Some only with certain arguments.
    EPERM     the rest. A defect (a lazy import, a new library) may run into it: it gets an OSError,
              a traceback that the parent logs, and the next engine.
    killed    calls that only an intruder makes: no code of ours, of Python or of a library in use
              makes them. The process ends at once; the parent sees SIGSYS and counts it.

No allowed call takes a path. glibc's fstat(3) is newfstatat(2) with an empty path on some machines;
a filter cannot see whether the path is empty, so the call is refused. The engine creates the memory
that it maps beforehand (`routed.snapshot.writer.SnapshotMemory`).

Calls newer than the tables are answered with ENOSYS, so that a future C library falls back to older
calls instead of failing. So is clone3: it takes its flags by pointer, which a filter cannot
follow, and glibc falls back to clone.

Sources: the kernel's syscall_64.tbl and asm-generic/unistd.h; what each is for, in section 2 of the
manual.
"""

from __future__ import annotations

from typing import NamedTuple

from routed.sandbox.kernel import Machine

__all__ = [
    "ALLOWED",
    "COMMON_REFUSALS",
    "CONDITIONS",
    "FATAL",
    "LIVENESS_ALLOWED",
    "NEWEST_KNOWN",
    "NUMBERS",
    "OBSERVER_ALLOWED",
    "Condition",
]

NEWEST_KNOWN = 450
"""The last number that the tables were made from (Linux 6.1)."""


class Condition(NamedTuple):
    """A condition: an argument, under a mask, must equal one of some values."""

    argument: int
    """0 to 5."""
    mask: int
    """Mask of 64 bits; where the kernel takes an int, it excludes the upper half."""
    values: tuple[int, ...]
    is_fatal: bool = False
    """The action if it is not met: killed, or EPERM."""
    also: tuple[Condition, ...] = ()
    """Conditions on other arguments; only their arguments, masks and values are used."""


ALLOWED: tuple[str, ...] = (
    # open descriptors
    "read", "write", "readv", "writev", "pread64", "close", "close_range", "fstat",
    "sendto", "sendmsg", "recvfrom", "recvmsg", "accept", "accept4",
    "getsockname", "getpeername", "getsockopt",
    # trio: waiting and wake-ups
    "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll",
    "eventfd2",
    # the journals of injected routes: memfds of the parent's
    "ftruncate",
    # memory
    "munmap", "mremap", "brk", "madvise", "membarrier",
    # threads, signals, ending
    "futex", "set_robust_list", "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
    "sigaltstack", "restart_syscall", "sched_yield", "exit", "exit_group",
    # ending in time, whatever becomes of the rest (`routed.engine.main`)
    "setitimer",
    # time, randomness, and information about this process
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time",
    "getrandom", "getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid",
    "getrusage", "sysinfo", "uname", "getcpu", "sched_getaffinity",
)  # fmt: skip

LIVENESS_ALLOWED: tuple[str, ...] = tuple(
    name for name in ALLOWED if name not in ("accept", "accept4", "ftruncate", "pread64")
)
"""The same for the liveness process, which has no clients and no files in memory."""

OBSERVER_ALLOWED: tuple[str, ...] = LIVENESS_ALLOWED
"""The same for the observer, which reads counters in mapped memory."""

_WHOLE = 0xFFFF_FFFF_FFFF_FFFF
_INT = 0xFFFF_FFFF
_PROT_EXEC = 0x4
_CLONE_THREAD = 0x0001_0000
_SHUT_WR = 1
_FIONBIO, _FIONCLEX, _FIOCLEX = 0x5421, 0x5450, 0x5451
_SOL_SOCKET, _IPPROTO_TCP = 1, 6
_SO_SNDBUF, _SO_RCVBUF, _TCP_NODELAY = 7, 8, 1
_AF_UNIX, _SOCK_TYPE_MASK, _SOCK_STREAM, _SOCK_SEQPACKET = 1, 0xF, 1, 5
_F_GETFD, _F_SETFD, _F_GETFL, _F_SETFL = 1, 2, 3, 4
_F_DUPFD_CLOEXEC, _F_ADD_SEALS, _F_GET_SEALS = 1030, 1033, 1034

CONDITIONS: dict[str, Condition] = {
    # Memory is writable or executable, and never becomes executable: no shellcode.
    "mmap": Condition(2, _PROT_EXEC, (0,)),
    "mprotect": Condition(2, _PROT_EXEC, (0,)),
    # Threads, not processes: a clone without CLONE_THREAD is a fork.
    "clone": Condition(0, _CLONE_THREAD, (_CLONE_THREAD,), is_fatal=True),
    # Other families would be created before the kernel finds that it cannot pair them, and their
    # modules loaded. A datagram socket could send to any path or abstract name.
    "socketpair": Condition(
        0,
        _INT,
        (_AF_UNIX,),
        also=(Condition(1, _SOCK_TYPE_MASK, (_SOCK_STREAM, _SOCK_SEQPACKET)),),
    ),
    # Blocking or not, and closed on exec; no terminal, no device, no interface.
    "ioctl": Condition(1, _INT, (_FIONBIO, _FIONCLEX, _FIOCLEX)),
    # No owner (F_SETOWN sends signals), no lease, no lock.
    "fcntl": Condition(
        1,
        _INT,
        (
            _F_GETFD, _F_SETFD, _F_GETFL, _F_SETFL, _F_DUPFD_CLOEXEC, _F_ADD_SEALS, _F_GET_SEALS,
        ),
    ),
    # trio shrinks the buffers of its wake-up pair, and tries to have them sent at once. What else
    # these levels have under the three numbers is harmless: SO_DEBUG, which takes a capability;
    # TCP_SYNCNT and TCP_LINGER2. Not IP, IPv6 and UDP: the NUP sockets are the parent's too.
    "setsockopt": Condition(
        2,
        _INT,
        (_SO_SNDBUF, _SO_RCVBUF, _TCP_NODELAY),
        also=(Condition(1, _INT, (_SOL_SOCKET, _IPPROTO_TCP)),),
    ),
    # The end of a metrics answer. Not SHUT_RD: the listeners are shared with the parent, and one
    # that was shut down for reading would be unusable for every later engine.
    "shutdown": Condition(1, _INT, (_SHUT_WR,)),
    # Limits may be read (the C library does, for a thread's stack), not set: the new one is null.
    "prlimit64": Condition(2, _WHOLE, (0,)),
}  # fmt: skip

FATAL: tuple[str, ...] = (
    # another program, another process
    "execve", "execveat", "fork", "vfork",
    # into other processes
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd", "kcmp",
    # kernel interfaces with a history of vulnerabilities
    "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter",
    "io_uring_register", "keyctl", "add_key", "request_key",
    # another view of the system
    "mount", "umount2", "move_mount", "open_tree", "fsopen", "fsmount", "fsconfig", "fspick",
    "mount_setattr", "pivot_root", "chroot", "unshare", "setns", "open_by_handle_at",
    # the machine itself
    "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot",
    "swapon", "swapoff", "iopl", "ioperm",
)  # fmt: skip

_X86_64: dict[str, int] = {
    "read": 0, "write": 1, "readv": 19, "writev": 20, "pread64": 17, "close": 3, "close_range": 436,
    "fstat": 5, "sendto": 44, "sendmsg": 46, "recvfrom": 45, "recvmsg": 47, "accept": 43,
    "accept4": 288, "shutdown": 48, "getsockname": 51, "getpeername": 52, "getsockopt": 55,
    "epoll_create1": 291, "epoll_ctl": 233, "epoll_wait": 232, "epoll_pwait": 281,
    "epoll_pwait2": 441, "poll": 7, "ppoll": 271, "socketpair": 53, "eventfd2": 290,
    "ftruncate": 77, "munmap": 11, "mremap": 25, "brk": 12, "madvise": 28,
    "membarrier": 324, "futex": 202, "set_robust_list": 273, "rseq": 334, "rt_sigaction": 13,
    "rt_sigprocmask": 14, "rt_sigreturn": 15, "sigaltstack": 131, "restart_syscall": 219,
    "sched_yield": 24, "exit": 60, "exit_group": 231, "clock_gettime": 228, "clock_getres": 229,
    "clock_nanosleep": 230, "nanosleep": 35, "gettimeofday": 96, "time": 201, "getrandom": 318,
    "getpid": 39, "getppid": 110, "gettid": 186, "getuid": 102, "geteuid": 107, "getgid": 104,
    "getegid": 108, "getrusage": 98, "sysinfo": 99, "uname": 63, "getcpu": 309,
    "sched_getaffinity": 204, "mmap": 9, "mprotect": 10, "clone": 56,
    "ioctl": 16, "fcntl": 72, "setsockopt": 54, "prlimit64": 302, "tgkill": 234, "clone3": 435,
    "execve": 59, "execveat": 322, "fork": 57, "vfork": 58, "ptrace": 101, "process_vm_readv": 310,
    "process_vm_writev": 311, "process_madvise": 440, "pidfd_getfd": 438, "kcmp": 312, "bpf": 321,
    "perf_event_open": 298, "userfaultfd": 323, "io_uring_setup": 425, "io_uring_enter": 426,
    "io_uring_register": 427, "keyctl": 250, "add_key": 248, "request_key": 249, "mount": 165,
    "umount2": 166, "move_mount": 429, "open_tree": 428, "fsopen": 430, "fsmount": 432,
    "fsconfig": 431, "fspick": 433, "mount_setattr": 442, "pivot_root": 155, "chroot": 161,
    "unshare": 272, "setns": 308, "open_by_handle_at": 304, "init_module": 175, "finit_module": 313,
    "delete_module": 176, "kexec_load": 246, "kexec_file_load": 320, "reboot": 169, "swapon": 167,
    "swapoff": 168, "iopl": 172, "ioperm": 173, "seccomp": 317, "setitimer": 38,
}  # fmt: skip

_AARCH64: dict[str, int] = {
    "read": 63, "write": 64, "readv": 65, "writev": 66, "pread64": 67, "close": 57,
    "close_range": 436, "fstat": 80, "sendto": 206, "sendmsg": 211, "recvfrom": 207, "recvmsg": 212,
    "accept": 202, "accept4": 242, "shutdown": 210, "getsockname": 204, "getpeername": 205,
    "getsockopt": 209, "epoll_create1": 20, "epoll_ctl": 21, "epoll_pwait": 22, "epoll_pwait2": 441,
    "ppoll": 73, "socketpair": 199, "eventfd2": 19, "ftruncate": 46, "munmap": 215, "mremap": 216,
     "brk": 214, "madvise": 233, "membarrier": 283, "futex": 98,
    "set_robust_list": 99, "rseq": 293, "rt_sigaction": 134, "rt_sigprocmask": 135,
    "rt_sigreturn": 139, "sigaltstack": 132, "restart_syscall": 128, "sched_yield": 124, "exit": 93,
    "exit_group": 94, "clock_gettime": 113, "clock_getres": 114, "clock_nanosleep": 115,
    "nanosleep": 101, "gettimeofday": 169, "getrandom": 278, "getpid": 172, "getppid": 173,
    "gettid": 178, "getuid": 174, "geteuid": 175, "getgid": 176, "getegid": 177, "getrusage": 165,
    "sysinfo": 179, "uname": 160, "getcpu": 168, "sched_getaffinity": 123, "mmap": 222,
    "mprotect": 226, "clone": 220, "ioctl": 29, "fcntl": 25, "setsockopt": 208,
    "prlimit64": 261, "tgkill": 131, "clone3": 435, "execve": 221, "execveat": 281, "ptrace": 117,
    "process_vm_readv": 270, "process_vm_writev": 271, "process_madvise": 440, "pidfd_getfd": 438,
    "kcmp": 272, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "io_uring_setup": 425,
    "io_uring_enter": 426, "io_uring_register": 427, "keyctl": 219, "add_key": 217,
    "request_key": 218, "mount": 40, "umount2": 39, "move_mount": 429, "open_tree": 428,
    "fsopen": 430, "fsmount": 432, "fsconfig": 431, "fspick": 433, "mount_setattr": 442,
    "pivot_root": 41, "chroot": 51, "unshare": 97, "setns": 268, "open_by_handle_at": 265,
    "init_module": 105, "finit_module": 273, "delete_module": 106, "kexec_load": 104,
    "kexec_file_load": 294, "reboot": 142, "setitimer": 103, "swapon": 224, "swapoff": 225,
    "seccomp": 277,
}  # fmt: skip

NUMBERS: dict[Machine, dict[str, int]] = {Machine.X86_64: _X86_64, Machine.AARCH64: _AARCH64}
"""By name; a call that a machine never had is absent."""

COMMON_REFUSALS: dict[Machine, dict[str, int]] = {
    Machine.X86_64: {
        "open": 2, "stat": 4, "lstat": 6, "access": 21, "dup": 32, "dup2": 33, "socket": 41,
        "connect": 42, "bind": 49, "listen": 50, "kill": 62, "rename": 82, "mkdir": 83,
        "rmdir": 84, "unlink": 87, "readlink": 89, "chmod": 90, "chown": 92, "umask": 95,
        "setuid": 105, "setgid": 106, "prctl": 157, "setrlimit": 160, "sethostname": 170,
        "getdents64": 217, "openat": 257, "mkdirat": 258, "newfstatat": 262,
        "unlinkat": 263, "readlinkat": 267,
        "faccessat": 269, "inotify_init1": 294, "statx": 332, "pidfd_send_signal": 424,
        "pidfd_open": 434, "openat2": 437, "faccessat2": 439,
    },
    Machine.AARCH64: {
        "dup": 23, "unlinkat": 35, "mkdirat": 34, "faccessat": 48, "openat": 56, "getdents64": 61,
        "readlinkat": 78, "newfstatat": 79, "kill": 129, "setgid": 144, "setuid": 146,
        "sethostname": 161,
        "setrlimit": 164, "umask": 166, "prctl": 167, "socket": 198, "bind": 200, "listen": 201,
        "connect": 203, "inotify_init1": 26, "statx": 291, "pidfd_send_signal": 424,
        "pidfd_open": 434, "openat2": 437, "faccessat2": 439,
    },
}  # fmt: skip
"""Names, for people, of calls that are refused; the filter needs none of them."""
