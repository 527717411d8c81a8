/* The search for many addresses, of both families.
 *
 * A batch is searched in groups of addresses, step by step. Each step reads one word for every
 * address without a result and prefetches its next word, so that the memory accesses overlap.
 *
 * No word of a snapshot is trusted: an index is compared with the size of the mapping before it is
 * used, and each step consumes bits of the address, so every search ends.
 */
#include <string.h>

#include "search.h"

/* Large enough that a step's waits overlap, small enough for the first-level cache; measured. An
 * IPv6 address has more steps, and more to remember. `struct walk` has 8 bits for the number. */
enum { GROUP4 = SEARCH_GROUP_MAX, GROUP6 = 64, CHUNK = 4096 };
enum { RECORD_BIT = 31 };

_Static_assert(RFIB_RECORD_FLAG == 1u << RECORD_BIT, "the flag of a record");

#define INLINE static inline __attribute__((always_inline))

/* Order against the writer is kept by the fence before the epoch is looked at again. */
INLINE uint32_t load(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

INLINE uint32_t bits_of(u128 address, unsigned left, unsigned bits, int is_ipv6)
{
    uint32_t shifted;

    if (!is_ipv6)
        shifted = (uint32_t)address >> left;
    else if (left >= 64)                /* nearly always: one shift of one register */
        shifted = (uint32_t)((uint64_t)(address >> 64) >> (left - 64));
    else
        shifted = (uint32_t)(address >> left);
    return shifted & ((1u << bits) - 1);
}

/* The state of the search for one address of a group. */
struct walk {
    uint32_t at;                        /* the next word to read */
    uint32_t block;                     /* where the block begins */
    uint8_t left;                       /* bits of the address that are not used up */
    uint8_t kind;                       /* 0: a directory's entry, 1..15: a branch, 16..: a bucket */
    uint8_t index;                      /* which address it is */
};

/* Follow a word of a directory or a branch that leads on. Returns whether that is possible. */
INLINE int follow(const struct rfib *fib, uint32_t total, struct walk *walk, uint32_t word,
                  uint32_t at, u128 address, int is_ipv6)
{
    unsigned kind = word >> RFIB_KIND_SHIFT;

    walk->kind = (uint8_t)kind;
    if (kind >= RFIB_FIRST_BUCKET_KIND) {
        uint32_t ranges = kind - RFIB_BUCKET_RANGES_BIAS;
        walk->at = at;
        if (at > total || total - at < 2 * ranges - 1)
            return 0;
        __builtin_prefetch(&fib->words[at]);
        __builtin_prefetch(&fib->words[at + 2 * ranges - 2]);
        return 1;
    }
    if (kind == 0 || kind > walk->left)
        return 0;
    walk->left -= (uint8_t)kind;
    at += bits_of(address, walk->left, kind, is_ipv6);
    walk->at = at;
    if (at >= total)
        return 0;
    __builtin_prefetch(&fib->words[at]);
    return 1;
}

/* The same for a child directory. */
INLINE int descend(const struct rfib *fib, uint32_t total, struct walk *walk, uint32_t directory,
                   u128 address, int is_ipv6)
{
    unsigned stride = fib->family[is_ipv6].stride_bits;

    if (stride > walk->left)
        stride = walk->left;
    if (stride == 0)
        return 0;
    walk->left -= (uint8_t)stride;
    walk->kind = 0;
    walk->at = directory + 2 * bits_of(address, walk->left, stride, is_ipv6);
    if (walk->at + 1 >= total)
        return 0;
    __builtin_prefetch(&fib->words[walk->at]);
    return 1;
}

INLINE uint32_t bucket_value(const uint32_t *words, const struct walk *walk, u128 address,
                             int is_ipv6)
{
    uint32_t starts = (uint32_t)walk->kind - RFIB_BUCKET_RANGES_BIAS - 1, index = 0, i;
    uint32_t low = (uint32_t)(is_ipv6 && walk->left > 32 ? address >> (walk->left - 32) : address);

    for (i = 0; i < starts; i++)
        index += rfib_load(&words[walk->at + i]) <= low;
    return rfib_load(&words[walk->at + starts + (index < starts ? index : starts)]);
}

/* Continue the search for the addresses of a group that have no result yet. Returns whether no
 * damage was found. */
INLINE int finish_group(const struct rfib *fib, uint32_t total, const u128 *addresses,
                        struct walk *walks, unsigned waiting, uint32_t *out, int is_ipv6)
{
    const uint32_t *words = fib->words;

    while (waiting) {
        unsigned kept = 0, i;
        for (i = 0; i < waiting; i++) {
            struct walk walk = walks[i];
            u128 address = addresses[walk.index];
            uint32_t word;
            if (walk.kind >= RFIB_FIRST_BUCKET_KIND) {
                word = bucket_value(words, &walk, address, is_ipv6);
                out[walk.index] = word ? word : out[walk.index];
                continue;
            }
            word = rfib_load(&words[walk.at]);
            if (walk.kind == 0) {
                uint32_t nearer = rfib_load(&words[walk.at + 1]);
                out[walk.index] = nearer ? nearer : out[walk.index];
                walk.block = word & RFIB_ADDRESS_MASK;
            }
            if (word == 0 || word & RFIB_RECORD_FLAG) {
                out[walk.index] = word ? word & ~RFIB_RECORD_FLAG : out[walk.index];
                continue;
            }
            if (walk.kind == 0 && word >> RFIB_KIND_SHIFT == 0
                    ? !descend(fib, total, &walk, word, address, is_ipv6)
                    : !follow(fib, total, &walk, word,
                              walk.kind == 0 ? walk.block : walk.block + (word & RFIB_ADDRESS_MASK),
                              address, is_ipv6))
                return 0;
            walks[kept++] = walk;
        }
        waiting = kept;
    }
    return 1;
}

/* Return `yes` if the condition is 1 and `no` if it is 0, without a branch. */
INLINE uint32_t choose(uint32_t condition, uint32_t yes, uint32_t no)
{
    return no ^ ((no ^ yes) & (0u - condition));
}

/* Search up to GROUP6 IPv6 addresses. Returns whether no damage was found. */
static int search_group6(const struct rfib *fib, uint32_t total, const u128 *addresses,
                         uint32_t *out, unsigned count)
{
    const uint32_t *words = fib->words;
    unsigned root_bits = fib->family[1].root_bits, left = 128 - root_bits, i;
    uint32_t fallback = load(&words[RFIB_W_IPV6 + RFIB_F_DEFAULT_RECORD]), is_wrong = 0;
    struct walk walks[GROUP6];

    /* IPv6 tries have several levels of directories: all searches begin at the root directory. */
    for (i = 0; i < count; i++) {
        walks[i].index = (uint8_t)i;
        walks[i].kind = 0;
        walks[i].left = (uint8_t)left;
        walks[i].at = fib->family[1].root + 2 * bits_of(addresses[i], left, root_bits, 1);
        __builtin_prefetch(&words[walks[i].at]);
        out[i] = fallback;
    }
    if (!finish_group(fib, total, addresses, walks, count, out, 1))
        return 0;
    for (i = 0; i < count; i++)
        is_wrong |= out[i] > fib->records_max;
    return !is_wrong;
}

/* Search up to GROUP4 IPv4 addresses. Returns whether no damage was found.
 *
 * The first two steps, which suffice for most addresses, have no branches that depend on the table:
 * a mispredicted branch takes longer than the reads. */
static int search_group4(const struct rfib *fib, uint32_t total, const uint32_t *addresses,
                         uint32_t *out, unsigned count)
{
    const uint32_t *words = fib->words;
    const uint64_t *entries = (const uint64_t *)(words + fib->family[0].root);
    unsigned left = 32 - fib->family[0].root_bits, waiting = 0, i;
    uint32_t fallback = load(&words[RFIB_W_IPV4 + RFIB_F_DEFAULT_RECORD]), is_wrong = 0;
    uint32_t most = left < 15 ? left : 15;
    uint32_t at[GROUP4], first[GROUP4], index[GROUP4];

    for (i = 0; i < count; i++)
        __builtin_prefetch(&entries[addresses[i] >> left]);
    for (i = 0; i < count; i++) {
        uint64_t entry = __atomic_load_n(&entries[addresses[i] >> left], __ATOMIC_RELAXED);
        uint32_t word = (uint32_t)entry, nearer = (uint32_t)(entry >> 32);
        uint32_t kind = word >> RFIB_KIND_SHIFT, is_branch = kind - 1 < most;
        uint32_t bits = is_branch ? kind : 0;
        uint32_t next = (word & RFIB_ADDRESS_MASK) +
                        (addresses[i] >> (left - bits) & ((1u << bits) - 1));
        uint32_t here = fib->family[0].root + 2 * (addresses[i] >> left);
        first[i] = word;
        out[i] = nearer ? nearer : fallback;
        is_wrong |= is_branch & (next >= total);
        at[i] = is_branch & (next < total) ? next : here;
        __builtin_prefetch(&words[at[i]]);
    }
    for (i = 0; i < count; i++) {
        uint32_t word = load(&words[at[i]]);
        out[i] = choose(word >> RECORD_BIT, word & ~RFIB_RECORD_FLAG, out[i]);
        index[waiting] = i;
        waiting += word - 1 < RFIB_RECORD_FLAG - 1;
    }
    if (waiting) {
        struct walk walks[GROUP4];
        u128 wide[GROUP4];
        for (i = 0; i < waiting; i++) {
            unsigned k = index[i], kind = first[k] >> RFIB_KIND_SHIFT;
            unsigned used = kind - 1 < most ? kind : 0;
            wide[k] = addresses[k];
            walks[i].index = (uint8_t)k;
            walks[i].block = first[k] & RFIB_ADDRESS_MASK;
            walks[i].kind = (uint8_t)used;
            walks[i].left = (uint8_t)(left - used);
            walks[i].at = at[k];
        }
        is_wrong |= !finish_group(fib, total, wide, walks, waiting, out, 0);
    }
    for (i = 0; i < count; i++)
        is_wrong |= out[i] > fib->records_max;
    return !is_wrong;
}

static int search_chunk(const struct rfib *fib, uint32_t total, const unsigned char *from,
                        uint32_t *out, size_t count, enum form form, int is_wide)
{
    size_t done, group = form == PACKED_IPV6 ? GROUP6 : GROUP4;

    for (done = 0; done < count; done += group) {
        unsigned i, size = (unsigned)(count - done < group ? count - done : group);
        int is_intact;
        if (form == PACKED_IPV6) {
            u128 addresses[GROUP6];
            for (i = 0; i < size; i++)
                addresses[i] = packed_ipv6(from + 16 * (done + i));
            is_intact = search_group6(fib, total, addresses, out + done, size);
        } else {
            uint32_t addresses[GROUP4], first = 0;
            memcpy(addresses, from + 4 * done, 4 * size);
            for (i = 0; i < size && form == PACKED_IPV4; i++)
                addresses[i] = __builtin_bswap32(addresses[i]);
            if (is_wide && search_wide4(fib, total, addresses, out + done,
                                        size - size % SEARCH_LANES))
                first = size - size % SEARCH_LANES;
            is_intact = search_group4(fib, total, addresses + first, out + done + first,
                                      size - first);
        }
        if (!is_intact)
            return 0;
    }
    return 1;
}

int search_many(const struct rfib *fib, uint32_t total, const unsigned char *from, uint32_t *out,
                size_t count, enum form form, int is_wide)
{
    size_t done, bytes = form == PACKED_IPV6 ? 16 : 4;

    for (done = 0; done < count; done += CHUNK) {
        size_t size = count - done < CHUNK ? count - done : CHUNK;
        int tries, status = RFIB_BUSY;
        for (tries = 0; tries < RFIB_RETRIES && status == RFIB_BUSY; tries++) {
            uint32_t epoch = rfib_load(&fib->words[RFIB_W_EPOCH]);
            int is_intact = search_chunk(fib, total, from + bytes * done, out + done, size, form,
                                         is_wide);
            __atomic_thread_fence(__ATOMIC_ACQUIRE);
            if (rfib_load(&fib->words[RFIB_W_EPOCH]) - epoch < 2)
                status = is_intact ? RFIB_FOUND : RFIB_DAMAGED;
        }
        if (status < 0)
            return status;
    }
    return RFIB_FOUND;
}
