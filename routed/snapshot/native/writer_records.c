/* Route records; see records.py for the order of publication. */
#include "writer.h"

enum { HEAD_WORDS = RFIB_RECORD_NETWORK };

/* A key and its number of occurrences. */
struct seen {
    uint64_t key;                       /* a best_path's address in memory, a set's in the snapshot */
    uint32_t words[HEAD_WORDS];
    uint32_t users;
};

/* Distinct keys in order of first occurrence, found by open addressing. */
struct census {
    struct seen *seen;
    uint32_t *places;                   /* 1 + an index into `seen`; 0 for free */
    size_t count, room, mask;
};

static int grow_census(struct census *census)
{
    size_t room = census->room ? 2 * census->room : 32, i;
    struct seen *seen = realloc(census->seen, room * sizeof *seen);
    uint32_t *places = calloc(4 * room, sizeof *places);

    if (seen != NULL)
        census->seen = seen;
    if (seen == NULL || places == NULL) {
        free(places);
        PyErr_NoMemory();
        return -1;
    }
    free(census->places);
    census->places = places;
    census->room = room;
    census->mask = 4 * room - 1;
    for (i = 0; i < census->count; i++) {
        size_t at = seen[i].key * 0x9E3779B97F4A7C15u >> 20 & census->mask;
        while (places[at])
            at = (at + 1) & census->mask;
        places[at] = (uint32_t)i + 1;
    }
    return 0;
}

/* Find or add a key; a new one has no users yet. NULL: no memory. */
static struct seen *look_up(struct census *census, uint64_t key)
{
    struct seen *found;
    size_t at;

    if (census->count == census->room && grow_census(census) < 0)
        return NULL;
    at = key * 0x9E3779B97F4A7C15u >> 20 & census->mask;
    for (; census->places[at]; at = (at + 1) & census->mask) {
        found = &census->seen[census->places[at] - 1];
        if (found->key == key)
            return found;
    }
    found = &census->seen[census->count++];
    census->places[at] = (uint32_t)census->count;
    memset(found, 0, sizeof *found);
    found->key = key;
    return found;
}

static void free_census(struct census *census)
{
    free(census->seen);
    free(census->places);
}

/* Call Python for the first words of the records that share a best_path. */
static int read_head(PyObject *head_of, PyObject *best_path, struct seen *seen)
{
    PyObject *head = PyObject_CallFunctionObjArgs(head_of, best_path, NULL);
    Py_ssize_t size;
    char *words;
    int status = -1;

    if (head != NULL && PyBytes_AsStringAndSize(head, &words, &size) == 0) {
        if (size == sizeof seen->words) {
            memcpy(seen->words, words, sizeof seen->words);
            status = 0;
        } else {
            PyErr_SetString(PyExc_ValueError, "a record begins with eight words");
        }
    }
    Py_XDECREF(head);
    return status;
}

static void write_record(uint32_t *at, const uint32_t *head, const struct entry *entry, int is_ipv6)
{
    uint32_t *network = at + HEAD_WORDS;

    memcpy(at, head, 4 * HEAD_WORDS);
    at[0] |= (uint32_t)entry->length << 8;
    network[0] = (uint32_t)(is_ipv6 ? entry->network >> 96 : entry->network);
    network[1] = is_ipv6 ? (uint32_t)(entry->network >> 64) : 0;
    network[2] = is_ipv6 ? (uint32_t)(entry->network >> 32) : 0;
    network[3] = is_ipv6 ? (uint32_t)entry->network : 0;
    /* After the rest: a reader may be listing records. */
    __atomic_store_n(&at[RFIB_RECORD_IS_CURRENT], 1, __ATOMIC_RELEASE);
}

/* Number of records to write. */
static Py_ssize_t count_present(PyObject *best_paths)
{
    Py_ssize_t count = PyTuple_Size(best_paths), present = 0, i;

    for (i = 0; i < count; i++)
        present += PyTuple_GetItem(best_paths, i) != Py_None;
    return present;
}

/* `keys` and `best_paths` are tuples of our own: `head_of` is Python code, which must not be able to
 * free or replace an element that is in use. */
static int write_all(const struct module_state *state, uint32_t *words, Arena *arena, int is_ipv6, PyObject *keys,
                     PyObject *best_paths, PyObject *head_of, uint32_t *numbers,
                     struct census *census)
{
    Py_ssize_t count = PyTuple_Size(keys), i;
    uint32_t at;
    int is_fresh;

    for (i = 0; i < count; i++) {
        PyObject *best_path = PyTuple_GetItem(best_paths, i), *key = PyTuple_GetItem(keys, i);
        struct entry entry;
        struct seen *seen;
        if (best_path == NULL || key == NULL)
            return -1;
        if (best_path == Py_None)
            continue;
        seen = look_up(census, (uintptr_t)best_path);
        if (seen == NULL || (!seen->users && read_head(head_of, best_path, seen) < 0) ||
            read_entry(state, key, is_ipv6 ? 128 : 32, &entry) < 0 ||
            arena_allocate(arena, RFIB_RECORD_WORDS, &at, &is_fresh) < 0)
            return -1;
        seen->users++;
        write_record(words + at, seen->words, &entry, is_ipv6);
        numbers[i] = (at - arena->first) / RFIB_RECORD_WORDS + 1;
    }
    return 0;
}

