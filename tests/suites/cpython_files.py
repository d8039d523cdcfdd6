"""CPython's own tests of files and processes (Debian's libpython3.11-testsuite), one job for each."""

import files
from cpython import OPTIONS, PYTHON, prepare, verdicts  # noqa: F401

WHERE = files
PLACES = files.POSIX
TESTS = (
    "test_os test_posix test_shutil test_pathlib test_tempfile test_mmap test_zipfile test_tarfile "
    "test_fcntl test_glob test_stat test_subprocess test_io test_largefile test_grp test_pwd "
    "test_signal test_threading test_time test_fileio test_mailbox test_dbm"
).split()
# The quick ones, for every run of the tests.
QUICK = "test_tempfile test_mmap test_glob test_stat test_fcntl".split()


def jobs(quick):
    """Name, command and limit in seconds of each job."""
    for name in QUICK if quick else TESTS:
        yield name, [PYTHON, "-m", "test", *OPTIONS, name], 900
