/* The optional native half of the kernel FIB's books: what is done to a million routes.
 *
 *     RouteTable        what routed/fib/delta.py keeps in dictionaries, in 24 bytes an IPv4 route
 *     check_keys        whether columns of prefixes are prefixes (as ipc/columns.py)
 *     fill_templates    a buffer of route messages (as routed/fib/bulk.py)
 *     split_page        a page of a kernel's dump, by all that is not the prefix (the same)
 *
 * Same answers as the Python code, which is the reference and the fallback; one test suite runs over
 * both. Prefixes come and go as columns of bytes, address << 8 | length, big-endian, 8 bytes each for
 * IPv4 and 17 for IPv6; values as lists of objects with columns of u32 indices, big-endian, into
 * them.
 *
 * A table is an array of entries and a hash index of entry numbers, with linear probing. An entry is
 *
 *     desired u32 | kernel u32 | prefix length u8 | flags u8 | unused u16 | address (4 or 16)
 *
 * where desired and kernel number interned values, 0 for none, so equal values have equal numbers,
 * and which side of the difference a key is on follows from its entry:
 *
 *     desired = 0                unwanted       desired = kernel     same
 *     desired != kernel          held, when it was told to wait; else wanted
 *     ... and kernel != 0        replaced, too
 *
 * Keys that become wanted or unwanted are put in a queue of entry numbers, once each; whether they
 * still are is looked at when they are taken. Work on many keys is done sixteen at a time: first all
 * their index words are fetched, then all their entries, then it is done, so that the waits for
 * memory overlap.
 *
 * Invariants: room is made before anything is changed, so a call is carried out whole or not at all.
 * No Python code runs while entries are looked at: values are interned before and forgotten after.
 *
 * Plain CPython API, limited to the stable ABI of Python 3.11. Needs a compiler with __int128.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <arpa/inet.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef __SIZEOF_INT128__
#error "128-bit integers are needed"
#endif

#define INTERFACE_VERSION 1

enum { SAME, WANTED, HELD, UNWANTED, SIDES, NOWHERE };
enum { F_LIVE = 1, F_HELD = 2, F_QUEUED_WANTED = 4, F_QUEUED_UNWANTED = 8, F_MARKED = 16 };
enum { AHEAD = 16, FIRST_CAPACITY = 64, FIRST_SLOT_BITS = 7, KEPT_QUEUE = 4096, SCATTER_FROM = 256 };

typedef struct {
    uint32_t desired, kernel;           /* of a dead entry: the next dead one in `desired` */
    uint8_t prefix_len, flags;
    uint16_t unused;
    uint8_t address[];
} Entry;

typedef struct {
    uint32_t *numbers;
    size_t head, tail, capacity;
} Queue;

/* An interned value; the lists that it is in are chains of numbers, ended by 0. */
typedef struct {
    PyObject *object;                   /* NULL: free */
    uint32_t uses, local;               /* local: its place in `Rows` + 1 */
    uint32_t next_free, next_unsettled, next_local;
    uint8_t is_unsettled;
} Value;

typedef struct {
    PyObject_HEAD
    size_t address_bytes, key_bytes, stride;
    uint8_t *entries;
    uint32_t used, capacity, live, first_dead; /* first_dead: a number + 1 */
    uint32_t *slots;                    /* entry numbers + 1; 0 is free */
    unsigned slot_bits;
    uint64_t seed[2];
    size_t counts[SIDES], replaced;
    Queue wanted, unwanted;
    uint64_t dice;

    PyObject *interned;                 /* value -> its number */
    Value *values;
    uint32_t values_used, values_capacity;
    uint32_t free, unsettled, locals;   /* heads of chains */
} Table;

static inline Entry *entry_at(const Table *table, uint32_t number)
{
    return (Entry *)(table->entries + (size_t)number * table->stride);
}

static inline const uint8_t *address_of(const Table *table, const uint8_t *key)
{
    return key + table->key_bytes - 1 - table->address_bytes;
}

static inline int side_of(const Entry *entry)
{
    if (!entry->desired)
        return entry->kernel ? UNWANTED : NOWHERE;
    if (entry->desired == entry->kernel)
        return SAME;
    return entry->flags & F_HELD ? HELD : WANTED;
}

static inline int is_replaced(const Entry *entry)
{
    return entry->desired && entry->kernel && entry->desired != entry->kernel;
}

static inline uint32_t load_index(const char *indices, size_t position)
{
    uint32_t index;

    memcpy(&index, indices + 4 * position, sizeof index);
    return ntohl(index);
}

/* --- the hash index ------------------------------------------------------------------------- */

/* Multiplied by numbers that a stranger does not know: nobody can choose prefixes that collide. */
static inline uint32_t slot_of(const Table *table, const uint8_t *address, uint8_t prefix_len)
{
    uint64_t mixed;

    if (table->address_bytes == 4) {
        uint32_t bits;
        memcpy(&bits, address, sizeof bits);
        mixed = ((uint64_t)bits << 8 | prefix_len) * table->seed[0];
    } else {
        uint64_t high, low;
        memcpy(&high, address, sizeof high);
        memcpy(&low, address + 8, sizeof low);
        unsigned __int128 wide = (unsigned __int128)(high ^ table->seed[0]) * table->seed[1];
        mixed = (uint64_t)(wide >> 64) ^ (uint64_t)wide;
        wide = (unsigned __int128)(mixed ^ low ^ (uint64_t)prefix_len << 56) * table->seed[0];
        mixed = (uint64_t)(wide >> 64) ^ (uint64_t)wide;
    }
    return (uint32_t)(mixed >> (64 - table->slot_bits));
}

static inline int is_key_of(const Table *table, const Entry *entry, const uint8_t *key)
{
    return entry->prefix_len == key[table->key_bytes - 1] &&
           !memcmp(entry->address, address_of(table, key), table->address_bytes);
}

