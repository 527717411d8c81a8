/* routed's FIB in shared memory, for C. The layout is explained in ipc/snapshot.py.
 *
 *     fd = ... from the management socket (SNAPSHOT_OPEN), read-only
 *     base = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0)
 *     struct rfib fib;
 *     if (rfib_init(&fib, base, size) == 0)
 *         status = rfib_lookup4(&fib, address, &route);
 *
 * Addresses are 32-bit words in host byte order, the most significant first. A reader trusts
 * nothing: every address is checked, every walk is bounded. Needs C99 and the compiler's __atomic
 * builtins (gcc, clang).
 */
#ifndef ROUTED_FIB_SNAPSHOT_H
#define ROUTED_FIB_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

#define RFIB_MAGIC 0x42494652u
#define RFIB_LAYOUT_VERSION 1u
#define RFIB_ENDIAN_MARK 0x01020304u
#define RFIB_HEADER_WORDS 1024u

enum {                                  /* header, word indexes */
    RFIB_W_MAGIC = 0, RFIB_W_LAYOUT_VERSION = 1, RFIB_W_ENDIAN_MARK = 2, RFIB_W_ROUTER_ID = 3,
    RFIB_W_TOTAL_WORDS = 4, RFIB_W_DAEMON_PID = 5, RFIB_W_EPOCH = 6, RFIB_W_IS_CLOSED = 7,
    RFIB_W_GENERATION = 8,              /* 64 bits, low word first */
    RFIB_W_HEARTBEAT_NS = 10,           /* 64 bits, CLOCK_MONOTONIC */
    RFIB_W_TRIE_FIRST = 12, RFIB_W_TRIE_END = 13, RFIB_W_DATA_FIRST = 14, RFIB_W_DATA_END = 15,
    RFIB_W_IPV4 = 16, RFIB_W_IPV6 = 24
};

enum {                                  /* a family's block, word indexes */
    RFIB_F_ROOT_ADDRESS = 0, RFIB_F_ROOT_BITS = 1, RFIB_F_STRIDE_BITS = 2,
    RFIB_F_DEFAULT_RECORD = 3, RFIB_F_ROUTES = 4
};

enum { RFIB_RECORD_WORDS = 12, RFIB_NEXT_HOP_WORDS = 12, RFIB_NEXT_HOPS_MAX = 4096 };

struct rfib_record {                    /* in the data arena */
    uint8_t family;                     /* 4 or 6 (on a little-endian machine) */
    uint8_t prefix_len;
    uint8_t source;
    uint8_t type;                       /* RTN_* */
    uint32_t distance, metric, tag;
    uint32_t next_hops;                 /* word index of the first one */
    uint32_t next_hop_count;
    uint32_t reserved[2];
    uint32_t address[4];                /* IPv4 in the first */
};

struct rfib_next_hop {
    uint32_t shape;                     /* family of via (0: none) in the low byte; 0x100: onlink */
    uint32_t ifindex, weight, reserved;
    uint32_t via[4];
    char ifname[16];
};

struct rfib {
    const uint32_t *words;
    uint32_t trie_first, trie_end, data_first, data_end;
};

enum { RFIB_FOUND = 1, RFIB_NO_ROUTE = 0, RFIB_DAMAGED = -1, RFIB_BUSY = -2 };

static inline int rfib_init(struct rfib *fib, const void *base, size_t bytes)
{
    const uint32_t *w = (const uint32_t *)base;
    if (bytes < 4 * RFIB_HEADER_WORDS || w[RFIB_W_MAGIC] != RFIB_MAGIC ||
        w[RFIB_W_LAYOUT_VERSION] != RFIB_LAYOUT_VERSION ||
        w[RFIB_W_ENDIAN_MARK] != RFIB_ENDIAN_MARK || w[RFIB_W_TOTAL_WORDS] != bytes / 4)
        return RFIB_DAMAGED;
    fib->words = w;
    fib->trie_first = w[RFIB_W_TRIE_FIRST];
    fib->trie_end = w[RFIB_W_TRIE_END];
    fib->data_first = w[RFIB_W_DATA_FIRST];
    fib->data_end = w[RFIB_W_DATA_END];
    if (fib->trie_first < RFIB_HEADER_WORDS || fib->trie_end < fib->trie_first ||
        fib->data_first < fib->trie_end || fib->data_end < fib->data_first ||
        fib->data_end > bytes / 4)
        return RFIB_DAMAGED;
    return 0;
}

/* `bits` bits of a 128-bit address, beginning `left` bits from its low end; bits <= 26. */
static inline uint32_t rfib_bits(const uint32_t a[4], unsigned left, unsigned bits)
{
    unsigned word = 3 - left / 32, shift = left % 32;
    uint64_t both = (uint64_t)a[word] | (word ? (uint64_t)a[word - 1] << 32 : 0);
    return (uint32_t)(both >> shift) & ((1u << bits) - 1);
}

