"""`hyperlight run` and `hyperlight exec` with real guests, as a shell sees them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.kvm


def hyperlight(
    *arguments: str, stdin: bytes = b"", folder: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "hyperlight_core", *arguments]
    return subprocess.run(command, input=stdin, cwd=folder, capture_output=True, check=False)


def run(code: str, *options: str, folder: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    """`hyperlight run` with a script on standard input."""
    return hyperlight("run", *options, "-", stdin=code.encode(), folder=folder)


def test_a_script_gets_its_arguments(tmp_path: Path) -> None:
    """Also those that look like options; behind `--` even those of the command."""
    script = tmp_path / "script.py"
    script.write_text("import sys; print(sys.argv[1:])")
    result = hyperlight("run", str(script), "-x", "--color=red", "7", "--", "--json", "--help")
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode() == "['-x', '--color=red', '7', '--json', '--help']\n"


def test_options_may_follow_the_script(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys; print(sys.argv[1:], open('/data/script.py').read()[:10])")
    result = hyperlight("run", str(script), "a", "--mount", f"{tmp_path}:/data:ro", "b")
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.decode() == "['a', 'b'] import sys\n"


def test_an_unknown_option_before_the_script_is_named() -> None:
    result = hyperlight("run", "--tiemout", "5", "script.py")
    assert result.returncode == 125
    assert result.stderr == b"hyperlight: No such option '--tiemout'.\n"


def test_stdout_and_stderr_stay_apart() -> None:
    result = run("import sys; print('out'); print('err', file=sys.stderr)")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")


def test_the_exit_status_is_the_scripts() -> None:
    assert run("raise SystemExit(3)").returncode == 3


def test_an_exception_is_a_traceback_and_1() -> None:
    result = run("def f():\n    1 / 0\nf()")
    assert result.returncode == 1
    assert result.stderr.startswith(b"Traceback")
    assert result.stderr.endswith(b"ZeroDivisionError: division by zero\n")


def test_an_endless_loop_ends_with_124() -> None:
    result = run("print('begun', flush=True)\nwhile True: pass", "--timeout", "0.5")
    assert (result.returncode, result.stdout) == (124, b"begun\n")
    assert result.stderr == b"hyperlight: the guest ran longer than 0.5 s\n"


def test_endless_output_ends_with_124() -> None:
    result = run("while True: print('x' * 1000)", "--output-limit", "100KiB")
    assert (result.returncode, len(result.stdout)) == (124, 100 * 1024)


def test_json_has_everything() -> None:
    result = run("import sys; print('out'); sys.exit('bye')", "--json")
    report = json.loads(result.stdout)
    assert report.pop("duration") > 0
    assert report == {"stdout": "out\n", "stderr": "bye\n", "exit_code": 1, "error": None}
    assert (result.returncode, result.stderr) == (1, b"")


def test_json_has_the_error() -> None:
    result = run("while True: pass", "--json", "--timeout", "0.5")
    report = json.loads(result.stdout)
    assert report["error"]["type"] == "SandboxTimeoutError"
    assert (result.returncode, report["exit_code"]) == (124, 124)


def test_a_script_that_is_not_there() -> None:
    result = hyperlight("run", "/no/such/script.py")
    assert (result.returncode, result.stdout) == (127, b"")
    assert result.stderr == b"hyperlight: /no/such/script.py: no such file\n"


def test_a_script_that_is_not_text() -> None:
    result = hyperlight("run", "-", stdin=b"print('\xff')")
    assert result.returncode == 126
    assert result.stderr.startswith(b"hyperlight: -: not a Python script: ")
    assert result.stderr.count(b"\n") == 1


def test_a_mount_is_read_only_unless_it_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("hi")
    code = "print(open('/data/note').read()); open('/data/note', 'w')"
    result = run(code, "--mount", f"{tmp_path}:/data")
    assert (result.returncode, result.stdout) == (1, b"hi\n")
    assert result.stderr.endswith(b"OSError: [Errno 30] Read-only file system: '/data/note'\n")
    assert run(code, "--mount", f"{tmp_path}:/data:rw").returncode == 0


def test_a_tool_is_a_function_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("def price(sku: str) -> int:\n    return len(sku)\n")
    code = "import hyperlight; print(hyperlight.tools.price(sku='abc'))"
    assert run(code, "--tool", "price=shop:price", folder=tmp_path).stdout == b"3\n"


def test_without_a_grant_there_is_nothing(tmp_path: Path) -> None:
    """Plugins are installed here, and their options were not given."""
    result = run(
        f"import os; print(os.path.exists({str(tmp_path)!r}), os.path.exists('/etc/passwd'))"
    )
    assert result.stdout == b"False False\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--memory", "lots"], b"'lots' is no size"),
        (["--mount", "/no/such/folder:/data"], b"/no/such/folder"),
        (["--tool", "nonsense"], b"--tool"),
        (["--package", "no-such-distribution"], b"no-such-distribution"),
        (["--no-such-option"], b"--no-such-option"),
    ],
)
def test_what_cannot_be_is_one_line_and_125(options: list[str], message: bytes) -> None:
    result = run("print('never')", *options)
    assert (result.returncode, result.stdout) == (125, b"")
    assert result.stderr.startswith(b"hyperlight: ")
    assert message in result.stderr
    assert result.stderr.count(b"\n") == 1


def test_a_script_uses_packages_from_the_index() -> None:
    """NumPy and pandas, as their wheels are, with the libraries that come with them."""
    code = """