/* The entry of a key; NULL when there is none. */
static Entry *find(const Table *table, const uint8_t *key)
{
    uint32_t mask, slot;

    if (!table->slots)
        return NULL;
    mask = (1u << table->slot_bits) - 1;
    slot = slot_of(table, address_of(table, key), key[table->key_bytes - 1]);
    for (; table->slots[slot]; slot = (slot + 1) & mask) {
        Entry *entry = entry_at(table, table->slots[slot] - 1);
        if (is_key_of(table, entry, key))
            return entry;
    }
    return NULL;
}

static void enter_slot(Table *table, uint32_t number)
{
    const Entry *entry = entry_at(table, number);
    uint32_t mask = (1u << table->slot_bits) - 1;
    uint32_t slot = slot_of(table, entry->address, entry->prefix_len);

    while (table->slots[slot])
        slot = (slot + 1) & mask;
    table->slots[slot] = number + 1;
}

/* Close the gap that a removed entry leaves, so that no search ends early at it. */
static void leave_slot(Table *table, uint32_t number)
{
    const Entry *entry = entry_at(table, number);
    uint32_t mask = (1u << table->slot_bits) - 1;
    uint32_t gap = slot_of(table, entry->address, entry->prefix_len), slot;

    while (table->slots[gap] != number + 1)
        gap = (gap + 1) & mask;
    for (slot = (gap + 1) & mask; table->slots[slot]; slot = (slot + 1) & mask) {
        const Entry *next = entry_at(table, table->slots[slot] - 1);
        uint32_t home = slot_of(table, next->address, next->prefix_len);
        if (((slot - home) & mask) >= ((slot - gap) & mask)) {
            table->slots[gap] = table->slots[slot];
            gap = slot;
        }
    }
    table->slots[gap] = 0;
}

/* --- room ----------------------------------------------------------------------------------- */

static void *resized(void *old, size_t count, size_t size)
{
    void *place = realloc(old, count * size);

    if (!place)
        PyErr_NoMemory();
    return place;
}

static int reserve_queue(Queue *queue, size_t count)
{
    if (queue->tail + count <= queue->capacity)
        return 0;
    memmove(queue->numbers, queue->numbers + queue->head,
            (queue->tail - queue->head) * sizeof *queue->numbers);
    queue->tail -= queue->head;
    queue->head = 0;
    if (queue->tail + count > queue->capacity) {
        size_t capacity = queue->tail + count + (queue->tail + count) / 2;
        uint32_t *numbers = resized(queue->numbers, capacity, sizeof *numbers);
        if (!numbers)
            return -1;
        queue->numbers = numbers;
        queue->capacity = capacity;
    }
    return 0;
}

static int reserve_slots(Table *table, size_t live)
{
    unsigned bits = table->slots ? table->slot_bits : FIRST_SLOT_BITS;
    uint32_t *slots;

    while (live * 4 > ((size_t)3 << bits))
        bits++;
    if (table->slots && bits == table->slot_bits)
        return 0;
    slots = calloc((size_t)1 << bits, sizeof *slots);
    if (!slots) {
        PyErr_NoMemory();
        return -1;
    }
    free(table->slots);
    table->slots = slots;
    table->slot_bits = bits;
    for (uint32_t number = 0; number < table->used; number++)
        if (entry_at(table, number)->flags & F_LIVE)
            enter_slot(table, number);
    return 0;
}

/* Make room for so many new keys, each of which may be queued. */
static int reserve(Table *table, size_t count)
{
    if (table->used + count > UINT32_MAX / 2) {
        PyErr_NoMemory();
        return -1;
    }
    if (table->used + count > table->capacity) {
        size_t capacity = table->used + count + table->used / 8 + FIRST_CAPACITY;
        uint8_t *entries = resized(table->entries, capacity, table->stride);
        if (!entries)
            return -1;
        table->entries = entries;
        table->capacity = (uint32_t)capacity;
    }
    if (reserve_slots(table, table->live + count) || reserve_queue(&table->wanted, count) ||
        reserve_queue(&table->unwanted, count))
        return -1;
    return 0;
}

static void forget_queue(Queue *queue)
{
    free(queue->numbers);
    memset(queue, 0, sizeof *queue);
}

/* Give back what an empty table, or an empty queue, needs no more. */
static void give_back(Table *table)
{
    if (!table->live && table->used) {
        free(table->entries);
        free(table->slots);
        table->entries = NULL;
        table->slots = NULL;
        table->used = table->capacity = table->first_dead = 0;
        forget_queue(&table->wanted);
        forget_queue(&table->unwanted);
    }
    if (table->wanted.head == table->wanted.tail && table->wanted.capacity > KEPT_QUEUE)
        forget_queue(&table->wanted);
    if (table->unwanted.head == table->unwanted.tail && table->unwanted.capacity > KEPT_QUEUE)
        forget_queue(&table->unwanted);
}

/* --- values --------------------------------------------------------------------------------- */

static inline void unsettle(Table *table, uint32_t number)
{
    Value *value = &table->values[number];

    if (!value->is_unsettled) {
        value->is_unsettled = 1;
        value->next_unsettled = table->unsettled;
        table->unsettled = number;
    }
}

/* Room for one more; number 0 is no value. */
static uint32_t free_number(Table *table)
{
    if (table->free)
        return table->free;
    if (table->values_used >= table->values_capacity) {
        uint32_t capacity = table->values_capacity * 2 + 8;
        Value *values = resized(table->values, capacity, sizeof *values);
        if (!values)
            return 0;
        memset(values + table->values_capacity, 0,
               (capacity - table->values_capacity) * sizeof *values);
        table->values = values;
        table->values_capacity = capacity;
        if (!table->values_used)
            table->values_used = 1;
    }
    return table->values_used;
}

/* The number of a value, a new one if need be; 0 with an exception. `settle` must follow. */
static uint32_t intern(Table *table, PyObject *object)
{
    PyObject *known = PyDict_GetItemWithError(table->interned, object), *label;
    uint32_t number;

    if (known)
        return (uint32_t)PyLong_AsUnsignedLong(known);
    if (PyErr_Occurred() || !(number = free_number(table)))
        return 0;
    label = PyLong_FromUnsignedLong(number);
    if (!label || PyDict_SetItem(table->interned, object, label)) {
        Py_XDECREF(label);
        return 0;
    }
    Py_DECREF(label);
    if (number == table->free)
        table->free = table->values[number].next_free;
    else
        table->values_used++;
    Py_INCREF(object);
    table->values[number].object = object;
    table->values[number].uses = 0;
    unsettle(table, number);
    return number;
}

