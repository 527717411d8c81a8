"""The one thing that pyproject.toml cannot say yet: extensions that may fail to build.

Without a compiler the package installs and works all the same; `routed --version` says which half
searches the FIB, and which keeps the books of the kernel's.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "ipc._fib",
            ["ipc/_fib.c"],
            depends=["ipc/fib_snapshot.h"],
            extra_compile_args=["-std=gnu99", "-O3", "-Wall", "-Wextra"],
            optional=True,
            py_limited_api=True,
        ),
        Extension(
            "routed.fib._native",
            ["routed/fib/_native.c"],
            extra_compile_args=["-std=gnu99", "-O3", "-Wall", "-Wextra"],
            optional=True,
            py_limited_api=True,
        ),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