/* The counts of a census, as a list of Python. */
static PyObject *users_of(const struct census *census)
{
    PyObject *users = PyList_New((Py_ssize_t)census->count);
    size_t i;

    for (i = 0; users != NULL && i < census->count; i++) {
        PyObject *number = PyLong_FromUnsignedLong(census->seen[i].users);
        if (number == NULL || PyList_SetItem(users, (Py_ssize_t)i, number) < 0)
            Py_CLEAR(users);
    }
    return users;
}

static int is_inside(const Py_buffer *memory, const Arena *arena)
{
    if ((uintptr_t)memory->buf % 4 == 0 && memory->len / 4 >= (Py_ssize_t)arena->end &&
        arena->first >= RFIB_HEADER_WORDS)
        return 1;
    PyErr_SetString(PyExc_ValueError, "the region is larger than the memory");
    return 0;
}

/* write_records(words, arena, is_ipv6, keys, best_paths, head_of) -> (numbers, users) */
PyObject *write_records(PyObject *module, PyObject *arguments)
{
    const struct module_state *state = PyModule_GetState(module);
    PyObject *arena_object, *key_list, *best_path_list, *head_of, *numbers = NULL, *users = NULL;
    PyObject *keys = NULL, *best_paths = NULL;
    struct census census = {NULL, NULL, 0, 0, 0};
    Py_buffer memory, out;
    Arena *arena;
    int is_ipv6, status;

    if (!PyArg_ParseTuple(arguments, "w*O!pOOO", &memory, state->arena_type, &arena_object, &is_ipv6,
                          &key_list, &best_path_list, &head_of))
        return NULL;
    arena = (Arena *)arena_object;
    if (!PyList_Check(key_list) || !PyList_Check(best_path_list) ||
        PyList_Size(key_list) != PyList_Size(best_path_list)) {
        PyErr_SetString(PyExc_ValueError, "two lists of one length");
    } else if ((keys = PyList_AsTuple(key_list)) == NULL ||
               (best_paths = PyList_AsTuple(best_path_list)) == NULL) {
        ;
    } else if (!is_inside(&memory, arena)) {
        ;
    } else if ((size_t)count_present(best_paths) > arena_room(arena, RFIB_RECORD_WORDS)) {
        PyErr_Format(state->arena_full, "no room for %zd records in a region of %u words",
                     count_present(best_paths), arena->end - arena->first);
    } else if ((numbers = new_numbers(state, PyTuple_Size(keys), &out)) != NULL) {
        uint32_t *words = memory.buf;
        status = write_all(state, words, arena, is_ipv6, keys, best_paths, head_of, out.buf, &census);
        PyBuffer_Release(&out);
        __atomic_store_n(&words[RFIB_W_RECORDS_USED],
                         (arena->top - arena->first) / RFIB_RECORD_WORDS, __ATOMIC_RELEASE);
        if (status == 0)
            users = users_of(&census);
        free_census(&census);
    }
    Py_XDECREF(keys);
    Py_XDECREF(best_paths);
    PyBuffer_Release(&memory);
    if (users != NULL)
        return Py_BuildValue("NN", numbers, users);
    Py_XDECREF(numbers);
    return NULL;
}

/* drop_records(words, arena, numbers) -> [(address of a next-hop set, how many used it), ...] */
PyObject *drop_records(PyObject *module, PyObject *arguments)
{
    const struct module_state *state = PyModule_GetState(module);
    PyObject *arena_object, *dropped = NULL;
    struct census census = {NULL, NULL, 0, 0, 0};
    Py_buffer memory, numbers;
    Arena *arena;
    size_t i;

    if (!PyArg_ParseTuple(arguments, "w*O!y*", &memory, state->arena_type, &arena_object, &numbers))
        return NULL;
    arena = (Arena *)arena_object;
    if (is_inside(&memory, arena)) {
        uint32_t *words = memory.buf, most = (arena->top - arena->first) / RFIB_RECORD_WORDS;
        int is_intact = 1;
        for (i = 0; is_intact && i < (size_t)numbers.len / 4; i++) {
            uint32_t number = ((const uint32_t *)numbers.buf)[i], at;
            struct seen *seen;
            if (number == 0)
                continue;
            if (number > most) {
                PyErr_SetString(PyExc_ValueError, "there is no such record");
                is_intact = 0;
                break;
            }
            at = arena->first + (number - 1) * RFIB_RECORD_WORDS;
            __atomic_store_n(&words[at + RFIB_RECORD_IS_CURRENT], 0, __ATOMIC_RELAXED);
            seen = look_up(&census, words[at + RFIB_RECORD_NEXT_HOPS]);
            is_intact = seen != NULL && arena_release(arena, at, RFIB_RECORD_WORDS) == 0;
            if (seen != NULL)
                seen->users++;
        }
        if (is_intact)
            dropped = PyList_New(0);
        for (i = 0; dropped != NULL && i < census.count; i++) {
            PyObject *row = Py_BuildValue("KI", (unsigned long long)census.seen[i].key,
                                          census.seen[i].users);
            if (row == NULL || PyList_Append(dropped, row) < 0)
                Py_CLEAR(dropped);
            Py_XDECREF(row);
        }
        free_census(&census);
    }
    PyBuffer_Release(&numbers);
    PyBuffer_Release(&memory);
    return dropped;
}
