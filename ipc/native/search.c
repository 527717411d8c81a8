/* The optional extension `_search`, which searches a snapshot of the FIB.
 *
 * The results are the same as those of ipc/fib_search.py, which is the reference and the fallback;
 * the same tests run with both. (The writer's extension is routed/snapshot/native/writer.h.) The
 * layout is explained in ipc/fib_layout.py; a single address is searched by fib_snapshot.h, which
 * every C program may use.
 *
 * A batch is searched in groups of addresses, step by step. Each step reads one word for every
 * address without a result and prefetches its next word, so that the memory accesses overlap. The
 * interpreter lock is released meanwhile.
 *
 * No word of a snapshot is trusted: an index is compared with the size of the mapping before it is
 * used, and each step consumes bits of the address, so every search ends.
 *
 * Plain CPython API, limited to the stable ABI of Python 3.11. Needs a compiler with __int128 and
 * __atomic builtins (gcc, clang on 64-bit machines); without one the package works without it.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fib_snapshot.h"

#ifndef __SIZEOF_INT128__
#error "128-bit integers are needed"
#endif

typedef unsigned __int128 u128;

/* Large enough that a step's waits overlap, small enough for the first-level cache; measured. An
 * IPv6 address has more steps, and more to remember. `struct walk` has 8 bits for the number. */
enum { GROUP4 = 256, GROUP6 = 64, CHUNK = 4096 };
enum { RECORD_BIT = 31 };

_Static_assert(RFIB_RECORD_FLAG == 1u << RECORD_BIT, "the flag of a record");

#define INLINE static inline __attribute__((always_inline))

struct module_state {
    PyObject *snapshot_error;           /* the exception */
    PyObject *sixty_four;               /* the number, for shifting */
};

/* --- searching many addresses at once ------------------------------------------------------- */

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

static u128 packed_ipv6(const unsigned char *bytes)
{
    uint64_t halves[2];
    memcpy(halves, bytes, 16);
    return (u128)__builtin_bswap64(halves[0]) << 64 | __builtin_bswap64(halves[1]);
}

/* The layout of a batch's addresses in memory. */
enum form { NUMBERS_IPV4, PACKED_IPV4, PACKED_IPV6 };

static int search_chunk(const struct rfib *fib, uint32_t total, const unsigned char *from,
                        uint32_t *out, size_t count, enum form form)
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
            uint32_t addresses[GROUP4];
            memcpy(addresses, from + 4 * done, 4 * size);
            for (i = 0; i < size && form == PACKED_IPV4; i++)
                addresses[i] = __builtin_bswap32(addresses[i]);
            is_intact = search_group4(fib, total, addresses, out + done, size);
        }
        if (!is_intact)
            return 0;
    }
    return 1;
}

/* Search any number of addresses; a chunk is repeated if its memory may have been reused. */
static int search_many(const struct rfib *fib, uint32_t total, const unsigned char *from,
                       uint32_t *out, size_t count, enum form form)
{
    size_t done, bytes = form == PACKED_IPV6 ? 16 : 4;

    for (done = 0; done < count; done += CHUNK) {
        size_t size = count - done < CHUNK ? count - done : CHUNK;
        int tries, status = RFIB_BUSY;
        for (tries = 0; tries < RFIB_RETRIES && status == RFIB_BUSY; tries++) {
            uint32_t epoch = rfib_load(&fib->words[RFIB_W_EPOCH]);
            int is_intact = search_chunk(fib, total, from + bytes * done, out + done, size, form);
            __atomic_thread_fence(__ATOMIC_ACQUIRE);
            if (rfib_load(&fib->words[RFIB_W_EPOCH]) - epoch < 2)
                status = is_intact ? RFIB_FOUND : RFIB_DAMAGED;
        }
        if (status < 0)
            return status;
    }
    return RFIB_FOUND;
}

/* --- the Search type ------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    Py_buffer memory;
    struct rfib fib;
    uint32_t total;
    Py_ssize_t users;                   /* batches that run without the interpreter lock */
    int is_open;
} Search;

