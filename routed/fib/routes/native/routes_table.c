/* RouteTable: operations on many keys at once, and the methods for Python
 * (routed/fib/routes/native_tracker.py). */
#include "routes.h"

enum { AHEAD = 16, SCATTER_FROM = 256 };

/* --- many keys ------------------------------------------------------------------------------ */

struct work;
typedef void action(struct work *work, struct entry *entry, const uint8_t *key, size_t position);

struct work {
    Table *table;
    const uint8_t *keys;
    size_t count;
    /* Processes one key; its entry is NULL if there is none. */
    action *act;
    const uint32_t *numbers;            /* value numbers */
    const char *indices;                /* indices into `numbers`; NULL if all keys have the first */
    uint8_t *found;                     /* the keys to return */
    size_t found_count, tally;
};

static inline uint32_t value_at(const struct work *work, size_t position)
{
    return work->numbers[work->indices ? load_index(work->indices, position) : 0];
}

static void add_found(struct work *work, const uint8_t *key)
{
    size_t size = work->table->key_bytes;

    memcpy(work->found + size * work->found_count++, key, size);
}

static void run(struct work *work)
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
            work->act(work, find_entry(table, key), key, at);
        }
    }
}

static int set_keys(struct work *work, const char *keys, Py_ssize_t length)
{
    work->keys = (const uint8_t *)keys;
    return check_column(length, work->table->key_bytes, &work->count);
}

/* Intern a list of values. Returns their numbers, which the caller must free. */
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
        /* Keep a reference: comparing values runs Python code, which might change the list. */
        PyObject *object = Py_XNewRef(PyList_GetItem(values, at));
        numbers[at] = object ? store_intern(table, object) : 0;
        Py_XDECREF(object);
        if (!numbers[at]) {
            PyObject *type, *error, *traceback;
            PyErr_Fetch(&type, &error, &traceback);
            free(numbers);
            if (store_forget_unused(table))
                PyErr_Clear();          /* the first error is reported */
            PyErr_Restore(type, error, traceback);
            return NULL;
        }
    }
    return numbers;
}

/* Process keys with values. Returns 0, or -1 with an exception. */
static int run_valued(struct work *work, PyObject *args)
{
    Table *table = work->table;
    const char *keys, *indices;
    Py_ssize_t keys_length, indices_length;
    PyObject *values;
    uint32_t *numbers;

    if (!PyArg_ParseTuple(args, "y#Oy#", &keys, &keys_length, &values, &indices, &indices_length))
        return -1;
    if (set_keys(work, keys, keys_length) ||
        check_indices(indices, indices_length, work->count, PyList_Size(values)) ||
        store_reserve(table, work->count))
        return -1;
    numbers = intern_all(table, values);
    if (!numbers)
        return -1;
    work->numbers = numbers;
    work->indices = indices;
    run(work);
    free(numbers);
    return store_forget_unused(table);
}

/* Process keys without values. Returns 0, or -1 with an exception. */
static int run_plain(struct work *work, PyObject *args)
{
    const char *keys;
    Py_ssize_t length;

    if (!PyArg_ParseTuple(args, "y#", &keys, &length) || set_keys(work, keys, length) ||
        store_reserve(work->table, work->count))
        return -1;
    run(work);
    store_give_back(work->table);
    return store_forget_unused(work->table);
}

static void act_set_desired(struct work *work, struct entry *entry, const uint8_t *key, size_t position)
{
    uint32_t value = value_at(work, position);

    if (!entry)
        entry = store_new_entry(work->table, key);
    if (entry->desired != value) {
        work->tally += !entry->desired && entry->kernel == value;
        store_change(work->table, entry, value, entry->kernel, 0);
    }
}

static void act_withdraw(struct work *work, struct entry *entry, const uint8_t *key, size_t position)
{
    (void)position;
    if (entry && entry->desired)
        store_change(work->table, entry, 0, entry->kernel, 0);
    else if (!entry || !entry->kernel)
        return;
    if (entry->flags & F_LIVE)
        add_found(work, key);
}

static void act_hold(struct work *work, struct entry *entry, const uint8_t *key, size_t position)
{
    (void)key, (void)position;
    if (entry && side_of(entry) == TO_INSTALL)
        store_change(work->table, entry, entry->desired, entry->kernel, 1);
}

static void act_release(struct work *work, struct entry *entry, const uint8_t *key, size_t position)
{
    (void)key, (void)position;
    if (entry && side_of(entry) == HELD)
        store_change(work->table, entry, entry->desired, entry->kernel, 0);
}