/* Forget the values that nothing uses. */
static int settle(Table *table)
{
    int status = 0;

    while (table->unsettled) {
        uint32_t number = table->unsettled;
        Value *value = &table->values[number];
        PyObject *object = value->object;
        table->unsettled = value->next_unsettled;
        value->is_unsettled = 0;
        if (value->uses)
            continue;
        value->object = NULL;
        value->next_free = table->free;
        table->free = number;
        if (PyDict_DelItem(table->interned, object))
            status = -1;
        Py_DECREF(object);
    }
    return status;
}

static inline void set_value(Table *table, uint32_t *place, uint32_t value)
{
    if (value)
        table->values[value].uses++;
    if (*place && !--table->values[*place].uses)
        unsettle(table, *place);
    *place = value;
}

/* --- entries -------------------------------------------------------------------------------- */

static void count_in(Table *table, const Entry *entry, size_t by)
{
    int side = side_of(entry);

    if (side != NOWHERE)
        table->counts[side] += by;
    if (is_replaced(entry))
        table->replaced += by;
}

static Entry *new_entry(Table *table, const uint8_t *key)
{
    uint32_t number = table->used;
    Entry *entry;

    if (table->first_dead) {
        number = table->first_dead - 1;
        entry = entry_at(table, number);
        table->first_dead = entry->desired;
    } else {
        table->used++;
        entry = entry_at(table, number);
        entry->flags = 0;
    }
    entry->desired = entry->kernel = 0;
    entry->prefix_len = key[table->key_bytes - 1];
    entry->flags &= F_QUEUED_WANTED | F_QUEUED_UNWANTED; /* the place is still in the queue */
    entry->flags |= F_LIVE;
    memcpy(entry->address, address_of(table, key), table->address_bytes);
    table->live++;
    enter_slot(table, number);
    return entry;
}

static inline void enqueue(Queue *queue, Entry *entry, uint32_t number, uint8_t flag)
{
    if (!(entry->flags & flag)) {
        entry->flags |= flag;
        queue->numbers[queue->tail++] = number;
    }
}

/* Change an entry: what is wanted, what is there, whether it has to wait. */
static void change(Table *table, Entry *entry, uint32_t desired, uint32_t kernel, int is_held)
{
    uint32_t number = (uint32_t)(((uint8_t *)entry - table->entries) / table->stride);

    count_in(table, entry, (size_t)-1);
    set_value(table, &entry->desired, desired);
    set_value(table, &entry->kernel, kernel);
    entry->flags = is_held ? entry->flags | F_HELD : entry->flags & ~F_HELD;
    count_in(table, entry, 1);
    switch (side_of(entry)) {
    case WANTED:
        enqueue(&table->wanted, entry, number, F_QUEUED_WANTED);
        break;
    case UNWANTED:
        enqueue(&table->unwanted, entry, number, F_QUEUED_UNWANTED);
        break;
    case NOWHERE:
        leave_slot(table, number);
        entry->flags &= ~F_LIVE;
        entry->desired = table->first_dead;
        table->first_dead = number + 1;
        table->live--;
        break;
    }
}

/* --- many keys ------------------------------------------------------------------------------ */

typedef struct Work Work;
struct Work {
    Table *table;
    const uint8_t *keys;
    size_t count;
    /* What is done with one key; its entry is NULL when there is none. */
    void (*act)(Work *work, Entry *entry, const uint8_t *key, size_t position);
    const uint32_t *numbers;            /* of values */
    const char *indices;                /* into these; NULL when all have the first */
    uint8_t *found;                     /* keys for the answer */
    size_t found_count, tally;
};

static inline uint32_t value_at(const Work *work, size_t position)
{
    return work->numbers[work->indices ? load_index(work->indices, position) : 0];
}

static void note(Work *work, const uint8_t *key)
{
    size_t size = work->table->key_bytes;

    memcpy(work->found + size * work->found_count++, key, size);
}

static void run(Work *work)
{
    Table *table = work->table;
    size_t size = table->key_bytes;

    for (size_t start = 0; start < work->count; start += AHEAD) {
        size_t end = start + AHEAD < work->count ? start + AHEAD : work->count;
        uint32_t slots[AHEAD];
        if (table->slots) {
            for (size_t at = start; at < end; at++) {
                const uint8_t *key = work->keys + at * size;
                slots[at - start] = slot_of(table, address_of(table, key), key[size - 1]);
                __builtin_prefetch(&table->slots[slots[at - start]]);
            }
            for (size_t at = start; at < end; at++)
                if (table->slots[slots[at - start]])
                    __builtin_prefetch(entry_at(table, table->slots[slots[at - start]] - 1));
        }
        for (size_t at = start; at < end; at++) {
            const uint8_t *key = work->keys + at * size;
            work->act(work, find(table, key), key, at);
        }
    }
}

static int take_keys(Work *work, const char *keys, Py_ssize_t length)
{
    if (length % (Py_ssize_t)work->table->key_bytes) {
        PyErr_Format(PyExc_ValueError, "a column of %zd bytes for keys of %zd", length,
                     (Py_ssize_t)work->table->key_bytes);
        return -1;
    }
    work->keys = (const uint8_t *)keys;
    work->count = (size_t)length / work->table->key_bytes;
    return 0;
}

static int check_indices(const char *indices, Py_ssize_t length, size_t count, Py_ssize_t limit)
{
    if ((size_t)length != 4 * count) {
        PyErr_Format(PyExc_ValueError, "%zd bytes of indices for %zd keys", length,
                     (Py_ssize_t)count);
        return -1;
    }
    for (size_t at = 0; at < count; at++)
        if (load_index(indices, at) >= (size_t)limit) {
            PyErr_SetString(PyExc_IndexError, "an index beyond the values");
            return -1;
        }
    return 0;
}