static struct module_state *state_of(PyTypeObject *type)
{
    return PyType_GetModuleState(type);
}

static PyObject *raise_status(const Search *self, int status)
{
    PyErr_SetString(state_of(Py_TYPE((PyObject *)self))->snapshot_error,
                    status == RFIB_BUSY
                                        ? "the daemon writes faster than this process can read"
                                        : "the snapshot is damaged: its trie leads outside");
    return NULL;
}

static PyObject *search_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"memory", NULL};
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    PyObject *memory;
    Search *self;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O", names, &memory))
        return NULL;
    self = (Search *)allocate(type, 0);
    if (self == NULL)
        return NULL;
    if (PyObject_GetBuffer(memory, &self->memory, PyBUF_SIMPLE) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    self->is_open = 1;
    if ((uintptr_t)self->memory.buf % 8 ||
        rfib_init(&self->fib, self->memory.buf, (size_t)self->memory.len) < 0) {
        Py_DECREF(self);
        PyErr_SetString(state_of(type)->snapshot_error, "the header is not a snapshot's");
        return NULL;
    }
    self->total = (uint32_t)(self->memory.len / 4);
    return (PyObject *)self;
}

static void search_dealloc(Search *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    if (self->is_open)
        PyBuffer_Release(&self->memory);
    release(self);
    Py_DECREF(type);
}

static int is_usable(const Search *self)
{
    if (self->is_open)
        return 1;
    PyErr_SetString(PyExc_ValueError, "the reader is closed");
    return 0;
}

static PyObject *find_one(Search *self, int is_ipv6, u128 address)
{
    const uint32_t words[4] = {(uint32_t)(address >> 96), (uint32_t)(address >> 64),
                               (uint32_t)(address >> 32), (uint32_t)address};
    int tries;

    for (tries = 0; tries < RFIB_RETRIES; tries++) {
        uint32_t epoch = rfib_load(&self->fib.words[RFIB_W_EPOCH]), record = 0;
        int status = rfib_find(&self->fib, (unsigned)is_ipv6, words, &record);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (rfib_load(&self->fib.words[RFIB_W_EPOCH]) - epoch < 2)
            return status < 0 ? raise_status(self, status) : PyLong_FromUnsignedLong(record);
    }
    return raise_status(self, RFIB_BUSY);
}

/* Try the two steps that suffice for most IPv4 addresses: the root's entry, and a branch below it.
 * `find_one` handles deeper, concurrently changed and damaged tries. Returns whether *record has the
 * result. */
static int find_shallow4(const Search *self, uint32_t address, uint32_t *record)
{
    const struct rfib *fib = &self->fib;
    const uint32_t *words = fib->words;
    uint32_t epoch = rfib_load(&words[RFIB_W_EPOCH]);
    unsigned left = 32 - fib->family[0].root_bits, kind;
    uint32_t at = fib->family[0].root + 2 * (address >> left), word = rfib_load(&words[at]), next;

    kind = word >> RFIB_KIND_SHIFT;
    if (kind - 1 < RFIB_FIRST_BUCKET_KIND - 1 && kind <= left) {
        next = (word & RFIB_ADDRESS_MASK) + (address >> (left - kind) & ((1u << kind) - 1));
        if (next >= self->total)
            return 0;
        word = rfib_load(&words[next]);
    }
    if (word & RFIB_RECORD_FLAG)
        *record = word & ~RFIB_RECORD_FLAG;
    else if (word)
        return 0;
    else if ((*record = rfib_load(&words[at + 1])) == 0)
        *record = rfib_load(&words[RFIB_W_IPV4 + RFIB_F_DEFAULT_RECORD]);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return rfib_load(&words[RFIB_W_EPOCH]) == epoch && *record <= fib->records_max;
}

static PyObject *raise_outside(int width)
{
    PyErr_Clear();
    return PyErr_Format(PyExc_ValueError, "an address is 0 to 2**%d - 1", width);
}