static void act_set_kernel(struct work *work, struct entry *entry, const uint8_t *key, size_t position)
{
    uint32_t value = value_at(work, position);

    if (!entry)
        entry = store_new_entry(work->table, key);
    if (entry->kernel != value)
        store_change(work->table, entry, entry->desired, value,
               entry->flags & F_HELD && entry->desired != value);
}

static void act_delete_kernel(struct work *work, struct entry *entry, const uint8_t *key, size_t position)
{
    (void)key, (void)position;
    if (entry && entry->kernel)
        store_change(work->table, entry, entry->desired, 0, entry->flags & F_HELD);
}

static void act_written(struct work *work, struct entry *entry, const uint8_t *key, size_t position)
{
    (void)key, (void)position;
    if (entry && side_of(entry) == TO_INSTALL)
        store_change(work->table, entry, entry->desired, entry->desired, 0);
    else
        work->tally++;
}

static void act_removed(struct work *work, struct entry *entry, const uint8_t *key, size_t position)
{
    (void)key, (void)position;
    if (entry && entry->kernel && entry->kernel != entry->desired) {
        work->tally += !entry->desired;
        store_change(work->table, entry, entry->desired, 0, entry->flags & F_HELD);
    }
}

static void act_count_kernel(struct work *work, struct entry *entry, const uint8_t *key, size_t position)
{
    (void)key, (void)position;
    work->tally += entry && entry->kernel;
}

static void act_mark(struct work *work, struct entry *entry, const uint8_t *key, size_t position)
{
    (void)work, (void)key, (void)position;
    if (entry)
        entry->flags |= F_MARKED;
}

static void act_compare(struct work *work, struct entry *entry, const uint8_t *key, size_t position)
{
    (void)position;
    if (!entry || side_of(entry) != SAME || entry->desired != work->numbers[0])
        add_found(work, key);
}

/* --- rows for Python: keys, distinct values, indices into them ------------------------------- */

struct rows {
    Table *table;
    PyObject *keys, *values, *indices;
    uint8_t *next_key, *next_index;
    int is_complete;
};

static int open_rows(struct rows *rows, Table *table, size_t count)
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