/* Intern a list of values; their numbers are the caller's to free. */
static uint32_t *intern_all(Table *table, PyObject *values)
{
    Py_ssize_t count = PyList_Size(values);
    uint32_t *numbers = count < 0 ? NULL : malloc((size_t)(count ? count : 1) * sizeof *numbers);

    if (!numbers) {
        if (count >= 0)
            PyErr_NoMemory();
        return NULL;
    }
    for (Py_ssize_t at = 0; at < count; at++) {
        numbers[at] = intern(table, PyList_GetItem(values, at));
        if (!numbers[at]) {
            free(numbers);
            settle(table);
            return NULL;
        }
    }
    return numbers;
}

/* Do something with keys and their values; -1 with an exception. */
static int run_valued(Work *work, PyObject *args)
{
    Table *table = work->table;
    const char *keys, *indices;
    Py_ssize_t keys_length, indices_length;
    PyObject *values;
    uint32_t *numbers;

    if (!PyArg_ParseTuple(args, "y#Oy#", &keys, &keys_length, &values, &indices, &indices_length))
        return -1;
    if (take_keys(work, keys, keys_length) ||
        check_indices(indices, indices_length, work->count, PyList_Size(values)) ||
        reserve(table, work->count))
        return -1;
    numbers = intern_all(table, values);
    if (!numbers)
        return -1;
    work->numbers = numbers;
    work->indices = indices;
    run(work);
    free(numbers);
    return settle(table);
}

/* Do something with keys; -1 with an exception. */
static int run_plain(Work *work, PyObject *args)
{
    const char *keys;
    Py_ssize_t length;

    if (!PyArg_ParseTuple(args, "y#", &keys, &length) || take_keys(work, keys, length) ||
        reserve(work->table, work->count))
        return -1;
    run(work);
    give_back(work->table);
    return settle(work->table);
}

static void act_want(Work *work, Entry *entry, const uint8_t *key, size_t position)
{
    uint32_t value = value_at(work, position);

    if (!entry)
        entry = new_entry(work->table, key);
    if (entry->desired != value) {
        work->tally += !entry->desired && entry->kernel == value;
        change(work->table, entry, value, entry->kernel, 0);
    }
}

static void act_withdraw(Work *work, Entry *entry, const uint8_t *key, size_t position)
{
    (void)position;
    if (entry && entry->desired)
        change(work->table, entry, 0, entry->kernel, 0);
    else if (!entry || !entry->kernel)
        return;
    if (entry->flags & F_LIVE)
        note(work, key);
}

static void act_hold(Work *work, Entry *entry, const uint8_t *key, size_t position)
{
    (void)key, (void)position;
    if (entry && side_of(entry) == WANTED)
        change(work->table, entry, entry->desired, entry->kernel, 1);
}

static void act_release(Work *work, Entry *entry, const uint8_t *key, size_t position)
{
    (void)key, (void)position;
    if (entry && side_of(entry) == HELD)
        change(work->table, entry, entry->desired, entry->kernel, 0);
}

static void act_set_kernel(Work *work, Entry *entry, const uint8_t *key, size_t position)
{
    uint32_t value = value_at(work, position);

    if (!entry)
        entry = new_entry(work->table, key);
    if (entry->kernel != value)
        change(work->table, entry, entry->desired, value,
               entry->flags & F_HELD && entry->desired != value);
}

static void act_delete_kernel(Work *work, Entry *entry, const uint8_t *key, size_t position)
{
    (void)key, (void)position;
    if (entry && entry->kernel)
        change(work->table, entry, entry->desired, 0, entry->flags & F_HELD);
}

static void act_written(Work *work, Entry *entry, const uint8_t *key, size_t position)
{
    (void)key, (void)position;
    if (entry && side_of(entry) == WANTED)
        change(work->table, entry, entry->desired, entry->desired, 0);
    else
        work->tally++;
}

static void act_removed(Work *work, Entry *entry, const uint8_t *key, size_t position)
{
    (void)key, (void)position;
    if (entry && entry->kernel && entry->kernel != entry->desired) {
        work->tally += !entry->desired;
        change(work->table, entry, entry->desired, 0, entry->flags & F_HELD);
    }
}

static void act_count_kernel(Work *work, Entry *entry, const uint8_t *key, size_t position)
{
    (void)key, (void)position;
    work->tally += entry && entry->kernel;
}

static void act_mark(Work *work, Entry *entry, const uint8_t *key, size_t position)
{
    (void)work, (void)key, (void)position;
    if (entry)
        entry->flags |= F_MARKED;
}

static void act_compare(Work *work, Entry *entry, const uint8_t *key, size_t position)
{
    (void)position;
    if (!entry || side_of(entry) != SAME || entry->desired != work->numbers[0])
        note(work, key);
}

/* --- rows for Python: keys, distinct values, indices into them ------------------------------- */

typedef struct {
    Table *table;
    PyObject *keys, *values, *indices;
    uint8_t *next_key, *next_index;
    int is_complete;
} Rows;

static int open_rows(Rows *rows, Table *table, size_t count)
{
    rows->table = table;
    rows->keys = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(count * table->key_bytes));
    rows->indices = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(count * 4));
    rows->values = PyList_New(0);
    rows->is_complete = rows->keys && rows->indices && rows->values;
    if (rows->is_complete) {
        rows->next_key = (uint8_t *)PyBytes_AsString(rows->keys);
        rows->next_index = (uint8_t *)PyBytes_AsString(rows->indices);
    }
    return rows->is_complete ? 0 : -1;
}

static void add_index(Rows *rows, uint32_t number)
{
    Value *value = &rows->table->values[number];
    uint32_t index;

    if (!value->local) {
        if (PyList_Append(rows->values, number ? value->object : Py_None)) {
            rows->is_complete = 0;
            return;
        }
        value->local = (uint32_t)PyList_Size(rows->values);
        value->next_local = rows->table->locals;
        rows->table->locals = number + 1;
    }
    index = htonl(value->local - 1);
    memcpy(rows->next_index, &index, sizeof index);
    rows->next_index += sizeof index;
}

