"""How kernels are compiled: `kernel` is called from Python and kept on disk, `helper` is a piece of kernels.

Numba compiles every function that a kernel calls as if it stood alone: it makes a wrapper for Python and one for C,
optimises the function with all that it calls, and makes machine code of it; then its caller takes it in, and the same
is done again, once more on every level of calls. A helper is only read, typed and lowered; the kernels that call it
optimise it with their own code, once, with everything in sight. The word scanner takes 4 s to compile so, not 12 s.

Nor is a helper compiled once for `f(0)` and once more for `f(n)`: whole numbers known beforehand are numbers.

This leans on Numba's own way to make another pipeline (its manual, "Customizing the compiler") and on two methods of
its code library; a test holds what is expected of them.
"""

from collections.abc import Callable
from typing import Any

from numba import config, njit, types
from numba.core import compiler, compiler_machinery, typed_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.registry import CPUDispatcher

Decorator = Callable[[Callable[..., Any]], Any]


class _Unfinished(JITCodeLibrary):
    """Code to be taken in by a caller's: neither optimised nor made machine code of."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()  # type: ignore[no-untyped-call]
        self._finalized = True


@compiler_machinery.register_pass(mutates_CFG=False, analysis_only=False)  # type: ignore[no-untyped-call]
class _Register(compiler_machinery.LoweringPass):
    """Make the lowered helper known to its callers, as Numba does when machine code is made of a function."""

    _name = "tokenmill_register_helper"

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def run_pass(self, state: Any) -> bool:
        code = object()  # what callers know it by
        state.cr = state.cr._replace(cfunc=code)
        state.targetctx.insert_user_function(code, state.cr.fndesc, [state.library])
        return True


class _Pipeline(compiler.CompilerBase):
    """From bytecode to LLVM's intermediate code, and no further."""

    def define_pipelines(self) -> list[Any]:
        self.state.flags.no_compile = True
        library = _Unfinished(self.state.targetctx.codegen(), "helper")  # type: ignore[no-untyped-call]
        library.enable_object_caching()  # type: ignore[no-untyped-call]  # as its callers are kept on disk
        self.state.library = library
        passes = compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)  # type: ignore[no-untyped-call]
        passes.add_pass_after(_Register, typed_passes.NativeLowering)
        passes.finalize()
        return [passes]


class _Helper(CPUDispatcher):
    """A function that kernels alone can call."""

    def get_call_template(self, args: Any, kws: Any) -> Any:
        return super().get_call_template([types.unliteral(arg) for arg in args], kws)  # type: ignore[no-untyped-call]

    def add_overload(self, compiled: Any) -> None:
        self.overloads[tuple(compiled.signature.args)] = compiled  # and no entry for calls from Python

    def _compile_for_args(self, *args: Any, **kwargs: Any) -> None:
        name = self.py_func.__qualname__
        raise TypeError(f"{name} is a helper, compiled into the kernels that call it: Python can call {name}.py_func")


def _helper(nrt: bool) -> Decorator:
    options = {"nopython": True, "_nrt": nrt, "no_cpython_wrapper": True, "no_cfunc_wrapper": True, "boundscheck": None}

    def decorate(function: Callable[..., Any]) -> Any:
        if config.DISABLE_JIT:  # type: ignore[attr-defined]
            return function
        return _Helper(function, targetoptions=options.copy(), pipeline_class=_Pipeline)

    return decorate


#: Kernels that make no arrays; one that does is `njit(nogil=True, cache=True)`. `_nrt=False` leaves out the counting of
#: references to the arrays passed from kernel to kernel: atomic operations that took two thirds of the splitter's time.
kernel: Decorator = njit(nogil=True, cache=True, _nrt=False)  # type: ignore[call-overload]
#: What kernels call, as long as it makes no arrays.
helper: Decorator = _helper(nrt=False)
#: What kernels that make arrays call, to make some.
allocating_helper: Decorator = _helper(nrt=True)