/* The 32 bits of an address whose lowest is `left` - 32 bits from its low end. */
static inline uint32_t rfib_low(const uint32_t a[4], unsigned left)
{
    unsigned from = left > 32 ? left - 32 : 0, word = 3 - from / 32, shift = from % 32;
    uint64_t both = (uint64_t)a[word] | (word ? (uint64_t)a[word - 1] << 32 : 0);
    return (uint32_t)(both >> shift);
}

static inline uint32_t rfib_load(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* The record's word index in *record (0: none). `a` is right-aligned in 128 bits. */
static inline int rfib_find(const struct rfib *fib, unsigned block, unsigned width,
                            const uint32_t a[4], uint32_t *record)
{
    const uint32_t *w = fib->words;
    uint32_t directory = w[block + RFIB_F_ROOT_ADDRESS], best, word, at, base;
    unsigned bits = w[block + RFIB_F_ROOT_BITS], stride = w[block + RFIB_F_STRIDE_BITS];
    unsigned left = width, kind, starts, i;

    if (bits < 1 || bits > 26 || bits > width || stride < 1 || stride > 26)
        return RFIB_DAMAGED;
    best = rfib_load(&w[block + RFIB_F_DEFAULT_RECORD]);
    for (;;) {
        if (directory < fib->trie_first || directory > fib->trie_end ||
            fib->trie_end - directory < (2u << bits))
            return RFIB_DAMAGED;
        left -= bits;
        at = directory + 2 * rfib_bits(a, left, bits);
        word = rfib_load(&w[at]);
        if (rfib_load(&w[at + 1]))
            best = rfib_load(&w[at + 1]);
        if (word == 0 || word >> 26)
            break;
        directory = word;
        bits = stride < left ? stride : left;
        if (bits == 0)
            return RFIB_DAMAGED;
    }
    base = at = word & 0x3ffffffu;
    if (word && word < 0x80000000u && base < fib->trie_first)
        return RFIB_DAMAGED;
    while (word && word < 0x80000000u && (kind = word >> 26) < 16) {
        if (kind == 0 || kind > left || at > fib->trie_end || fib->trie_end - at < (1u << kind))
            return RFIB_DAMAGED;
        left -= kind;
        word = rfib_load(&w[at + rfib_bits(a, left, kind)]);
        at = base + (word & 0x3ffffffu);
    }
    if (word >= 0x80000000u) {
        *record = word & 0x7fffffffu;
    } else if (word == 0) {
        *record = best;
    } else {
        starts = (word >> 26) - 15;
        if (at > fib->trie_end || fib->trie_end - at < 2 * starts + 1)
            return RFIB_DAMAGED;
        for (i = 0; i < starts && w[at + i] <= rfib_low(a, left); i++)
            ;
        *record = w[at + starts + i] ? w[at + starts + i] : best;
    }
    if (*record && (*record < fib->data_first || *record > fib->data_end ||
                    fib->data_end - *record < RFIB_RECORD_WORDS))
        return RFIB_DAMAGED;
    return 0;
}

static inline int rfib_lookup(const struct rfib *fib, unsigned block, unsigned width,
                              const uint32_t a[4], struct rfib_record *found)
{
    int tries;
    for (tries = 0; tries < 100; tries++) {
        uint32_t epoch = rfib_load(&fib->words[RFIB_W_EPOCH]), record = 0, i;
        int status = rfib_find(fib, block, width, a, &record);
        if (status == 0 && record)
            for (i = 0; i < RFIB_RECORD_WORDS; i++)
                ((uint32_t *)found)[i] = fib->words[record + i];
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (rfib_load(&fib->words[RFIB_W_EPOCH]) - epoch < 2)
            return status ? status : record ? RFIB_FOUND : RFIB_NO_ROUTE;
    }
    return RFIB_BUSY;
}

static inline int rfib_lookup4(const struct rfib *fib, uint32_t address, struct rfib_record *found)
{
    const uint32_t a[4] = {0, 0, 0, address};
    return rfib_lookup(fib, RFIB_W_IPV4, 32, a, found);
}

static inline int rfib_lookup6(const struct rfib *fib, const uint32_t address[4],
                               struct rfib_record *found)
{
    return rfib_lookup(fib, RFIB_W_IPV6, 128, address, found);
}

/* The i-th next hop of a record, or NULL. Valid until the epoch moves on by two. */
static inline const struct rfib_next_hop *rfib_next_hop(const struct rfib *fib,
                                                        const struct rfib_record *record,
                                                        uint32_t i)
{
    uint32_t first = record->next_hops, count = record->next_hop_count;
    if (i >= count || count > RFIB_NEXT_HOPS_MAX || first < fib->data_first ||
        first > fib->data_end || fib->data_end - first < count * RFIB_NEXT_HOP_WORDS)
        return NULL;
    return (const struct rfib_next_hop *)(fib->words + first + i * RFIB_NEXT_HOP_WORDS);
}

#endif
