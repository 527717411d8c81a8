/* The allocator inside the snapshot; see arena.py for the reasons. */
#include "writer.h"

static unsigned bit_length(uint32_t number)
{
    return number ? 32 - (unsigned)__builtin_clz(number) : 0;
}

static uint32_t size_class(uint32_t words)
{
    unsigned step;

    if (words <= 16)
        return (words + 1) & ~1u;
    step = bit_length(words) - 4;
    return (words + (1u << step) - 1) >> step << step;
}

/* The index of a size returned by `size_class`. */
static unsigned class_index(uint32_t size)
{
    unsigned bits = bit_length(size);

    return size <= 16 ? size / 2 - 1 : 8 * (bits - 5) + (size >> (bits - 4));
}

static int push(struct spans *spans, uint32_t address, uint32_t words)
{
    if (spans->count == spans->room) {
        size_t room = spans->room ? 2 * spans->room : 16;
        struct span *items = realloc(spans->items, room * sizeof *items);
        if (items == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        spans->items = items;
        spans->room = room;
    }
    spans->items[spans->count++] = (struct span){address, words};
    return 0;
}

/* Allocate from the lowest hole with enough room; smaller holes become crumbs. Returns 0 if
 * there is none (address 0 belongs to the header, never to a block). */
static uint32_t carve(Arena *arena, uint32_t size, uint32_t limit)
{
    while (arena->holes.count) {
        struct span *hole = &arena->holes.items[arena->holes.count - 1];
        uint32_t address = hole->address;
        if (hole->words < size) {
            if (push(&arena->crumbs, address, hole->words) < 0) {
                PyErr_Clear();          /* the hole stays where it is, and the block goes elsewhere */
                return 0;
            }
            arena->holes.count--;
            continue;
        }
        if (address + size > limit)
            return 0;
        hole->address += size;
        hole->words -= size;
        arena->holes.count -= hole->words == 0;
        return address;
    }
    return 0;
}

int arena_allocate(Arena *arena, uint32_t words, uint32_t *address, int *is_fresh)
{
    uint32_t size = words < ARENA_WORDS_MAX ? size_class(words) : 0, at;
    struct spans *free;

    if (words < 1 || words >= ARENA_WORDS_MAX) {
        PyErr_SetString(PyExc_ValueError, "a block has 1 to 2**27 - 1 words");
        return -1;
    }
    free = &arena->free[class_index(size)];
    if (free->count) {
        *address = free->items[--free->count].address;
        *is_fresh = 0;
        arena->live += size;
        return 0;
    }
    at = carve(arena, size, arena->top);
    if (at == 0) {
        at = arena->top;
        if (size > arena->end - at) {
            const struct module_state *state =
                PyType_GetModuleState(Py_TYPE((PyObject *)arena));
            PyErr_Format(state->arena_full, "no room for %u words in a region of %u", words,
                         arena->end - arena->first);
            return -1;
        }
        arena->top += size;
    }
    *is_fresh = at >= arena->touched;
    if (at + size > arena->touched)
        arena->touched = at + size;
    *address = at;
    arena->live += size;
    return 0;
}

uint32_t arena_allocate_below(Arena *arena, uint32_t words, uint32_t limit)
{
    uint32_t size = size_class(words), address = carve(arena, size, limit);

    arena->live += address ? size : 0;
    return address;
}

int arena_release(Arena *arena, uint32_t address, uint32_t words)
{
    uint32_t size = size_class(words);

    arena->live -= size;
    arena->waiting += size;
    return push(&arena->limbo[2], address, size);
}

size_t arena_room(const Arena *arena, uint32_t words)
{
    uint32_t size = size_class(words);

    return arena->free[class_index(size)].count + (arena->end - arena->top) / size;
}

/* --- the Python type --- */

static PyObject *arena_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"first", "end", NULL};
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    unsigned first, end;
    Arena *arena;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "II", names, &first, &end))
        return NULL;
    if (first < 1 || end < first || end > ARENA_WORDS_MAX) {
        PyErr_SetString(PyExc_ValueError, "a region begins at word 1 at least and ends by 2**27");
        return NULL;
    }
    arena = (Arena *)allocate(type, 0);         /* zeroed */
    if (arena != NULL) {
        arena->first = arena->top = arena->touched = first;
        arena->end = end;
    }
    return (PyObject *)arena;
}

static void arena_dealloc(Arena *arena)
{
    PyTypeObject *type = Py_TYPE((PyObject *)arena);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    unsigned i;

    for (i = 0; i < SIZE_CLASSES; i++)
        free(arena->free[i].items);
    for (i = 0; i < 3; i++)
        free(arena->limbo[i].items);
    free(arena->holes.items);
    free(arena->crumbs.items);
    release(arena);
    Py_DECREF(type);
}

static PyObject *allocate_for_python(Arena *arena, PyObject *arguments)
{
    unsigned words;
    uint32_t address;
    int is_fresh;

    if (!PyArg_ParseTuple(arguments, "I", &words) ||
        arena_allocate(arena, words, &address, &is_fresh) < 0)
        return NULL;
    return Py_BuildValue("IN", address, PyBool_FromLong(is_fresh));
}

