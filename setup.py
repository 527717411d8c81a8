"""The one thing that pyproject.toml cannot say yet: extensions that may fail to build.

Each is built from all C files of one `native/` folder: `NAME.c` is the module `_NAME`, and
`NAME_PART.c` a part of it. Without a compiler the package installs and works all the same;
`routed --version` says which implementation searches the FIB, writes it, and holds the tables of
the kernel.
"""

from glob import glob

from setuptools import Extension, setup


def optional_extension(name: str, folder: str) -> Extension:
    return Extension(
        name,
        sorted(glob(f"{folder}/*.c")),
        depends=["setup.py", "ipc/native/fib_snapshot.h", *glob(f"{folder}/*.h")],
        include_dirs=["ipc/native"],
        extra_compile_args=["-std=gnu99", "-O3", "-Wall", "-Wextra", "-fvisibility=hidden"],
        optional=True,
        py_limited_api=True,
    )


setup(
    ext_modules=[
        optional_extension("ipc._search", "ipc/native"),
        optional_extension("routed.fib.routes._routes", "routed/fib/routes/native"),
        optional_extension("routed.snapshot._writer", "routed/snapshot/native"),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
