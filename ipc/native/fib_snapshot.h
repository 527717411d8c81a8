/* routed's FIB in shared memory, for C. The layout is explained in ipc/fib_layout.py; the numbers here
 * are the ones that all C code uses, and a test compares them with those of Python.
 *
 *     fd = ... from the management socket (SNAPSHOT_OPEN), read-only
 *     base = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0)
 *     struct rfib fib;
 *     if (rfib_init(&fib, base, size) == 0)
 *         status = rfib_lookup4(&fib, address, &record, hops, 8);
 *
 * Addresses are 32-bit words in host byte order, the most significant first. The content of the
 * snapshot is not trusted: every word address is checked, and every search is bounded. Needs C99 and
 * the compiler's __atomic builtins (gcc, clang).
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
    RFIB_W_GENERATION = 8,              /* 64 bits */
    RFIB_W_HEARTBEAT_NS = 10,           /* 64 bits, CLOCK_MONOTONIC */
    RFIB_W_TRIE_FIRST = 12, RFIB_W_TRIE_END = 13,
    RFIB_W_RECORDS_FIRST = 14, RFIB_W_RECORDS_END = 15,
    RFIB_W_SETS_FIRST = 16, RFIB_W_SETS_END = 17,
    RFIB_W_RECORDS_USED = 18,
    RFIB_W_IPV4 = 24, RFIB_W_IPV6 = 32
};

enum {                                  /* a family's block, word indexes */
    RFIB_F_ROOT_ADDRESS = 0, RFIB_F_ROOT_BITS = 1, RFIB_F_STRIDE_BITS = 2,
    RFIB_F_DEFAULT_RECORD = 3, RFIB_F_ROUTES = 4
};

enum {                                  /* sizes and limits */
    RFIB_RECORD_WORDS = 12, RFIB_NEXT_HOP_WORDS = 12, RFIB_NEXT_HOPS_MAX = 4096,
    RFIB_DIRECTORY_BITS_MAX = 24, RFIB_RETRIES = 100
};

enum {                                  /* a word of the trie: kind in the upper bits, then an address */
    RFIB_KIND_SHIFT = 26, RFIB_FIRST_BUCKET_KIND = 16, RFIB_BUCKET_RANGES_BIAS = 14
};
#define RFIB_RECORD_FLAG 0x80000000u
#define RFIB_ADDRESS_MASK 0x3ffffffu

enum {                                  /* a record, word indexes */
    RFIB_RECORD_NEXT_HOPS = 4, RFIB_RECORD_IS_CURRENT = 6, RFIB_RECORD_NETWORK = 8
};

struct rfib_record {                    /* RFIB_RECORD_WORDS words */
    uint32_t shape;                     /* see rfib_family(), rfib_prefix_len(), ... */
    uint32_t distance, metric, tag;
    uint32_t next_hops;                 /* word index of the first one */
    uint32_t next_hop_count;
    uint32_t is_current;                /* 0: the record has been replaced; for listing only */
    uint32_t reserved;
    uint32_t network[4];                /* IPv4 in the first */
};

static inline unsigned rfib_family(const struct rfib_record *r) { return r->shape & 0xff; }
static inline unsigned rfib_prefix_len(const struct rfib_record *r) { return r->shape >> 8 & 0xff; }
static inline unsigned rfib_source(const struct rfib_record *r) { return r->shape >> 16 & 0xff; }
static inline unsigned rfib_type(const struct rfib_record *r) { return r->shape >> 24; } /* RTN_* */

struct rfib_next_hop {
    uint32_t shape;                     /* family of via (0: none) in the low byte; 0x100: onlink */
    uint32_t ifindex, weight, reserved;
    uint32_t via[4];
    char ifname[16];
};

#if defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
_Static_assert(sizeof(struct rfib_record) == 4 * RFIB_RECORD_WORDS, "a record");
_Static_assert(sizeof(struct rfib_next_hop) == 4 * RFIB_NEXT_HOP_WORDS, "a next hop");
_Static_assert(offsetof(struct rfib_record, next_hops) == 4 * RFIB_RECORD_NEXT_HOPS, "next hops");
_Static_assert(offsetof(struct rfib_record, is_current) == 4 * RFIB_RECORD_IS_CURRENT, "is current");
_Static_assert(offsetof(struct rfib_record, network) == 4 * RFIB_RECORD_NETWORK, "network");
_Static_assert(RFIB_ADDRESS_MASK == (1u << RFIB_KIND_SHIFT) - 1, "address and kind");
#endif