static void add_key(Rows *rows, const Entry *entry)
{
    size_t size = rows->table->address_bytes, padding = rows->table->key_bytes - 1 - size;

    memset(rows->next_key, 0, padding);
    memcpy(rows->next_key + padding, entry->address, size);
    rows->next_key[padding + size] = entry->prefix_len;
    rows->next_key += rows->table->key_bytes;
}

static PyObject *close_rows(Rows *rows)
{
    Table *table = rows->table;
    PyObject *answer = NULL;

    while (table->locals) {
        Value *value = &table->values[table->locals - 1];
        table->locals = value->next_local;
        value->local = 0;
    }
    if (rows->is_complete)
        answer = PyTuple_Pack(3, rows->keys, rows->values, rows->indices);
    Py_XDECREF(rows->keys);
    Py_XDECREF(rows->values);
    Py_XDECREF(rows->indices);
    return answer;
}

/* --- methods -------------------------------------------------------------------------------- */

static PyObject *found_keys(Work *work, int status)
{
    PyObject *answer = NULL;

    if (!status)
        answer = PyBytes_FromStringAndSize((char *)work->found,
                                           (Py_ssize_t)(work->found_count * work->table->key_bytes));
    free(work->found);
    return answer;
}

static int open_found(Work *work, PyObject *keys)
{
    Py_ssize_t length = PyBytes_Size(keys);

    if (length < 0)
        return -1;
    work->found = malloc((size_t)length + 1);
    if (!work->found)
        PyErr_NoMemory();
    return work->found ? 0 : -1;
}

static PyObject *table_want(Table *self, PyObject *args)
{
    Work work = {.table = self, .act = act_want};

    if (run_valued(&work, args))
        return NULL;
    return PyLong_FromSize_t(work.tally);
}

