/* The module; see _writer.h. */
#include "_writer.h"

PyTypeObject *arena_type;

static PyMethodDef module_methods[] = {
    {"build_block", build_block_for_python, METH_VARARGS,
     "build_block(entries, values, width, left) -> (word, words); see routed/snapshot/block.py."},
    {"write_records", write_records, METH_VARARGS,
     "write_records(words, arena, is_ipv6, keys, selections, head_of) -> (numbers, users)."},
    {"drop_records", drop_records, METH_VARARGS,
     "drop_records(words, arena, numbers) -> [(address of a next-hop set, users), ...]."},
    {NULL, NULL, 0, NULL},
};

static int add_type(PyObject *module, const char *name, PyType_Spec *spec, PyTypeObject **type)
{
    PyObject *made = PyType_FromSpec(spec);

    if (made == NULL)
        return -1;
    if (type != NULL)
        *type = (PyTypeObject *)Py_NewRef(made);
    return PyModule_AddObject(module, name, made);
}

static int module_exec(PyObject *module)
{
    PyObject *arena = PyImport_ImportModule("routed.snapshot.arena");

    if (arena == NULL)
        return -1;
    arena_full = PyObject_GetAttrString(arena, "ArenaFull");
    Py_DECREF(arena);
    if (arena_full == NULL || set_up_numbers() < 0 ||
        add_type(module, "Arena", &arena_spec, &arena_type) < 0 ||
        add_type(module, "Trie", &trie_spec, NULL) < 0)
        return -1;
    return PyModule_AddIntConstant(module, "LAYOUT_VERSION", RFIB_LAYOUT_VERSION);
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, module_exec}, {0, NULL}};

static PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "routed.snapshot._writer",
    .m_doc = "The optional native writer of the FIB in shared memory.",
    .m_methods = module_methods,
    .m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__writer(void)
{
    return PyModuleDef_Init(&module_definition);
}