struct rfib {
    const uint32_t *words;
    uint32_t trie_first, trie_end, records_first, records_max, sets_first, sets_end;
    struct { uint32_t root, root_bits, stride_bits; } family[2];
};

enum { RFIB_FOUND = 1, RFIB_NO_ROUTE = 0, RFIB_DAMAGED = -1, RFIB_BUSY = -2 };

static inline uint32_t rfib_load(const uint32_t *word)
{
    return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

/* Check a mapped snapshot, and keep the checked values; they are not read again from the header.
 * Returns 0 or RFIB_DAMAGED. `bytes` is the size of the file. */
static inline int rfib_init(struct rfib *fib, const void *base, size_t bytes)
{
    const uint32_t *w = (const uint32_t *)base;
    uint32_t bounds[6], before = RFIB_HEADER_WORDS;
    unsigned i;

    if (bytes < 4 * RFIB_HEADER_WORDS || bytes % (4 * RFIB_HEADER_WORDS) ||
        w[RFIB_W_MAGIC] != RFIB_MAGIC || w[RFIB_W_LAYOUT_VERSION] != RFIB_LAYOUT_VERSION ||
        w[RFIB_W_ENDIAN_MARK] != RFIB_ENDIAN_MARK || w[RFIB_W_TOTAL_WORDS] != bytes / 4)
        return RFIB_DAMAGED;
    for (i = 0; i < 6; before = bounds[i++]) {
        bounds[i] = rfib_load(&w[RFIB_W_TRIE_FIRST + i]);
        if (bounds[i] < before || bounds[i] > bytes / 4)
            return RFIB_DAMAGED;
    }
    fib->words = w;
    fib->trie_first = bounds[0];
    fib->trie_end = bounds[1];
    fib->records_first = bounds[2];
    fib->records_max = (bounds[3] - bounds[2]) / RFIB_RECORD_WORDS;
    fib->sets_first = bounds[4];
    fib->sets_end = bounds[5];
    for (i = 0; i < 2; i++) {
        const uint32_t *block = w + (i ? RFIB_W_IPV6 : RFIB_W_IPV4);
        uint32_t root = rfib_load(&block[RFIB_F_ROOT_ADDRESS]);
        uint32_t root_bits = rfib_load(&block[RFIB_F_ROOT_BITS]);
        uint32_t stride_bits = rfib_load(&block[RFIB_F_STRIDE_BITS]);
        if (root_bits < 1 || root_bits > RFIB_DIRECTORY_BITS_MAX || stride_bits < 1 ||
            stride_bits > RFIB_DIRECTORY_BITS_MAX || root < fib->trie_first ||
            root > fib->trie_end || fib->trie_end - root < (2u << root_bits) || root % 2)
            return RFIB_DAMAGED;
        fib->family[i].root = root;
        fib->family[i].root_bits = root_bits;
        fib->family[i].stride_bits = stride_bits;
    }
    return 0;
}

static inline void rfib_copy(void *to, const uint32_t *from, uint32_t count)
{
    uint32_t i, *words = (uint32_t *)to;
    for (i = 0; i < count; i++)
        words[i] = rfib_load(&from[i]);
}

/* Return `bits` bits of a 128-bit address, beginning `left` bits from its low end; bits <= 26. */
static inline uint32_t rfib_bits(const uint32_t a[4], unsigned left, unsigned bits)
{
    unsigned word = 3 - left / 32, shift = left % 32;
    uint64_t both = (uint64_t)a[word] | (word ? (uint64_t)a[word - 1] << 32 : 0);
    return (uint32_t)(both >> shift) & ((1u << bits) - 1);
}

/* Return 32 bits of an address, beginning `left` - 32 bits (at least 0) from its low end. */
static inline uint32_t rfib_low(const uint32_t a[4], unsigned left)
{
    unsigned from = left > 32 ? left - 32 : 0, word = 3 - from / 32, shift = from % 32;
    uint64_t both = (uint64_t)a[word] | (word ? (uint64_t)a[word - 1] << 32 : 0);
    return (uint32_t)(both >> shift);
}

/* Find the number of a record, in *record (0: none). Returns 0 or RFIB_DAMAGED. `a` is right-aligned
 * in 128 bits; `which` is 0 for IPv4, 1 for IPv6. */
static inline int rfib_find(const struct rfib *fib, unsigned which, const uint32_t a[4],
                            uint32_t *record)
{
    const uint32_t *w = fib->words;
    uint32_t directory = fib->family[which].root, best, word, fallback, at, base;
    unsigned bits = fib->family[which].root_bits, left = which ? 128 : 32, kind, starts, i;

    best = rfib_load(&w[(which ? RFIB_W_IPV6 : RFIB_W_IPV4) + RFIB_F_DEFAULT_RECORD]);
    for (;;) {
        if (directory < fib->trie_first || directory > fib->trie_end ||
            fib->trie_end - directory < (2u << bits))
            return RFIB_DAMAGED;
        left -= bits;
        at = directory + 2 * rfib_bits(a, left, bits);
        word = rfib_load(&w[at]);
        fallback = rfib_load(&w[at + 1]);
        if (fallback)
            best = fallback;
        if (word == 0 || word >> RFIB_KIND_SHIFT)
            break;
        directory = word;
        bits = fib->family[which].stride_bits < left ? fib->family[which].stride_bits : left;
        if (bits == 0)
            return RFIB_DAMAGED;
    }
    base = at = word & RFIB_ADDRESS_MASK;
    if (word && word < RFIB_RECORD_FLAG && base < fib->trie_first)
        return RFIB_DAMAGED;
    while (word && word < RFIB_RECORD_FLAG &&
           (kind = word >> RFIB_KIND_SHIFT) < RFIB_FIRST_BUCKET_KIND) {
        if (kind == 0 || kind > left || at > fib->trie_end || fib->trie_end - at < (1u << kind))
            return RFIB_DAMAGED;
        left -= kind;
        word = rfib_load(&w[at + rfib_bits(a, left, kind)]);
        at = base + (word & RFIB_ADDRESS_MASK);
    }
    if (word >= RFIB_RECORD_FLAG) {
        *record = word & ~RFIB_RECORD_FLAG;
    } else if (word == 0) {
        *record = best;
    } else {
        uint32_t value, low = rfib_low(a, left);
        starts = (word >> RFIB_KIND_SHIFT) - RFIB_BUCKET_RANGES_BIAS - 1;
        if (at > fib->trie_end || fib->trie_end - at < 2 * starts + 1)
            return RFIB_DAMAGED;
        for (i = 0; i < starts && rfib_load(&w[at + i]) <= low; i++)
            ;
        value = rfib_load(&w[at + starts + i]);
        *record = value ? value : best;
    }
    return *record > fib->records_max ? RFIB_DAMAGED : 0;
}

/* Look up an address. Returns RFIB_FOUND with a copy of the record, RFIB_NO_ROUTE, RFIB_DAMAGED, or
 * RFIB_BUSY if the daemon writes faster than this process can read. If `hops` is not NULL, up to
 * `hops_max` next hops are copied to it; found->next_hop_count is the number of all next hops. */
static inline int rfib_lookup(const struct rfib *fib, unsigned which, const uint32_t a[4],
                              struct rfib_record *found, struct rfib_next_hop *hops,
                              uint32_t hops_max)
{
    int tries;

    for (tries = 0; tries < RFIB_RETRIES; tries++) {
        uint32_t epoch = rfib_load(&fib->words[RFIB_W_EPOCH]), record = 0;
        int status = rfib_find(fib, which, a, &record);
        if (status == 0 && record) {
            status = RFIB_FOUND;
            rfib_copy(found, fib->words + fib->records_first + (record - 1) * RFIB_RECORD_WORDS,
                      RFIB_RECORD_WORDS);
            if (found->next_hop_count > RFIB_NEXT_HOPS_MAX ||
                (found->next_hop_count &&
                 (found->next_hops < fib->sets_first || found->next_hops > fib->sets_end ||
                  fib->sets_end - found->next_hops <
                      found->next_hop_count * RFIB_NEXT_HOP_WORDS)))
                status = RFIB_DAMAGED;
            else if (hops)
                rfib_copy(hops, fib->words + found->next_hops,
                          RFIB_NEXT_HOP_WORDS * (found->next_hop_count < hops_max
                                                     ? found->next_hop_count : hops_max));
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (rfib_load(&fib->words[RFIB_W_EPOCH]) - epoch < 2)
            return status;
    }
    return RFIB_BUSY;
}

/* Look up an IPv4 address, in host byte order. */
static inline int rfib_lookup4(const struct rfib *fib, uint32_t address, struct rfib_record *found,
                               struct rfib_next_hop *hops, uint32_t hops_max)
{
    const uint32_t a[4] = {0, 0, 0, address};
    return rfib_lookup(fib, 0, a, found, hops, hops_max);
}

/* Look up an IPv6 address: four words in host byte order, the most significant first. */
static inline int rfib_lookup6(const struct rfib *fib, const uint32_t address[4],
                               struct rfib_record *found, struct rfib_next_hop *hops,
                               uint32_t hops_max)
{
    return rfib_lookup(fib, 1, address, found, hops, hops_max);
}

#endif
