/* What the files of the extension share: the API's limits, columns of indices, the type. */
#ifndef ROUTED_FIB_NATIVE_H
#define ROUTED_FIB_NATIVE_H

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

static inline uint32_t load_index(const char *indices, size_t position)
{
    uint32_t index;

    memcpy(&index, indices + 4 * position, sizeof index);
    return ntohl(index);
}

/* ValueError or IndexError, and -1, unless there is an index below the limit for each key. */
int native_check_indices(const char *indices, Py_ssize_t length, size_t count, Py_ssize_t limit);

extern PyType_Spec native_table_spec;

#endif
