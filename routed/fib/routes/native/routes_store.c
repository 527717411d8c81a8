/* The store of a RouteTable: entries, hash index, queues and values. Only values run Python code.
 *
 * A table is an array of entries and a hash index of entry numbers, with linear probing. An entry is
 *
 *     desired u32 | kernel u32 | prefix length u8 | flags u8 | unused u16 | address (4 or 16)
 *
 * where desired and kernel are numbers of interned values, 0 for none. Equal values have the same
 * number, so the state of a key follows from its entry:
 *
 *     desired = 0                to remove      desired = kernel     same
 *     desired != kernel          held, if the flag F_HELD is set; else to install
 *     ... and kernel != 0        also replaced
 *
 * A key that becomes `to install` or `to remove` is appended to a queue of entry numbers, once. When
 * it is popped, its state is checked again. Sixteen keys are processed at a time: first their index
 * words are prefetched, then their entries, so that the memory accesses overlap.
 *
 * Invariants: memory is reserved before a change, so a call is carried out completely or not at all.
 * No Python code runs while entries are in use: values are interned before and removed afterwards.
 */
#include "routes.h"

enum { FIRST_CAPACITY = 64, FIRST_SLOT_BITS = 7, KEPT_QUEUE = 4096 };

/* --- the hash index ------------------------------------------------------------------------- */

static void enter_slot(Table *table, uint32_t number)
{
    const struct entry *entry = entry_at(table, number);
    uint32_t mask = (1u << table->slot_bits) - 1;
    uint32_t slot = slot_of(table, entry->address, entry->prefix_len);

    while (table->slots[slot])
        slot = (slot + 1) & mask;
    table->slots[slot] = number + 1;
}

/* Remove an entry from the index and close the gap, at which searches would end too early. */
static void leave_slot(Table *table, uint32_t number)
{
    const struct entry *entry = entry_at(table, number);
    uint32_t mask = (1u << table->slot_bits) - 1;
    uint32_t gap = slot_of(table, entry->address, entry->prefix_len), slot;

    while (table->slots[gap] != number + 1)
        gap = (gap + 1) & mask;
    for (slot = (gap + 1) & mask; table->slots[slot]; slot = (slot + 1) & mask) {
        const struct entry *next = entry_at(table, table->slots[slot] - 1);
        uint32_t home = slot_of(table, next->address, next->prefix_len);
        if (((slot - home) & mask) >= ((slot - gap) & mask)) {
            table->slots[gap] = table->slots[slot];
            gap = slot;
        }
    }
    table->slots[gap] = 0;
}

/* --- memory ----------------------------------------------------------------------------------- */

static void *resized(void *old, size_t count, size_t size)
{
    void *place = realloc(old, count * size);

    if (!place)
        PyErr_NoMemory();
    return place;
}

int store_reserve_queue(struct queue *queue, size_t count)
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

int store_reserve(Table *table, size_t count)
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
    if (reserve_slots(table, table->live + count) || store_reserve_queue(&table->to_install, count) ||
        store_reserve_queue(&table->to_remove, count))
        return -1;
    return 0;
}

static void forget_queue(struct queue *queue)
{
    free(queue->numbers);
    memset(queue, 0, sizeof *queue);
}

void store_give_back(Table *table)
{
    if (!table->live && table->used) {
        free(table->entries);
        free(table->slots);
        table->entries = NULL;
        table->slots = NULL;
        table->used = table->capacity = table->first_dead = 0;
        forget_queue(&table->to_install);
        forget_queue(&table->to_remove);
    }
    if (table->to_install.head == table->to_install.tail && table->to_install.capacity > KEPT_QUEUE)
        forget_queue(&table->to_install);
    if (table->to_remove.head == table->to_remove.tail && table->to_remove.capacity > KEPT_QUEUE)
        forget_queue(&table->to_remove);
}

/* --- values --------------------------------------------------------------------------------- */

static inline void check_later(Table *table, uint32_t number)
{
    struct value *value = &table->values[number];

    if (!value->is_to_check) {
        value->is_to_check = 1;
        value->next_to_check = table->to_check;
        table->to_check = number;
    }
}

/* Return a free value number, with memory for it; 0 if there is no memory. */
static uint32_t free_number(Table *table)
{
    if (table->free)
        return table->free;
    if (table->values_used >= table->values_capacity) {
        uint32_t capacity = table->values_capacity * 2 + 8;
        struct value *values = resized(table->values, capacity, sizeof *values);
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

uint32_t store_intern(Table *table, PyObject *object)
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
    check_later(table, number);
    return number;
}

int store_forget_unused(Table *table)
{
    int status = 0;

    while (table->to_check) {
        uint32_t number = table->to_check;
        struct value *value = &table->values[number];
        PyObject *object = value->object;
        table->to_check = value->next_to_check;
        value->is_to_check = 0;
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
        check_later(table, *place);
    *place = value;
}

/* --- entries -------------------------------------------------------------------------------- */

static void count_in(Table *table, const struct entry *entry, size_t by)
{
    int side = side_of(entry);

    if (side != NOWHERE)
        table->counts[side] += by;
    if (is_replaced(entry))
        table->replaced += by;
}

struct entry *store_new_entry(Table *table, const uint8_t *key)
{
    uint32_t number = table->used;
    struct entry *entry;

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
    entry->flags &= F_QUEUED_INSTALL | F_QUEUED_REMOVE; /* its number may still be in a queue */
    entry->flags |= F_LIVE;
    memcpy(entry->address, address_of(table, key), table->address_bytes);
    table->live++;
    enter_slot(table, number);
    return entry;
}

void store_enqueue(struct queue *queue, struct entry *entry, uint32_t number, uint8_t flag)
{
    if (!(entry->flags & flag)) {
        entry->flags |= flag;
        queue->numbers[queue->tail++] = number;
    }
}

void store_change(Table *table, struct entry *entry, uint32_t desired, uint32_t kernel, int is_held)
{
    uint32_t number = (uint32_t)(((uint8_t *)entry - table->entries) / table->stride);

    count_in(table, entry, (size_t)-1);
    set_value(table, &entry->desired, desired);
    set_value(table, &entry->kernel, kernel);
    entry->flags = is_held ? entry->flags | F_HELD : entry->flags & ~F_HELD;
    count_in(table, entry, 1);
    switch (side_of(entry)) {
    case TO_INSTALL:
        store_enqueue(&table->to_install, entry, number, F_QUEUED_INSTALL);
        break;
    case TO_REMOVE:
        store_enqueue(&table->to_remove, entry, number, F_QUEUED_REMOVE);
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
