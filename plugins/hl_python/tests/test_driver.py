"""The driver answers as the interpreter would, natively, with sockets for the devices."""

import socket
from collections.abc import Callable
from typing import Any

import pytest


def test_output_is_there_when_the_reply_is(driver: Any) -> None:
    code = "import sys; print('out', end=''); print('err', end='', file=sys.stderr)"
    assert driver.run(code) == (0, "out", "err")


def test_globals_persist_from_run_to_run(driver: Any) -> None:
    driver.run("counter = 1\ndef up():\n    global counter\n    counter += 1")
    driver.run("up()")
    assert driver.run("print(counter, __name__, up.__module__)") == (0, "2 __main__ __main__\n", "")


def test_classes_of_main_can_be_pickled(driver: Any) -> None:
    code = "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)"
    assert driver.run(code) == (0, "True\n", "")


@pytest.mark.parametrize(
    ("argument", "status", "message"),
    [
        ("", 0, ""),
        ("None", 0, ""),
        ("3", 3, ""),
        ("True", 1, ""),
        ("-1", 255, ""),
        ("256", 0, ""),
        ("'gone'", 1, "gone\n"),
        ("(1, 2)", 1, "(1, 2)\n"),
    ],
)
def test_sys_exit_ends_the_run_as_it_would_end_the_interpreter(
    driver: Any, argument: str, status: int, message: str
) -> None:
    assert driver.run(f"import sys; sys.exit({argument})") == (status, "", message)
    assert driver.run("print('alive')") == (0, "alive\n", "")


def test_an_exception_prints_the_traceback_a_person_expects(driver: Any) -> None:
    status, output, errors = driver.run("def f():\n    raise KeyError('a')\n\nf()\n")
    assert (status, output) == (1, "")
    lines = [line for line in errors.splitlines() if "^" not in line]
    assert lines == [
        "Traceback (most recent call last):",
        '  File "<run 1>", line 4, in <module>',
        "    f()",
        '  File "<run 1>", line 2, in f',
        "    raise KeyError('a')",
        "KeyError: 'a'",
    ]


def test_a_traceback_shows_the_lines_of_an_earlier_run(driver: Any) -> None:
    driver.run("def divide(a):\n    return 1 / a")
    _, _, errors = driver.run("divide(0)")
    assert '  File "<run 1>", line 2, in divide\n    return 1 / a\n' in errors


def test_chained_exceptions_show_no_frame_of_the_driver(driver: Any) -> None:
    code = "try:\n    1/0\nexcept ZeroDivisionError as error:\n    raise ValueError from error"
    _, _, errors = driver.run(code)
    assert "The above exception was the direct cause" in errors
    assert "driver" not in errors


def test_a_syntax_error_shows_its_line(driver: Any) -> None:
    status, _, errors = driver.run("x = 1\nx = = 2\n")
    assert status == 1
    assert errors.startswith('  File "<run 1>", line 2\n    x = = 2\n')
    assert errors.endswith("SyntaxError: invalid syntax\n")


@pytest.mark.parametrize("code", ["x = '\ud800'", "x = 1\x00"])
def test_code_that_cannot_be_compiled_is_an_error_of_the_run(driver: Any, code: str) -> None:
    status, _, errors = driver.run(code)
    assert (status, "Error" in errors) == (1, True)


def test_an_interrupt_gives_the_status_of_a_shell(driver: Any) -> None:
    status, _, errors = driver.run("raise KeyboardInterrupt")
    assert (status, errors.splitlines()[-1]) == (130, "KeyboardInterrupt")


def test_endless_recursion_ends_the_run_only(driver: Any) -> None:
    status, _, errors = driver.run("def f(): f()\nf()")
    assert (status, "RecursionError" in errors) == (1, True)
    assert driver.run("print(1)") == (0, "1\n", "")


@pytest.mark.parametrize("code", ["sys.stdout.close()", "sys.stdout = None", "del sys.stdout"])
def test_a_program_that_breaks_its_output_gets_an_answer(driver: Any, code: str) -> None:
    assert driver.run(f"import sys; {code}")[0] == 0
    assert driver.run("x = 1")[0] == 0


def test_a_program_may_show_its_exceptions_itself(driver: Any) -> None:
    code = "import sys\nsys.excepthook = lambda kind, error, trace: print('mine', error)\n1/0"
    assert driver.run(code) == (1, "mine division by zero\n", "")


def test_an_exception_hook_that_fails_is_reported(driver: Any) -> None:
    status, _, errors = driver.run("import sys\nsys.excepthook = lambda *_: [][0]\n1/0")
    assert status == 1
    assert "IndexError" in errors
    assert "ZeroDivisionError" in errors


def test_argv_is_what_a_script_finds(driver: Any) -> None:
    code = "import sys; print(sys.argv, __file__); 1/0"
    status, output, errors = driver.run(code, argv=["report.py", "-v"])
    assert (status, output) == (1, "['report.py', '-v'] report.py\n")
    assert '  File "report.py", line 1, in <module>\n    import sys; print' in errors


def test_a_call_takes_and_gives_json(driver: Any) -> None:
    driver.run("def f(a, *, b=0): return {'sum': a + b, 'none': None, 'text': 'é'}")
    value = {"sum": 3, "none": None, "text": "é"}
    assert driver.call("f", 1, b=2) == {"result": {"value": value}}


def test_a_call_may_leave_out_all_arguments(driver: Any) -> None:
    driver.run("def f(*args, **kwargs): return [args, kwargs]")
    assert driver.request("call", function="f") == {"result": {"value": [[], {}]}}


