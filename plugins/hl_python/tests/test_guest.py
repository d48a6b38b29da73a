"""The python guest in a real micro-VM."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hyperlight_core.errors import ConfigurationError, GuestExitedError, GuestFunctionError
from hyperlight_core.guests import GuestImage, find_guest
from hyperlight_core.sandbox import Sandbox, load_snapshot

pytestmark = pytest.mark.kvm

SCIENCE = {"packages": ["numpy", "pandas"]}

PLUGIN = """
from hyperlight_core.functions import HostCall, Model, host_function, functions_of
from hyperlight_core.hookspecs import hookimpl
from pydantic import BaseModel

class Text(Model):
    text: str

class Nothing(BaseModel):
    pass

class EchoPlugin:
    configuration = Nothing

    def __init__(self, configuration):
        pass

    @hookimpl
    def host_functions(self):
        return functions_of(self)

    @host_function("echo.reverse")
    def reverse(self, request: Text, call: HostCall) -> Text:
        data = bytes(call.attachment)[::-1]
        call.reply_buffer(len(data))[:] = data
        return Text(text=request.text[::-1])
"""

IMPORT_ALL = """
import importlib, json, sys, warnings
warnings.simplefilter("ignore")
failed = []
for name in sorted(sys.stdlib_module_names - {"antigravity", "this"}):
    try:
        importlib.import_module(name)
    except Exception as error:
        failed.append(name)
