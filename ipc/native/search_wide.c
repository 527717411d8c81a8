/* The search for many IPv4 addresses with vectors of 512 bits: sixteen addresses in one instruction.
 *
 *     two steps    in vectors: the root directory, and a branch below it; most searches end there
 *     branches     one address after the other, and each reads ahead for its next step
 *     buckets      the starts of a bucket's ranges in one vector
 *
 * Vectors are independent of each other, so the processor reads memory for several of them at the same
 * time. A word that leads outside ends the search of the whole group without a result: search_batch.c
 * searches that group again without vectors, and reports the damage if it is still there.
 *
 * The results are those of search_batch.c, which uses this if the processor has AVX-512 F, VL, BW, DQ.
 * The same with vectors of 256 bits (AVX2) was no faster than search_batch.c.
 */
#include "search.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#define WIDE __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq")))
#define INLINE static inline __attribute__((always_inline)) WIDE

enum { LANES = SEARCH_LANES, SPACE = SEARCH_GROUP_MAX + LANES };

/* The addresses whose search goes on after the first two steps. */
struct waiting {
    uint32_t first[SPACE];               /* the word of the root directory */
    uint32_t word[SPACE];                /* the word to follow: of a branch, or the same */
    uint32_t index[SPACE];               /* which address of the group */
};

INLINE __m512i all(uint32_t value)
{
    return _mm512_set1_epi32((int)value);
}

/* Take the first two steps of all addresses. Returns how many wait, or -1 if a word leads outside. */
INLINE int search_root(const struct rfib *fib, uint32_t total, const uint32_t *addresses,
                       uint32_t *out, unsigned count, struct waiting *waiting)
{
    const long long *entries = (const long long *)(fib->words + fib->family[0].root);
    const unsigned left = 32 - fib->family[0].root_bits;
    const __m512i most = all(left < RFIB_FIRST_BUCKET_KIND ? left : RFIB_FIRST_BUCKET_KIND - 1);
    const __m512i default_record = all(rfib_load(&fib->words[RFIB_W_IPV4 + RFIB_F_DEFAULT_RECORD]));
    const __m512i numbers = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i even = _mm512_slli_epi32(numbers, 1), odd = _mm512_or_si512(even, all(1));
    const uint32_t *words = fib->words;
    __mmask16 is_wrong = 0;
    unsigned i, end = 0;

    for (i = 0; i < count; i += LANES) {
        __mmask16 is_branch, is_inside, is_record, is_deeper;
        __m512i address = _mm512_loadu_si512(addresses + i), bits, at, word, result;
        __m512i entry = _mm512_srl_epi32(address, _mm_cvtsi32_si128((int)left));
        __m512i low = _mm512_i32gather_epi64(_mm512_castsi512_si256(entry), entries, 8);
        __m512i high = _mm512_i32gather_epi64(_mm512_extracti64x4_epi64(entry, 1), entries, 8);
        __m512i first = _mm512_permutex2var_epi32(low, even, high);
        __m512i fallback = _mm512_permutex2var_epi32(low, odd, high);
        __m512i kind = _mm512_srli_epi32(first, RFIB_KIND_SHIFT);

        is_branch = _mm512_cmplt_epu32_mask(_mm512_sub_epi32(kind, all(1)), most);
        bits = _mm512_srlv_epi32(address, _mm512_sub_epi32(all(left), kind));
        bits = _mm512_andnot_si512(_mm512_sllv_epi32(all(~0u), kind), bits);
        at = _mm512_add_epi32(_mm512_and_si512(first, all(RFIB_ADDRESS_MASK)), bits);
        is_inside = _mm512_mask_cmplt_epu32_mask(is_branch, at, all(total));
        is_wrong |= is_branch & ~is_inside;
        word = _mm512_mask_i32gather_epi32(first, is_inside, at, words, 4);
        is_record = _mm512_movepi32_mask(word);
        result = _mm512_mask_blend_epi32(_mm512_test_epi32_mask(fallback, fallback), default_record,
                                         fallback);
        result = _mm512_mask_and_epi32(result, is_record, word, all(~RFIB_RECORD_FLAG));
        is_wrong |= _mm512_cmpgt_epu32_mask(result, all(fib->records_max));
        _mm512_storeu_si512(out + i, result);
        is_deeper = _mm512_test_epi32_mask(word, word) & ~is_record;
        if (is_deeper) {
            _mm512_mask_compressstoreu_epi32(waiting->first + end, is_deeper, first);
            _mm512_mask_compressstoreu_epi32(waiting->word + end, is_deeper, word);
            _mm512_mask_compressstoreu_epi32(waiting->index + end, is_deeper,
                                             _mm512_add_epi32(numbers, all(i)));
            end += (unsigned)__builtin_popcount(is_deeper);
        }
    }
    return is_wrong ? -1 : (int)end;
}

