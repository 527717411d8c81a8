/* The optional extension `_routes`, for work on up to a million kernel routes.
 *
 *     RouteTable        the dictionaries of routed/fib/routes/delta.py, with 24 bytes per IPv4 route
 *     check_keys        validates columns of prefixes (as routed/model/columns.py)
 *     fill_templates    builds a buffer of route messages (as routed/fib/routes/bulk.py)
 *     split_page        groups the routes of a dump's page that differ only in the prefix (the same)
 *
 * The results are the same as those of the Python code, which is the reference and the fallback; the
 * same tests run with both. Prefixes are passed as columns of bytes: address << 8 | length,
 * big-endian, 8 bytes each for IPv4 and 17 for IPv6. Values are passed as lists of objects, with
 * columns of u32 indices, big-endian, into them.
 *
 * Plain CPython API, limited to the stable ABI of Python 3.11. Needs a compiler with __int128.
 */
#include "routes.h"

#include <linux/rtnetlink.h>

#define INTERFACE_VERSION 1

/* --- columns and buffers --------------------------------------------------------------------- */

int check_indices(const char *indices, Py_ssize_t length, size_t count, Py_ssize_t limit)
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

int check_address_bytes(int address_bytes, size_t *key_bytes)
{
    if (address_bytes != 4 && address_bytes != 16) {
        PyErr_SetString(PyExc_ValueError, "an address has 4 or 16 bytes");
        return -1;
    }
    *key_bytes = address_bytes == 4 ? 8 : 17;
    return 0;
}

int check_column(Py_ssize_t length, size_t key_bytes, size_t *count)
{
    if ((size_t)length % key_bytes) {
        PyErr_Format(PyExc_ValueError, "a column of %zd bytes for keys of %zd", length,
                     (Py_ssize_t)key_bytes);
        return -1;
    }
    *count = (size_t)length / key_bytes;
    return 0;
}

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

/* check_keys(column, address_bytes): return the position of the first invalid prefix, or -1. */
static PyObject *check_keys(PyObject *module, PyObject *args)
{
    const char *column;
    Py_ssize_t length;
    int address_bytes;
    size_t size, count, padding;

    (void)module;
    if (!PyArg_ParseTuple(args, "y#i", &column, &length, &address_bytes) ||
        check_address_bytes(address_bytes, &size) || check_column(length, size, &count))
        return NULL;
    padding = size - 1 - (size_t)address_bytes;
    for (size_t at = 0; at < count; at++) {
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

/* Offsets in a route message, as in routed/fib/routes/codec.py. In the daemon's messages the first
 * attribute is the destination, in the kernel's messages it is the table. */
enum { LENGTH_AT = 0, TYPE_AT = 4, SEQUENCE_AT = 8, PREFIX_LEN_AT = 17, SENT_ADDRESS_AT = 32, SEEN_ADDRESS_AT = 40 };

/* fill_templates(templates, indices, keys, address_bytes, first_sequence): build one message for
 * each key from the template at its index, with consecutive sequence numbers. */
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
                          &keys, &keys_length, &address_bytes, &sequence) ||
        check_address_bytes(address_bytes, &size) || check_column(keys_length, size, &count))
        return NULL;
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

/* A group of messages of a page that differ only in the prefix. */
struct form {
    const uint8_t *message;
    uint32_t length;
    uint8_t *keys;
    size_t count;
};

static int is_form(const struct form *form, const uint8_t *message, uint32_t length, size_t address_bytes)
{
    size_t after = SEEN_ADDRESS_AT + address_bytes;

    return form->length == length && !memcmp(form->message, message, PREFIX_LEN_AT) &&
           !memcmp(form->message + PREFIX_LEN_AT + 1, message + PREFIX_LEN_AT + 1,
                   SEEN_ADDRESS_AT - PREFIX_LEN_AT - 1) &&
           !memcmp(form->message + after, message + after, length - after);
}

/* Return the message of a form with its prefix set to zero, and the keys. */
static PyObject *form_answer(const struct form *form, size_t address_bytes, size_t key_bytes)
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

/* split_page(page, address_bytes): return a list of (message without its prefix, column of keys) and
 * a list of the other messages, which are not routes with a destination or have no group; ValueError
 * if the page does not consist of netlink messages. */
static PyObject *split_page(PyObject *module, PyObject *args)
{
    const char *bytes;
    const uint8_t *page;
    Py_ssize_t page_length;
    int family_bytes;
    size_t address_bytes, key_bytes, end, offset = 0, limit, forms_count = 0, last = 0;
    uint16_t destination[2];
    uint8_t *room;
    struct form forms[FORMS_MAX];
    PyObject *groups = PyList_New(0), *singles = PyList_New(0);
    int status = groups && singles ? 0 : -1;

    (void)module;
    if (status || !PyArg_ParseTuple(args, "y#i", &bytes, &page_length, &family_bytes) ||
        check_address_bytes(family_bytes, &key_bytes)) {
        Py_XDECREF(groups);
        Py_XDECREF(singles);
        return NULL;
    }
    page = (const uint8_t *)bytes;
    address_bytes = (size_t)family_bytes;
    end = (size_t)page_length;
    destination[0] = (uint16_t)(4 + address_bytes);
    destination[1] = 1;                 /* RTA_DST */
    limit = end / (SEEN_ADDRESS_AT + address_bytes) + 1;
    room = NULL;
    while (!status && offset + 16 <= end) {
        const uint8_t *message = page + offset;
        uint32_t length;
        uint16_t type;
        size_t at;
        memcpy(&length, message + LENGTH_AT, sizeof length);
        memcpy(&type, message + TYPE_AT, sizeof type);
        if (length < 16 || length > end - offset) {
            PyErr_Format(PyExc_ValueError, "a message of %zd bytes at offset %zd",
                         (Py_ssize_t)length, (Py_ssize_t)offset);
            status = -1;
            break;
        }
        offset += ((size_t)length + 3) & ~(size_t)3;
        if (type != RTM_NEWROUTE || length < SEEN_ADDRESS_AT + address_bytes ||
            memcmp(message + SEEN_ADDRESS_AT - 4, destination, 4)) {
            status = add_answer(singles, PyBytes_FromStringAndSize((const char *)message, length));
            continue;
        }
        at = last;
        if (at >= forms_count || !is_form(&forms[at], message, length, address_bytes))
            for (at = 0; at < forms_count; at++)
                if (is_form(&forms[at], message, length, address_bytes))
                    break;
        if (at == FORMS_MAX) {          /* too many forms in this page */
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
            forms[forms_count++] = (struct form){message, length, room, 0};
        }
        last = at;
        uint8_t *key = forms[at].keys + forms[at].count++ * key_bytes;
        assert(forms[at].count <= limit);
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
    {"check_keys", check_keys, METH_VARARGS, "check_keys(column, address_bytes): position of the first key that is no prefix, or -1"},
    {"fill_templates", fill_templates, METH_VARARGS,
     "fill_templates(templates, indices, keys, address_bytes, first_sequence)"},
    {"split_page", split_page, METH_VARARGS, "split_page(page, address_bytes): groups, singles"},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &route_table_spec, NULL);
    int status = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;

    Py_XDECREF(type);
    return status ? status : PyModule_AddIntConstant(module, "INTERFACE_VERSION", INTERFACE_VERSION);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "routed.fib.routes._routes",
    .m_doc = "The optional native tables and messages of kernel routes.",
    .m_methods = methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__routes(void)
{
    return PyModuleDef_Init(&module_definition);
}
