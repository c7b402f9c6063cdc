"""Methods of strings that a template may call on a content, and what it makes is tracked; see `symbolic`."""

#: Methods that depend on the string and the arguments alone, and raise for no string; those named is… go with them.
METHODS = {"strip", "lstrip", "rstrip", "lower", "upper", "title", "capitalize", "casefold", "swapcase", "replace"}
METHODS |= {"removeprefix", "removesuffix", "split", "rsplit", "splitlines", "partition", "rpartition", "zfill"}
METHODS |= {"center", "ljust", "rjust", "expandtabs", "startswith", "endswith", "find", "rfind", "count"}
#: Those of them that raise for no argument that is a string.
OF_ANY_ARGUMENT = {"replace", "removeprefix", "removesuffix", "startswith", "endswith", "find", "rfind", "count"}
