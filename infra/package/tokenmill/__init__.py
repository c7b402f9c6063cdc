"""tokenmill: from raw crawl and code shards to the token mixture a masked-diffusion language model is trained on.

The packages are the folders at the top of the repository; this root only names them and settles, before anything is
imported, where Numba keeps compiled kernels.
"""

import os
import sys
import tempfile
from hashlib import blake2b
from pathlib import Path

__version__ = "0.1.0"


#: Where kernels live, and the constants that they freeze. A test holds it against the tree.
_KERNEL_ROOMS = (
    *("dedup", "filters", "manifests"),
    *("pipeline/chat", "pipeline/export", "pipeline/extraction", "pipeline/loader", "pipeline/tokens"),
)


def _settle_kernel_cache() -> None:
    """Point NUMBA_CACHE_DIR at a folder named by the hash of all sources of kernels.

    Numba notices a changed kernel but not a changed callee in another module, and would serve stale code
    (PEERS: "serves stale code when a callee in another module changes"). A folder per source state can't be stale.
    """
    root = Path(__file__).parent
    digest = blake2b((root / "kernels.py").read_bytes(), digest_size=8)
    for room in _KERNEL_ROOMS:
        for source in sorted((root / room).rglob("*.py")):
            digest.update(source.read_bytes())
    base = os.environ.get("TOKENMILL_CACHE_DIR") or str(
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tokenmill"
    )
    try:
        Path(base).mkdir(parents=True, exist_ok=True)
    except OSError:  # a read-only home: compiled kernels then live as long as the machine's temporary folder
        base = str(Path(tempfile.gettempdir()) / f"tokenmill-{os.getuid()}")
    os.environ["NUMBA_CACHE_DIR"] = str(Path(base) / "kernels" / digest.hexdigest())
    if "numba" in sys.modules:  # numba read its settings when it was imported
        sys.modules["numba"].config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]


_settle_kernel_cache()
