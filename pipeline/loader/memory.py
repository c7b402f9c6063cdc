"""Many arrays as one argument of a kernel: by where they lie.

A batch meets dozens of record batches. A kernel's call for each would take microseconds, most of them for telling Numba
what the arrays are, and ask for the interpreter's lock each time while other threads want it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

I64 = npt.NDArray[np.int64]


def address_of(array: npt.NDArray[Any]) -> int:
    """Where the array's values lie; they must be next to one another, and stay there while the address is used."""
    if not array.flags.c_contiguous:
        raise ValueError(f"an array of shape {array.shape} and strides {array.strides} is not in one piece")
    address: int = array.__array_interface__["data"][0]
    return address


def _array_at(typingctx, address, size, like):  # type: ignore[no-untyped-def]
    """The `size` values at an address, of the dtype of `like`. Nothing checks that they are there."""
    array = types.Array(like.dtype, 1, "C")

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        made = context.make_array(array)(context, builder)
        width = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(like.dtype)))
        populate_array(  # type: ignore[no-untyped-call]
            made,
            data=builder.inttoptr(arguments[0], made.data.type),
            shape=[arguments[1]],
            strides=[width],
            itemsize=width,
            meminfo=None,
        )
        return made._getvalue()

    return array(types.int64, types.int64, like), generate


array_at: Any = intrinsic(_array_at)
