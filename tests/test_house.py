"""The rules of the house, held by reading the source and by asking what a command has imported."""

from __future__ import annotations

import ast
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from configs.load import load_recipe, load_task
from configs.task import task_files

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUSE = Path(__file__).resolve().parent.parent
FOLDERS = ("configs", "data_prep", "training", "eval")
SOURCES = [HOUSE / "sectorlm.py", *(path for folder in FOLDERS for path in sorted((HOUSE / folder).glob("*.py")))]
STAGES = {"data_prep", "training", "eval"}
PAGES = {"data_prep.prepare", "training.train", "training.publish", "training.plan", "eval.evaluate", "eval.compare"}
LINES, FUNCTION, ARGUMENTS = (300, 400), (50, 80), (6, 8)
"""Where the house starts to talk, and where it says no."""
DICTATED = {"packed_attention", "launch", "score"}
"""Functions whose arguments another decides: transformers' AttentionInterface, the schedulers that `launch` writes for, and
all that a command line may ask of a model without a recipe to ask it in."""


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def named(path: Path) -> str:
    return path.relative_to(HOUSE).as_posix()


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports anywhere, in functions too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    yield from (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_stages_never_import_one_another_and_configs_imports_nothing_else_of_ours() -> None:
    for path in SOURCES[1:]:
        own = path.parent.name
        allowed = {"configs"} | ({own} if own in STAGES else set())
        ours = {name.partition(".")[0] for name in imports(path)} & {*FOLDERS, "sectorlm"}
        assert ours <= allowed, f"{named(path)} imports {sorted(ours - allowed)}"


def test_only_the_front_door_imports_the_page_of_a_stage() -> None:
    others = [path for path in SOURCES[1:] if path.name != "verbs.py"]
    found = {named(path): sorted(PAGES & set(imports(path))) for path in others}
    assert not {name: pages for name, pages in found.items() if pages}


def test_the_front_door_imports_our_folders_inside_functions_only() -> None:
    """But for what typer reads when a verb is defined: the options, the type of what a verb returns, and more verbs."""
    top = [node for node in tree(HOUSE / "sectorlm.py").body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in top]
    allowed = ("configs", "configs.answer", "training", "eval.verbs")
    assert not [it for it in names if it and it.partition(".")[0] in FOLDERS and it not in allowed]


def test_nobody_rebinds_the_builtin_eval() -> None:
    for path in [*SOURCES, *sorted((HOUSE / "tests").glob("*.py"))]:
        plain = [alias.name for node in ast.walk(tree(path)) if isinstance(node, ast.Import) for alias in node.names]
        assert not [name for name in plain if name.split(".")[0] == "eval"], named(path)


def test_no_module_is_named_like_one_of_the_standard_library() -> None:
    assert not [named(path) for path in SOURCES if path.stem in sys.stdlib_module_names]


def test_files_functions_and_arguments_stay_small(capsys: pytest.CaptureFixture[str]) -> None:
    """Printed beyond 300 lines, 50 lines, 6 arguments; refused beyond 400, 80, 8."""
    sizes = [(LINES, len(path.read_text("utf-8").splitlines()), named(path), "lines") for path in SOURCES]
    for path in SOURCES:
        for node in functions(path):
            where = f"{named(path)}:{node.lineno} {node.name}"
            sizes.append((FUNCTION, (node.end_lineno or node.lineno) - node.lineno + 1, where, "lines"))
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len([it for it in given if it.arg not in ("self", "cls") and node.name not in DICTATED])
            sizes.append((ARGUMENTS, count, where, "arguments"))
    with capsys.disabled():
        for (near, _), size, where, unit in sizes:
            if size > near:
                print(f"\n  {where}: {size} {unit}", end="")
    assert not [f"{where}: {size} {unit}" for (_, most), size, where, unit in sizes if size > most]


def test_everything_public_has_a_docstring_that_begins_with_a_sentence() -> None:
    for path in SOURCES:
        module = tree(path)
        classes = [node for node in module.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]
        found = [module, *module.body, *(inner for outer in classes for inner in outer.body)]
        for node in found:
            if not isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
                continue
            name = getattr(node, "name", "module")
            first = (ast.get_docstring(node) or "").split("\n\n")[0].rstrip(" `")
            assert name.startswith("_") or first.endswith((".", "?", ":")), f"{named(path)} {name}"


def test_every_function_is_annotated_in_full() -> None:
    for path in SOURCES:
        for node in functions(path):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            bare = [
                it.arg for it in given if it is not None and it.annotation is None and it.arg not in ("self", "cls")
            ]
            assert not bare and node.returns is not None, f"{named(path)}:{node.lineno} {node.name} {bare}"


def test_no_assert_outside_tests_and_no_print_outside_the_front_door() -> None:
    for path in SOURCES:
        nodes = list(ast.walk(tree(path)))
        assert not [node.lineno for node in nodes if isinstance(node, ast.Assert)], named(path)
        calls = [node for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
        printed = [node.lineno for node in calls if node.func.id == "print"]  # type: ignore[attr-defined]
        may_print = ("sectorlm.py", "configs/answer.py", "configs/progress.py")
        assert not printed or named(path) in may_print, f"{named(path)}:{printed}"


def test_no_tracked_file_names_a_path_of_somebodys_machine() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=HOUSE, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    local = re.compile(rb"(?<![\w.])/(work|root|farm|home/\w+|Users/\w+)/\w")
    for name in filter(None, listed.stdout.split("\0")):
        path = HOUSE / name
        if path.is_file() and path.suffix != ".safetensors":
            found = local.search(path.read_bytes())
            assert not found, f"{name}: {found.group().decode()!r}"


IMPORTED = """
import sys
sys.argv = ["sectorlm", *sys.argv[1:]]
import sectorlm
try:
    sectorlm.main()
except SystemExit:
    pass
sys.stderr.write("IMPORTED " + " ".join(name for name in ("torch", "transformers", "datasets") if name in sys.modules))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["check", "configs/recipes/quickstart-finance.yaml"],
        ["show", "configs/recipes/quickstart-finance.yaml"],
        ["compare", "nowhere/base", "nowhere/tuned"],
        ["init", "--help"],
        ["schema"],
    ],
    ids=lambda words: words[0],
)
def test_light_commands_import_neither_torch_nor_transformers_nor_datasets(words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, *words], cwd=HOUSE, capture_output=True, text=True, check=False
    )
    assert done.stderr.endswith("IMPORTED "), done.stderr[-300:]
    assert "Traceback" not in done.stderr


def test_help_answers_quickly(capsys: pytest.CaptureFixture[str]) -> None:
    """The aim is 0.3 s of CPU time on an idle core; a second fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "sectorlm.py", "--help"], cwd=HOUSE, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    with capsys.disabled():
        print(f"\n  sectorlm --help: {seconds:.2f} s of CPU time", end="")
    assert seconds < 1.0


def test_every_recipe_and_task_that_is_shipped_reads_strictly() -> None:
    recipes = sorted((HOUSE / "configs" / "recipes").glob("*.yaml"))
    assert [path.stem for path in recipes if load_recipe(path).name != path.stem] == []
    assert [name for name in task_files(HOUSE) if load_task(name, (HOUSE,))[0].task != name] == []
