"""The binding that cffi makes of rust/include/hl_fs.h; `capfs` gives it types."""

from typing import Any

ffi: Any
lib: Any
