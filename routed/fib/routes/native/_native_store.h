/* The store of a RouteTable: entries, their index, what is still to be done, values. No Python but for
 * values.
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
 */
#ifndef ROUTED_FIB_NATIVE_STORE_H
#define ROUTED_FIB_NATIVE_STORE_H

#include "_native.h"

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
    if (queue->head)
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

#endif
