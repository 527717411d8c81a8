/* The module and its state; see writer.h. */
#include "writer.h"

static PyMethodDef module_methods[] = {
    {"build_block", build_block_for_python, METH_VARARGS,
     "build_block(entries, values, width, left) -> (word, words); see routed/snapshot/block.py."},
    {"write_records", write_records, METH_VARARGS,
     "write_records(words, arena, is_ipv6, keys, best_paths, head_of) -> (numbers, users)."},
    {"drop_records", drop_records, METH_VARARGS,
     "drop_records(words, arena, numbers) -> [(address of a next-hop set, users), ...]."},
    {NULL, NULL, 0, NULL},
};

PyObject *new_numbers(const struct module_state *state, Py_ssize_t count, Py_buffer *buffer)
{
    PyObject *zeros = PyBytes_FromStringAndSize(NULL, 4 * count), *numbers;

    if (zeros == NULL)
        return NULL;
    memset(PyBytes_AsString(zeros), 0, 4 * (size_t)count);
    numbers = PyObject_CallFunctionObjArgs(state->array_type, state->format, zeros, NULL);
    Py_DECREF(zeros);
    if (numbers != NULL && PyObject_GetBuffer(numbers, buffer, PyBUF_WRITABLE) < 0)
        Py_CLEAR(numbers);
    return numbers;
}

/* An attribute of a module that is imported for it. */
static PyObject *import_attribute(const char *module_name, const char *name)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *attribute = module ? PyObject_GetAttrString(module, name) : NULL;

    Py_XDECREF(module);
    return attribute;
}

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec)
{
    PyObject *type = PyType_FromModuleAndSpec(module, spec, NULL);

    if (type != NULL && PyModule_AddType(module, (PyTypeObject *)type) < 0)
        Py_CLEAR(type);
    return (PyTypeObject *)type;
}

static int module_exec(PyObject *module)
{
    struct module_state *state = PyModule_GetState(module);
    PyTypeObject *trie_type;

    if ((state->arena_full = import_attribute("routed.snapshot.arena", "ArenaFull")) == NULL ||
        (state->array_type = import_attribute("array", "array")) == NULL ||
        (state->format = PyUnicode_FromString("I")) == NULL ||
        (state->sixty_four = PyLong_FromLong(64)) == NULL ||
        (state->seventy_two = PyLong_FromLong(72)) == NULL ||
        (state->arena_type = add_type(module, &arena_spec)) == NULL ||
        (trie_type = add_type(module, &trie_spec)) == NULL)
        return -1;
    Py_DECREF(trie_type);
    return PyModule_AddIntConstant(module, "LAYOUT_VERSION", RFIB_LAYOUT_VERSION);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct module_state *state = PyModule_GetState(module);

    Py_VISIT(state->arena_type);
    Py_VISIT(state->arena_full);
    Py_VISIT(state->sixty_four);
    Py_VISIT(state->seventy_two);
    Py_VISIT(state->array_type);
    Py_VISIT(state->format);
    return 0;
}

static int module_clear(PyObject *module)
{
    struct module_state *state = PyModule_GetState(module);

    Py_CLEAR(state->arena_type);
    Py_CLEAR(state->arena_full);
    Py_CLEAR(state->sixty_four);
    Py_CLEAR(state->seventy_two);
    Py_CLEAR(state->array_type);
    Py_CLEAR(state->format);
    return 0;
}

static void module_free(void *module)
{
    module_clear(module);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "routed.snapshot._writer",
    .m_doc = "The optional native writer of the FIB in shared memory.",
    .m_size = sizeof(struct module_state),
    .m_methods = module_methods,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__writer(void)
{
    return PyModuleDef_Init(&module_definition);
}
