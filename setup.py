"""The one thing that pyproject.toml cannot say yet: extensions that may fail to build.

Without a compiler the package installs and works all the same; `routed --version` says which half
searches and writes the FIB, and keeps the books of the kernel's.
"""

from glob import glob

from setuptools import Extension, setup


def optional_extension(name: str, sources: list[str], depends: list[str]) -> Extension:
    return Extension(
        name,
        sources,
        depends=["ipc/native/fib_snapshot.h", *depends],
        include_dirs=["ipc/native"],
        extra_compile_args=["-std=gnu99", "-O3", "-Wall", "-Wextra"],
        optional=True,
        py_limited_api=True,
    )


setup(
    ext_modules=[
        optional_extension("ipc._fib", ["ipc/native/_fib.c"], []),
        optional_extension(
            "routed.fib.routes._native",
            sorted(glob("routed/fib/routes/native/*.c")),
            ["routed/fib/routes/native/_native.h", "routed/fib/routes/native/_native_store.h"],
        ),
        optional_extension(
            "routed.snapshot._writer",
            sorted(glob("routed/snapshot/native/*.c")),
            ["routed/snapshot/native/_writer.h"],
        ),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