def test_what_a_call_prints_is_flushed(driver: Any) -> None:
    driver.run("def f(): print('called')")
    driver.call("f")
    assert driver.run("")[1] == "called\n"


def test_an_exception_in_a_call_goes_to_the_caller(driver: Any) -> None:
    driver.run("def f(): raise LookupError('no such thing')")
    error = driver.call("f")["error"]
    assert (error["code"], error["message"]) == (-32000, "no such thing")
    assert error["data"]["type"] == "LookupError"
    assert error["data"]["traceback"].startswith(
        'Traceback (most recent call last):\n  File "<run 1>", line 1, in f\n    def f(): raise'
    )
    assert driver.run("")[1:] == ("", "")


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [
        ("{1}", "TypeError", "set"),
        ("b''", "TypeError", "bytes"),
        ("open", "TypeError", "builtin_function_or_method"),
        ("float('nan')", "ValueError", "float"),
        ("2 ** 64", "OverflowError", "64 bits"),
        ("[-2 ** 63 - 1]", "OverflowError", "64 bits"),
        ("'\\ud800'", "UnicodeEncodeError", "surrogates"),
        ("loop", "ValueError", "Circular"),
    ],
)
def test_a_value_that_is_not_json_is_named(driver: Any, value: str, kind: str, words: str) -> None:
    driver.run(f"loop = []; loop.append(loop)\ndef f(): return {value}")
    error = driver.call("f")["error"]
    assert error["code"] == -32000
    assert error["data"]["type"] == kind
    assert words in error["message"]
    assert "'f'" in error["message"]


@pytest.mark.parametrize("value", [2**64 - 1, -(2**63), "1" * 30, 0.1, [1e300]])
def test_a_value_that_is_json_is_returned_as_it_is(driver: Any, value: object) -> None:
    driver.run("def f(x): return x")
    assert driver.call("f", value) == {"result": {"value": value}}


@pytest.mark.parametrize("name", ["missing", "number", "__builtins__"])
def test_a_function_that_is_not_there_is_named(driver: Any, name: str) -> None:
    driver.run("number = 1")
    error = driver.call(name)["error"]
    assert (error["code"], error["data"]["type"]) == (-32000, "NameError")
    assert repr(name) in error["message"]


def test_sys_exit_in_a_call_is_an_exception(driver: Any) -> None:
    driver.run("import sys")
    driver.run("def f(): sys.exit(2)")
    assert driver.call("f")["error"]["data"]["type"] == "SystemExit"


def test_a_value_too_large_for_a_frame_is_an_error(driver: Any) -> None:
    driver.run("def f(): return 'x' * (8 << 20)")
    error = driver.call("f")["error"]
    assert error["data"]["type"] == "OverflowError"
    assert "8388" in error["message"]
    assert driver.run("print(1)") == (0, "1\n", "")


def test_an_unknown_method_is_refused(driver: Any) -> None:
    assert driver.request("jump", height=1)["error"]["code"] == -32601


def test_params_that_do_not_fit_are_an_error(driver: Any) -> None:
    error = driver.request("run", text="1")["error"]
    assert (error["code"], error["message"]) == (-32603, "KeyError('code')")


def test_a_request_larger_than_the_buffer_is_read_whole(
    start_driver: Callable[..., Any],
) -> None:
    driver = start_driver(kind=socket.SOCK_STREAM)
    text = "é" * (1 << 20)
    assert driver.run(f"print(len('{text}'))") == (0, "1048576\n", "")
    assert driver.run("print(2)") == (0, "2\n", "")


def test_modules_named_are_imported_before_the_first_run(start_driver: Callable[..., Any]) -> None:
    code = "import sys; print('colorsys' in sys.modules)"
    assert start_driver("colorsys").run(code)[1] == "True\n"
    assert start_driver().run(code)[1] == "False\n"


def test_a_module_that_cannot_be_imported_ends_the_driver(start_driver: Callable[..., Any]) -> None:
    driver = start_driver("no_such_module")
    assert driver.process.wait(timeout=60) == 1
    assert b"No module named 'no_such_module'" in driver.process.stderr.read()


def test_a_copy_draws_other_random_numbers_once_reseeded(driver: Any) -> None:
    driver.run("import random; random.seed(1)")
    draw = "random.seed(1); print(random.getrandbits(64))"
    first = driver.run(draw)[1]
    assert driver.run(draw)[1] == first
    driver.run("random.seed(1)")
    assert driver.run("print(random.getrandbits(64))", reseed=True)[1] != first


def test_a_copy_draws_other_numpy_numbers_once_reseeded(driver: Any) -> None:
    assert driver.run("import numpy.random; numpy.random.seed(1)") == (0, "", "")
    draw = "print(numpy.random.randint(1 << 62))"
    first = driver.run(draw)[1]
    driver.run("numpy.random.seed(1)")
    assert driver.run(draw)[1] == first
    driver.run("numpy.random.seed(1)")
    assert driver.run(draw, reseed=True)[1] != first


def test_the_reply_comes_while_threads_go_on(driver: Any) -> None:
    code = (
        "import threading\nstop = threading.Event()\n"
        "thread = threading.Thread(target=stop.wait)\nthread.start()"
    )
    assert driver.run(code) == (0, "", "")
    assert driver.run("print(thread.is_alive()); stop.set(); thread.join()")[1] == "True\n"