/* Continue the search for the addresses that wait. Returns whether all words led to a result. */
INLINE int search_deeper(const struct rfib *fib, uint32_t total, const uint32_t *addresses,
                         uint32_t *out, struct waiting *waiting, unsigned count)
{
    const uint32_t *words = fib->words;
    const unsigned root_left = 32 - fib->family[0].root_bits;
    const unsigned most = root_left < RFIB_FIRST_BUCKET_KIND ? root_left : RFIB_FIRST_BUCKET_KIND - 1;
    uint32_t block[SPACE], at[SPACE], bucket_at[SPACE], bucket_starts[SPACE], bucket_of[SPACE];
    uint32_t *index = waiting->index, *word = waiting->word, is_wrong = 0;
    uint8_t left[SPACE];
    unsigned bucket_count = 0, kept, i;

    for (kept = 0, i = 0; i < count; i++) {
        uint32_t kind = waiting->first[i] >> RFIB_KIND_SHIFT, is_branch = kind - 1 < most;
        if (kind == 0) {                /* a child directory, which few tables have for IPv4 */
            const uint32_t address[4] = {0, 0, 0, addresses[index[i]]};
            if (rfib_find(fib, 0, address, &out[index[i]]) < 0)
                return 0;
            continue;
        }
        index[kept] = index[i];
        word[kept] = word[i];
        block[kept] = waiting->first[i] & RFIB_ADDRESS_MASK;
        left[kept] = (uint8_t)(root_left - (is_branch ? kind : 0));
        at[kept] = block[kept] + (is_branch ? word[kept] & RFIB_ADDRESS_MASK : 0);
        kept++;
    }
    count = kept;
    while (count) {
        for (kept = 0, i = 0; i < count; i++) {
            uint32_t which = index[i], kind = word[i] >> RFIB_KIND_SHIFT, next, rest = left[i];
            if (kind >= RFIB_FIRST_BUCKET_KIND) {
                unsigned starts = kind - RFIB_BUCKET_RANGES_BIAS - 1;
                if (at[i] > total || total - at[i] < 2 * starts + 1)
                    return 0;
                bucket_of[bucket_count] = which;
                bucket_at[bucket_count] = at[i];
                bucket_starts[bucket_count++] = starts;
                __builtin_prefetch(&words[at[i]]);
                __builtin_prefetch(&words[at[i] + 2 * starts]);
                continue;
            }
            if (kind == 0 || kind > rest)
                return 0;
            rest -= kind;
            next = at[i] + (addresses[which] >> rest & ((1u << kind) - 1));
            if (next >= total)
                return 0;
            __builtin_prefetch(&words[next]);
            index[kept] = which;
            left[kept] = (uint8_t)rest;
            block[kept] = block[i];
            at[kept++] = next;
        }
        for (count = kept, kept = 0, i = 0; i < count; i++) {
            uint32_t found = rfib_load(&words[at[i]]), which = index[i];
            out[which] = found & RFIB_RECORD_FLAG ? found & ~RFIB_RECORD_FLAG : out[which];
            is_wrong |= out[which] > fib->records_max;
            index[kept] = which;
            left[kept] = left[i];
            block[kept] = block[i];
            word[kept] = found;
            at[kept] = block[i] + (found & RFIB_ADDRESS_MASK);
            kept += found - 1 < RFIB_RECORD_FLAG - 1;
        }
        count = kept;
    }
    for (i = 0; i < bucket_count; i++) {
        const uint32_t *bucket = &words[bucket_at[i]];
        uint32_t starts = bucket_starts[i], which = bucket_of[i], record;
        __mmask16 is_start = (__mmask16)((1u << starts) - 1), is_reached;
        is_reached = _mm512_mask_cmple_epu32_mask(
            is_start, _mm512_maskz_loadu_epi32(is_start, bucket), all(addresses[which]));
        record = rfib_load(&bucket[starts + (unsigned)__builtin_popcount(is_reached)]);
        out[which] = record ? record : out[which];
        is_wrong |= out[which] > fib->records_max;
    }
    return !is_wrong;
}

WIDE int search_wide4(const struct rfib *fib, uint32_t total, const uint32_t *addresses,
                      uint32_t *out, unsigned count)
{
    struct waiting waiting;
    int deeper = search_root(fib, total, addresses, out, count, &waiting);

    return deeper == 0 ||
           (deeper > 0 && search_deeper(fib, total, addresses, out, &waiting, (unsigned)deeper));
}

int has_wide_search(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}

#else

int search_wide4(const struct rfib *fib, uint32_t total, const uint32_t *addresses, uint32_t *out,
                 unsigned count)
{
    (void)fib, (void)total, (void)addresses, (void)out, (void)count;
    return 0;
}

int has_wide_search(void)
{
    return 0;
}

#endif
