/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * The few words that a program needs in addition to the kernel's UAPI headers: no libbpf, no vmlinux.h.
 */
#ifndef ROUTED_BPF_HELPERS_H
#define ROUTED_BPF_HELPERS_H

#include <linux/bpf.h>
#include <linux/types.h>

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static __attribute__((always_inline)) inline

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define FROM_NETWORK16(value) __builtin_bswap16(value)
#define FROM_NETWORK32(value) __builtin_bswap32(value)
#define FROM_NETWORK64(value) __builtin_bswap64(value)
#else
#define FROM_NETWORK16(value) (value)
#define FROM_NETWORK32(value) (value)
#define FROM_NETWORK64(value) (value)
#endif

static long (*const load_bytes)(const void *skb, __u32 offset, void *to, __u32 bytes) =
	(void *)BPF_FUNC_skb_load_bytes;
static __u32 (*const processor_id)(void) = (void *)BPF_FUNC_get_smp_processor_id;

#endif
