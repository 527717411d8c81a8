/* The LC-trie; see trie.py for the layout, the reasons and the invariants.
 *
 * The dictionaries of the Python version have two forms here. The prefixes of a slot are a *leaf*:
 * three columns in one allocation, 9 bytes a prefix for IPv4, 21 for IPv6. The prefixes that end
 * inside a directory are a heap over its bits: node 1 is the directory itself, node n has the
 * halves 2n and 2n + 1, and the last level are the slots; the next shorter prefix is the nearest
 * ancestor that has a value.
 *
 * A slot is changed in one step: the new leaf, block or child directory is complete before anything
 * is published or the writer's state changes. So a failure leaves each slot old or new.
 */
#include "writer.h"

enum { BATCH = 4096 };

struct leaf {
    uint32_t count;
    uint32_t block, block_words;        /* its block; no words: the slot's word is enough */
    uint32_t unused;                    /* what follows is aligned for 128-bit numbers */
    unsigned char columns[];            /* networks, values, lengths */
};

struct directory {
    uint32_t address;
    uint32_t count;                     /* prefixes in it and below it */
    uint8_t depth, end;                 /* bits decided above it, and with it */
    uint32_t *shorts;                   /* the heap; NULL until there is one */
    uintptr_t slots[];                  /* 0, a leaf, or a directory with the lowest bit set */
};

typedef struct {
    PyObject_HEAD
    Py_buffer memory;
    uint32_t *words;
    PyObject *arena_object;
    Arena *arena;
    unsigned width, stride, crowded;
    struct directory *root;
    struct builder builder;
    struct entry *merged;               /* scratch: a leaf's entries and the changes to them */
    size_t merged_room;
} Trie;

/* A change, and the former value. */
struct change {
    struct entry entry;
    uint32_t old;
};

static int change_directory(Trie *trie, struct directory *directory, struct change *changes,
                            size_t count);

static unsigned directory_bits(const struct directory *directory)
{
    return directory->end - directory->depth;
}

static uint32_t directory_words(const struct directory *directory)
{
    return 2u << directory_bits(directory);
}

static struct directory *as_directory(uintptr_t content)
{
    return content & 1 ? (struct directory *)(content - 1) : NULL;
}

static uint32_t slot_of(const Trie *trie, const struct directory *directory, u128 network)
{
    return (uint32_t)(network >> (trie->width - directory->end)) &
           ((1u << directory_bits(directory)) - 1);
}

static void store(Trie *trie, uint32_t at, uint32_t word)
{
    __atomic_store_n(&trie->words[at], word, __ATOMIC_RELAXED);
}

/* Release store: a reader that sees it also sees all earlier stores. */
static void publish(Trie *trie, uint32_t at, uint32_t word)
{
    __atomic_store_n(&trie->words[at], word, __ATOMIC_RELEASE);
}

/* --- leaves --- */

static size_t network_bytes(const Trie *trie)
{
    return trie->width == 32 ? 4 : 16;
}

static struct entry leaf_entry(const Trie *trie, const struct leaf *leaf, size_t index)
{
    const unsigned char *values = leaf->columns + network_bytes(trie) * leaf->count;
    struct entry entry;

    if (trie->width == 32) {
        uint32_t network;
        memcpy(&network, leaf->columns + 4 * index, 4);
        entry.network = network;
    } else {
        memcpy(&entry.network, leaf->columns + 16 * index, 16);
    }
    memcpy(&entry.value, values + 4 * index, 4);
    entry.length = values[4 * (size_t)leaf->count + index];
    return entry;
}

static struct leaf *new_leaf(const Trie *trie, const struct entry *entries, size_t count)
{
    size_t bytes = network_bytes(trie), i;
    struct leaf *leaf = malloc(sizeof *leaf + count * (bytes + 5));
    unsigned char *values;

    if (leaf == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    leaf->count = (uint32_t)count;
    leaf->block = leaf->block_words = leaf->unused = 0;
    values = leaf->columns + bytes * count;
    for (i = 0; i < count; i++) {
        if (trie->width == 32) {
            uint32_t network = (uint32_t)entries[i].network;
            memcpy(leaf->columns + 4 * i, &network, 4);
        } else {
            memcpy(leaf->columns + 16 * i, &entries[i].network, 16);
        }
        memcpy(values + 4 * i, &entries[i].value, 4);
        values[4 * count + i] = entries[i].length;
    }
    return leaf;
}

static int is_before(const struct entry *one, const struct entry *other)
{
    return one->network < other->network ||
           (one->network == other->network && one->length < other->length);
}

/* --- directories --- */

static struct directory *new_directory(Trie *trie, unsigned depth, unsigned bits)
{
    size_t slots = (size_t)1 << bits;
    struct directory *directory = calloc(1, sizeof *directory + slots * sizeof(uintptr_t));
    int is_fresh;

