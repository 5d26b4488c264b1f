"""What the command line prints: names that mean harm are written out, passwords are not, libraries
keep silent.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sqlite3
import subprocess
import sys
import unicodedata
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx_files import write_net
from photos import photo
from search_world import find, load, run_fast

from automl_sr.cli import main as program
from automl_sr.cli.main import main
from automl_sr.data import images
from automl_sr.data.images import Picture
from automl_sr.presentation import console

HARM = "\x1b[31mred\x1b]0;title\x07\u202egnp.exe\u200b\rback"
SHOWN = r"\x1b[31mred\x1b]0;title\x07\u202egnp.exe\u200b\rback"
SECRET = "S3cr3t"


def obeyed(text: str) -> set[str]:
    """Give the characters that a terminal would obey, or would not show."""
    return {
        letter
        for letter in text
        if unicodedata.category(letter) in ("Cc", "Cf", "Cs") and letter != "\n"
    }


# ---- names ----


@pytest.mark.parametrize(
    "arguments",
    [
        [HARM],
        ["trials", "--" + HARM],
        ["trials", HARM],
        ["trials", "x", "--store", f"sqlite:///{HARM}.db"],
        ["trials", "x", "--state", HARM],
        ["search", f"{HARM}.yaml"],
        ["space", f"{HARM}.yaml"],
        ["replay", f"{HARM}.json"],
        ["replay", "x", "--reference", HARM],
        ["report", HARM, "-o", f"{HARM}.txt"],
        ["evaluate", f"{HARM}.onnx", "--data", "photos-valid"],
        ["evaluate", "bicubic", "--data", HARM],
        ["evaluate", "bicubic", "--data", "photos-valid", "--metrics", HARM],
        ["upscale", f"{HARM}.onnx", "a.png", "-o", "out"],
        ["data", "check", HARM],
        ["data", "get", HARM],
        ["new-plugin", HARM],
        ["export", HARM, "1", "-o", "out"],
        ["refine", HARM, "--trials", HARM],
        ["gc", HARM],
    ],
    ids=lambda arguments: arguments[0] if arguments[0] != HARM else "command",
)
def test_arguments_reach_the_terminal_written_out(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) != 0
    printed = capsys.readouterr()
    assert printed.err
    assert obeyed(printed.out + printed.err) == set()
    assert len(printed.err.splitlines()) == 1


def test_names_of_files_are_written_out_and_json_stays_json(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    net = write_net(tmp_path / "net.onnx", metadata={"overlap": "4"})
    folder = tmp_path / "in"
    images.write(tmp_path / "plain.png", Picture(photo(height=20, width=30)))
    folder.mkdir()
    for name in (b"a\x1b[31m\xe2\x80\xae\n.png", b"byte\xff.png"):
        (tmp_path / "plain.png").rename(folder / os.fsdecode(name))
        images.write(tmp_path / "plain.png", Picture(photo(height=20, width=30)))
    (folder / os.fsdecode(b"broken\x1b\xff.png")).write_bytes(b"no image")
    assert main(["upscale", str(net), str(folder), "-o", str(tmp_path / "out")]) == 1
    printed = capfd.readouterr()
    assert obeyed(printed.out + printed.err) == set()
    assert [line.rpartition("/")[2] for line in printed.out.splitlines()] == [
        r"a\x1b[31m\u202e\n_x2.png  60x40",
        r"byte\xff_x2.png  60x40",
    ]
    assert r"broken\x1b\xff.png" in printed.err
    assert main(["upscale", str(net), str(folder), "-o", str(tmp_path / "out"), "--json"]) == 1
    printed = capfd.readouterr()
    assert obeyed(printed.out + printed.err) == set()
    assert {Path(row["input"]).name for row in json.loads(printed.out)["files"]} == {
        path.name for path in folder.iterdir()
    }


@pytest.mark.ci
@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_encoding_of_the_terminal_will_do(encoding: str, tmp_path: Path) -> None:
    net = write_net(tmp_path / "net.onnx", metadata={"overlap": "4"})
    images.write(tmp_path / "фото.png", Picture(photo(height=20, width=30)))
    command = [
        sys.executable,
        "-m",
        "automl_sr",
        "upscale",
        str(net),
        str(tmp_path / "фото.png"),
        "-o",
        str(tmp_path),
    ]
    for more in ([], ["--json"]):
        done = subprocess.run([*command, *more], capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding},
                              check=True, timeout=60)  # fmt: skip
        said = done.stdout.decode(encoding)
        assert json.loads(said)["images"] == 1 if more else "_x2" in said


# ---- a store of others ----


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store in which every text that people read means harm."""
    folder = tmp_path_factory.mktemp("harm")
    find(load(trials=2, more=""), folder, run_fast)
    spoilt = {
        "automl_sr_studies": {"name": HARM, "artifacts": f"file:///{HARM}"},
        "automl_sr_trials": {
            "reason": f"{HARM}\nforged",
            "plan": json.dumps({"params": {"architecture": HARM, f"x.{HARM}": HARM}}),
            "stage_seconds": json.dumps({HARM: 1.0}),
            "origin": json.dumps({"study": HARM, "number": 1}),
            "values": json.dumps({"score": 1.0, HARM: 2.0}),
            "costs": json.dumps({HARM: 2.0}),
        },
        "automl_sr_events": {"kind": HARM, "text": f"Traceback\n{HARM}"},
    }
    with contextlib.closing(sqlite3.connect(folder / "store.db")) as database, database:
        for table, columns in spoilt.items():
            for column, text in columns.items():
                database.execute(f'update {table} set "{column}" = ?', [text])
        kinds = database.execute("select trial_id, kind from automl_sr_artifacts").fetchall()
        for trial, kind in kinds:
            database.execute(
                "update automl_sr_artifacts set kind = ?, url = ? where trial_id = ? and kind = ?",
                [f"{kind}{HARM}", f"s3://key:{SECRET}@bucket/{HARM}", trial, kind],
            )
    return f"sqlite:///{folder}/store.db"


