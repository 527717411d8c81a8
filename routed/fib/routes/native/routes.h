/* The extension `_routes`: declarations for its files.
 *
 *     routes.c         the module: columns of prefixes, route messages
 *     routes_table.c   RouteTable: work on many keys at once, and its methods
 *     routes_store.c   the store of a RouteTable: entries, their index, queues, values
 */
#ifndef ROUTED_FIB_ROUTES_H
#define ROUTED_FIB_ROUTES_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <arpa/inet.h>
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifndef __SIZEOF_INT128__
#error "128-bit integers are needed"
#endif

/* --- columns (routes.c) ---------------------------------------------------------------------- */

static inline uint32_t load_index(const char *indices, size_t position)
{
    uint32_t index;

    memcpy(&index, indices + 4 * position, sizeof index);
    return ntohl(index);
}

/* Check that there is an index below the limit for each key. Returns 0, or -1 with ValueError or
 * IndexError. */
int check_indices(const char *indices, Py_ssize_t length, size_t count, Py_ssize_t limit);
/* Check that an address has 4 or 16 bytes. Returns 0 and sets *key_bytes to the size of a key, or
 * returns -1 with ValueError. */
int check_address_bytes(int address_bytes, size_t *key_bytes);
/* Check that a column consists of whole keys. Returns 0 and sets *count to their number, or returns
 * -1 with ValueError. */
int check_column(Py_ssize_t length, size_t key_bytes, size_t *count);

/* --- the store (routes_store.c) --------------------------------------------------------------- */

enum { SAME, TO_INSTALL, HELD, TO_REMOVE, SIDES, NOWHERE };
enum { F_LIVE = 1, F_HELD = 2, F_QUEUED_INSTALL = 4, F_QUEUED_REMOVE = 8, F_MARKED = 16 };

struct entry {
    uint32_t desired, kernel;           /* in a dead entry, `desired` is the next dead entry */
    uint8_t prefix_len, flags;
    uint16_t unused;
    uint8_t address[];
};

struct queue {
    uint32_t *numbers;
    size_t head, tail, capacity;
};

/* An interned value; its lists are chains of value numbers that end with 0. */
struct value {
    PyObject *object;                   /* NULL if the number is free */
    uint32_t uses, local;               /* local: its position in the values of `struct rows` + 1 */
    uint32_t next_free, next_to_check, next_local;
    uint8_t is_to_check;
};

typedef struct {
    PyObject_HEAD
    size_t address_bytes, key_bytes, stride;
    uint8_t *entries;
    uint32_t used, capacity, live, first_dead; /* first_dead: an entry number + 1, or 0 */
    uint32_t *slots;                    /* entry numbers + 1; 0 if the slot is free */
    unsigned slot_bits;
    uint64_t seed[2];
    size_t counts[SIDES], replaced;
    struct queue to_install, to_remove;
    uint64_t dice;

    PyObject *interned;                 /* value -> its number */
    struct value *values;
    uint32_t values_used, values_capacity;
    uint32_t free, to_check, locals;    /* heads of chains */
} Table;

/* Reserve memory for `count` new keys, each of which may be queued. */
int store_reserve(Table *table, size_t count);
int store_reserve_queue(struct queue *queue, size_t count);
/* Free memory that an empty table, or an empty queue, no longer needs. */
void store_give_back(Table *table);
/* Return the number of a value, a new one if it has none; 0 with an exception. Runs Python code (the
 * value's hash and comparison). `store_forget_unused` must follow. */
uint32_t store_intern(Table *table, PyObject *object);
/* Remove the values that are no longer used. Runs Python code. */
int store_forget_unused(Table *table);
/* Create an entry for a key, in memory that `store_reserve` has reserved. */
struct entry *store_new_entry(Table *table, const uint8_t *key);
/* Append an entry to a queue, unless its flag shows that it is queued. */
void store_enqueue(struct queue *queue, struct entry *entry, uint32_t number, uint8_t flag);
/* Set the desired value, the kernel's value and the flag F_HELD of an entry, and queue it if it has
 * to be installed or removed. */
void store_change(Table *table, struct entry *entry, uint32_t desired, uint32_t kernel, int is_held);

static inline struct entry *entry_at(const Table *table, uint32_t number)
{
    return (struct entry *)(table->entries + (size_t)number * table->stride);
}

static inline const uint8_t *address_of(const Table *table, const uint8_t *key)
{
    return key + table->key_bytes - 1 - table->address_bytes;
}

static inline int side_of(const struct entry *entry)
{
    if (!entry->desired)
        return entry->kernel ? TO_REMOVE : NOWHERE;
    if (entry->desired == entry->kernel)
        return SAME;
    return entry->flags & F_HELD ? HELD : TO_INSTALL;
}

static inline int is_replaced(const struct entry *entry)
{
    return entry->desired && entry->kernel && entry->desired != entry->kernel;
}

/* Return the slot at which the search for a key begins. The multipliers are secret, so that a
 * neighbor cannot choose prefixes that collide. */
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

static inline int is_key_of(const Table *table, const struct entry *entry, const uint8_t *key)
{
    return entry->prefix_len == key[table->key_bytes - 1] &&
           !memcmp(entry->address, address_of(table, key), table->address_bytes);
}

/* Find the entry of a key; NULL if there is none. It is inline because it runs for every key. */
static inline struct entry *find_entry(const Table *table, const uint8_t *key)
{
    uint32_t mask, slot;

    if (!table->slots)
        return NULL;
    mask = (1u << table->slot_bits) - 1;
    slot = slot_of(table, address_of(table, key), key[table->key_bytes - 1]);
    for (; table->slots[slot]; slot = (slot + 1) & mask) {
        struct entry *entry = entry_at(table, table->slots[slot] - 1);
        if (is_key_of(table, entry, key))
            return entry;
    }
    return NULL;
}

/* --- the type (routes_table.c) ----------------------------------------------------------------- */

extern PyType_Spec route_table_spec;

#endif
