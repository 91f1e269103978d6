"""The command line, as a user runs it: in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chainrule.recipes.digits import DEFAULTS

ROOT = Path(__file__).resolve().parents[2]
QUICK = ("train", "digits", "--epochs", "1", "--hidden", "16")


def environment(**settings: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "0", **settings}


def cli(
    *words: str, cwd: Path | None = None, encoding: str = "utf-8", **settings: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "chainrule", *words],
        cwd=cwd or ROOT,
        env=environment(PYTHONIOENCODING=encoding, **settings),
        capture_output=True,
        encoding=encoding.partition(":")[0],
        check=False,
    )


def accuracy_line(output: str) -> str:
    (line,) = [line for line in output.splitlines() if line.startswith("held-out accuracy: ")]
    return line


# ------------------------------------------------------------------------------ help


def test_help_teaches() -> None:
    done = cli("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for command in ("chainrule explain exam", "chainrule train digits", "chainrule summary digits"):
        assert command in done.stdout


def test_help_is_quick() -> None:
    program = (
        "import sys; sys.argv = ['chainrule', '--help']\n"
        "from chainrule.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('rich', 'PIL', 'safetensors', 'torch') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_defaults_in_the_help_are_those_of_the_recipe() -> None:
    text = " ".join(cli("train", "digits", "--help").stdout.split())
    for name, value in DEFAULTS["uci"].items():
        option = text.partition(f"--{name} <")[2].partition(" --")[0]
        assert option.endswith(f"[default: {value}; mnist: {DEFAULTS['mnist'][name]}]"), name


# ------------------------------------------------------------------------------ train, summary


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "ascii"])
def test_train_on_any_console_in_any_folder(tmp_path: Path, encoding: str) -> None:
    folder = tmp_path / "a folder 手写数字"
    folder.mkdir()
    done = cli(*QUICK, cwd=folder, encoding=encoding)
    assert done.stderr == ""
    assert done.returncode == 0
    assert len(accuracy_line(done.stdout)) == len("held-out accuracy: 0.9750")
    (run,) = (folder / "runs").iterdir()
    assert ":" not in run.name
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints", "config.json", "metrics.jsonl", "predictions.png",
    ]  # fmt: skip


def test_train_into_a_folder_whose_name_the_console_lacks(tmp_path: Path) -> None:
    done = cli(*QUICK, "--runs", str(tmp_path / "运行"), encoding="ascii")
    assert done.returncode == 0
    assert "??" in done.stdout
    assert (tmp_path / "运行").is_dir()


def test_output_into_a_file(tmp_path: Path) -> None:
    with open(tmp_path / "out.txt", "wb") as file:
        subprocess.run(
            [sys.executable, "-m", "chainrule", *QUICK],
            cwd=tmp_path, env=environment(), stdout=file, check=True,
        )  # fmt: skip
    assert b"held-out accuracy: " in (tmp_path / "out.txt").read_bytes()


def test_the_same_seed_in_a_new_process_gives_the_same_bits(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert cli(*QUICK, "--runs", name, cwd=tmp_path).returncode == 0
    one, other = (next((tmp_path / name).glob("*/checkpoints/*")).read_bytes() for name in "ab")
    assert one == other


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT")
def test_ctrl_c_and_resume(tmp_path: Path) -> None:
    words = ("train", "digits", "--epochs", "20", "--hidden", "16")
    process = subprocess.Popen(
        [sys.executable, "-m", "chainrule", *words],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    while not process.stdout.readline().startswith("epoch"):
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped after step" in errors
    assert "Traceback" not in errors
    (run,) = (tmp_path / "runs").iterdir()
    assert f'chainrule train digits --resume "runs{os.sep}{run.name}"' in errors

    resumed = cli("train", "digits", "--resume", f"runs/{run.name}", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    whole = cli(*words, "--runs", "whole", cwd=tmp_path)
    assert accuracy_line(resumed.stdout) == accuracy_line(whole.stdout)
    newest = "checkpoints/step-900.safetensors"
    (other,) = (tmp_path / "whole").iterdir()
    assert (run / newest).read_bytes() == (other / newest).read_bytes()


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_progress_bar_on_a_terminal(tmp_path: Path) -> None:
    import pty

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "chainrule", *QUICK],
        cwd=tmp_path, env=environment(TERM="xterm", PYTHONIOENCODING="ascii"),
        stdout=follower, stderr=follower,
    )  # fmt: skip
    os.close(follower)
    shown = b""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            part = os.read(leader, 4096)
        except OSError:  # Linux: the other end was closed
            break
        if not part:
            break
        shown += part
    assert process.wait() == 0
    os.close(leader)
    text = shown.decode("ascii")
    assert "----" in text  # the bar
    assert "epoch 1/1  loss" in text
    assert "held-out accuracy" in text


def test_summary() -> None:
    done = cli("summary", "digits", "--hidden", "32")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["layer", "role", "output", "shape", "parameters"]
    assert lines[2].split("  ")[-1].strip() == "(batch, height: 8, width: 8)"
    assert lines[-1].split() == ["total", f"{64 * 32 + 32 + 32 * 10 + 10:,}"]
    assert "28" in cli("summary", "digits", "--data", "mnist").stdout


def test_summary_in_chinese_on_a_chinese_console() -> None:
    for done in (
        cli("summary", "digits", "--lang", "zh", encoding="gbk"),
        cli("--lang", "zh", "summary", "digits", encoding="gbk"),
        cli("summary", "digits", encoding="gbk", CHAINRULE_LANG="zh_CN"),
    ):
        assert "隐藏层" in done.stdout


def test_the_perceptron_and_its_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = cli("train", "perceptron", "--picture", "图 1.png", cwd=tmp_path, encoding="gbk")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Converged")
    assert (tmp_path / "图 1.png").read_bytes().startswith(b"\x89PNG")


def test_the_perceptron_and_xor() -> None:
    done = cli("train", "perceptron", "--problem", "xor")
    assert done.returncode == 0
    assert "Did not converge" in done.stdout
    assert "3 of 4 samples right" in done.stdout


# ------------------------------------------------------------------------------ explain


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "ascii"])
@pytest.mark.parametrize("case", ["exam", "perceptron"])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_explain_on_any_console(encoding: str, case: str, lang: str) -> None:
    done = cli("explain", case, "--lang", lang, encoding=encoding)
    assert done.returncode == 0, done.stderr
    assert "z = " in done.stdout
    assert ("1.3" if case == "perceptron" else "0.6225") in done.stdout
    if encoding != "ascii":
        assert "?" not in done.stdout


def test_explain_options_reach_the_case() -> None:
    assert "0.1717" in cli("explain", "exam", "--steps", "4", "--lr", "0.1").stdout
    assert "-0.1774" in cli("explain", "exam", "--loss", "mse").stdout
    assert "0.9741" in cli("explain", "exam", "--set", "y=0").stdout
    flipped = cli("explain", "perceptron", "--set", "x1=0", "--set", "x2=0").stdout
    assert "reject" in flipped


def test_explain_as_json_and_markdown() -> None:
    made = cli("explain", "exam", "--json").stdout
    assert json.loads(made)["steps"]
    assert cli("explain", "exam", "--format", "json").stdout == made
    assert cli("explain", "exam", "--format", "markdown").stdout.startswith("# ")


# ------------------------------------------------------------------------------ mistakes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian", "digits"], "Did you mean 'train'"),
        (["train", "digtis"], "Did you mean 'digits'"),
        (["train", "digits", "--epoch", "3"], "--epochs"),
        (["train", "digits", "--epochs", "three"], "Invalid value for '--epochs'"),
        (["train", "digits", "--epochs", "-3"], "epochs must be at least 1, but got -3"),
        (["train", "digits", "--lr", "0"], "lr must be above 0"),
        (["train", "digits", "--data", "minst"], "did you mean mnist?"),
        (["train", "digits", "--seed", "-1"], "seed must be in 0..2^64-1"),
        (["train", "digits", "--resume", "no such run"], "this is not a run folder"),
        (["train", "digits", "--resume", "x", "--lr", "1"], "--resume must be alone"),
        (["train", "perceptron", "--problem", "xr"], "did you mean xor?"),
        (["summary", "digts"], "Did you mean 'digits'"),
        (["summary", "digits", "--hidden", "0"], "hidden must be at least 1"),
        (["summary", "digits", "--lang", "fr"], "Invalid value for '--lang'"),
        (["explain", "exam", "--set", "y"], "--set must be NAME=NUMBER, but got 'y'"),
        (["explain", "exam", "--set", "y=one"], "--set must be NAME=NUMBER"),
        (["explain", "exam", "--set", "y=nan"], "--set must be NAME=NUMBER"),
        (["explain", "exam", "--set", "z1=0"], "did you mean"),
        (["explain", "exam", "--steps", "0"], "Invalid value for '--steps'"),
        (["explain", "exam", "--lr", "inf"], "--lr must be a finite number"),
        (["explain", "exam", "--loss", "mze"], "did you mean mse?"),
        (["explain", "exam", "--format", "pdf"], "Invalid value for '--format'"),
        (["explain", "exma"], "did you mean exam?"),
    ],
)
def test_wrong_input_gives_one_message(words: list[str], message: str, tmp_path: Path) -> None:
    done = cli(*words, cwd=tmp_path)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_library_is_its_text(tmp_path: Path) -> None:
    assert cli(*QUICK, cwd=tmp_path).returncode == 0
    (run,) = (tmp_path / "runs").iterdir()
    for path in (run / "checkpoints").iterdir():
        path.write_bytes(b"half")
    done = cli("train", "digits", "--resume", str(run))
    assert done.returncode == 1
    assert "not a whole checkpoint" in done.stderr
    assert "Traceback" not in done.stderr
    for words in (["--debug", "train", "digits"], ["train", "digits", "--debug"]):
        debugged = cli(*words, "--resume", str(run))
        assert debugged.returncode == 1
        assert "Traceback" in debugged.stderr


def test_without_the_data_no_folder_is_left(tmp_path: Path) -> None:
    nowhere = {"CHAINRULE_DATA": "", "CHAINRULE_CACHE": str(tmp_path / "cache")}
    words = ("train", "digits", "--data", "mnist")
    done = cli(*words, cwd=tmp_path, CHAINRULE_MIRROR="http://127.0.0.1:9/", **nowhere)
    assert done.returncode == 2
    assert "CHAINRULE_MIRROR" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_place_that_can_not_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    done = cli(*QUICK, "--runs", "file", cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "file" in done.stderr


def test_a_finished_run_can_be_looked_at_again(tmp_path: Path) -> None:
    first = cli(*QUICK, cwd=tmp_path)
    (run,) = (tmp_path / "runs").iterdir()
    again = cli("train", "digits", "--resume", str(run))
    assert accuracy_line(again.stdout) == accuracy_line(first.stdout)
    assert "epoch" not in again.stdout


def test_messages_in_chinese(tmp_path: Path) -> None:
    done = cli("train", "digits", "--lang", "zh", "--resume", "无", cwd=tmp_path, encoding="gbk")
    assert "这不是运行文件夹" in done.stderr
    assert done.returncode == 2


# ------------------------------------------------------------------------------ cache


def test_cache_info_and_clear(tmp_path: Path) -> None:
    place = {"CHAINRULE_CACHE": str(tmp_path)}
    assert "state    not made yet" in cli("cache", "info", **place).stdout
    assert "There are no kernels" in cli("cache", "clear", **place).stdout
    program = (
        "import chainrule as cr; cr.set_executor('native')\n"
        "cr.compile(lambda x: cr.exp(x))(cr.tensor([0.0, 1.0]))"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment(**place), check=True)
    shown = cli("cache", "info", **place).stdout
    assert "state    in use" in shown
    assert f"folder   {tmp_path / 'kernels'}" in shown
    kept = len(list((tmp_path / "kernels").glob("*.o")))
    assert f"kernels  {kept}\n" in shown
    asked = cli("cache", "clear", **place)  # there is nobody to answer
    assert asked.returncode == 1
    assert len(list((tmp_path / "kernels").glob("*.o"))) == kept
    assert f"Removed {kept} kernels" in cli("cache", "clear", "--yes", **place).stdout
    assert not list((tmp_path / "kernels").glob("*.o"))


# ------------------------------------------------------------------------------ profile


def test_profile_of_the_digits(tmp_path: Path) -> None:
    page = tmp_path / "flame.html"
    done = cli("profile", "digits", "--rounds", "2", "--by", "layer", "--by", "phase")
    assert done.returncode == 0, done.stderr
    assert "native executor" in done.stdout
    assert "digits.py:" in done.stdout
    assert cli("profile", "digits", "--rounds", "1", "--html", str(page)).returncode == 0
    assert "flame" in page.read_text("utf-8")
    found = cli("profile", "digits", "--rounds", "1", "--json", "--executor", "interpreter")
    assert json.loads(found.stdout)["executor"] == "interpreter"


def test_profile_explains_its_columns() -> None:
    shown = cli("profile", "--help").stdout
    for column in ("ms", "time", "MFLOP", "of peak", "MB", "of roof", "line"):
        assert f"    {column} " in shown


def test_profile_of_a_program(tmp_path: Path) -> None:
    program = tmp_path / "train.py"
    program.write_text(
        "import sys\nimport chainrule as cr\nstep = cr.compile(lambda x: cr.exp(x @ x))\n"
        "assert sys.argv[1:] == ['--size', '4']\nwhile True:\n    step(cr.ones(4, 4))\n"
    )
    done = cli("profile", str(program), "--rounds", "1", "--", "--size", "4")
    assert done.returncode == 0, done.stderr
    assert "train.py:3" in done.stdout
