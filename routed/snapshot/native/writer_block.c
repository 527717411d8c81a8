/* Construction of one block of the trie; see block.py for the reasons. */
#include "writer.h"

enum { BRANCH_BITS_MAX = RFIB_FIRST_BUCKET_KIND - 1, BUCKET_RANGES_MAX = 8, NESTING_MAX = 130 };

_Static_assert(BUCKET_RANGES_MAX + RFIB_BUCKET_RANGES_BIAS < 1 << (31 - RFIB_KIND_SHIFT),
               "the kind of the largest bucket");

static void begin_range(struct builder *builder, u128 start, uint32_t value)
{
    struct range *last = &builder->ranges[builder->range_count - 1];

    if (last->start == start) {
        last->value = value;
        if (builder->range_count > 1 && last[-1].value == value)
            builder->range_count--;
    } else if (last->value != value) {
        last[1].start = start;
        last[1].value = value;
        builder->range_count++;
    }
}

/* Room for `more` zero words at the end. */
static int add_words(struct builder *builder, size_t more)
{
    if (builder->word_count + more > builder->word_room) {
        size_t room = 2 * (builder->word_count + more);
        uint32_t *words = realloc(builder->words, 4 * room);
        if (words == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        builder->words = words;
        builder->word_room = room;
    }
    memset(builder->words + builder->word_count, 0, 4 * more);
    builder->word_count += more;
    return 0;
}

static unsigned log2_floor(size_t number)
{
    return 63u - (unsigned)__builtin_clzll((unsigned long long)number);
}

static unsigned trailing_zeros(u128 number)
{
    return (uint64_t)number ? (unsigned)__builtin_ctzll((uint64_t)number)
                            : 64 + (unsigned)__builtin_ctzll((uint64_t)(number >> 64));
}

/* Append the words of the ranges from `first` to `last` (excluded), the first clipped to begin at
 * `low`; *word stands for them. Depth: each call uses up at least one of `left` bits. */
static int encode_ranges(struct builder *builder, size_t first, size_t last, u128 low,
                         unsigned left, uint32_t *word)
{
    const struct range *ranges = builder->ranges;
    size_t count = last - first, at = builder->word_count, i;
    unsigned deciding, bits, dropped = left > 32 ? left - 32 : 0;
    u128 ends = 0;

    assert(first < last && last <= builder->range_count);
    if (count == 1) {
        *word = ranges[first].value ? RFIB_RECORD_FLAG | ranges[first].value : 0;
        return 0;
    }
    for (i = first + 1; i < last; i++)
        ends |= ranges[i].start;
    if (left < 128)
        ends &= ((u128)1 << left) - 1;
    assert(ends && trailing_zeros(ends) < left); /* ranges have different starts, inside the slot */
    deciding = left - trailing_zeros(ends);
    bits = deciding;
    if (deciding > BRANCH_BITS_MAX || (size_t)1 << deciding > 4 * count) {
        if (count <= BUCKET_RANGES_MAX && deciding <= left - dropped) {
            if (add_words(builder, 2 * count - 1) < 0)
                return -1;
            for (i = first + 1; i < last; i++)
                builder->words[at + i - first - 1] = (uint32_t)(ranges[i].start >> dropped);
            for (i = first; i < last; i++)
                builder->words[at + count - 1 + i - first] = ranges[i].value;
            *word = (uint32_t)(count + RFIB_BUCKET_RANGES_BIAS) << RFIB_KIND_SHIFT | (uint32_t)at;
            return 0;
        }
        bits = log2_floor(2 * count);
        bits = bits < deciding ? bits : deciding;
        bits = bits < BRANCH_BITS_MAX ? bits : BRANCH_BITS_MAX;
    }
    left -= bits;
    if (add_words(builder, (size_t)1 << bits) < 0)
        return -1;
    for (i = 0; i < (size_t)1 << bits; i++) {
        /* `first` is the range that `low` lies in; comparing distances avoids the overflow of
         * low + 2**left at the end of the address space. */
        size_t next = first + 1;
        uint32_t inner;
        while (next < last && (ranges[next].start - low) >> left == 0)
            next++;
        if (encode_ranges(builder, first, next, low, left, &inner) < 0)
            return -1;
        builder->words[at + i] = inner;
        low += (u128)1 << left;
        first = next < last && ranges[next].start == low ? next : next - 1;
    }
    *word = (uint32_t)bits << RFIB_KIND_SHIFT | (uint32_t)at;
    return 0;
}

/* Nested prefixes in order -> disjoint ranges. */
static int flatten(struct builder *builder, const struct entry *entries, size_t count,
                   unsigned width, unsigned left)
{
    struct { u128 last; uint32_t value; } open[NESTING_MAX];
    unsigned depth = 0;
    u128 span = ((u128)1 << left) - 1, low = entries[0].network >> left << left;
    size_t i;

    builder->ranges[0].start = low;
    builder->ranges[0].value = 0;
    builder->range_count = 1;
    for (i = 0; i <= count; i++) {
        const struct entry *entry = &entries[i];
        while (depth && (i == count || open[depth - 1].last < entry->network)) {
            u128 last = open[--depth].last;
            if (last < low + span)
                begin_range(builder, last + 1, depth ? open[depth - 1].value : 0);
        }
        if (i == count)
            break;
        if (entry->network - low > span || depth == NESTING_MAX || width - entry->length > left) {
            PyErr_SetString(PyExc_ValueError, "the entries are not those of one slot, in order");
            return -1;
        }
        begin_range(builder, entry->network, entry->value);
        open[depth].last = entry->network | (((u128)1 << (width - entry->length)) - 1);
        open[depth++].value = entry->value;
    }
    return 0;
}

int build_block(struct builder *builder, const struct entry *entries, size_t count, unsigned width,
                unsigned left, uint32_t *word)
{
    if (builder->range_room < 2 * count + 2) {
        struct range *ranges = realloc(builder->ranges, 2 * (2 * count + 2) * sizeof *ranges);
        if (ranges == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        builder->ranges = ranges;
        builder->range_room = 2 * (2 * count + 2);
    }
    builder->word_count = 0;
    if (flatten(builder, entries, count, width, left) < 0)
        return -1;
    return encode_ranges(builder, 0, builder->range_count, builder->ranges[0].start, left, word);
}

void free_builder(struct builder *builder)
{
    free(builder->ranges);
    free(builder->words);
}

/* --- from Python --- */

/* The 64 bits of a number above some others. */
static int bits_above(PyObject *number, PyObject *shift, uint64_t *bits)
{
    PyObject *shifted = PyNumber_Rshift(number, shift);

    if (shifted == NULL)
        return -1;
    *bits = PyLong_AsUnsignedLongLongMask(shifted);
    Py_DECREF(shifted);
    return *bits == (uint64_t)-1 && PyErr_Occurred() ? -1 : 0;
}

int read_entry(const struct module_state *state, PyObject *number, unsigned width,
               struct entry *entry)
{
    uint64_t lowest, middle = 0, highest = 0;

    if (width == 32) {
        lowest = PyLong_AsUnsignedLongLong(number);
        if (lowest == (uint64_t)-1 && PyErr_Occurred())
            return -1;
        entry->network = lowest >> 8;
    } else {
        /* 136 bits: the upper 64 of them at once, and what is between. */
        PyObject *top = PyNumber_Rshift(number, state->seventy_two);
        if (top == NULL)
            return -1;
        highest = PyLong_AsUnsignedLongLong(top);
        Py_DECREF(top);
        if (highest == (uint64_t)-1 && PyErr_Occurred())
            return -1;
        lowest = PyLong_AsUnsignedLongLongMask(number);
        if ((lowest == (uint64_t)-1 && PyErr_Occurred()) ||
            bits_above(number, state->sixty_four, &middle) < 0)
            return -1;
        entry->network = (u128)highest << 64 | (middle & 0xff) << 56 | lowest >> 8;
    }
    entry->length = (uint8_t)lowest;
    if (entry->length > width || (width == 32 && entry->network >> 32)) {
        PyErr_SetString(PyExc_ValueError, "an entry lies outside its family");
        return -1;
    }
    return 0;
}

static struct entry *read_entries(const struct module_state *state, PyObject *numbers,
                                  const uint32_t *values, Py_ssize_t count, unsigned width)
{
    struct entry *entries = malloc((size_t)count * sizeof *entries);
    Py_ssize_t i;

    if (entries == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (i = 0; i < count; i++) {
        PyObject *number = PySequence_GetItem(numbers, i);
        int failed = number == NULL || read_entry(state, number, width, &entries[i]) < 0;
        Py_XDECREF(number);
        if (failed) {
            free(entries);
            return NULL;
        }
        entries[i].value = values[i];
    }
    return entries;
}

/* build_block(entries, values, width, left) -> (word, words), as in block.py. */
PyObject *build_block_for_python(PyObject *module, PyObject *arguments)
{
    struct builder builder = {NULL, 0, 0, NULL, 0, 0};
    PyObject *numbers, *result = NULL;
    struct entry *entries;
    Py_buffer values;
    unsigned width, left;
    uint32_t word;
    Py_ssize_t count;

    if (!PyArg_ParseTuple(arguments, "Oy*II", &numbers, &values, &width, &left))
        return NULL;
    count = PySequence_Size(numbers);
    if (count < 1 || values.len != 4 * count || (width != 32 && width != 128) || left < 1 ||
        left >= width) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError,
                            "at least one entry, a value for each, a width of 32 or 128, bits left");
    } else if ((entries = read_entries(PyModule_GetState(module), numbers, values.buf, count,
                                       width)) != NULL) {
        if (build_block(&builder, entries, (size_t)count, width, left, &word) == 0)
            result = Py_BuildValue("ky#", (unsigned long)word, builder.words ? (const char *)builder.words : "",
                                   (Py_ssize_t)(4 * builder.word_count));
        free(entries);
    }
    free_builder(&builder);
    PyBuffer_Release(&values);
    return result;
}
