/* What the parts of the extension `_search` share. */
#ifndef ROUTED_SEARCH_H
#define ROUTED_SEARCH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "fib_snapshot.h"

#ifndef __SIZEOF_INT128__
#error "128-bit integers are needed"
#endif

typedef unsigned __int128 u128;

enum {
    SEARCH_GROUP_MAX = 256,             /* most addresses that are searched together */
    SEARCH_LANES = 16                   /* addresses in one vector */
};

/* The layout of a batch's addresses in memory. */
enum form { NUMBERS_IPV4, PACKED_IPV4, PACKED_IPV6 };

static inline u128 packed_ipv6(const unsigned char *bytes)
{
    uint64_t halves[2];
    memcpy(halves, bytes, 16);
    return (u128)__builtin_bswap64(halves[0]) << 64 | __builtin_bswap64(halves[1]);
}

/* Search any number of addresses; a chunk is repeated if its memory may have been reused. Returns
 * RFIB_FOUND, RFIB_DAMAGED or RFIB_BUSY. `total` is the number of words of the mapping; `is_wide`
 * permits search_wide4. */
int search_many(const struct rfib *fib, uint32_t total, const unsigned char *from, uint32_t *out,
                size_t count, enum form form, int is_wide);

/* Whether the processor has the instructions of search_wide4. */
int has_wide_search(void);

/* Search `count` addresses, a multiple of SEARCH_LANES up to SEARCH_GROUP_MAX. Returns whether all have
 * their results; if not, some word leads outside. */
int search_wide4(const struct rfib *fib, uint32_t total, const uint32_t *addresses, uint32_t *out,
                 unsigned count);

#endif