static PyObject *table_set_kernel(Table *self, PyObject *args)
{
    Work work = {.table = self, .act = act_set_kernel};

    if (run_valued(&work, args))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *plain(Table *self, PyObject *args,
                       void (*act)(Work *, Entry *, const uint8_t *, size_t))
{
    Work work = {.table = self, .act = act};

    if (run_plain(&work, args))
        return NULL;
    return PyLong_FromSize_t(work.tally);
}

static PyObject *table_hold(Table *self, PyObject *args)
{
    return plain(self, args, act_hold);
}

static PyObject *table_release(Table *self, PyObject *args)
{
    return plain(self, args, act_release);
}

static PyObject *table_delete_kernel(Table *self, PyObject *args)
{
    return plain(self, args, act_delete_kernel);
}

static PyObject *table_written(Table *self, PyObject *args)
{
    Work work = {.table = self, .act = act_written};

    if (run_plain(&work, args))
        return NULL;
    if (work.tally)
        return PyErr_Format(PyExc_KeyError, "%zd of the keys written were not wanted",
                            (Py_ssize_t)work.tally);
    Py_RETURN_NONE;
}

static PyObject *table_removed(Table *self, PyObject *args)
{
    return plain(self, args, act_removed);
}

static PyObject *table_count_kernel(Table *self, PyObject *args)
{
    return plain(self, args, act_count_kernel);
}

static PyObject *table_mark(Table *self, PyObject *args)
{
    return plain(self, args, act_mark);
}

static PyObject *table_withdraw(Table *self, PyObject *args)
{
    Work work = {.table = self, .act = act_withdraw};
    PyObject *keys;

    if (!PyArg_ParseTuple(args, "S", &keys) || open_found(&work, keys))
        return NULL;
    return found_keys(&work, run_plain(&work, args));
}

static PyObject *table_compare(Table *self, PyObject *args)
{
    Work work = {.table = self, .act = act_compare};
    PyObject *keys, *value, *known;
    uint32_t number = 0;

    if (!PyArg_ParseTuple(args, "SO", &keys, &value))
        return NULL;
    known = PyDict_GetItemWithError(self->interned, value);
    if (known)
        number = (uint32_t)PyLong_AsUnsignedLong(known);
    else if (PyErr_Occurred())
        return NULL;
    if (take_keys(&work, PyBytes_AsString(keys), PyBytes_Size(keys)) || open_found(&work, keys))
        return NULL;
    work.numbers = &number;
    run(&work);
    return found_keys(&work, 0);
}

static PyObject *table_unmarked(Table *self, PyObject *unused)
{
    Work work = {.table = self};
    size_t count = self->counts[SAME] + self->replaced + self->counts[UNWANTED];

    (void)unused;
    work.found = malloc(count * self->key_bytes + 1);
    if (!work.found)
        return PyErr_NoMemory();
    for (uint32_t number = 0; number < self->used; number++) {
        Entry *entry = entry_at(self, number);
        if (entry->flags & F_LIVE && entry->kernel && !(entry->flags & F_MARKED)) {
            Rows one = {.table = self};
            one.next_key = work.found + self->key_bytes * work.found_count++;
            add_key(&one, entry);
        }
    }
    return found_keys(&work, 0);
}

static PyObject *table_clear_marks(Table *self, PyObject *unused)
{
    (void)unused;
    for (uint32_t number = 0; number < self->used; number++)
        entry_at(self, number)->flags &= (uint8_t)~F_MARKED;
    Py_RETURN_NONE;
}

static PyObject *table_find(Table *self, PyObject *args)
{
    Work work = {.table = self};
    const char *key;
    Py_ssize_t length;
    const Entry *entry;

    if (!PyArg_ParseTuple(args, "y#", &key, &length) || take_keys(&work, key, length))
        return NULL;
    if (work.count != 1) {
        PyErr_SetString(PyExc_ValueError, "one key is looked up at a time");
        return NULL;
    }
    entry = find(self, work.keys);
    if (!entry)
        Py_RETURN_NONE;
    return Py_BuildValue("iOO", side_of(entry),
                         entry->desired ? self->values[entry->desired].object : Py_None,
                         entry->kernel ? self->values[entry->kernel].object : Py_None);
}

static PyObject *table_counts(Table *self, PyObject *unused)
{
    (void)unused;
    return Py_BuildValue("nnnnn", (Py_ssize_t)self->counts[SAME],
                         (Py_ssize_t)self->counts[WANTED], (Py_ssize_t)self->counts[HELD],
                         (Py_ssize_t)self->counts[UNWANTED], (Py_ssize_t)self->replaced);
}

static PyObject *table_values(Table *self, PyObject *unused)
{
    (void)unused;
    return PyDict_Keys(self->interned);
}

/* select(side): every key of a side; SIDES stands for what is replaced. */
static PyObject *table_select(Table *self, PyObject *args)
{
    Rows rows;
    int side;

    if (!PyArg_ParseTuple(args, "i", &side))
        return NULL;
    if (side < 0 || side > SIDES) {
        PyErr_SetString(PyExc_ValueError, "no such side");
        return NULL;
    }
    if (!open_rows(&rows, self, side == SIDES ? self->replaced : self->counts[side]))
        for (uint32_t number = 0; number < self->used; number++) {
            const Entry *entry = entry_at(self, number);
            if (!(entry->flags & F_LIVE) ||
                !(side == SIDES ? is_replaced(entry) : side_of(entry) == side))
                continue;
            add_key(&rows, entry);
            add_index(&rows, side >= UNWANTED ? entry->kernel : entry->desired);
        }
    return close_rows(&rows);
}

/* Queue again what was taken and is still to be done: an attempt failed as a whole. */
static int refill(Table *table, Queue *queue, int side, uint8_t flag)
{
    if (reserve_queue(queue, table->counts[side]))
        return -1;
    for (uint32_t number = 0; number < table->used; number++) {
        Entry *entry = entry_at(table, number);
        if (entry->flags & F_LIVE && side_of(entry) == side)
            enqueue(queue, entry, number, flag);
    }
    return 0;
}

/* The kernel takes a sorted million out three times slower than a shuffled one. */
static void scatter_next(Table *table, Queue *queue)
{
    size_t length = queue->tail - queue->head, other;
    uint32_t number = queue->numbers[queue->head];

    table->dice = table->dice * 6364136223846793005u + 1442695040888963407u;
    other = queue->head + (size_t)((table->dice >> 32) * length >> 32);
    queue->numbers[queue->head] = queue->numbers[other];
    queue->numbers[other] = number;
}

static PyObject *taken_rows(Table *table, const uint32_t *taken, size_t count, int is_kernels)
{
    Rows rows;

    if (!open_rows(&rows, table, count))
        for (size_t at = 0; at < count; at++) {
            const Entry *entry = entry_at(table, taken[at]);
            add_key(&rows, entry);
            add_index(&rows, is_kernels ? entry->kernel : entry->desired);
        }
    return close_rows(&rows);
}

/* take(side, limit): the next keys of `wanted` or `unwanted` with their values, and what the kernel
 * has instead (None when there is nothing for any). */
static PyObject *table_take(Table *self, PyObject *args)
{
    int side, is_scattered;
    Py_ssize_t limit;
    uint32_t *taken, count = 0;
    uint8_t flag;
    Queue *queue;
    PyObject *rows, *instead;

    if (!PyArg_ParseTuple(args, "in", &side, &limit))
        return NULL;
    if (limit < 0 || (side != WANTED && side != UNWANTED)) {
        PyErr_SetString(PyExc_ValueError, "no such side, or limit");
        return NULL;
    }
    queue = side == WANTED ? &self->wanted : &self->unwanted;
    flag = side == WANTED ? F_QUEUED_WANTED : F_QUEUED_UNWANTED;
    if ((size_t)limit > self->counts[side])
        limit = (Py_ssize_t)self->counts[side];
    taken = malloc(((size_t)limit + 1) * sizeof *taken);
    if (!taken)
        return PyErr_NoMemory();
    is_scattered = side == UNWANTED && self->counts[side] > SCATTER_FROM;
    while (limit) {
        for (; count < limit && queue->head < queue->tail; queue->head++) {
            Entry *entry;
            if (is_scattered)
                scatter_next(self, queue);
            entry = entry_at(self, queue->numbers[queue->head]);
            entry->flags &= (uint8_t)~flag;
            if (entry->flags & F_LIVE && side_of(entry) == side)
                taken[count++] = queue->numbers[queue->head];
        }
        if (count)
            break;
        if (refill(self, queue, side, flag)) {
            free(taken);
            return NULL;
        }
    }
    rows = taken_rows(self, taken, count, side == UNWANTED);
    if (side == WANTED && self->replaced)
        instead = taken_rows(self, taken, count, 1);
    else
        Py_INCREF(instead = Py_None);
    free(taken);
    give_back(self);
    if (!rows || !instead) {
        Py_XDECREF(rows);
        Py_XDECREF(instead);
        return NULL;
    }
    return Py_BuildValue("NN", rows, instead);
}

static void table_dealloc(Table *self)
{
    PyTypeObject *type = Py_TYPE((PyObject *)self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    for (uint32_t number = 1; number < self->values_used; number++)
        Py_XDECREF(self->values[number].object);
    Py_XDECREF(self->interned);
    free(self->entries);
    free(self->slots);
    free(self->wanted.numbers);
    free(self->unwanted.numbers);
    free(self->values);
    release(self);
    Py_DECREF(type);
}

static PyObject *table_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    int address_bytes;
    unsigned long long first, second;
    Table *self;

    (void)keywords;
    if (!PyArg_ParseTuple(args, "iKK", &address_bytes, &first, &second))
        return NULL;
    if (address_bytes != 4 && address_bytes != 16) {
        PyErr_SetString(PyExc_ValueError, "an address has 4 or 16 bytes");
        return NULL;
    }
    self = (Table *)allocate(type, 0);
    if (!self)
        return NULL;
    self->address_bytes = (size_t)address_bytes;
    self->key_bytes = address_bytes == 4 ? 8 : 17;
    self->stride = sizeof(Entry) + self->address_bytes;
    self->seed[0] = first | 1;
    self->seed[1] = second | 1;
    self->dice = first;
    self->interned = PyDict_New();
    if (!self->interned) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static PyMethodDef table_methods[] = {
    {"want", (PyCFunction)table_want, METH_VARARGS, "want(keys, values, indices): how many claimed"},
    {"withdraw", (PyCFunction)table_withdraw, METH_VARARGS, "withdraw(keys): those unwanted now"},
    {"hold", (PyCFunction)table_hold, METH_VARARGS, "hold(keys)"},
    {"release", (PyCFunction)table_release, METH_VARARGS, "release(keys)"},
    {"set_kernel", (PyCFunction)table_set_kernel, METH_VARARGS, "set_kernel(keys, values, indices)"},
    {"delete_kernel", (PyCFunction)table_delete_kernel, METH_VARARGS, "delete_kernel(keys)"},
    {"written", (PyCFunction)table_written, METH_VARARGS, "written(keys)"},
    {"removed", (PyCFunction)table_removed, METH_VARARGS, "removed(keys): how many were unwanted"},
    {"compare", (PyCFunction)table_compare, METH_VARARGS, "compare(keys, value): those not so"},
    {"count_kernel", (PyCFunction)table_count_kernel, METH_VARARGS, "count_kernel(keys): how many"},
    {"mark", (PyCFunction)table_mark, METH_VARARGS, "mark(keys)"},
    {"clear_marks", (PyCFunction)table_clear_marks, METH_NOARGS, "clear_marks()"},
    {"unmarked", (PyCFunction)table_unmarked, METH_NOARGS, "unmarked(): keys there and not marked"},
    {"find", (PyCFunction)table_find, METH_VARARGS, "find(key): side, desired, kernel, or None"},
    {"counts", (PyCFunction)table_counts, METH_NOARGS, "same, wanted, held, unwanted, replaced"},
    {"values", (PyCFunction)table_values, METH_NOARGS, "every value in use"},
    {"select", (PyCFunction)table_select, METH_VARARGS, "select(side): keys, values, indices"},
    {"take", (PyCFunction)table_take, METH_VARARGS, "take(side, limit): rows, rows instead or None"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot table_slots[] = {
    {Py_tp_doc, "Desired and kernel routes of one family (routed/fib/native_tracker.py)"},
    {Py_tp_new, table_new},
    {Py_tp_dealloc, table_dealloc},
    {Py_tp_methods, table_methods},
    {0, NULL},
};

static PyType_Spec table_spec = {
    .name = "routed.fib._native.RouteTable",
    .basicsize = sizeof(Table),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = table_slots,
};

/* --- columns and buffers --------------------------------------------------------------------- */

static int has_host_bits(const uint8_t *address, size_t address_bytes, unsigned prefix_len)
{
    size_t at = prefix_len / 8;

    if (at < address_bytes && address[at++] & (0xff >> (prefix_len % 8)))
        return 1;
    for (; at < address_bytes; at++)
        if (address[at])
            return 1;
    return 0;
}

/* check_keys(column, address_bytes): the position of the first key that is no prefix, or -1. */
static PyObject *check_keys(PyObject *module, PyObject *args)
{
    const char *column;
    Py_ssize_t length;
    int address_bytes;
    size_t size, padding;

    (void)module;
    if (!PyArg_ParseTuple(args, "y#i", &column, &length, &address_bytes))
        return NULL;
    size = address_bytes == 4 ? 8 : 17;
    padding = size - 1 - (size_t)address_bytes;
    for (size_t at = 0; at < (size_t)length / size; at++) {
        const uint8_t *key = (const uint8_t *)column + at * size;
        unsigned prefix_len = key[size - 1];
        int is_wide = 0;
        for (size_t byte = 0; byte < padding; byte++)
            is_wide |= key[byte];
        if (is_wide || prefix_len > 8u * (unsigned)address_bytes ||
            has_host_bits(key + padding, (size_t)address_bytes, prefix_len))
            return PyLong_FromSize_t(at);
    }
    return PyLong_FromLong(-1);
}

/* Where things are in a route message: routed/fib/codec.py. What we send begins with the
 * destination, what the kernel sends with the table. */
enum { LENGTH_AT = 0, SEQUENCE_AT = 8, PREFIX_LEN_AT = 17, SENT_ADDRESS_AT = 32, SEEN_ADDRESS_AT = 40 };

/* fill_templates(templates, indices, keys, address_bytes, first_sequence): one message for each
 * key, from the template that its index names, with consecutive sequence numbers. */
static PyObject *fill_templates(PyObject *module, PyObject *args)
{
    PyObject *templates, *buffer;
    const char *indices, *keys;
    Py_ssize_t indices_length, keys_length;
    int address_bytes;
    unsigned int sequence;
    size_t count, size, total = 0;
    uint8_t *to;

    (void)module;
    if (!PyArg_ParseTuple(args, "O!y#y#iI", &PyList_Type, &templates, &indices, &indices_length,
                          &keys, &keys_length, &address_bytes, &sequence))
        return NULL;
    size = address_bytes == 4 ? 8 : 17;
    count = (size_t)keys_length / size;
    if (check_indices(indices, indices_length, count, PyList_Size(templates)))
        return NULL;
    for (size_t at = 0; at < count; at++) {
        Py_ssize_t length = PyBytes_Size(PyList_GetItem(templates, load_index(indices, at)));
        if (length < SENT_ADDRESS_AT + address_bytes) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "a template without a destination");
            return NULL;
        }
        total += (size_t)length;
    }
    buffer = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)total);
    if (!buffer)
        return NULL;
    to = (uint8_t *)PyBytes_AsString(buffer);
    for (size_t at = 0; at < count; at++, sequence++) {
        PyObject *template = PyList_GetItem(templates, load_index(indices, at));
        size_t length = (size_t)PyBytes_Size(template);
        const uint8_t *key = (const uint8_t *)keys + at * size;
        memcpy(to, PyBytes_AsString(template), length);
        memcpy(to + SEQUENCE_AT, &sequence, sizeof sequence);
        to[PREFIX_LEN_AT] = key[size - 1];
        memcpy(to + SENT_ADDRESS_AT, key + size - 1 - (size_t)address_bytes, (size_t)address_bytes);
        to += length;
    }
    return buffer;
}