static void add_index(struct rows *rows, uint32_t number)
{
    struct value *value = &rows->table->values[number];
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

static void add_key(struct rows *rows, const struct entry *entry)
{
    size_t size = rows->table->address_bytes, padding = rows->table->key_bytes - 1 - size;

    memset(rows->next_key, 0, padding);
    memcpy(rows->next_key + padding, entry->address, size);
    rows->next_key[padding + size] = entry->prefix_len;
    rows->next_key += rows->table->key_bytes;
}

static PyObject *close_rows(struct rows *rows)
{
    Table *table = rows->table;
    PyObject *answer = NULL;

    while (table->locals) {
        struct value *value = &table->values[table->locals - 1];
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

static PyObject *found_keys(struct work *work, int status)
{
    PyObject *answer = NULL;

    if (!status)
        answer = PyBytes_FromStringAndSize((char *)work->found,
                                           (Py_ssize_t)(work->found_count * work->table->key_bytes));
    free(work->found);
    return answer;
}

static int open_found(struct work *work, PyObject *keys)
{
    Py_ssize_t length = PyBytes_Size(keys);

    if (length < 0)
        return -1;
    work->found = malloc((size_t)length + 1);
    if (!work->found)
        PyErr_NoMemory();
    return work->found ? 0 : -1;
}

static PyObject *table_set_desired(Table *self, PyObject *args)
{
    struct work work = {.table = self, .act = act_set_desired};

    if (run_valued(&work, args))
        return NULL;
    return PyLong_FromSize_t(work.tally);
}

static PyObject *table_set_kernel(Table *self, PyObject *args)
{
    struct work work = {.table = self, .act = act_set_kernel};

    if (run_valued(&work, args))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *plain(Table *self, PyObject *args,
                       action *act)
{
    struct work work = {.table = self, .act = act};

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
    struct work work = {.table = self, .act = act_written};

    if (run_plain(&work, args))
        return NULL;
    if (work.tally)
        return PyErr_Format(PyExc_KeyError, "%zd of the keys written were not to be installed",
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
    struct work work = {.table = self, .act = act_withdraw};
    PyObject *keys;

    if (!PyArg_ParseTuple(args, "S", &keys) || open_found(&work, keys))
        return NULL;
    return found_keys(&work, run_plain(&work, args));
}

static PyObject *table_compare(Table *self, PyObject *args)
{
    struct work work = {.table = self, .act = act_compare};
    PyObject *keys, *value, *known;
    uint32_t number = 0;

    if (!PyArg_ParseTuple(args, "SO", &keys, &value))
        return NULL;
    known = PyDict_GetItemWithError(self->interned, value);
    if (known)
        number = (uint32_t)PyLong_AsUnsignedLong(known);
    else if (PyErr_Occurred())
        return NULL;
    if (set_keys(&work, PyBytes_AsString(keys), PyBytes_Size(keys)) || open_found(&work, keys))
        return NULL;
    work.numbers = &number;
    run(&work);
    return found_keys(&work, 0);
}

static PyObject *table_unmarked(Table *self, PyObject *unused)
{
    struct work work = {.table = self};
    size_t count = self->counts[SAME] + self->replaced + self->counts[TO_REMOVE];

    (void)unused;
    work.found = malloc(count * self->key_bytes + 1);
    if (!work.found)
        return PyErr_NoMemory();
    for (uint32_t number = 0; number < self->used; number++) {
        struct entry *entry = entry_at(self, number);
        if (entry->flags & F_LIVE && entry->kernel && !(entry->flags & F_MARKED)) {
            struct rows one = {.table = self};
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
    struct work work = {.table = self};
    const char *key;
    Py_ssize_t length;
    const struct entry *entry;

    if (!PyArg_ParseTuple(args, "y#", &key, &length) || set_keys(&work, key, length))
        return NULL;
    if (work.count != 1) {
        PyErr_SetString(PyExc_ValueError, "one key is looked up at a time");
        return NULL;
    }
    entry = find_entry(self, work.keys);
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
                         (Py_ssize_t)self->counts[TO_INSTALL], (Py_ssize_t)self->counts[HELD],
                         (Py_ssize_t)self->counts[TO_REMOVE], (Py_ssize_t)self->replaced);
}

static PyObject *table_values(Table *self, PyObject *unused)
{
    (void)unused;
    return PyDict_Keys(self->interned);
}

/* select(side): return every key of a side; SIDES selects the keys that are replaced. */
static PyObject *table_select(Table *self, PyObject *args)
{
    struct rows rows;
    int side;

    if (!PyArg_ParseTuple(args, "i", &side))
        return NULL;
    if (side < 0 || side > SIDES) {
        PyErr_SetString(PyExc_ValueError, "no such side");
        return NULL;
    }
    if (!open_rows(&rows, self, side == SIDES ? self->replaced : self->counts[side]))
        for (uint32_t number = 0; number < self->used; number++) {
            const struct entry *entry = entry_at(self, number);
            if (!(entry->flags & F_LIVE) ||
                !(side == SIDES ? is_replaced(entry) : side_of(entry) == side))
                continue;
            add_key(&rows, entry);
            add_index(&rows, side >= TO_REMOVE ? entry->kernel : entry->desired);
        }
    return close_rows(&rows);
}

/* Queue again the keys of a side that were popped and are still on it, after failed attempts. */
static int refill(Table *table, struct queue *queue, int side, uint8_t flag)
{
    if (store_reserve_queue(queue, table->counts[side]))
        return -1;
    for (uint32_t number = 0; number < table->used; number++) {
        struct entry *entry = entry_at(table, number);
        if (entry->flags & F_LIVE && side_of(entry) == side)
            store_enqueue(queue, entry, number, flag);
    }
    return 0;
}

/* Swap the next queued number with a random one: the kernel takes three times as long to remove a
 * million routes in sorted order as in random order. */
static void scatter_next(Table *table, struct queue *queue)
{
    size_t length = queue->tail - queue->head, other;
    uint32_t number = queue->numbers[queue->head];

    table->dice = table->dice * 6364136223846793005u + 1442695040888963407u;
    other = queue->head + (size_t)((table->dice >> 32) * length >> 32);
    queue->numbers[queue->head] = queue->numbers[other];
    queue->numbers[other] = number;
}

static PyObject *popped_rows(Table *table, const uint32_t *popped, size_t count, int is_kernels)
{
    struct rows rows;

    if (!open_rows(&rows, table, count))
        for (size_t at = 0; at < count; at++) {
            const struct entry *entry = entry_at(table, popped[at]);
            add_key(&rows, entry);
            add_index(&rows, is_kernels ? entry->kernel : entry->desired);
        }
    return close_rows(&rows);
}

/* pop(side, limit): return the next keys of `to install` or `to remove` with their values, and the
 * same keys with the kernel's present values (None if no key at all is replaced). */
static PyObject *table_pop(Table *self, PyObject *args)
{
    int side, is_scattered;
    Py_ssize_t limit;
    uint32_t *popped, count = 0;
    uint8_t flag;
    struct queue *queue;
    PyObject *rows, *instead;

    if (!PyArg_ParseTuple(args, "in", &side, &limit))
        return NULL;
    if (limit < 0 || (side != TO_INSTALL && side != TO_REMOVE)) {
        PyErr_SetString(PyExc_ValueError, "no such side, or limit");
        return NULL;
    }
    queue = side == TO_INSTALL ? &self->to_install : &self->to_remove;
    flag = side == TO_INSTALL ? F_QUEUED_INSTALL : F_QUEUED_REMOVE;
    if ((size_t)limit > self->counts[side])
        limit = (Py_ssize_t)self->counts[side];
    popped = malloc(((size_t)limit + 1) * sizeof *popped);
    if (!popped)
        return PyErr_NoMemory();
    is_scattered = side == TO_REMOVE && self->counts[side] > SCATTER_FROM;
    while (limit) {
        for (; count < limit && queue->head < queue->tail; queue->head++) {
            struct entry *entry;
            if (is_scattered)
                scatter_next(self, queue);
            entry = entry_at(self, queue->numbers[queue->head]);
            entry->flags &= (uint8_t)~flag;
            if (entry->flags & F_LIVE && side_of(entry) == side)
                popped[count++] = queue->numbers[queue->head];
        }
        if (count)
            break;
        if (refill(self, queue, side, flag)) {
            free(popped);
            return NULL;
        }
    }
    rows = popped_rows(self, popped, count, side == TO_REMOVE);
    if (side == TO_INSTALL && self->replaced)
        instead = popped_rows(self, popped, count, 1);
    else
        instead = Py_NewRef(Py_None);
    free(popped);
    store_give_back(self);
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
    free(self->to_install.numbers);
    free(self->to_remove.numbers);
    free(self->values);
    release(self);
    Py_DECREF(type);
}

static PyObject *table_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    int address_bytes;
    unsigned long long first, second;
    size_t key_bytes;
    Table *self;

    (void)keywords;
    if (!PyArg_ParseTuple(args, "iKK", &address_bytes, &first, &second))
        return NULL;
    if (check_address_bytes(address_bytes, &key_bytes))
        return NULL;
    self = (Table *)allocate(type, 0);
    if (!self)
        return NULL;
    self->address_bytes = (size_t)address_bytes;
    self->key_bytes = key_bytes;
    self->stride = sizeof(struct entry) + self->address_bytes;
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
    {"set_desired", (PyCFunction)table_set_desired, METH_VARARGS,
     "set_desired(keys, values, indices): how many were in the kernel already"},
    {"withdraw", (PyCFunction)table_withdraw, METH_VARARGS, "withdraw(keys): those to remove now"},
    {"hold", (PyCFunction)table_hold, METH_VARARGS, "hold(keys)"},
    {"release", (PyCFunction)table_release, METH_VARARGS, "release(keys)"},
    {"set_kernel", (PyCFunction)table_set_kernel, METH_VARARGS, "set_kernel(keys, values, indices)"},
    {"delete_kernel", (PyCFunction)table_delete_kernel, METH_VARARGS, "delete_kernel(keys)"},
    {"written", (PyCFunction)table_written, METH_VARARGS, "written(keys)"},
    {"removed", (PyCFunction)table_removed, METH_VARARGS, "removed(keys): how many were to be removed"},
    {"compare", (PyCFunction)table_compare, METH_VARARGS, "compare(keys, value): those that differ"},
    {"count_kernel", (PyCFunction)table_count_kernel, METH_VARARGS, "count_kernel(keys): how many"},
    {"mark", (PyCFunction)table_mark, METH_VARARGS, "mark(keys)"},
    {"clear_marks", (PyCFunction)table_clear_marks, METH_NOARGS, "clear_marks()"},
    {"unmarked", (PyCFunction)table_unmarked, METH_NOARGS, "unmarked(): keys in the kernel and not marked"},
    {"find", (PyCFunction)table_find, METH_VARARGS, "find_entry(key): side, desired, kernel, or None"},
    {"counts", (PyCFunction)table_counts, METH_NOARGS, "same, to_install, held, to_remove, replaced"},
    {"values", (PyCFunction)table_values, METH_NOARGS, "every value in use"},
    {"select", (PyCFunction)table_select, METH_VARARGS, "select(side): keys, values, indices"},
    {"pop", (PyCFunction)table_pop, METH_VARARGS, "pop(side, limit): rows, rows instead or None"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot table_slots[] = {
    {Py_tp_doc, "Desired and kernel routes of one family (routed/fib/routes/native_tracker.py)"},
    {Py_tp_new, table_new},
    {Py_tp_dealloc, table_dealloc},
    {Py_tp_methods, table_methods},
    {0, NULL},
};

PyType_Spec route_table_spec = {
    .name = "routed.fib.routes._routes.RouteTable",
    .basicsize = sizeof(Table),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = table_slots,
};