static PyObject *search_find4(Search *self, PyObject *argument)
{
    unsigned long long address;
    uint32_t record;

    if (!is_usable(self))
        return NULL;
    address = PyLong_AsUnsignedLongLong(argument);
    if (address == (unsigned long long)-1 && PyErr_Occurred())
        return PyErr_ExceptionMatches(PyExc_OverflowError) ? raise_outside(32) : NULL;
    if (address >> 32)
        return raise_outside(32);
    if (find_shallow4(self, (uint32_t)address, &record))
        return PyLong_FromUnsignedLong(record);
    return find_one(self, 0, address);
}

/* The lowest 64 bits of *number, which becomes the rest; steals and replaces the reference. */
static int shift_out_64_bits(const Search *self, PyObject **number, uint64_t *bits)
{
    PyObject *rest;

    *bits = PyLong_AsUnsignedLongLongMask(*number);
    if (*bits == (uint64_t)-1 && PyErr_Occurred())
        return -1;
    rest = PyNumber_Rshift(*number, state_of(Py_TYPE((PyObject *)self))->sixty_four);
    if (rest == NULL)
        return -1;
    Py_DECREF(*number);
    *number = rest;
    return 0;
}

static PyObject *search_find6(Search *self, PyObject *argument)
{
    uint64_t low, high;
    int failed, has_more;

    if (!is_usable(self))
        return NULL;
    Py_INCREF(argument);
    failed = shift_out_64_bits(self, &argument, &low) < 0 ||
             shift_out_64_bits(self, &argument, &high) < 0;
    has_more = failed ? -1 : PyObject_IsTrue(argument);
    Py_DECREF(argument);
    if (has_more)
        return has_more < 0 ? NULL : raise_outside(128);
    return find_one(self, 1, (u128)high << 64 | low);
}

static PyObject *search_find(Search *self, PyObject *argument)
{
    unsigned char packed[16];
    uint32_t address;
    const char *text;
    Py_ssize_t size;
    int is_ipv6;

    if (!is_usable(self))
        return NULL;
    text = PyUnicode_AsUTF8AndSize(argument, &size);
    if (text == NULL)
        return NULL;
    is_ipv6 = strchr(text, ':') != NULL;
    if (strlen(text) != (size_t)size ||
        inet_pton(is_ipv6 ? AF_INET6 : AF_INET, text, packed) != 1)
        return PyErr_Format(PyExc_ValueError, "%R is not an IP address", argument);
    if (is_ipv6)
        return find_one(self, 1, packed_ipv6(packed));
    memcpy(&address, packed, 4);
    return find_one(self, 0, ntohl(address));
}

static int form_of(const Py_buffer *from, int version, enum form *form)
{
    const char *format = from->format ? from->format : "B";

    if (version != 4 && version != 6) {
        PyErr_Format(PyExc_ValueError, "the version is 4 or 6, not %d", version);
        return -1;
    }
    if (from->itemsize == 1) {
        *form = version == 4 ? PACKED_IPV4 : PACKED_IPV6;
        if (from->len % (version == 4 ? 4 : 16) == 0)
            return 0;
        PyErr_Format(PyExc_ValueError, "packed IPv%d addresses have %d bytes each", version,
                     version == 4 ? 4 : 16);
        return -1;
    }
    *form = NUMBERS_IPV4;
    if (version == 4 && from->itemsize == 4 && strchr("IL", format[0]) && format[1] == '\0')
        return 0;
    PyErr_SetString(PyExc_ValueError, "addresses are packed bytes, or 32-bit numbers for IPv4");
    return -1;
}