enum { FORMS_MAX = 64 };

/* Messages of one page that differ in their prefix only. */
typedef struct {
    const uint8_t *message;
    uint32_t length;
    uint8_t *keys;
    size_t count;
} Form;

static int is_form(const Form *form, const uint8_t *message, uint32_t length, size_t address_bytes)
{
    size_t after = SEEN_ADDRESS_AT + address_bytes;

    return form->length == length && !memcmp(form->message, message, PREFIX_LEN_AT) &&
           !memcmp(form->message + PREFIX_LEN_AT + 1, message + PREFIX_LEN_AT + 1,
                   SEEN_ADDRESS_AT - PREFIX_LEN_AT - 1) &&
           !memcmp(form->message + after, message + after, length - after);
}

/* The message of a form with its prefix zeroed, and its keys. */
static PyObject *form_answer(const Form *form, size_t address_bytes, size_t key_bytes)
{
    PyObject *sample = PyBytes_FromStringAndSize((const char *)form->message, form->length);
    uint8_t *bytes;

    if (!sample)
        return NULL;
    bytes = (uint8_t *)PyBytes_AsString(sample);
    bytes[PREFIX_LEN_AT] = 0;
    memset(bytes + SEEN_ADDRESS_AT, 0, address_bytes);
    return Py_BuildValue("Ny#", sample, (char *)form->keys,
                         (Py_ssize_t)(form->count * key_bytes));
}

