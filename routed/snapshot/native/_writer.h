/* The writer of the FIB in shared memory, native: what its parts know of each other.
 *
 * Same answers and same layout as routed/rib/{arena,block,lctrie,records}.py, which are the
 * reference and the fallback; one test suite runs over both.
 *
 *     _arena.c     memory inside the snapshot: blocks of words, reused late
 *     _block.c     one slot's prefixes -> the words of its block
 *     _trie.c      directories, slots, and the order in which readers come to see a change
 *     _records.c   route records
 *
 * The words are in memory that nobody but this process can write, so what is read back is believed.
 * Python's objects are not: whatever comes from there is checked before anything is changed.
 *
 * Plain CPython API, limited to the stable ABI of Python 3.11. The interpreter lock is held
 * throughout; a function that fails has set an exception and returns -1 or NULL.
 */
#ifndef ROUTED_RIB_WRITER_H
#define ROUTED_RIB_WRITER_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fib_snapshot.h"

#ifndef __SIZEOF_INT128__
#error "128-bit integers are needed"
#endif

typedef unsigned __int128 u128;

enum { KIND_SHIFT = 26 };
#define RECORD_FLAG 0x80000000u
#define ADDRESS_MASK 0x3ffffffu

/* --- _arena.c --- */

struct span {
    uint32_t address, words;
};

struct spans {
    struct span *items;
    size_t count, room;
};

/* Sizes up to 16 are even; then there are eight for each power of two up to 2^27. */
enum { SIZE_CLASSES = 8 + 8 * 23, ARENA_WORDS_MAX = 1 << 27 };

typedef struct {
    PyObject_HEAD
    uint32_t first, top, touched, end;
    uint64_t live, waiting;
    struct spans free[SIZE_CLASSES];
    struct spans holes, crumbs, limbo[3];
} Arena;

extern PyType_Spec arena_spec;
extern PyObject *arena_full;            /* the exception */

/* Take a block; *is_fresh when it still reads as zero. */
int arena_allocate(Arena *arena, uint32_t words, uint32_t *address, int *is_fresh);
/* Take one from a hole below a limit; 0 when there is none. */
uint32_t arena_allocate_below(Arena *arena, uint32_t words, uint32_t limit);
/* Give one back. */
int arena_release(Arena *arena, uint32_t address, uint32_t words);
/* How many blocks of a size can still be taken, at least. */
size_t arena_room(const Arena *arena, uint32_t words);

/* --- _block.c --- */

/* A prefix and its value. Sorted by network, then by length. */
struct entry {
    u128 network;
    uint32_t value;
    uint8_t length;
};

struct range {
    u128 start;
    uint32_t value;
};

/* Scratch memory, kept from one block to the next. */
struct builder {
    struct range *ranges;
    size_t range_count, range_room;
    uint32_t *words;
    size_t word_count, word_room;
};

/* Build the block of one slot into builder->words; *word stands for it, and its address is to be
 * added when there are words. */
int build_block(struct builder *builder, const struct entry *entries, size_t count, unsigned width,
                unsigned left, uint32_t *word);
void free_builder(struct builder *builder);
/* network bits << 8 | length, as a Python int. */
int read_entry(PyObject *number, unsigned width, struct entry *entry);
PyObject *build_block_for_python(PyObject *module, PyObject *arguments);

/* --- _trie.c --- */

extern PyType_Spec trie_spec;
extern PyTypeObject *arena_type;
int set_up_numbers(void);

/* --- _records.c --- */

PyObject *write_records(PyObject *module, PyObject *arguments);
PyObject *drop_records(PyObject *module, PyObject *arguments);

/* An array("I") of so many zeros, and the memory in it until the buffer is released. */
PyObject *new_numbers(Py_ssize_t count, Py_buffer *buffer);

#endif