import numpy, pandas
frame = pandas.DataFrame({"n": numpy.arange(5)})
print((frame["n"] ** 2).sum(), numpy.linalg.det(numpy.eye(3)))
"""
    result = run(code, "--package", "numpy", "--package", "pandas", "--timeout", "60")
    assert (result.stdout, result.stderr) == (b"30 1.0\n", b"")


def test_explain_lists_what_was_asked_for_in_vain() -> None:
    """The list goes to stderr, behind what the script printed, and the status stays."""
    result = run("import ctypes; ctypes.CDLL(None).acct(None); raise SystemExit(4)", "--explain")
    assert (result.returncode, result.stdout) == (4, b"")
    assert b"acct 1\n" in result.stderr


def test_explain_lists_what_is_granted(tmp_path: Path) -> None:
    granted = ("--allow", "GET https://api.example.com/v1", "--mount", f"{tmp_path}:/data")
    expected = f"fs: mount /data (ro) from {tmp_path}\nnet: allow GET https://api.example.com/v1\n"
    result = run("print('done')", "--explain", *granted)
    assert (result.returncode, result.stdout) == (0, b"done\n")
    assert result.stderr.decode().startswith(expected)
    result = hyperlight("exec", "--explain", *granted, "--", "true")
    assert result.stderr.decode().startswith(expected)
    assert run("pass", "--explain").stderr.startswith(b"nothing is granted\n")


def test_a_program_of_this_machine_runs() -> None:
    result = hyperlight("exec", "--", "echo", "-n", "hello", "guest")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"hello guest", b"")


def test_the_exit_status_is_the_programs() -> None:
    assert hyperlight("exec", "false").returncode == 1


def test_a_program_reads_a_mount(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("1\n2\n3\n")
    result = hyperlight("exec", "--mount", f"{tmp_path}:/data", "--", "wc", "-l", "/data/lines")
    assert (result.stdout, result.stderr) == (b"3 /data/lines\n", b"")


def test_a_program_sees_no_environment_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cret")
    result = hyperlight("exec", "env")
    assert b"PATH=" in result.stdout
    assert b"s3cret" not in result.stdout


def test_a_program_that_is_not_there() -> None:
    result = hyperlight("exec", "no-such-program")
    assert (result.returncode, result.stderr) == (
        127,
        b"hyperlight: no-such-program: no such program\n",
    )


def test_a_program_that_may_not_be_executed(tmp_path: Path) -> None:
    (tmp_path / "data").touch(mode=0o644)
    assert hyperlight("exec", str(tmp_path / "data")).returncode == 126


def test_a_file_that_is_no_program(tmp_path: Path) -> None:
    """Its first bytes say ELF, the rest is missing."""
    (tmp_path / "stump").write_bytes(b"\x7fELF" + os.urandom(8))
    (tmp_path / "stump").chmod(0o755)
    result = hyperlight("exec", str(tmp_path / "stump"))
    assert (result.returncode, result.stderr.count(b"\n")) == (125, 1)


def test_a_program_that_crashes_is_reported_with_a_core_file(tmp_path: Path) -> None:
    """The status is what a shell gives; the report says where, the file is one of gdb's kind."""
    source, program, core = (tmp_path / name for name in ("crash.c", "crash", "core"))
    source.write_text("int main(void) { *(volatile int *)0x18 = 1; }")
    subprocess.run(["gcc", "-o", str(program), str(source)], check=True)
    result = hyperlight("exec", "--core", str(core), str(program))
    assert (result.returncode, result.stdout) == (139, b"")
    assert b"fault address 0x18\n" in result.stderr
    assert re.search(rb"#0 .* in main\+0x\w+ from /usr/bin/crash\n", result.stderr)
    assert core.read_bytes()[:4] == b"\x7fELF"


def test_a_script_that_crashes_its_interpreter_is_reported(tmp_path: Path) -> None:
    """Python's own account of it comes from faulthandler, the host's from outside."""
    code = "import ctypes, faulthandler; faulthandler.enable(); ctypes.string_at(0x18)"
    result = run(code, "--core", str(tmp_path / "core"))
    assert result.returncode == 139
    assert b"Fatal Python error: Segmentation fault" in result.stderr
    assert b'File "-", line 1 in <module>' in result.stderr
    assert re.search(rb"#\d+ .* in PyEval_EvalCode\+0x\w+ from .*python", result.stderr)
    assert (tmp_path / "core").exists()


def test_a_run_that_does_not_crash_leaves_no_core_file(tmp_path: Path) -> None:
    result = run("raise SystemExit(139)", "--core", str(tmp_path / "core"))
    assert (result.returncode, result.stderr) == (139, b"")
    assert not (tmp_path / "core").exists()


def test_a_script_waits_for_gdb(tmp_path: Path) -> None:
    """Gdb leaves at once, and the script runs."""
    command = [sys.executable, "-m", "hyperlight_core", "run", "--gdb", "0", "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin
        assert process.stderr
        process.stdin.write(b"print('hello')")
        process.stdin.close()
        port = process.stderr.readline().rpartition(b":")[2].decode().strip()
        gdb = ["gdb", "-nx", "-batch", "-ex", f"target remote localhost:{port}", "-ex", "detach"]
        subprocess.run(gdb, check=True, capture_output=True)
        assert process.wait(timeout=30) == 0
        assert process.stdout
        assert process.stdout.read() == b"hello\n"