@pytest.mark.parametrize(
    "arguments",
    [
        ["studies"],
        ["trials", HARM],
        ["trials", HARM, "--state", "complete"],
        ["show", HARM, "0"],
        ["compare", HARM, "0", "1"],
        ["gc", HARM, "--dry-run"],
    ],
    ids=lambda arguments: " ".join(arguments).replace(HARM, ""),
)
def test_a_store_of_others_is_shown_as_it_is_and_does_nothing(
    arguments: list[str], store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ([], ["--json"]):
        main([*arguments, "--store", store, *more])
        out, err = capsys.readouterr()
        assert out + err
        assert obeyed(out + err) == set()
        assert SECRET not in out + err
        assert "Traceback" not in err
        if more and out:
            assert HARM in "".join(texts(json.loads(out)))


def texts(value: object) -> Iterator[str]:
    """Give every text and key of a document."""
    if isinstance(value, str):
        yield value
    parts = (
        [*value, *value.values()]
        if isinstance(value, dict)
        else value
        if isinstance(value, list)
        else []
    )
    for part in parts:
        yield from texts(part)


# ---- passwords ----

ADDRESSES = [
    f"postgresql://ann:{SECRET}@127.0.0.1:1/sr",
    f"postgresql+psycopg://ann:{SECRET}@127.0.0.1:1/sr",
    f"postgresql+nodriver://ann:{SECRET}@host/sr",
    f"mysql://ann:{SECRET}@host/sr",
    f"nosuch+driver://ann:{SECRET}@host/sr",
    f"postgresql://ann:a@{SECRET}@127.0.0.1:1/sr",
    f"postgresql://ann:{SECRET}@b@127.0.0.1:1/sr",
    f"postgresql://ann:{SECRET}%40x@127.0.0.1:1/sr",
    f"postgresql://ann:{SECRET}/x@127.0.0.1:1/sr",
    f"postgresql://ann:{SECRET}?x@127.0.0.1:1/sr",
    f"postgresql://ann:{SECRET}#x@127.0.0.1:1/sr",
    f"postgresql://ann:x:{SECRET}@127.0.0.1:1/sr",
    f"postgresql://ann:{SECRET}@127.0.0.1:port/sr",
    f"postgresql://ann:{SECRET}@127.0.0.1:99999/sr",
    f"postgresql://ann:{SECRET}@[::1/sr",
    f"postgresql://ann:{SECRET}@",
    f"postgresql://ann:{SECRET}",
    f"postgresql:/ann:{SECRET}@host/sr",
    f"postgresql:ann:{SECRET}@host/sr",
    f"postgresql//ann:{SECRET}@host/sr",
    f"ann:{SECRET}@host/sr",
    f" postgresql://ann:{SECRET}@host/sr",
    f"postgresql://ann: {SECRET}@127.0.0.1:1/sr",
    f"postgresql://ann:'{SECRET}'@127.0.0.1:1/s r",
    f"postgresql://ann:{SECRET}%zz@127.0.0.1:1/sr",
    f"postgresql://ann:{SECRET}%00@127.0.0.1:1/sr",
    f"postgresql://ann:{SECRET}\udcff@127.0.0.1:1/sr",
    f"postgresql://ann:{SECRET}\n@127.0.0.1:1/sr",
    f"postgresql://127.0.0.1:1/sr?password={SECRET}",
    f"postgresql://127.0.0.1:1/sr?user=ann&PASSWORD={SECRET}",
    f"postgresql://127.0.0.1:1/sr?pass%77ord={SECRET}",
    f"postgresql://127.0.0.1:1/sr?passwrod={SECRET}",
    f"postgresql://127.0.0.1:1/sr?sslpassword={SECRET}",
    f"sqlite:///gone.db?password={SECRET}",
    f"sqlite:///gone.db?timeout={SECRET}",
    f"sqlite://ann:{SECRET}@/gone.db",
    f"sqlite+pysqlcipher://:{SECRET}@/gone.db",
    f"host=127.0.0.1 port=1 password={SECRET}",
    f"redis://:{SECRET}@host",
]


@pytest.mark.parametrize("debug", ["", "1"], ids=["", "debugging"])
@pytest.mark.parametrize("address", ADDRESSES)
def test_no_address_of_a_store_shows_its_password(
    address: str,
    debug: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AUTOML_SR_DEBUG", debug)
    assert main(["trials", "x", "--store", address]) in (1, 2)
    printed = [capsys.readouterr()]
    monkeypatch.setenv("AUTOML_SR_STORE", address)
    assert main(["studies", "--json"]) in (1, 2)
    printed.append(capsys.readouterr())
    for out, err in printed:
        assert SECRET not in out + err
        assert err
        assert ("Traceback" in err) == bool(debug)


def test_a_traceback_quotes_no_password_and_nothing_that_is_obeyed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(arguments: list[str]) -> int:
        raise RuntimeError(
            f"{HARM} at postgresql://ann:{SECRET}@host: {SECRET}, {os.environ['PGPASSWORD']}"
        )

    monkeypatch.setenv("PGPASSWORD", "hunter22")
    monkeypatch.setenv("AUTOML_SR_DEBUG", "1")
    monkeypatch.setattr(program, "_run", fails)
    assert main(["trials", "--store", f"postgresql://ann:{SECRET}@host"]) == 1
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert SECRET not in told
    assert "hunter22" not in told
    assert obeyed(told) == set()
    assert "back at postgresql://ann:***@host: ***, ***" in told


# ---- libraries ----


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a command warn and log as libraries do."""

    def chats(arguments: list[str]) -> int:
        warnings.simplefilter("always")
        warnings.warn("found duplicate\n  anchor \x1b[31m", UserWarning, stacklevel=1)
        logging.getLogger("somebody.else").error("a library's \x1b complaint")
        logging.getLogger("automl_sr.trial").warning("our own \x1b word")
        return 0

    with warnings.catch_warnings():
        monkeypatch.setattr(program, "_run", chats)
        yield


@pytest.mark.usefixtures("library")
def test_libraries_keep_silent_and_we_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().err == "warning: our own \\x1b word\n"


@pytest.mark.usefixtures("library")
def test_who_debugs_hears_them_in_a_line_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUTOML_SR_DEBUG", "1")
    assert main([]) == 0
    told = capsys.readouterr().err
    warned, logged, _ = told.splitlines()
    assert warned.startswith(r"debug: UserWarning: found duplicate anchor \x1b[31m (")
    assert logged == r"debug: somebody.else: a library's \x1b complaint"
    assert obeyed(told) == set()


def test_afterwards_warnings_go_where_they_went_before(recwarn: pytest.WarningsRecorder) -> None:
    main(["--version"])
    warnings.warn("mine", UserWarning, stacklevel=1)
    assert [str(item.message) for item in recwarn] == ["mine"]


def test_an_anchor_that_is_there_twice_is_no_matter(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "twice.yaml").write_text("name: &a t\ntask: &a x\nbudget: *b\n")
    assert main(["space", str(tmp_path / "twice.yaml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "twice.yaml:3: this is not YAML: found undefined alias 'b'" in line


# ---- drawing ----


def test_what_is_drawn_is_written_out_too(capsys: pytest.CaptureFixture[str]) -> None:
    address = f"postgresql://ann:{SECRET}@host"
    console.print_table([f"a{HARM}"], [[f"b{HARM}\nforged"], [address], [None]], title=f"c{HARM}")
    told = capsys.readouterr().out
    assert obeyed(told) == set()
    assert [line.rstrip() for line in told.splitlines()] == [
        f"c{SHOWN}", f"a{SHOWN}", rf"b{SHOWN}\nforged", "postgresql://ann:***@host", "-",
    ]  # fmt: skip


def test_a_note_is_one_line_whatever_it_quotes(capsys: pytest.CaptureFixture[str]) -> None:
    console.warn("skipped a\nerror: forged")
    console.note_lines("one\ntwo\x1b")
    assert capsys.readouterr().err == "warning: skipped a\\nerror: forged\none\ntwo\\x1b\n"


def test_a_live_view_is_drawn_with_escapes_of_its_own_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rich.text import Text

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with console.console().status(Text(HARM, style="bold")):
        console.console().print(HARM)
    assert "\x1b[1m" in terminal.getvalue()
    assert "\x1b[31m" not in terminal.getvalue()
    assert terminal.getvalue().count(r"\x1b[31mred\x1b]0;title") == 2
    assert not {"\u202e", "\u200b", "\x07"} & set(terminal.getvalue())