static int add_answer(PyObject *list, PyObject *item)
{
    int status = item ? PyList_Append(list, item) : -1;

    Py_XDECREF(item);
    return status;
}

/* split_page(page, address_bytes): a list of (message without its prefix, column of keys) and a list
 * of messages that are no routes with a destination; ValueError for what is no netlink messages. */
static PyObject *split_page(PyObject *module, PyObject *args)
{
    const uint8_t *page;
    Py_ssize_t page_length;
    int family_bytes;
    size_t address_bytes, key_bytes, end, offset = 0, limit, forms_count = 0, last = 0;
    uint16_t destination[2];
    uint8_t *room;
    Form forms[FORMS_MAX];
    PyObject *groups = PyList_New(0), *singles = PyList_New(0);
    int status = groups && singles ? 0 : -1;

    (void)module;
    if (status || !PyArg_ParseTuple(args, "y#i", (const char **)&page, &page_length, &family_bytes)) {
        Py_XDECREF(groups);
        Py_XDECREF(singles);
        return NULL;
    }
    address_bytes = (size_t)family_bytes;
    key_bytes = address_bytes == 4 ? 8 : 17;
    end = (size_t)page_length;
    destination[0] = (uint16_t)(4 + address_bytes);
    destination[1] = 1;                 /* RTA_DST */
    limit = end / (SEEN_ADDRESS_AT + address_bytes) + 1;
    room = NULL;
    while (!status && offset + 16 <= end) {
        const uint8_t *message = page + offset;
        uint32_t length;
        size_t at;
        memcpy(&length, message + LENGTH_AT, sizeof length);
        if (length < 16 || length > end - offset) {
            PyErr_Format(PyExc_ValueError, "a message of %zd bytes at offset %zd",
                         (Py_ssize_t)length, (Py_ssize_t)offset);
            status = -1;
            break;
        }
        offset += ((size_t)length + 3) & ~(size_t)3;
        if (length < SEEN_ADDRESS_AT + address_bytes ||
            memcmp(message + SEEN_ADDRESS_AT - 4, destination, 4)) {
            status = add_answer(singles, PyBytes_FromStringAndSize((const char *)message, length));
            continue;
        }
        at = last;
        if (at >= forms_count || !is_form(&forms[at], message, length, address_bytes))
            for (at = 0; at < forms_count; at++)
                if (is_form(&forms[at], message, length, address_bytes))
                    break;
        if (at == FORMS_MAX) {          /* a page of routes that have nothing in common */
            status = add_answer(singles, PyBytes_FromStringAndSize((const char *)message, length));
            continue;
        }
        if (at == forms_count) {
            room = malloc(limit * key_bytes);
            if (!room) {
                PyErr_NoMemory();
                status = -1;
                break;
            }
            forms[forms_count++] = (Form){message, length, room, 0};
        }
        last = at;
        uint8_t *key = forms[at].keys + forms[at].count++ * key_bytes;
        memset(key, 0, key_bytes - 1 - address_bytes);
        memcpy(key + key_bytes - 1 - address_bytes, message + SEEN_ADDRESS_AT, address_bytes);
        key[key_bytes - 1] = message[PREFIX_LEN_AT];
    }
    for (size_t at = 0; at < forms_count; at++) {
        if (!status)
            status = add_answer(groups, form_answer(&forms[at], address_bytes, key_bytes));
        free(forms[at].keys);
    }
    if (status) {
        Py_DECREF(groups);
        Py_DECREF(singles);
        return NULL;
    }
    return Py_BuildValue("NN", groups, singles);
}

static PyMethodDef methods[] = {
    {"check_keys", check_keys, METH_VARARGS, "check_keys(column, address_bytes): the first bad one"},
    {"fill_templates", fill_templates, METH_VARARGS,
     "fill_templates(templates, indices, keys, address_bytes, first_sequence)"},
    {"split_page", split_page, METH_VARARGS, "split_page(page, address_bytes): groups, singles"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_native", "The books of the kernel FIB, in C.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void)
{
    PyObject *module = PyModule_Create(&definition);
    PyObject *type = module ? PyType_FromSpec(&table_spec) : NULL;

    if (!type || PyModule_AddObject(module, "RouteTable", type) ||
        PyModule_AddIntConstant(module, "INTERFACE_VERSION", INTERFACE_VERSION)) {
        Py_XDECREF(module);
        return NULL;
    }
    return module;
}