    if (directory == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    directory->depth = (uint8_t)depth;
    directory->end = (uint8_t)(depth + bits);
    if (arena_allocate(trie->arena, directory_words(directory), &directory->address, &is_fresh)) {
        free(directory);
        return NULL;
    }
    if (!is_fresh)
        memset(trie->words + directory->address, 0, 4 * (size_t)directory_words(directory));
    return directory;
}

/* Release the whole content of a slot, which readers can no longer reach. */
static int discard(Trie *trie, uintptr_t content)
{
    struct directory *directory = as_directory(content);
    int status = 0;

    if (directory != NULL) {
        uint32_t slot;
        for (slot = 0; slot < 1u << directory_bits(directory); slot++)
            if (discard(trie, directory->slots[slot]) < 0)
                status = -1;
        if (arena_release(trie->arena, directory->address, directory_words(directory)) < 0)
            status = -1;
        free(directory->shorts);
        free(directory);
    } else if (content) {
        struct leaf *leaf = (struct leaf *)content;
        if (leaf->block_words)
            status = arena_release(trie->arena, leaf->block, leaf->block_words);
        free(leaf);
    }
    return status;
}

/* Free the writer's state only: the words belong to the snapshot. */
static void forget(uintptr_t content)
{
    struct directory *directory = as_directory(content);

    if (directory != NULL) {
        uint32_t slot;
        for (slot = 0; slot < 1u << directory_bits(directory); slot++)
            forget(directory->slots[slot]);
        free(directory->shorts);
    }
    free(directory ? (void *)directory : (void *)content);
}

/* Make a child directory with these prefixes; no reader can reach it yet. */
static struct directory *split(Trie *trie, const struct directory *parent,
                               const struct entry *entries, size_t count)
{
    unsigned left = trie->width - parent->end;
    struct change *changes = malloc(count * sizeof *changes);
    struct directory *child;
    size_t i;

    if (changes == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    for (i = 0; i < count; i++)
        changes[i] = (struct change){entries[i], 0};
    child = new_directory(trie, parent->end, trie->stride < left ? trie->stride : left);
    if (child != NULL && change_directory(trie, child, changes, count) < 0) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        discard(trie, (uintptr_t)child | 1);
        PyErr_Restore(type, value, traceback);
        child = NULL;
    }
    free(changes);
    return child;
}

static struct leaf *build_leaf(Trie *trie, const struct directory *directory,
                               const struct entry *entries, size_t count, uint32_t *word)
{
    struct builder *builder = &trie->builder;
    struct leaf *leaf;
    int is_fresh;

    if (build_block(builder, entries, count, trie->width, trie->width - directory->end, word) < 0 ||
        (leaf = new_leaf(trie, entries, count)) == NULL)
        return NULL;
    if (builder->word_count) {
        leaf->block_words = (uint32_t)builder->word_count;
        if (arena_allocate(trie->arena, leaf->block_words, &leaf->block, &is_fresh) < 0) {
            free(leaf);
            return NULL;
        }
        memcpy(trie->words + leaf->block, builder->words, 4 * builder->word_count);
        *word |= leaf->block;
    }
    return leaf;
}

/* Set the content of a slot to these prefixes, in order. */
static int put(Trie *trie, struct directory *directory, uint32_t slot, const struct entry *entries,
               size_t count)
{
    uintptr_t old = directory->slots[slot], now = 0;
    uint32_t word = 0;

    if (count > trie->crowded && trie->width - directory->end > trie->stride) {
        struct directory *child = split(trie, directory, entries, count);
        if (child == NULL)
            return -1;
        now = (uintptr_t)child | 1;
        word = child->address;
    } else if (count) {
        now = (uintptr_t)build_leaf(trie, directory, entries, count, &word);
        if (now == 0)
            return -1;
    }
    publish(trie, directory->address + 2 * slot, word);
    directory->slots[slot] = now;
    return discard(trie, old);
}

/* Every prefix of a directory, in order: a node of the heap before its halves, and below the last
 * level what the slot leads to. */
static size_t gather(const Trie *trie, const struct directory *directory, uint32_t node,
                     unsigned level, u128 network, struct entry *out, size_t room)
{
    unsigned bits = directory_bits(directory);
    size_t count = 0, i;

    if (directory->shorts != NULL && node > 1 && directory->shorts[node]) {
        assert(count < room);
        out[count++] = (struct entry){network, directory->shorts[node],
                                      (uint8_t)(directory->depth + level)};
    }
    if (level < bits) {
        u128 half = (u128)1 << (trie->width - directory->depth - level - 1);
        count += gather(trie, directory, 2 * node, level + 1, network, out + count, room - count);
        count += gather(trie, directory, 2 * node + 1, level + 1, network | half, out + count,
                        room - count);
    } else {
        uintptr_t content = directory->slots[node - (1u << bits)];
        struct directory *child = as_directory(content);
        struct leaf *leaf = (struct leaf *)content;
        if (child != NULL)
            return count + gather(trie, child, 1, 0, network, out + count, room - count);
        assert(leaf == NULL || leaf->count <= room - count);
        for (i = 0; leaf != NULL && i < leaf->count; i++)
            out[count++] = leaf_entry(trie, leaf, i);
    }
    return count;
}

/* Turn a child directory that has become sparse into a block. `network` is the slot's. */
static int collapse(Trie *trie, struct directory *directory, uint32_t slot, u128 network)
{
    struct directory *child = as_directory(directory->slots[slot]);
    struct entry *entries = malloc(((size_t)child->count + 1) * sizeof *entries);
    size_t count;
    int status;

    if (entries == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    count = gather(trie, child, 1, 0, network, entries, child->count);
    assert(count == child->count);
    status = put(trie, directory, slot, entries, count);
    free(entries);
    return status;
}

/* --- prefixes that end inside a directory --- */

/* Write a fallback to the slots below a node, but not where a longer prefix has its own. */
static void store_fallbacks(Trie *trie, const struct directory *directory, uint32_t node,
                            unsigned levels, uint32_t value)
{
    if (levels == 0) {
        store(trie, directory->address + 2 * (node - (1u << directory_bits(directory))) + 1, value);
        return;
    }
    if (!directory->shorts[2 * node])
        store_fallbacks(trie, directory, 2 * node, levels - 1, value);
    if (!directory->shorts[2 * node + 1])
        store_fallbacks(trie, directory, 2 * node + 1, levels - 1, value);
}

static uint32_t node_of(const Trie *trie, const struct directory *directory, u128 network,
                        unsigned length)
{
    unsigned level = length - directory->depth;
    return 1u << level | slot_of(trie, directory, network) >> (directory->end - length);
}

static int change_short(Trie *trie, struct directory *directory, struct change *change)
{
    unsigned bits = directory_bits(directory), length = change->entry.length;
    uint32_t node = node_of(trie, directory, change->entry.network, length);
    uint32_t value = change->entry.value, above;

    if (directory->shorts == NULL) {
        if (!value)
            return 0;
        directory->shorts = calloc((size_t)2 << bits, 4);
        if (directory->shorts == NULL) {
            PyErr_NoMemory();
            return -1;
        }
    }
    change->old = directory->shorts[node];
    if (change->old == value)
        return 0;
    directory->count += (value != 0) - (change->old != 0);
    directory->shorts[node] = value;
    for (above = node / 2; !value && above > 1; above /= 2)
        value = directory->shorts[above];
    store_fallbacks(trie, directory, node, directory->end - length, value);
    return 0;
}

/* --- prefixes of one slot --- */

static int change_slot(Trie *trie, struct directory *directory, uint32_t slot,
                       struct change *changes, size_t count)
{
    const struct leaf *leaf = (const struct leaf *)directory->slots[slot];
    size_t before = leaf ? leaf->count : 0, room = before + count, after = 0, i = 0, j = 0;
    int is_changed = 0;

    if (trie->merged_room < room) {
        struct entry *merged = realloc(trie->merged, 2 * room * sizeof *merged);
        if (merged == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        trie->merged = merged;
        trie->merged_room = 2 * room;
    }
    while (i < before || j < count) {
        struct entry present;
        if (i < before) {
            present = leaf_entry(trie, leaf, i);
            if (j == count || is_before(&present, &changes[j].entry)) {
                trie->merged[after++] = present;
                i++;
                continue;
            }
            if (!is_before(&changes[j].entry, &present)) {
                changes[j].old = present.value;
                i++;
            }
        }
        is_changed |= changes[j].old != changes[j].entry.value;
        if (changes[j].entry.value)
            trie->merged[after++] = changes[j].entry;
        j++;
    }
    if (!is_changed)
        return 0;
    if (put(trie, directory, slot, trie->merged, after) < 0)
        return -1;
    directory->count += (uint32_t)(after - before);
    return 0;
}

/* Apply changes, in order, that all lie inside a directory. */
static int change_directory(Trie *trie, struct directory *directory, struct change *changes,
                            size_t count)
{
    unsigned left = trie->width - directory->end;
    size_t first = 0, last;

    for (; first < count; first = last) {
        struct entry *entry = &changes[first].entry;
        struct directory *child;
        uint32_t slot;
        last = first + 1;
        if (entry->length <= directory->end) {
            if (change_short(trie, directory, &changes[first]) < 0)
                return -1;
            continue;
        }
        /* At the slot's own address the shorter prefixes come first, so the rest is a run. */
        while (last < count && changes[last].entry.network >> left == entry->network >> left)
            last++;
        slot = slot_of(trie, directory, entry->network);
        child = as_directory(directory->slots[slot]);
        if (child == NULL) {
            if (change_slot(trie, directory, slot, changes + first, last - first) < 0)
                return -1;
        } else {
            uint32_t before = child->count;
            int status = change_directory(trie, child, changes + first, last - first);
            directory->count += child->count - before;
            if (status == 0 && child->count <= trie->crowded / 2)
                status = collapse(trie, directory, slot, entry->network >> left << left);
            if (status < 0)
                return -1;
        }
    }
    return 0;
}

/* --- the Python type --- */

static PyObject *trie_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    static char *names[] = {"words", "arena", "width", "root_bits", "stride_bits", "crowded", NULL};
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    unsigned width, root_bits, stride, crowded;
    const struct module_state *state = PyType_GetModuleState(type);
    PyObject *memory, *arena;
    Trie *trie;

    if (!PyArg_ParseTupleAndKeywords(arguments, keywords, "OO!$IIII", names, &memory,
                                     state->arena_type, &arena, &width, &root_bits, &stride, &crowded))
        return NULL;
    if ((width != 32 && width != 128) || root_bits < 1 || root_bits > RFIB_DIRECTORY_BITS_MAX ||
        stride < 1 || stride > RFIB_DIRECTORY_BITS_MAX || crowded < 1) {
        PyErr_SetString(PyExc_ValueError, "a width of 32 or 128, directories of 1 to 24 bits");
        return NULL;
    }
    trie = (Trie *)allocate(type, 0);           /* zeroed */
    if (trie == NULL)
        return NULL;
    trie->arena_object = Py_NewRef(arena);
    trie->arena = (Arena *)arena;
    trie->width = width;
    trie->stride = stride;
    trie->crowded = crowded;
    if (PyObject_GetBuffer(memory, &trie->memory, PyBUF_WRITABLE) == 0) {
        trie->words = trie->memory.buf;
        if ((uintptr_t)trie->words % 4 || trie->memory.len / 4 < (Py_ssize_t)trie->arena->end)
            PyErr_SetString(PyExc_ValueError, "the region is larger than the memory");
        else
            trie->root = new_directory(trie, 0, root_bits);
    }
    if (trie->root == NULL)
        Py_CLEAR(trie);
    return (PyObject *)trie;
}

static void trie_dealloc(Trie *trie)
{
    PyTypeObject *type = Py_TYPE((PyObject *)trie);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    if (trie->root)
        forget((uintptr_t)trie->root | 1);
    if (trie->words)
        PyBuffer_Release(&trie->memory);
    free_builder(&trie->builder);
    free(trie->merged);
    Py_XDECREF(trie->arena_object);
    release(trie);
    Py_DECREF(type);
}

static Py_ssize_t trie_length(Trie *trie)
{
    return trie->root->count;
}

static PyObject *get_root_address(Trie *trie, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(trie->root->address);
}

/* Entries from `first` on, up to BATCH of them, checked. Returns how many. */
static Py_ssize_t read_changes(Trie *trie, const struct module_state *state, PyObject *numbers, const uint32_t *values,
                               Py_ssize_t first, Py_ssize_t end, struct change *changes)
{
    Py_ssize_t count = end - first < BATCH ? end - first : BATCH, i;

    for (i = 0; i < count; i++) {
        struct entry *entry = &changes[i].entry;
        /* Keep a reference: shifting a subclass of int runs its Python code. */
        PyObject *number = Py_XNewRef(PyList_GetItem(numbers, first + i));
        int status = number ? read_entry(state, number, trie->width, entry) : -1;
        Py_XDECREF(number);
        if (status < 0)
            return -1;
        entry->value = values[first + i];
        changes[i].old = 0;
        if (entry->length < 1 || entry->value >= RFIB_RECORD_FLAG ||
            entry->network & (((u128)1 << (trie->width - entry->length)) - 1) ||
            (i && !is_before(&changes[i - 1].entry, entry))) {
            PyErr_SetString(PyExc_ValueError, "entries are networks with a length, in order, each "
                                              "once; values are 31 bits");
            return -1;
        }
    }
    return count;
}

static PyObject *trie_update(Trie *trie, PyObject *arguments)
{
    PyObject *numbers, *old = NULL;
    Py_buffer values, before;
    struct change *changes = NULL;
    Py_ssize_t count, first = 0, size, i;
    const struct module_state *state = PyType_GetModuleState(Py_TYPE((PyObject *)trie));

    if (!PyArg_ParseTuple(arguments, "Oy*", &numbers, &values))
        return NULL;
    count = PyList_Check(numbers) ? PyList_Size(numbers) : -1;
    if (count < 0 || values.len != 4 * count || (count && (uintptr_t)values.buf % 4)) {
        PyErr_SetString(PyExc_ValueError, "a list of entries, and a 32-bit value for each");
    } else if ((old = new_numbers(state, count, &before)) != NULL) {
        changes = malloc((size_t)(count < BATCH ? count + 1 : BATCH) * sizeof *changes);
        if (changes == NULL)
            PyErr_NoMemory();
        while (changes != NULL && first < count) {
            size = read_changes(trie, state, numbers, values.buf, first, count, changes);
            if (size < 0 || change_directory(trie, trie->root, changes, (size_t)size) < 0)
                break;
            for (i = 0; i < size; i++)
                ((uint32_t *)before.buf)[first + i] = changes[i].old;
            first += size;
        }
        PyBuffer_Release(&before);
        if (changes == NULL || first < count)
            Py_CLEAR(old);
        free(changes);
    }
    PyBuffer_Release(&values);
    return old;
}

/* addr_bits and prefix_len as an entry. */
static int read_prefix(const Trie *trie, PyObject *addr_bits, unsigned length, struct entry *entry)
{
    PyObject *eight = PyLong_FromLong(8), *number = NULL;
    int status = -1;

    if (eight != NULL && (number = PyNumber_Lshift(addr_bits, eight)) != NULL)
        status = read_entry(PyType_GetModuleState(Py_TYPE((PyObject *)trie)), number, trie->width,
                            entry);
    Py_XDECREF(eight);
    Py_XDECREF(number);
    entry->length = (uint8_t)length;
    if (status == 0 && (length < 1 || length > trie->width)) {
        PyErr_Format(PyExc_ValueError, "a length is 1 to %u", trie->width);
        return -1;
    }
    return status;
}

static PyObject *trie_get(Trie *trie, PyObject *arguments)
{
    const struct directory *directory = trie->root, *child;
    const struct leaf *leaf;
    PyObject *addr_bits;
    struct entry wanted;
    unsigned length;
    uint32_t value = 0, low = 0, high;

    if (!PyArg_ParseTuple(arguments, "OI", &addr_bits, &length) ||
        read_prefix(trie, addr_bits, length, &wanted) < 0)
        return NULL;
    while (length > directory->end) {
        uintptr_t content = directory->slots[slot_of(trie, directory, wanted.network)];
        child = as_directory(content);
        if (child == NULL) {
            leaf = (const struct leaf *)content;
            high = leaf ? leaf->count : 0;
            while (low < high) {
                uint32_t middle = (low + high) / 2;
                struct entry entry = leaf_entry(trie, leaf, middle);
                if (is_before(&entry, &wanted))
                    low = middle + 1;
                else
                    high = middle;
            }
            if (leaf && low < leaf->count) {
                struct entry entry = leaf_entry(trie, leaf, low);
                value = is_before(&wanted, &entry) ? 0 : entry.value;
            }
            return PyLong_FromUnsignedLong(value);
        }
        directory = child;
    }
    if (directory->shorts)
        value = directory->shorts[node_of(trie, directory, wanted.network, length)];
    return PyLong_FromUnsignedLong(value);
}

/* --- moving --- */

/* A slot of a directory, identified by its path: pointers would not survive a change. */
struct place {
    u128 path;                          /* the bits up to the directory's end, at the top */
    uint32_t end;
};

static int add_places(const Trie *trie, const struct directory *directory, u128 network,
                      uint32_t limit, PyObject *out)
{
    uint32_t slot;

    for (slot = 0; slot < 1u << directory_bits(directory); slot++) {
        uintptr_t content = directory->slots[slot];
        const struct directory *child = as_directory(content);
        const struct leaf *leaf = (const struct leaf *)content;
        u128 path = network | (u128)slot << (trie->width - directory->end);
        if (!content)
            continue;
        if (child ? child->address >= limit : leaf->block_words && leaf->block >= limit) {
            struct place place;
            PyObject *packed;
            int status;
            memset(&place, 0, sizeof place);
            place.path = path;
            place.end = directory->end;
            packed = PyBytes_FromStringAndSize((const char *)&place, sizeof place);
            status = packed ? PyList_Append(out, packed) : -1;
            Py_XDECREF(packed);
            if (status < 0)
                return -1;
        }
        if (child && add_places(trie, child, path, limit, out) < 0)
            return -1;
    }
    return 0;
}

static PyObject *places_above(Trie *trie, PyObject *arguments)
{
    PyObject *places;
    unsigned limit;

    if (!PyArg_ParseTuple(arguments, "I", &limit))
        return NULL;
    places = PyList_New(0);
    if (places != NULL && add_places(trie, trie->root, 0, limit, places) < 0)
        Py_CLEAR(places);
    return places;
}

static PyObject *trie_move(Trie *trie, PyObject *arguments)
{
    struct directory *directory = trie->root, *child;
    const char *packed;
    struct place place;
    struct leaf *leaf;
    uint32_t slot, old, new, size, at;
    uintptr_t content;
    unsigned limit;
    Py_ssize_t bytes;

    if (!PyArg_ParseTuple(arguments, "y#I", &packed, &bytes, &limit))
        return NULL;
    if (bytes != sizeof place) {
        PyErr_SetString(PyExc_ValueError, "that is no place of a trie");
        return NULL;
    }
    memcpy(&place, packed, sizeof place);
    while (directory->end < place.end) {
        directory = as_directory(directory->slots[slot_of(trie, directory, place.path)]);
        if (directory == NULL)
            Py_RETURN_TRUE;             /* it has changed meanwhile */
    }
    slot = slot_of(trie, directory, place.path);
    content = directory->slots[slot];
    child = as_directory(content);
    leaf = (struct leaf *)content;
    if (directory->end != place.end || content == 0)
        Py_RETURN_TRUE;
    old = child ? child->address : leaf->block;
    size = child ? directory_words(child) : leaf->block_words;
    if (size == 0 || old < limit)
        Py_RETURN_TRUE;
    new = arena_allocate_below(trie->arena, size, limit);
    if (new == 0)
        Py_RETURN_FALSE;
    memcpy(trie->words + new, trie->words + old, 4 * (size_t)size);
    if (child)
        child->address = new;
    else
        leaf->block = new;
    at = directory->address + 2 * slot;
    publish(trie, at, (trie->words[at] & ~RFIB_ADDRESS_MASK) | new);
    if (arena_release(trie->arena, old, size) < 0)
        return NULL;
    Py_RETURN_TRUE;
}

static PyMethodDef trie_methods[] = {
    {"update", (PyCFunction)trie_update, METH_VARARGS, "See routed/snapshot/trie.py."},
    {"get", (PyCFunction)trie_get, METH_VARARGS, "See routed/snapshot/trie.py."},
    {"places_above", (PyCFunction)places_above, METH_VARARGS, "See routed/snapshot/trie.py."},
    {"move", (PyCFunction)trie_move, METH_VARARGS, "See routed/snapshot/trie.py."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef trie_numbers[] = {
    {"root_address", (getter)get_root_address, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot trie_slots[] = {
    {Py_tp_doc, "The LC-trie; see routed/snapshot/trie.py."},
    {Py_tp_new, trie_new},
    {Py_tp_dealloc, trie_dealloc},
    {Py_tp_methods, trie_methods},
    {Py_tp_getset, trie_numbers},
    {Py_mp_length, trie_length},
    {0, NULL},
};

PyType_Spec trie_spec = {
    .name = "routed.snapshot._writer.Trie",
    .basicsize = sizeof(Trie),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = trie_slots,
};
