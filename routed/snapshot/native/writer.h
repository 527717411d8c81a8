/* The extension `_writer`, the native writer of the FIB in shared memory: what its files share.
 *
 * Same answers and same layout as routed/snapshot/{arena,block,trie,records}.py, which are the
 * reference and the fallback; one test suite runs over both.
 *
 *     writer.c           the module and its state
 *     writer_arena.c     memory inside the snapshot: blocks of words, reused late
 *     writer_block.c     one slot's prefixes -> the words of its block
 *     writer_trie.c      directories, slots, and the order in which readers come to see a change
 *     writer_records.c   route records
 *
 * Only this process can write the memory that holds the words, so words are used as they are read
 * back. Python's objects are not trusted: their values are checked before anything is changed, and
 * an object is held while Python code may run.
 *
 * Plain CPython API, limited to the stable ABI of Python 3.11. The interpreter lock is held
 * throughout; a function that fails has set an exception and returns -1 or NULL.
 */
#ifndef ROUTED_SNAPSHOT_WRITER_H
#define ROUTED_SNAPSHOT_WRITER_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fib_snapshot.h"

#ifndef __SIZEOF_INT128__
#error "128-bit integers are needed"
#endif

typedef unsigned __int128 u128;

/* --- writer.c --- */

struct module_state {
    PyTypeObject *arena_type;
    PyObject *arena_full;               /* the exception */
    PyObject *sixty_four, *seventy_two; /* the numbers, for shifting */
    PyObject *array_type, *format;      /* array.array and "I" */
};

/* Make an array("I") of zeros; `buffer` gives access to its memory until it is released. */
PyObject *new_numbers(const struct module_state *state, Py_ssize_t count, Py_buffer *buffer);

/* --- writer_arena.c --- */

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

/* Allocate a block; *is_fresh if it still reads as zero. */
int arena_allocate(Arena *arena, uint32_t words, uint32_t *address, int *is_fresh);
/* Allocate a block from a hole below a limit; 0 if there is none. */
uint32_t arena_allocate_below(Arena *arena, uint32_t words, uint32_t limit);
/* Release a block. */
int arena_release(Arena *arena, uint32_t address, uint32_t words);
/* Lower bound of the number of blocks of a size that can still be allocated. */
size_t arena_room(const Arena *arena, uint32_t words);

/* --- writer_block.c --- */

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
int read_entry(const struct module_state *state, PyObject *number, unsigned width,
               struct entry *entry);
PyObject *build_block_for_python(PyObject *module, PyObject *arguments);

/* --- writer_trie.c --- */

extern PyType_Spec trie_spec;

/* --- writer_records.c --- */

PyObject *write_records(PyObject *module, PyObject *arguments);
PyObject *drop_records(PyObject *module, PyObject *arguments);

#endif
