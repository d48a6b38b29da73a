"""Whoever follows the tutorial ships a plugin: its commands and files, in order, as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "plugins" / "tutorial.md"
BLOCKS = re.compile(r"^```(console|python file=(\S+))\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Reader:
    """Somebody with an environment of their own, which has what is installed here."""

    def __init__(self, home: Path) -> None:
        venv.create(home / "venv")
        self.python = home / "venv" / "bin" / "python"
        self.folder = home
        # mypy looks at no import hook, such as those of packages installed in place.
        (home / "types").mkdir()
        (home / "types" / "hyperlight_core").symlink_to(ROOT / "hyperlight_core")
        own = {"HYPERLIGHT_PLUGINS": "weather", "MYPYPATH": str(home / "types")}
        self.environment = os.environ | own
        here, there = (
            sysconfig.get_path("purelib"),
            Path(self._output("-c", "import sysconfig; print(sysconfig.get_path('purelib'))")),
        )
        # `site.addsitedir` reads the .pth files of packages that are installed in place.
        (there / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")

    def _output(self, *arguments: str) -> str:
        return subprocess.check_output([self.python, *arguments], text=True).strip()

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def run(self, line: str) -> str:
        """Do what a line of a console block says; what it prints."""
        program, *arguments = line.split()
        if program == "cd":
            self.folder /= arguments[0]
            return ""
        if program != "python":
            arguments = [
                "-m",
                "hyperlight_core" if program == "hyperlight" else program,
                *arguments,
            ]
        done = subprocess.run(
            [self.python, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        return done.stdout


@pytest.mark.kvm
@pytest.mark.timeout(600)
def test_following_the_tutorial_ships_a_plugin(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    printed: dict[str, str] = {}
    for kind, name, text in BLOCKS.findall(TUTORIAL.read_text()):
        if kind == "console":
            printed |= {line: reader.run(line) for line in text.splitlines()}
        else:
            reader.write(name, text)
    assert "weather.get" in printed["hyperlight plugins"]
    assert "## weather.now" in printed["hyperlight schema --format markdown weather"]
    used = printed["python use.py"]
    assert used.startswith("{'degrees': 5.0}\n")
    assert "weather.now(*, city: str, unit: Literal['celsius', 'fahrenheit'] = 'celsius')" in used
    assert list((reader.folder / "dist").glob("hl_weather-0.1.0-py3-none-any.whl"))
