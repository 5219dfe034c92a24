from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from controlloop.settings.file import read_settings
from controlloop.settings.tree import Settings


def test_the_shipped_settings_are_the_defaults_of_the_code(root: Path) -> None:
    assert read_settings((root / "config" / "settings.yaml").read_text()) == Settings()


def test_the_generated_pages_say_what_the_code_says(root: Path) -> None:
    script = root / "scripts" / "generate_docs.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"run `make docs`: {done.stdout}"