print(json.dumps(failed))
"""


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Images and snapshots go to a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def image() -> GuestImage:
    return find_guest("python")


@pytest.fixture(scope="module")
def started(image: GuestImage) -> Iterator[Sandbox]:
    with Sandbox(image) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(started: Sandbox) -> Sandbox:
    started.reset()
    return started


@pytest.fixture(scope="module")
def science() -> Iterator[Sandbox]:
    with Sandbox("python", guest_options=SCIENCE) as sandbox:
        yield sandbox


def printed(sandbox: Sandbox, code: str) -> str:
    done = sandbox.run(code)
    assert (done.stderr, done.exit_code) == ("", 0)
    return done.stdout


@pytest.mark.parametrize(
    ("memory", "said"),
    [
        ("4MiB", "too little memory"),
        ("8MiB", "more memory than there is"),
        ("16MiB", "MemoryError"),
    ],
)
def test_memory_that_is_too_small_for_the_interpreter_is_said(memory: str, said: str) -> None:
    with pytest.raises(GuestExitedError, match=said):
        Sandbox("python", memory=memory, timeout=60)


def test_the_guest_runs_the_hosts_version_of_python(sandbox: Sandbox) -> None:
    assert printed(sandbox, "import sys; print(sys.version)") == f"{sys.version}\n"


def test_output_and_exit_status_come_back_apart(sandbox: Sandbox) -> None:
    done = sandbox.run("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)")
    assert (done.stdout, done.stderr, done.exit_code) == ("out\n", "err\n", 3)


def test_an_exception_comes_back_as_its_traceback(sandbox: Sandbox) -> None:
    done = sandbox.run("def f():\n    return 1 / 0\nf()")
    lines = [line for line in done.stderr.splitlines() if "^" not in line and "~" not in line]
    assert done.exit_code == 1
    assert lines == [
        "Traceback (most recent call last):",
        '  File "<run 1>", line 3, in <module>',
        "    f()",
        '  File "<run 1>", line 2, in f',
        "    return 1 / 0",
        "ZeroDivisionError: division by zero",
    ]


def test_globals_persist_until_a_reset(sandbox: Sandbox) -> None:
    sandbox.run("x = 5")
    assert printed(sandbox, "print(x)") == "5\n"
    sandbox.reset()
    assert "NameError" in sandbox.run("print(x)").stderr


def test_files_and_modules_are_gone_after_a_reset(sandbox: Sandbox) -> None:
    sandbox.run("open('note.txt', 'w').write('secret'); import colorsys")
    assert printed(sandbox, "print(open('/tmp/note.txt').read())") == "secret\n"
    sandbox.reset()
    code = "import os, sys; print(os.listdir('/tmp'), 'colorsys' in sys.modules)"
    assert printed(sandbox, code) == "[] False\n"


def test_a_function_is_called_with_json(sandbox: Sandbox) -> None:
    sandbox.run("def f(a, *, b): return {'sum': a + b}")
    assert sandbox.call("f", 1, b=2) == {"sum": 3}


def test_an_exception_in_a_call_carries_its_type_and_traceback(sandbox: Sandbox) -> None:
    sandbox.run("def f(): raise LookupError('nothing')")
    with pytest.raises(GuestFunctionError, match="nothing") as caught:
        sandbox.call("f")
    assert caught.value.type_name == "LookupError"
    assert 'File "<run 1>", line 1, in f' in caught.value.traceback


def test_a_large_value_is_refused_and_the_guest_goes_on(sandbox: Sandbox) -> None:
    sandbox.run("def f(n): return 'x' * n")
    assert len(sandbox.call("f", 900_000)) == 900_000
    with pytest.raises(GuestFunctionError, match="too large for a reply"):
        sandbox.call("f", 2_000_000)
    assert sandbox.call("f", 1) == "x"


def test_a_large_script_arrives_whole(sandbox: Sandbox) -> None:
    assert printed(sandbox, f"print(len('{'é' * 400_000}'))") == "400000\n"


def test_nothing_in_the_guest_names_a_path_of_the_host(sandbox: Sandbox) -> None:
    code = (
        "import os, sys, sysconfig\n"
        "print(sys.path, sys.prefix, sys.executable, os.getcwd(), dict(os.environ))\n"
        "print([value for value in sysconfig.get_paths().values() if value[:4] != '/usr'])"
    )
    text = printed(sandbox, code)
    assert [path for path in (str(Path.home()), str(Path.cwd())) if path + "/" in text] == []
    assert text.splitlines()[1] == "[]"


def test_every_module_of_the_standard_library_is_imported(sandbox: Sandbox) -> None:
    """The same ones fail as outside, and those an image leaves out on purpose."""
    command = [sys.executable, "-I", "-c", IMPORT_ALL]
    outside = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    left_out = {"_tkinter", "ensurepip", "idlelib", "tkinter", "turtle", "turtledemo"}
    inside = set(json.loads(printed(sandbox, IMPORT_ALL)))
    assert inside == (set(outside) | left_out) & sys.stdlib_module_names


def test_threads_and_executors_work(sandbox: Sandbox) -> None:
    code = (
        "import asyncio, queue, threading, time\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    print(sum(pool.map(lambda x: x * x, range(100))))\n"
        "box = queue.Queue()\n"
        "threads = [threading.Thread(target=box.put, args=(1,)) for _ in range(20)]\n"
        "for thread in threads: thread.start()\n"
        "print(sum(box.get() for _ in threads))\n"
        "async def main():\n    return await asyncio.sleep(0.001, 'awake')\n"
        "print(asyncio.run(main()))\n"
    )
    assert printed(sandbox, code) == "328350\n20\nawake\n"


def test_a_thread_waits_while_the_guest_is_idle(sandbox: Sandbox) -> None:
    code = (
        "import threading\nticks = [0]\nstop = threading.Event()\n"
        "def count():\n    while not stop.wait(0.001): ticks[0] += 1\n"
        "thread = threading.Thread(target=count); thread.start()"
    )
    sandbox.run(code)
    assert printed(sandbox, "stop.set(); thread.join(); print(thread.is_alive())") == "False\n"


def test_files_databases_and_archives_work_in_tmp(sandbox: Sandbox) -> None:
    code = (
        "import sqlite3, tempfile, zipfile, pathlib\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    base = pathlib.Path(folder, 'x.db')\n"
        "    with sqlite3.connect(base) as db:\n"
        "        db.execute('create table t(a)')\n"
        "        db.execute('insert into t values (7)')\n"
        "    print(db.execute('select a from t').fetchall())\n"
        "    db.close()\n"
        "    with zipfile.ZipFile(base.with_suffix('.zip'), 'w') as archive:\n"
        "        archive.write(base, 'inner')\n"
        "    print(sorted(path.name for path in pathlib.Path(folder).iterdir()))\n"
    )
    assert printed(sandbox, code) == "[(7,)]\n['x.db', 'x.zip']\n"


def test_time_zones_and_certificates_are_there(sandbox: Sandbox) -> None:
    code = (
        "import datetime, ssl, zoneinfo\n"
        "print(datetime.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo('Asia/Tokyo')).utcoffset())\n"
        "print(len(ssl.create_default_context().get_ca_certs()) > 50)"
    )
    assert printed(sandbox, code) == "9:00:00\nTrue\n"


@pytest.mark.parametrize(
    "draw",
    [
        "import random; print(random.getrandbits(128))",
        "import random; print(random.Random().getrandbits(128))",
        "import uuid; print(uuid.uuid4())",
        "import secrets; print(secrets.token_hex())",
        "import ssl; print(ssl.RAND_bytes(16))",
        "import tempfile; print(tempfile.mkdtemp())",
    ],
)
def test_no_two_copies_draw_the_same_random_numbers(sandbox: Sandbox, draw: str) -> None:
    sandbox.run("import random, ssl")
    snapshot = sandbox.snapshot()
    drawn = [printed(sandbox, draw)]
    for _ in range(2):
        sandbox.restore(snapshot)
        drawn.append(printed(sandbox, draw))
    assert len(set(drawn)) == 3


def test_an_ungranted_host_function_is_not_found(sandbox: Sandbox) -> None:
    code = (
        "import hyperlight\ntry:\n    hyperlight.fs.stat(path='/')\n"
        "except hyperlight.MethodNotFoundError as error:\n    print('not found')"
    )
    assert printed(sandbox, code) == "not found\n"


def test_a_granted_host_function_takes_and_gives_bytes(
    image: GuestImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hl_echo_plugin.py").write_text(PLUGIN)
    info = tmp_path / "hl_echo-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hl-echo\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[hyperlight]\necho = hl_echo_plugin:EchoPlugin\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    code = (
        "import hyperlight\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "print(hyperlight.echo.reverse(text='abc'))\n"
        "result, data = hyperlight.call_raw(\n"
        "    'echo.reverse', {'text': 'é'}, bytes(range(256)) * 2000)\n"
        "print(result, data == bytes(range(255, -1, -1)) * 2000)\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    texts = [str(i) * 3 + '!' for i in range(50)]\n"
        "    answers = pool.map(lambda text: hyperlight.echo.reverse(text=text)['text'], texts)\n"
        "    print(list(answers) == [text[::-1] for text in texts])\n"
    )
    with Sandbox(image, plugins={"echo": {}}) as sandbox:
        assert printed(sandbox, code) == "{'text': 'cba'}\n{'text': 'é'} True\nTrue\n"


def test_numpy_computes(science: Sandbox) -> None:
    science.reset()
    code = (
        "import numpy\na = numpy.arange(10000.0).reshape(100, 100)\n"
        "print(int((a @ a.T).trace()), numpy.linalg.matrix_rank(a), numpy.fft.fft(a).shape)"
    )
    assert printed(science, code) == "333283335000 2 (100, 100)\n"


def test_pandas_computes(science: Sandbox) -> None:
    science.reset()
    code = (
        "import io, pandas\n"
        "frame = pandas.read_csv(io.StringIO('a,b\\nx,1\\ny,2\\nx,3\\n'), parse_dates=False)\n"
        "print(frame.groupby('a').b.sum().to_dict())"
    )
    assert printed(science, code) == "{'x': 4, 'y': 2}\n"


def test_copies_draw_other_numpy_numbers(science: Sandbox) -> None:
    science.reset()
    science.run("import numpy.random")
    snapshot = science.snapshot()
    drawn = set()
    for _ in range(3):
        science.restore(snapshot)
        drawn.add(printed(science, "print(numpy.random.bytes(16))"))
    assert len(drawn) == 3


def test_sandboxes_from_one_snapshot_on_disk_draw_other_numpy_numbers(
    science: Sandbox, tmp_path: Path
) -> None:
    """Of the global generator; one that the program made goes on as it was."""
    science.reset()
    science.run("import numpy.random; own = numpy.random.default_rng(7); numpy.random.seed(7)")
    science.snapshot().save(tmp_path / "saved")
    start, shared, own = load_snapshot(tmp_path / "saved"), set(), set()
    for _ in range(2):
        with Sandbox("python", start=start, guest_options=SCIENCE) as sandbox:
            shared.add(printed(sandbox, "print(numpy.random.bytes(16))"))
            own.add(printed(sandbox, "print(own.bytes(16))"))
    assert (len(shared), len(own)) == (2, 1)


def test_modules_named_are_there_before_the_first_run(image: GuestImage) -> None:
    with Sandbox("python", guest_options={"preload": ["colorsys"]}) as sandbox:
        assert printed(sandbox, "import sys; print('colorsys' in sys.modules)") == "True\n"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"packages": ["hl-nowhere"]}, "pip install 'hl-nowhere'"),
        ({"package": ["numpy"]}, "package"),
        ({"preload": "numpy"}, "preload"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        find_guest("python", options)


def test_the_same_options_give_the_same_key(image: GuestImage) -> None:
    assert find_guest("python") == image
    assert find_guest("python", {"preload": ["colorsys"]}).key != image.key
    assert find_guest("python", {"packages": ["hypothesis"]}).key != image.key


def test_the_readme_example_runs() -> None:
    readme = Path(__file__).parents[1] / "README.md"
    (code,) = re.findall(r"^```python\n(.*?)^```$", readme.read_text(), re.MULTILINE | re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("6\n  0\n42\n", "")
