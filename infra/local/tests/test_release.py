"""What the release check reads in a binary. The texts are lines of `readelf --version-info --wide`."""

import pytest

from release import newest_glibc

HEAD = """Version needs section '.gnu.version_r' contains 2 entries:
 Addr: 0x0000000000001b28  Offset: 0x001b28  Link: 6 (.dynstr)
  000000: Version: 1  File: libgcc_s.so.1  Cnt: 2
  0x0010:   Name: GCC_3.0  Flags: none  Version: 9
  0x0020:   Name: GCC_4.2.0  Flags: none  Version: 5
  0x0030: Version: 1  File: libc.so.6  Cnt: 3
"""


@pytest.mark.parametrize(
    ("names", "version"),
    [
        (["GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_2.9"], (2, 34)),
        (["GLIBC_2.4", "GLIBC_2.17"], (2, 17)),
        (["GLIBC_2.34", "GLIBC_2.39"], (2, 39)),
        # Packed relocations, which linkers write where the system's glibc is new: no symbol says so.
        (["GLIBC_2.17", "GLIBC_ABI_DT_RELR"], (2, 36)),
        ([], None),
    ],
)
def test_a_binary_needs_the_newest_glibc_that_it_names(names, version):
    lines = [f"  0x00{40 + 16 * index:x}:   Name: {name}  Flags: none  Version: {index}" for index, name in enumerate(names)]
    assert newest_glibc(HEAD + "\n".join(lines)) == version
