/* The optional extension `_search`, which searches a snapshot of the FIB.
 *
 * The results are the same as those of ipc/fib_search.py, which is the reference and the fallback;
 * the same tests run with both. (The writer's extension is routed/snapshot/native/writer.h.) The
 * layout is explained in ipc/fib_layout.py; a single address is searched by fib_snapshot.h, which
 * every C program may use.
 *
 *     search.c        the module and its type `Search`; one address
 *     search_batch.c  many addresses, with the instructions that every processor has
 *     search_wide.c   many IPv4 addresses, with vectors of 512 bits
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

#include "search.h"

struct module_state {
    PyObject *snapshot_error;           /* the exception */
    PyObject *sixty_four;               /* the number, for shifting */
};

/* --- the Search type ------------------------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    Py_buffer memory;
    struct rfib fib;
    uint32_t total;
    Py_ssize_t users;                   /* batches that run without the interpreter lock */
    int is_open, is_wide;
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
    static char *names[] = {"memory", "is_wide", NULL};
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    PyObject *memory;
    Search *self;
    int is_wide = 1;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "O|$p", names, &memory, &is_wide))
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
    self->is_wide = is_wide && has_wide_search();
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
            status = search_many(&self->fib, self->total, from.buf, out.buf, count, form,
                                 self->is_wide);
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
    {Py_tp_doc, "Search(memory, *, is_wide=True): searches a snapshot; see ipc/fib_search.py. With is_wide\n"
                 "vectors of 512 bits are used if the processor has them."},
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