static PyObject *release_for_python(Arena *arena, PyObject *arguments)
{
    unsigned address, words;

    if (!PyArg_ParseTuple(arguments, "II", &address, &words))
        return NULL;
    if (address < arena->first || words < 1 || words > arena->end - address) {
        PyErr_SetString(PyExc_ValueError, "that block is not of this region");
        return NULL;
    }
    if (arena_release(arena, address, words) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *arena_advance(Arena *arena, PyObject *Py_UNUSED(nothing))
{
    struct spans oldest = arena->limbo[0];
    int has_failed = 0;
    size_t i;

    for (i = 0; i < oldest.count; i++) {
        struct span *span = &oldest.items[i];
        arena->waiting -= span->words;
        has_failed |= push(&arena->free[class_index(span->words)], span->address, span->words) < 0;
    }
    oldest.count = 0;
    arena->limbo[0] = arena->limbo[1];
    arena->limbo[1] = arena->limbo[2];
    arena->limbo[2] = oldest;
    if (has_failed)
        return NULL;
    Py_RETURN_NONE;
}

static int by_address(const void *one, const void *other)
{
    uint32_t a = ((const struct span *)one)->address, b = ((const struct span *)other)->address;
    return (a > b) - (a < b);
}

static PyObject *arena_coalesce(Arena *arena, PyObject *Py_UNUSED(nothing))
{
    struct spans all = {NULL, 0, 0}, *found[SIZE_CLASSES + 2];
    size_t total = 0, joined = 0, i, j;

    for (i = 0; i < SIZE_CLASSES; i++)
        found[i] = &arena->free[i];
    found[SIZE_CLASSES] = &arena->holes;
    found[SIZE_CLASSES + 1] = &arena->crumbs;
    for (i = 0; i < SIZE_CLASSES + 2; i++)
        total += found[i]->count;
    all.items = malloc((total + 1) * sizeof *all.items);
    if (all.items == NULL)
        return PyErr_NoMemory();
    all.room = total + 1;
    for (i = 0; i < SIZE_CLASSES + 2; i++) {
        if (found[i]->count)
            memcpy(all.items + all.count, found[i]->items, found[i]->count * sizeof *all.items);
        all.count += found[i]->count;
        found[i]->count = 0;
    }
    qsort(all.items, all.count, sizeof *all.items, by_address);
    for (i = 0; i < all.count; i++) {
        struct span *last = joined ? &all.items[joined - 1] : NULL;
        if (last && last->address + last->words == all.items[i].address)
            last->words += all.items[i].words;
        else
            all.items[joined++] = all.items[i];
    }
    if (joined && all.items[joined - 1].address + all.items[joined - 1].words == arena->top)
        arena->top = all.items[--joined].address;
    for (i = 0, j = joined; i + 1 < j; i++) {   /* the lowest to the end */
        struct span span = all.items[i];
        all.items[i] = all.items[--j];
        all.items[j] = span;
    }
    all.count = joined;
    free(arena->holes.items);
    arena->holes = all;
    Py_RETURN_NONE;
}

#define NUMBER(name, expression)                                                                   \
    static PyObject *get_##name(Arena *arena, void *Py_UNUSED(closure))                            \
    {                                                                                              \
        return PyLong_FromUnsignedLongLong(expression);                                            \
    }
NUMBER(first, arena->first)
NUMBER(end, arena->end)
NUMBER(live_words, arena->live)
NUMBER(reached_words, arena->top - arena->first)
NUMBER(touched_words, arena->touched - arena->first)
NUMBER(free_words, arena->top - arena->first - arena->live - arena->waiting)

static PyGetSetDef arena_numbers[] = {
    {"first", (getter)get_first, NULL, NULL, NULL},
    {"end", (getter)get_end, NULL, NULL, NULL},
    {"live_words", (getter)get_live_words, NULL, NULL, NULL},
    {"reached_words", (getter)get_reached_words, NULL, NULL, NULL},
    {"touched_words", (getter)get_touched_words, NULL, NULL, NULL},
    {"free_words", (getter)get_free_words, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMethodDef arena_methods[] = {
    {"allocate", (PyCFunction)allocate_for_python, METH_VARARGS, "See routed/snapshot/arena.py."},
    {"release", (PyCFunction)release_for_python, METH_VARARGS, "See routed/snapshot/arena.py."},
    {"advance", (PyCFunction)arena_advance, METH_NOARGS, "See routed/snapshot/arena.py."},
    {"coalesce", (PyCFunction)arena_coalesce, METH_NOARGS, "See routed/snapshot/arena.py."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot arena_slots[] = {
    {Py_tp_doc, "Arena(first, end): blocks of words; see routed/snapshot/arena.py."},
    {Py_tp_new, arena_new},
    {Py_tp_dealloc, arena_dealloc},
    {Py_tp_methods, arena_methods},
    {Py_tp_getset, arena_numbers},
    {0, NULL},
};

PyType_Spec arena_spec = {
    .name = "routed.snapshot._writer.Arena",
    .basicsize = sizeof(Arena),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = arena_slots,
};
