/* SPDX-License-Identifier: MIT OR GPL-2.0-only
 *
 * The longest match, by the daemon's own LC-trie.
 *
 * `words` has the layout of the snapshot that ipc/fib_layout.py describes: the default routes in the
 * header's words, then the trie region. The engine writes it. Every index is masked, so a search stays
 * inside the array whatever it reads: a wrong word gives a wrong answer at worst. A search reads no
 * memory that is used again meanwhile, because the engine waits for it (`activity` in traffic.bpf.c).
 *
 * Source: Nilsson & Karlsson, LC-tries, IEEE JSAC 17(6), 1999.
 */
#ifndef ROUTED_BPF_FIB_H
#define ROUTED_BPF_FIB_H

#include "helpers.h"

#define RECORD_FLAG 0x80000000u
#define ADDRESS_MASK 0x3ffffffu
#define KIND_SHIFT 26
#define FIRST_BUCKET 16
#define RANGES_MAX 16			/* of a bucket; the writer makes 8 at most */
#define WORD_DEFAULT4 27
#define WORD_DEFAULT6 35
#define STRIDE_BITS 8
#define ROOT_BITS4 18
#define ROOT_BITS6 16
#define DIRECTORIES_MAX4 2		/* below the root: (32 - 18) / 8, rounded up */
#define DIRECTORIES_MAX6 14
#define BRANCHES_MAX4 14		/* one bit each at worst */
#define BRANCHES_MAX6 112

INLINE __u32 word_at(__u32 index)
{
	return *(volatile __u32 *)&words[index & config.words_mask];
}

/* The two words of a directory's entry at once; it begins at an even index. */
INLINE __u64 entry_at(__u32 index)
{
	return *(volatile __u64 *)&words[index & config.words_mask & ~1u];
}

/* The record behind a bucket's word: that of the last range that begins at or below `value`. */
INLINE __u32 record_in_bucket(__u32 word, __u32 at, __u32 value)
{
	__u32 starts = (word >> KIND_SHIFT) - (FIRST_BUCKET - 1), i;

	for (i = 0; i < RANGES_MAX; i++)
		if (i >= starts || word_at(at + i) > value)
			break;
	return word_at(at + starts + i);
}

/* The record of the longest prefix that covers an IPv4 address; 0 for none. */
INLINE __u32 find4(__u32 address)
{
	__u32 left = 32 - ROOT_BITS4, best, word, nearer, kind, base, at, bits, i;
	__u64 entry = entry_at(config.root4 + 2 * (address >> left));

	word = (__u32)entry;
	best = entry >> 32;
	for (i = 0; i < DIRECTORIES_MAX4 && word && !(word >> KIND_SHIFT); i++) {
		bits = STRIDE_BITS < left ? STRIDE_BITS : left;
		left = (left - bits) & 31;	/* masked, so that all rounds look alike to the verifier */
		entry = entry_at(word + 2 * (address >> left & ((1u << bits) - 1)));
		word = (__u32)entry;
		nearer = entry >> 32;
		if (nearer)
			best = nearer;
	}
	base = at = word & ADDRESS_MASK;
	for (i = 0; i < BRANCHES_MAX4 + 1; i++) {
		kind = word >> KIND_SHIFT;
		if (kind - 1 >= FIRST_BUCKET - 1)	/* 0, a bucket, or a record: bit 31 is part of it */
			break;
		left = (left - kind) & 31;
		word = word_at(at + (address >> left & ((1u << kind) - 1)));
		at = base + (word & ADDRESS_MASK);
	}
	if (word & RECORD_FLAG)
		return word & ~RECORD_FLAG;
	if (word)
		nearer = record_in_bucket(word, at, address);
	else
		nearer = 0;
	if (nearer)
		return nearer;
	return best ? best : word_at(WORD_DEFAULT4);
}

/* `bits` bits of an IPv6 address, beginning `left` bits from its low end. */
INLINE __u32 bits_of(__u64 high, __u64 low, __u32 left, __u32 bits)
{
	__u64 shifted = high >> (left & 63);

	if (left < 64)
		shifted = low >> left | high << 1 << (~left & 63);
	return shifted & ((1u << (bits & 31)) - 1);
}

/* The record of the longest prefix that covers an IPv6 address; 0 for none. */
INLINE __u32 find6(__u64 high, __u64 low)
{
	__u32 left = 128 - ROOT_BITS6, best, word, nearer, kind, base, at, bits, i;
	__u64 entry = entry_at(config.root6 + 2 * bits_of(high, low, left, ROOT_BITS6)), under;

	word = (__u32)entry;
	best = entry >> 32;
	for (i = 0; i < DIRECTORIES_MAX6 && word && !(word >> KIND_SHIFT); i++) {
		bits = STRIDE_BITS < left ? STRIDE_BITS : left;
		left = (left - bits) & 127;
		entry = entry_at(word + 2 * bits_of(high, low, left, bits));
		word = (__u32)entry;
		nearer = entry >> 32;
		if (nearer)
			best = nearer;
	}
	base = at = word & ADDRESS_MASK;
	for (i = 0; i < BRANCHES_MAX6; i++) {
		kind = word >> KIND_SHIFT;
		if (kind - 1 >= FIRST_BUCKET - 1)
			break;
		left = (left - kind) & 127;
		word = word_at(at + bits_of(high, low, left, kind));
		at = base + (word & ADDRESS_MASK);
	}
	if (word & RECORD_FLAG)
		return word & ~RECORD_FLAG;
	nearer = 0;
	if (word) {
		/* A bucket holds 32 bits of where its ranges begin: those above what no prefix decides. */
		under = left > 32 ? left - 32 : 0;
		under = under < 64 ? low >> under | high << 1 << (~under & 63) : high >> (under & 63);
		nearer = record_in_bucket(word, at, (__u32)under);
	}
	if (nearer)
		return nearer;
	return best ? best : word_at(WORD_DEFAULT6);
}

#endif