static PyObject *search_find_many(Search *self, PyObject *arguments)
{
    PyObject *addresses, *result = NULL;
    Py_buffer from, out;
    enum form form;
    int version, status;
    size_t count;

    if (!is_usable(self) || !PyArg_ParseTuple(arguments, "Oiw*", &addresses, &version, &out))
        return NULL;
    if (PyObject_GetBuffer(addresses, &from, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) {
        PyBuffer_Release(&out);
        return NULL;
    }
    if (form_of(&from, version, &form) == 0) {
        count = (size_t)from.len / (form == PACKED_IPV6 ? 16 : 4);
        if ((size_t)out.len / 4 < count || (count && (uintptr_t)out.buf % 4)) {
            PyErr_SetString(PyExc_ValueError, "`out` is no array of enough 32-bit numbers");
        } else {
            self->users++;
            Py_BEGIN_ALLOW_THREADS
            status = search_many(&self->fib, self->total, from.buf, out.buf, count, form);
            Py_END_ALLOW_THREADS
            self->users--;
            if (status < 0)
                raise_status(self, status);
            else
                result = Py_NewRef(Py_None);
        }
    }
    PyBuffer_Release(&from);
    PyBuffer_Release(&out);
    return result;
}

static PyObject *search_release(Search *self, PyObject *Py_UNUSED(nothing))
{
    if (self->users) {
        PyErr_SetString(PyExc_BufferError, "another thread is searching");
        return NULL;
    }
    if (self->is_open)
        PyBuffer_Release(&self->memory);
    self->is_open = 0;
    Py_RETURN_NONE;
}

static PyMethodDef search_methods[] = {
    {"find4", (PyCFunction)search_find4, METH_O, "The route's number for an IPv4 address as an int."},
    {"find6", (PyCFunction)search_find6, METH_O, "The route's number for an IPv6 address as an int."},
    {"find", (PyCFunction)search_find, METH_O, "The route's number for an address as text."},
    {"find_many", (PyCFunction)search_find_many, METH_VARARGS, "The numbers for many addresses."},
    {"release", (PyCFunction)search_release, METH_NOARGS, "Let go of the memory."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot search_slots[] = {
    {Py_tp_doc, "Search(memory): searches a snapshot; see ipc/fib_search.py."},
    {Py_tp_new, search_new},
    {Py_tp_dealloc, search_dealloc},
    {Py_tp_methods, search_methods},
    {0, NULL},
};

static PyType_Spec search_spec = {
    .name = "ipc._search.Search",
    .basicsize = sizeof(Search),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = search_slots,
};

/* A reader that sees a later store also sees all earlier ones; no instruction on x86-64. */
static PyObject *fence(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(nothing))
{
    __atomic_thread_fence(__ATOMIC_RELEASE);
    Py_RETURN_NONE;
}

/* --- the module ------------------------------------------------------------------------------ */

static PyMethodDef module_methods[] = {
    {"fence", fence, METH_NOARGS, "A release barrier between stores to shared memory."},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module)
{
    struct module_state *state = PyModule_GetState(module);
    PyObject *layout = PyImport_ImportModule("ipc.fib_layout"), *type;
    int status;

    if (layout == NULL)
        return -1;
    state->snapshot_error = PyObject_GetAttrString(layout, "SnapshotError");
    Py_DECREF(layout);
    state->sixty_four = PyLong_FromLong(64);
    if (state->snapshot_error == NULL || state->sixty_four == NULL ||
        PyModule_AddIntConstant(module, "LAYOUT_VERSION", RFIB_LAYOUT_VERSION) < 0)
        return -1;
    type = PyType_FromModuleAndSpec(module, &search_spec, NULL);
    status = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
    Py_XDECREF(type);
    return status;
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct module_state *state = PyModule_GetState(module);

    Py_VISIT(state->snapshot_error);
    Py_VISIT(state->sixty_four);
    return 0;
}

static int module_clear(PyObject *module)
{
    struct module_state *state = PyModule_GetState(module);

    Py_CLEAR(state->snapshot_error);
    Py_CLEAR(state->sixty_four);
    return 0;
}

static void module_free(void *module)
{
    module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "ipc._search",
    .m_doc = "The optional native search of the FIB in shared memory.",
    .m_size = sizeof(struct module_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__search(void)
{
    return PyModuleDef_Init(&module_definition);
}
